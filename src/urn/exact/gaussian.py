"""Gaussian data: every prediction, the posterior, the exact flow and the exact reverse kernel.

The forward process is ``x_t = alpha_t x0 + sigma_t epsilon``. Where ``x0 ~ N(m, C)``, with
``M = alpha^2 C + sigma^2 I`` and ``r = x - alpha m``,

    p(x_t)         = N(alpha m, M)
    E[x0 | x]      = m + alpha C M^-1 r
    E[epsilon | x] = sigma M^-1 r
    score          = -M^-1 r

(Bishop 2006, Pattern Recognition and Machine Learning, 2.3.3). ``C = U diag(l) U^T`` is factored once, so ``M``
is diagonal in ``U`` at every time. Nothing is divided by alpha or by sigma, so all of it holds at both ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from urn.processes import Process
from urn.processes.process import Times

from .contract import Level, closed_form_model, event_shape, follow, level_at, prediction_weights, rows, spectrum

if TYPE_CHECKING:
    from urn.model import Model


class Gaussian:
    """x0 ~ N(mean, covariance).

    Args:
        mean: m, (d,).
        covariance: C, full (d, d), diagonal (d,), or a scalar times the identity; positive semi-definite.
        shape: S, the shape of one sample, of d elements; (d,) by default.

    Where C is singular, the density and the score do not exist at sigma = 0.

    Raises:
        ValueError: other shapes, or a covariance that is not symmetric and positive semi-definite.
    """

    def __init__(self, mean: Any, covariance: Any, shape: Sequence[int] | None = None) -> None:
        self.mean = torch.as_tensor(mean, dtype=torch.float64, device="cpu").clone()
        given = torch.as_tensor(covariance, dtype=torch.float64, device="cpu")
        if self.mean.ndim != 1 or not bool(self.mean.isfinite().all()):
            raise ValueError(f"mean has shape {tuple(self.mean.shape)}; allowed: (d,), finite")
        dimension = len(self.mean)
        if given.shape not in [(), (dimension,), (dimension, dimension)]:
            allowed = f"(), ({dimension},) or ({dimension}, {dimension})"
            raise ValueError(f"covariance has shape {tuple(given.shape)}; allowed: {allowed}")
        self.shape = event_shape(shape, dimension)
        values, vectors = spectrum("covariance", given.unsqueeze(0), dimension)
        self._values, self._vectors = values[0], None if vectors is None else vectors[0]
        self._cache: dict[Any, Any] = {}

    @property
    def covariance(self) -> Tensor:
        """C, (d, d)."""
        return self._matrix(self._values)

    def sample(self, count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """`count` draws of x0, (count, *S), from a generator of their own."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(count, len(self.mean), generator=generator, dtype=torch.float64)
        return (self.mean + self._back(self._values.sqrt() * z)).reshape(count, *self.shape).to(dtype)

    def x0(self, x: Tensor, process: Process, t: Times) -> Tensor:
        """E[x0 | x_t = x], of x's shape."""
        return self.prediction(x, process, t, "x0")

    def epsilon(self, x: Tensor, process: Process, t: Times) -> Tensor:
        """E[epsilon | x_t = x], of x's shape."""
        return self.prediction(x, process, t, "epsilon")

    def score(self, x: Tensor, process: Process, t: Times) -> Tensor:
        """The gradient of log p(x_t) at x, of x's shape."""
        return self.prediction(x, process, t, "score")

    def prediction(self, x: Tensor, process: Process, t: Times, kind: str) -> Tensor:
        """The prediction `kind`, one of the five, of x's shape.

        a m + U (a alpha l + b) / (alpha^2 l + sigma^2) U^T r, with `prediction_weights`' a and b.
        """
        level, values, residual, variance = self._residual(x, process, t)
        a, b = prediction_weights(kind, process, level)
        mean = a * self._on(x)[0]
        return (mean + self._back((a * level.alpha * values + b) / variance * residual)).reshape(x.shape).to(x.dtype)

    def log_density(self, x: Tensor, process: Process, t: Times) -> Tensor:
        """log p(x_t = x), (B,)."""
        _, _, residual, variance = self._residual(x, process, t)
        terms = residual.square() / variance + variance.log() + math.log(2 * math.pi)
        return (-0.5 * terms.sum(1)).to(x.dtype)

    def posterior(self, x: Tensor, process: Process, t: Times) -> tuple[Tensor, Tensor]:
        """Mean (B, d) and covariance (B, d, d) of x0 given x_t = x: C - alpha^2 C M^-1 C = sigma^2 C M^-1."""
        level, values, _, variance = self._residual(x, process, t)
        covariance = self._matrix(values * level.sigma.square() / variance).expand(len(x), -1, -1)
        return rows(self.x0(x, process, t), self.shape).to(x.dtype), covariance.to(x.dtype)

    def flow(self, x: Tensor, process: Process, t_from: Times, t_to: Times) -> Tensor:
        """The probability-flow ODE's solution at t_to from x at t_from, exactly, in either direction; of x's shape.

        In the eigenbasis r' = (M'/2M) r, so r_to = r_from sqrt(M_to / M_from). A direction in which the data do not
        vary has no inverse flow from sigma = 0; there, where r_from is zero, r_to is zero.
        """
        start, values, residual, before = self._residual(x, process, t_from)
        level = level_at(process, t_to, rows(x, self.shape))
        after = level.alpha.square() * values + level.variance
        varies = (start.sigma > 0) | (values > 0)
        scale = torch.where(varies, after / before, 0.0).sqrt()
        result = level.alpha * self._on(x)[0] + self._back(scale * residual)
        return result.reshape(x.shape).to(x.dtype)

    def transition(self, x: Tensor, process: Process, t_from: float, t_to: float) -> tuple[Tensor, Tensor]:
        """Mean (B, d) and covariance (d, d) of q(x_to | x_from = x), the exact reverse SDE (eta = 1).

        Forwards, x_from = a x_to + s n with a = alpha_from / alpha_to, s^2 = sigma_from^2 - a^2 sigma_to^2, and n
        standard normal. Backwards, x_to ~ N(alpha_to m + a M_to M_from^-1 r, s^2 M_to M_from^-1).

        Raises:
            ValueError: t_to is not nearer the data, lambda_to > lambda_from.
        """
        lambda_from, lambda_to = process.lambda_(t_from).item(), process.lambda_(t_to).item()
        if not lambda_to > lambda_from:
            raise ValueError(f"t_to is {t_to}; allowed: a time nearer the data than t_from, which is {t_from}")
        level, values, residual, before = self._residual(x, process, float(t_from))
        target = level_at(process, float(t_to), rows(x, self.shape))
        after = target.alpha.square() * values + target.variance
        # s^2 / sigma_from^2 = 1 - (a sigma_to / sigma_from)^2, in float64: the squares would cancel in a state's float32.
        noise = level.sigma.square() * -math.expm1(2 * (lambda_from - lambda_to))
        gain = level.alpha / target.alpha * after / before
        mean = target.alpha * self._on(x)[0] + self._back(gain * residual)
        return mean.to(x.dtype), self._matrix(noise * after / before)[0].to(x.dtype)

    def moments(self, process: Process, t: float) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of x_t: alpha m and alpha^2 C + sigma^2 I, float64."""
        alpha, sigma = process.alpha(float(t)), process.sigma(float(t))
        return alpha * self.mean, self._matrix(alpha**2 * self._values + sigma**2)

    def affine_net(self, process: Process) -> Callable[[float], tuple[Tensor, Tensor, Tensor, Tensor]]:
        """t -> (A0, b0, A1, b1), float64, with E[x0 | x] = A0 x + b0 and E[epsilon | x] = A1 x + b1.

        A0 = alpha C M^-1, b0 = sigma^2 M^-1 m, A1 = sigma M^-1, b1 = -alpha sigma M^-1 m; A (d, d), b (d,).
        """

        def net(t: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            _, alpha, sigma, variance = level_at(process, float(t), self.mean[None])
            inverse = 1 / (alpha.square() * self._values + variance)
            to_x0, from_mean, to_epsilon = (
                self._matrix(gain)[0] for gain in (alpha * self._values * inverse, variance * inverse, sigma * inverse)
            )
            return to_x0, from_mean @ self.mean, to_epsilon, -alpha[0] * (to_epsilon @ self.mean)

        return net

    def model(self, process: Process, predicts: str = "v") -> Model:
        """The exact network for `process`; of the five kinds only "v" is finite at both ends of every process."""
        return closed_form_model(self, process, predicts)

    def _on(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """m, l and U where x is, in its working dtype."""
        return follow(self._cache, x, self.mean, self._values, self._vectors)  # type: ignore[no-any-return]

    def _residual(self, x: Tensor, process: Process, t: Times) -> tuple[Level, Tensor, Tensor, Tensor]:
        """The level at t, l (d,), U^T r (B, d) and the eigenvalues of M, (B, d) or (1, d)."""
        flat = rows(x, self.shape)
        level = level_at(process, t, flat)
        mean, values, vectors = self._on(x)
        residual = flat - level.alpha * mean
        rotated = residual if vectors is None else residual @ vectors
        return level, values, rotated, level.alpha.square() * values + level.variance

    def _back(self, r: Tensor) -> Tensor:
        """U r for rows r, (B, d)."""
        _, _, vectors = self._on(r)
        return r if vectors is None else r @ vectors.T

    def _matrix(self, diagonal: Tensor) -> Tensor:
        """U diag(.) U^T for rows (..., d)."""
        _, _, vectors = self._on(diagonal)
        return torch.diag_embed(diagonal) if vectors is None else (vectors * diagonal.unsqueeze(-2)) @ vectors.T
