"""DPM-Solver-v3's empirical model statistics, and the weights of a step that uses them.

The statistics are l, s and b, one number per coordinate at every lambda. They define

    f = (sigma epsilon - l x)/alpha = (1 - l) (sigma/alpha) epsilon - l x0,
    g(m) = e^(-S(m)) f(m) - B(m),       S(m) = int_cur^m s,   B(m) = int_cur^m e^(-S) b,

and with L(m) = int_cur^m l the probability flow is, exactly, whatever l, s and b are,

    x_next = alpha_next e^(-L_next) [x_cur/alpha_cur - int_cur^next e^(L + S) (g + B) dm].

A step puts the polynomial through earlier values of g in place of g. As g' = e^(-S) (f' - s f - b), the better s f + b
predicts f', the less there is to interpolate. All of it depends on lambda alone and is the same on every process.

Between the lambdas of the statistics l, s and b are cubic splines, whose integrals L and S are exact; a step's other integrals
are Gauss-Legendre sums between the splines' knots. Beyond the first and the last lambda they are constant.

Source: Zheng, Lu, Chen & Zhu 2023, DPM-Solver-v3, arXiv 2310.13268, section 3 and appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss, legvander
from scipy.interpolate import CubicSpline
from torch import Tensor

from urn.plan import Array, Node

POINTS = 16  # of the rule between two knots


@dataclass(frozen=True)
class ModelStatistics:
    """l, s and b of a model at increasing lambdas; compared by value and hashable.

    Attributes:
        lambdas: (K,), increasing.
        l, s, b: (K, *S), or (K, 1, ...) that broadcasts against a state; tensors and NumPy arrays become `Array`s.

    Raises:
        ValueError: the lambdas do not increase, a shape does not fit, or a number is not finite.

    Example:
        >>> data_prediction = ModelStatistics.constant(l=1.0)
    """

    lambdas: Array
    l: Array
    s: Array
    b: Array

    def __post_init__(self) -> None:
        for name in ("lambdas", "l", "s", "b"):
            value = getattr(self, name)
            object.__setattr__(self, name, value if isinstance(value, Array) else Array(value))
            if not np.isfinite(getattr(self, name).values).all():
                raise ValueError(f"{name} must be finite numbers")
        lambdas = self.lambdas.values
        if lambdas.ndim != 1 or len(lambdas) < 1 or not (np.diff(lambdas) > 0).all():
            raise ValueError(f"lambdas={lambdas!r} must be one or more increasing numbers")
        shapes = [value.values.shape for value in (self.l, self.s, self.b)]
        if len(set(shapes)) > 1 or shapes[0][:1] != lambdas.shape:
            raise ValueError(f"l, s and b have shapes {shapes}; they must be equal and start with {len(lambdas)}")

    @classmethod
    def constant(cls, l: float = 1.0, s: float = 0.0, b: float = 0.0) -> ModelStatistics:
        """The same numbers at every lambda and coordinate: (1, 0, 0) is data prediction, (0, -1, 0) noise prediction."""
        return cls(*(Array([value]) for value in (0.0, l, s, b)))

    @cached_property
    def curves(self) -> tuple[Curve, Curve, Curve]:
        """l, s and b as functions of lambda."""
        l, s, b = (Curve(self.lambdas.values, value.values) for value in (self.l, self.s, self.b))
        return l, s, b

    @cached_property
    def without_b(self) -> bool:
        """Whether b is 0 everywhere."""
        return not self.b.values.any()

    def save(self, path: str | Path) -> None:
        """Write them to an .npz file, bit for bit."""
        with Path(path).open("wb") as file:
            np.savez(file, **{name: getattr(self, name).values for name in ("lambdas", "l", "s", "b")})

    @classmethod
    def load(cls, path: str | Path) -> ModelStatistics:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            return cls(*(Array(data[name]) for name in ("lambdas", "l", "s", "b")))

    def __repr__(self) -> str:
        knots = self.lambdas.values
        shape = self.l.values.shape[1:]
        return f"ModelStatistics({len(knots)} lambdas {knots[0]:.4g}..{knots[-1]:.4g}, shape {shape})"


class Curve:
    """A natural cubic spline in lambda, of numbers per coordinate: its values, slopes and integral, differentiable."""

    def __init__(self, knots: Any, values: Any) -> None:
        self.knots = torch.tensor(knots)
        if len(knots) == 1:
            self.pieces = torch.zeros(4, *values.shape, dtype=torch.float64)
            self.pieces[3] = torch.tensor(values)
        else:
            kind = "natural" if len(knots) > 2 else "not-a-knot"
            self.pieces = torch.tensor(CubicSpline(knots, values, axis=0, bc_type=kind).c)
        lengths = self._column(torch.diff(self.knots))
        whole = self._polynomial(self.pieces[:, : len(lengths)], lengths, (1 / 4, 1 / 3, 1 / 2, 1.0)) * lengths
        self.before = torch.cat([torch.zeros_like(self.pieces[3, :1]), whole.cumsum(0)])

    def __call__(self, l: Tensor) -> Tensor:
        """The values at lambdas (n,), (n, *S)."""
        piece, u, _ = self._at(l)
        values: Tensor = self._polynomial(self.pieces[:, piece], u, (1.0, 1.0, 1.0, 1.0))
        return values

    def slope(self, l: Tensor) -> Tensor:
        """The derivatives at lambdas (n,) between the knots, (n, *S)."""
        piece, u, _ = self._at(l)
        a, b, c, _ = self.pieces[:, piece]
        slopes: Tensor = (3 * a * u + 2 * b) * u + c
        return slopes

    def integral(self, l: Tensor) -> Tensor:
        """From the first knot to lambdas (n,), (n, *S)."""
        piece, u, beyond = self._at(l)
        chosen = self.pieces[:, piece]
        inside = self.before[piece] + self._polynomial(chosen, u, (1 / 4, 1 / 3, 1 / 2, 1.0)) * u
        return inside + beyond * self._polynomial(chosen, u, (1.0, 1.0, 1.0, 1.0))

    def _at(self, l: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        held = l.clamp(self.knots[0], self.knots[-1])
        piece = (torch.searchsorted(self.knots, held.detach(), right=True) - 1).clamp(0, self.pieces.shape[1] - 1)
        return piece, self._column(held - self.knots[piece]), self._column(l - held)

    def _column(self, numbers: Tensor) -> Tensor:
        return numbers.reshape(-1, *[1] * (self.pieces.ndim - 2))

    @staticmethod
    def _polynomial(pieces: Tensor, u: Tensor, factors: Sequence[float]) -> Tensor:
        a, b, c, d = (pieces[k] * factor for k, factor in enumerate(factors))
        value: Tensor = ((a * u + b) * u + c) * u + d
        return value


class Step(NamedTuple):
    """x_next = carry x + sum_j (on_x0_j x0_j + on_epsilon_j epsilon_j) + offset; every number has a state's shape."""

    carry: Tensor
    on_x0: list[Tensor]
    on_epsilon: list[Tensor]
    offset: Tensor


def statistical_step(statistics: ModelStatistics, cur: Node, next: Node, points: Sequence[Node]) -> Step:
    """A step from cur to next by the polynomial in lambda through g at `points`; no lambda may be infinite."""
    l, _, _ = statistics.curves
    way = Way(statistics, cur.lambda_, next.lambda_)
    kernel = next.alpha * torch.exp(way.big_l - way.big_l_end + way.big_s) * l._column(way.weights)
    offset = -(kernel * way.big_b).sum(0)
    on_x0, on_epsilon = [], []
    for j, point in enumerate(points):
        weight = (kernel * l._column(_lagrange(way.lambdas, [p.lambda_ for p in points], j))).sum(0)
        on_f, l_there = -weight, l(point.lambda_.reshape(1))[0]
        if point is not cur:
            back = Way(statistics, cur.lambda_, point.lambda_)
            offset = offset + weight * back.big_b_end
            on_f = on_f * torch.exp(-back.big_s_end)
        on_x0.append(-l_there * on_f)
        on_epsilon.append((1 - l_there) * (point.sigma / point.alpha) * on_f)
    carry = next.alpha / cur.alpha * torch.exp(-way.big_l_end)
    return Step(*(_number(carry), [_number(w) for w in on_x0], [_number(w) for w in on_epsilon], _number(offset)))


class Way:
    """Quadrature from one lambda to another, either way: points, weights, and L, S and B there and at the end."""

    def __init__(self, statistics: ModelStatistics, start: Tensor, end: Tensor) -> None:
        l, s, b = statistics.curves
        low, high = sorted((float(start.detach()), float(end.detach())))
        inner = l.knots[(l.knots > low) & (l.knots < high)]
        inner = inner if bool(start <= end) else inner.flip(0)
        breaks = torch.cat([start.reshape(1), inner, end.reshape(1)])
        lengths = torch.diff(breaks).reshape(-1, 1)
        u, weights, running = _rule()
        self.lambdas = (breaks[:-1].reshape(-1, 1) + lengths * u).reshape(-1)
        self.weights = (lengths * weights).reshape(-1)
        ends = torch.stack([start, end])
        (l_start, l_end), (s_start, s_end) = l.integral(ends), s.integral(ends)
        self.big_l, self.big_l_end = l.integral(self.lambdas) - l_start, l_end - l_start
        self.big_s, self.big_s_end = s.integral(self.lambdas) - s_start, s_end - s_start
        if statistics.without_b:
            self.big_b, self.big_b_end = torch.zeros_like(self.big_s), torch.zeros_like(self.big_s_end)
            return
        slopes = torch.exp(-self.big_s) * b(self.lambdas)
        slopes = slopes.reshape(-1, POINTS, *slopes.shape[1:])
        lengths = lengths.reshape(-1, *[1] * (slopes.ndim - 2))
        whole = lengths * torch.einsum("r,pr...->p...", weights, slopes)
        within = lengths.unsqueeze(1) * torch.einsum("qr,pr...->pq...", running, slopes)
        self.big_b = ((whole.cumsum(0) - whole).unsqueeze(1) + within).flatten(0, 1)
        self.big_b_end = whole.sum(0)


@cache
def _rule() -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Legendre points u_q and weights on [0, 1], and the matrix of the integrals from 0 to u_q."""
    x, weights = leggauss(POINTS)
    orders = np.arange(POINTS)
    polynomials = legvander(x, POINTS)
    antiderivatives = np.empty((POINTS, POINTS))  # of the Legendre polynomials, 0 at -1
    antiderivatives[:, 0] = x + 1
    antiderivatives[:, 1:] = (polynomials[:, 2:] - polynomials[:, :-2]) / (2 * orders[1:] + 1)
    coefficients = (polynomials[:, :-1] * (2 * orders + 1) / 2 * weights[:, None]).T
    running = antiderivatives @ coefficients / 2
    return torch.from_numpy((x + 1) / 2), torch.from_numpy(weights / 2), torch.from_numpy(running)


def _lagrange(l: Tensor, places: Sequence[Tensor], j: int) -> Tensor:
    made = torch.ones_like(l)
    for k, place in enumerate(places):
        if k != j:
            made = made * (l - place) / (places[j] - place)
    return made


def _number(value: Tensor) -> Tensor:
    """A number per coordinate, or one number where there is one coordinate of no shape."""
    return value.reshape(()) if value.numel() == 1 else value
