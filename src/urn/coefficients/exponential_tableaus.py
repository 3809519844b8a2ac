"""Tableaus of explicit exponential Runge-Kutta methods, as functions of p(k, c) = phi_k(c z).

For dy/dl = L y + N(y), with z = h L, stage i at the share c_i of the step and N_i the nonlinear part there:

    y_i = e^(c_i z) y + h sum_(j < i) a_ij(z) N_j,    y_next = e^z y + h sum_i b_i(z) N_i

A tableau is written as its papers write it, but for the first column: nearly every method is exact for a constant N,
sum_j a_ij = c_i phi_1(c_i z) and sum_i b_i = phi_1(z), which gives a_i1 and b_1. `consistent` fills them in; rows and
weights below start at the second column. Lawson's methods, which are not, are in `exponential_lawson`.

**Order.** `order` is the classical one, of smooth N at fixed L. The stiff order holds uniformly in L, and is less for most
older methods; a diffusion's L is 1 or -1 and its steps are in [0, 2], so the classical one is what is seen here.

Sources: Hochbruck & Ostermann 2005, Explicit Exponential Runge-Kutta Methods for Semilinear Parabolic Problems, SIAM J.
Numer. Anal. 43; Minchev & Wright 2005, A Review of Exponential Integrators, NTNU preprint 2/2005; those of each method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor

from urn.coefficients.phi import gauss_legendre, phi

Weight = Tensor | float
Place = Tensor | float


@dataclass(frozen=True)
class Phi:
    """p(k, c) = phi_k(c z); p.z is z."""

    z: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "_known", cache(lambda k, c: phi(k, c * self.z)))

    def __call__(self, k: int, c: float = 1.0) -> Tensor:
        found: Tensor = self._known(k, c)  # type: ignore[attr-defined]
        return found


@dataclass(frozen=True)
class ExponentialTableau:
    """Shares c, rows a (row i has i numbers), weights b; a plain 0 is a prediction not used."""

    c: tuple[float, ...]
    a: tuple[tuple[Weight, ...], ...]
    b: tuple[Weight, ...]


Rule = Callable[[Phi], ExponentialTableau]


def consistent(
    p: Phi, c: Sequence[float], rows: Sequence[Sequence[Weight]], weights: Sequence[Weight]
) -> ExponentialTableau:
    """The tableau with these columns from the second on, and the first column so that a constant N is integrated exactly."""
    a = [(share * p(1, share) - sum(row), *row) for share, row in zip(c[1:], rows, strict=True)]
    return ExponentialTableau(tuple(c), ((), *a), (p(1) - sum(weights), *weights))


def etd2(p: Phi, c2: float) -> ExponentialTableau:
    """Two stages, of stiff order 2. Hochbruck & Ostermann 2005, section 5.1. c2 = 1: Cox & Matthews' ETD2RK."""
    return consistent(p, (0, c2), [[]], [p(2) / c2])


def etd2_halved(p: Phi, c2: float) -> ExponentialTableau:
    """The same with phi_1/2 for phi_2, as DPM-Solver++(2S); c2 = 1: RKMK2e of Munthe-Kaas' Lie group methods."""
    return consistent(p, (0, c2), [[]], [p(1) / (2 * c2)])


def etd3(p: Phi, c2: float, c3: float) -> ExponentialTableau:
    """Three stages, of stiff order 3 (weakened), with b_2 = gamma b_3. Hochbruck & Ostermann 2005, section 5.2."""
    gamma = c3 * (3 * c3 - 2) / (c2 * (2 - 3 * c2))
    b2, b3 = (3 * c3 - 2) / (3 * c2 * (c3 - c2)) * p(2), (2 - 3 * c2) / (3 * c3 * (c3 - c2)) * p(2)
    return consistent(p, (0, c2, c3), [[], [gamma * c2 * p(2, c2) + c3**2 / c2 * p(2, c3)]], [b2, b3])


def cox_matthews_3(p: Phi) -> ExponentialTableau:
    """ETD3RK, of stiff order 2. Cox & Matthews 2002, (23)-(25)."""
    return consistent(p, (0, 1 / 2, 1), [[], [2 * p(1)]], [4 * p(2) - 8 * p(3), 4 * p(3) - p(2)])


def fu_shen_yang_3(p: Phi) -> ExponentialTableau:
    """Of stiff order 3 (weakened), c2 = 1 and c3 = 2/3. Fu, Shen & Yang 2024, arXiv 2402.15142."""
    return consistent(p, (0, 1, 2 / 3), [[], [4 / 9 * p(2, 2 / 3)]], [p(2) - p(1) / 2, 3 / 4 * p(1)])


def strehmel_weiner_3(p: Phi, c2: float) -> ExponentialTableau:
    """Three stages, of order 2: b_3 = phi_2 at c3 = 1. As in Hochbruck & Ostermann 2005, section 5.2, and RES4LYF."""
    return consistent(p, (0, c2, 1), [[], [p(2) / c2]], [0.0, p(2)])


def celledoni_3(p: Phi) -> ExponentialTableau:
    """ETD2CF3, from the commutator-free CF3 of Celledoni, Marthinsen & Owren 2003; of stiff order 3 (weakened)."""
    b2, b3 = 6 * p(2) - 18 * p(3), 9 * p(3) - 3 / 2 * p(2)
    return consistent(p, (0, 1 / 3, 2 / 3), [[], [4 / 3 * p(2, 2 / 3)]], [b2, b3])


def cox_matthews_4(p: Phi) -> ExponentialTableau:
    """ETD4RK, of stiff order 2. Cox & Matthews 2002, (26)-(29); a_41 is their phi_1(1/2) (e^(z/2) - 1)/2."""
    half = p(1, 1 / 2)
    return consistent(p, KUTTA, [[], [half / 2], [0.0, half]], _krogstad_weights(p))


def krogstad_4(p: Phi) -> ExponentialTableau:
    """ETDRK4-B, of stiff order 3. Krogstad 2005, (51)."""
    return consistent(p, KUTTA, [[], [p(2, 1 / 2)], [0.0, 2 * p(2)]], _krogstad_weights(p))


def strehmel_weiner_4(p: Phi) -> ExponentialTableau:
    """Of stiff order 3. Strehmel & Weiner 1992, example 4.5.5."""
    weights: list[Weight] = [0.0, 4 * p(2) - 8 * p(3), 4 * p(3) - p(2)]
    return consistent(p, KUTTA, [[], [p(2, 1 / 2) / 2], [-2 * p(2), 4 * p(2)]], weights)


def friedli_4(p: Phi) -> ExponentialTableau:
    """Of stiff order 3. Friedli 1978."""
    a42, a43 = 2 / 25 * p(2) - 26 / 25 * p(1), 26 / 25 * p(1) + 48 / 25 * p(2)
    weights: list[Weight] = [0.0, 4 * p(2) - 8 * p(3), 4 * p(3) - p(2)]
    return consistent(p, KUTTA, [[], [p(2, 1 / 2) / 2], [a42, a43]], weights)


def minchev_4(p: Phi) -> ExponentialTableau:
    """Of stiff order 2. Minchev 2004, thesis, Bergen; as in Minchev & Wright 2005."""
    a32 = 2 / 25 * p(1, 1 / 2) + 6 / 25 * p(2, 1 / 2)
    a42 = 21 / 5 * p(2) - 108 / 5 * p(3)
    a43 = p(1) / 20 - 33 / 10 * p(2) + 123 / 5 * p(3)
    b2 = p(2) / 5 - p(1) / 10 - 4 * p(3) + 12 * p(4)
    b3 = p(1) / 30 + 23 / 5 * p(2) - 8 * p(3) - 4 * p(4)
    b4 = p(1) / 30 - 7 / 5 * p(2) + 6 * p(3) - 4 * p(4)
    return consistent(p, KUTTA, [[], [a32], [a42, a43]], [b2, b3, b4])


def munthe_kaas_4(p: Phi) -> ExponentialTableau:
    """RKMK4t, a Lie group method with a truncated inverse of dexp, of stiff order 2 (weakened). Munthe-Kaas 1999."""
    half = p(1, 1 / 2)
    weights = [p(1) / 3, p(1) / 3, p(1) / 6 * (1 - p.z / 2)]
    return consistent(p, KUTTA, [[], [half / 2 * (1 - p.z / 4)], [0.0, p(1)]], weights)


def commutator_free_4(p: Phi) -> ExponentialTableau:
    """CFREE4, of stiff order 2 (weakened). Celledoni, Marthinsen & Owren 2003, Commutator-free Lie Group Methods."""
    half = p(1, 1 / 2)
    return consistent(p, KUTTA, [[], [half / 2], [0.0, half]], [p(1) / 3, p(1) / 3, half / 3 - p(1) / 6])


def hochbruck_ostermann_4(p: Phi) -> ExponentialTableau:
    """Five stages, of stiff order 4 (weakened). Hochbruck & Ostermann 2005, section 5.3."""
    a52 = p(2, 1 / 2) / 2 - p(3) + p(2) / 4 - p(3, 1 / 2) / 2
    rows = [[], [p(2, 1 / 2)], [p(2), p(2)], [a52, a52, p(2, 1 / 2) / 4 - a52]]
    return consistent(p, (*KUTTA, 1 / 2), rows, [0.0, 0.0, 4 * p(3) - p(2), 4 * p(2) - 8 * p(3)])


def luan_ostermann_5(p: Phi) -> ExponentialTableau:
    """expRK5s8: eight stages, of stiff order 5 (weakened). Luan & Ostermann 2014."""
    c = (0, 1 / 2, 1 / 2, 1 / 4, 1 / 2, 1 / 5, 2 / 3, 1)
    a64 = 8 / 25 * p(2, 1 / 5) - 32 / 125 * p(3, 1 / 5)
    a75 = 125 / 1944 * a64 - 16 / 27 * p(2, 2 / 3) + 320 / 81 * p(3, 2 / 3)
    a76 = 3125 / 3888 * a64 + 100 / 27 * p(2, 2 / 3) - 800 / 81 * p(3, 2 / 3)
    shared = 5 / 32 * a64 - p(2, 1 / 5) / 28 + 36 / 175 * p(2, 2 / 3) - 48 / 25 * p(3, 2 / 3)
    shared = shared + 6 / 175 * p(4, 1 / 5) + 192 / 35 * p(4, 2 / 3) + 6 * p(4)
    a85 = 208 / 3 * p(3) - 16 / 3 * p(2) - 40 * shared
    a86 = 250 / 21 * p(2) - 250 / 3 * p(3) + 250 / 7 * shared
    a87 = 27 / 14 * p(2) - 27 * p(3) + 135 / 7 * shared
    rows: list[list[Weight]] = [
        [],
        [p(2, 1 / 2) / 2],
        [0.0, p(2, 1 / 4) / 8],
        [0.0, 2 * p(3, 1 / 2) - p(2, 1 / 2) / 2, 2 * p(2, 1 / 2) - 4 * p(3, 1 / 2)],
        [0.0, 0.0, a64, 2 / 25 * p(2, 1 / 5) - a64 / 2],
        [0.0, 0.0, -125 / 162 * a64, a75, a76],
        [0.0, 0.0, 0.0, a85, a86, a87],
    ]
    b6 = 125 / 14 * p(2) - 625 / 14 * p(3) + 1125 / 14 * p(4)
    b7 = 162 / 7 * p(3) - 27 / 14 * p(2) - 405 / 7 * p(4)
    b8 = p(2) / 2 - 13 / 2 * p(3) + 45 / 2 * p(4)
    return consistent(p, c, rows, [0.0, 0.0, 0.0, 0.0, b6, b7, b8])


def layered(p: Phi, *layers: Sequence[float]) -> ExponentialTableau:
    """Stages in layers: each interpolates N through 0 and the layer before, by a polynomial, and so does the step itself.

    The papers write the integrals out in phis. Layers of 1, 2, ..., s nodes give order s + 1, stiffly too; one more layer of
    s nodes, with int_0^1 u prod (u - c_i) du = 0, gives s + 2. The stages of a layer can be made in parallel.
    """
    c: list[float] = [0.0]
    rows: list[list[Weight]] = []
    before: Sequence[float] = ()
    for layer in (*layers, (1.0,)):
        unused = [0.0] * (len(c) - 1 - len(before))
        rows += [[*unused, *integrals(p, [0.0, *before], share)[1:], *[0.0] * i] for i, share in enumerate(layer)]
        c, before = [*c, *layer], layer
    return consistent(p, c[:-1], rows[:-1], rows[-1])


def integrals(p: Phi, points: Sequence[Place], share: float) -> list[Weight]:
    """int_0^share e^((share - u) z) l_j(u) du for the Lagrange polynomials l_j of the points."""
    u, weights = gauss_legendre(p.z.ndim)
    kernel = share * weights * torch.exp((1 - u) * share * p.z)
    return [(kernel * lagrange(points, j, u * share)).sum(0) for j in range(len(points))]


def lagrange(points: Sequence[Place], j: int, u: Place) -> Place:
    """The polynomial that is 1 at point j and 0 at the others, at u."""
    return prod((u - points[k]) / (points[j] - points[k]) for k in range(len(points)) if k != j)


def _krogstad_weights(p: Phi) -> list[Weight]:
    return [2 * p(2) - 4 * p(3), 2 * p(2) - 4 * p(3), 4 * p(3) - p(2)]


KUTTA = (0, 1 / 2, 1 / 2, 1)
LUAN_4 = ((1 / 2,), (1 / 2, 1 / 3), (1 / 3, 5 / 6))
LUAN_5 = ((1 / 2,), (1 / 2, 1 / 3), (1 / 2, 1 / 3, 1 / 4), (3 / 10, 3 / 4, 1))
LUAN_ALHSMY_6 = (
    (1 / 2,),
    (1 / 2, 1 / 3),
    (1 / 2, 1 / 5, 1 / 4),
    (1 / 2, 1 / 5, 1 / 4, 1 / 3),
    (1 / 2, 1 / 5, 1 / 4, 1 / 3, 1),
)
LUAN_ALHSMY_6_15 = (
    (1 / 2,),
    (1 / 2, 1 / 3),
    (1 / 2, 1 / 5, 1 / 4),
    (18 / 25, 1 / 3, 3 / 10, 1 / 6),
    (90 / 103, 1 / 3, 3 / 10, 1 / 5),
)
