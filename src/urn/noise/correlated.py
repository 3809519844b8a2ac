"""Noise that is a random function of time: for series (B, N, *channels) observed at N times, which may be irregular.

    x_t = alpha_t x0 + sigma_t e,    e ~ N(0, K) along the times, K_ij = k(tau_i, tau_j), independent between channels

instead of e ~ N(0, I). Plans do not change, for with e = L z and K = L L^T each of their rows is a sum whose noises, the start
among them, are multiplied by L: only the noise source does. Any finite set of times has the marginals of one process, and
neighbouring values come together as their times do, at every noise level.

What a network predicts is meant with the same e: "epsilon" is e itself, so x0, epsilon, v and velocity convert as ever. The
true score is -K^-1 e / sigma and not the -e / sigma that plans call score, which is K times it, and is what the reverse SDE
and Langevin steps with correlated noise need. So a network of the true score must be given as epsilon:

    Model(lambda x, t: -sigma(t) * torch.einsum("nm,bm...->bn...", K, score(x, t)), process, predicts="epsilon")

Source: Bilos, Rasul, Schneider, Nevmyvaka & Guennemann 2023, Modeling Temporal Data as Continuous Functions with Stochastic
Process Diffusion, arXiv 2211.02590, sections 3.1 to 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from urn.plan import Rows

from .sources import Interval, NoiseSource, in_kind, make_source


class Correlation(Protocol):
    """How noise hangs together along the times of a series."""

    @property
    def times(self) -> Tensor:
        """(N,), shared by all samples, or (B, N), float64."""
        ...

    @property
    def covariance(self) -> Tensor:
        """K, (N, N) or (B, N, N), float64."""
        ...

    def correlated(self, z: Tensor) -> Tensor:
        """L z along the second axis of z, (B, N, *channels), float64, with L L^T = K."""
        ...

    def part(self, samples: slice) -> Correlation:
        """That of some of the samples."""
        ...


class GaussianProcess:
    """e(tau) with a covariance function, by the Cholesky factor of K: N^3 / 3 operations once, N^2 for each noise.

    Args:
        times: tau, (N,), shared by all samples, or (B, N); padded samples may have any further times.
        kernel: k(tau, tau'), called on tensors that broadcast; `rbf(length)` or one of your own. A kernel with k(tau, tau)
            other than 1 scales sigma.
        jitter: added to the diagonal; smooth kernels at close times are singular to rounding without it.

    Raises:
        ValueError: times that are not finite or not so, or a covariance that is not positive definite.

    Example:
        >>> process = GaussianProcess(torch.rand(16, 30), rbf(0.2), jitter=1e-9)
    """

    def __init__(self, times: Any, kernel: Callable[[Tensor, Tensor], Tensor], jitter: float = 0.0) -> None:
        self.times = as_times(times)
        if not jitter >= 0:
            raise ValueError(f"jitter={jitter!r} must be at least 0")
        self.covariance = kernel(self.times.unsqueeze(-1), self.times.unsqueeze(-2)).to(torch.float64)
        self.covariance = self.covariance + jitter * torch.eye(self.times.shape[-1], dtype=torch.float64)
        expected = (*self.times.shape, self.times.shape[-1])
        if tuple(self.covariance.shape) != expected:
            raise ValueError(f"kernel: it gave shape {tuple(self.covariance.shape)}; allowed: {expected}")
        self.factor, failed = torch.linalg.cholesky_ex(self.covariance)
        if bool(failed.any()):
            least = float(torch.linalg.eigvalsh(self.covariance).min())
            raise ValueError(
                f"kernel: its covariance has an eigenvalue of {least:.3g}; allowed: positive; raise jitter"
            )

    def correlated(self, z: Tensor) -> Tensor:
        """See `Correlation`. Column by column, so that a sample's bits do not depend on its batch."""
        factor = self.factor.to(z.device)
        total = torch.zeros_like(z)
        for j in range(z.shape[1]):
            total[:, j:] += spread(factor[..., j:, j], z) * z[:, j : j + 1]
        return total

    def part(self, samples: slice) -> GaussianProcess:
        """See `Correlation`."""
        if self.times.ndim == 1:
            return self
        chosen = object.__new__(GaussianProcess)
        chosen.times, chosen.covariance, chosen.factor = (
            value[samples] for value in (self.times, self.covariance, self.factor)
        )
        return chosen


class OrnsteinUhlenbeck:
    """e(tau) with k(tau, tau') = exp(-|tau - tau'| / length), by its exact recursion: N operations for each noise.

    e_0 = z_0 and e_i = a_i e_(i-1) + sqrt(1 - a_i^2) z_i with a_i = exp(-(tau_i - tau_(i-1)) / length); paths are continuous
    and rough.

    Args:
        times: tau, (N,) or (B, N), increasing; equal ones are one point.
        length: of the correlation, positive.

    Raises:
        ValueError: times that are not finite or decrease, or another length.
    """

    def __init__(self, times: Any, length: float) -> None:
        self.times = as_times(times)
        if not 0 < length < math.inf:
            raise ValueError(f"length={length!r} must be a positive finite number")
        self.length = length
        gaps = self.times.diff(dim=-1)
        if bool((gaps < 0).any()):
            raise ValueError(f"times: one is {float(-gaps.min()):.3g} below the one before; allowed: increasing times")
        self._decay = torch.exp(-gaps / length)
        self._fresh = torch.sqrt(-torch.expm1(-2 * gaps / length))

    @cached_property
    def covariance(self) -> Tensor:
        """See `Correlation`."""
        return torch.exp(-(self.times.unsqueeze(-1) - self.times.unsqueeze(-2)).abs() / self.length)

    def correlated(self, z: Tensor) -> Tensor:
        """See `Correlation`."""
        decay, fresh = spread(self._decay.to(z.device), z), spread(self._fresh.to(z.device), z)
        values = [z[:, 0]]
        for i in range(1, z.shape[1]):
            values.append(decay[:, i - 1] * values[-1] + fresh[:, i - 1] * z[:, i])
        return torch.stack(values, 1)

    def part(self, samples: slice) -> OrnsteinUhlenbeck:
        """See `Correlation`."""
        return self if self.times.ndim == 1 else OrnsteinUhlenbeck(self.times[samples], self.length)


def rbf(length: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The kernel exp(-((tau - tau') / length)^2 / 2), whose paths are smooth."""
    if not 0 < length < math.inf:
        raise ValueError(f"length={length!r} must be a positive finite number")
    return lambda a, b: torch.exp(-0.5 * ((a - b) / length) ** 2)


class CorrelatedNoise:
    """A noise source whose normals are those of another, correlated along the times: `noise=` of `urn.sample`, start included.

    Args:
        correlation: `GaussianProcess(times, kernel)` or `OrnsteinUhlenbeck(times, length)`. With times of its own for each
            sample, `sample` gives each batch those of its samples.
        source: "seeded", "brownian" or "fast", whose seeds `sample` gives; or a source, to use this one in `urn.execute`.

    Sample i depends on its seed and its times alone, bit for bit, as with "seeded"; the factor is LAPACK's, so not from
    machine to machine.

    Example:
        >>> noise = CorrelatedNoise(OrnsteinUhlenbeck(times, length=0.5))
        >>> x = urn.sample(model, "dpmpp_2m_sde", shape=(16, 30, 2), steps=10, noise=noise, seed=0)
    """

    def __init__(self, correlation: Correlation, source: str | NoiseSource = "seeded") -> None:
        self.correlation, self.source = correlation, source

    def normal(self, interval: Interval, stream: int, like: Any) -> Any:
        """See `NoiseSource`; `like` has shape (B, N, *channels).

        Raises:
            ValueError: another shape, or no source to draw from.
        """
        self.check(tuple(like.shape))
        if isinstance(self.source, str):
            raise ValueError(f"source={self.source!r} is made by urn.sample from its seeds; elsewhere pass a source")
        wide = like.double() if isinstance(like, Tensor) else torch.empty(like.shape, dtype=torch.float64)
        return in_kind(self.correlation.correlated(self.source.normal(interval, stream, wide)), like)

    def for_batch(self, seeds: Sequence[int], plan: Rows, device: torch.device, part: slice) -> CorrelatedNoise:
        """The source of a part of the samples, with these seeds."""
        return CorrelatedNoise(self.correlation.part(part), make_source(self.source, seeds, plan, device, part))

    def check(self, shape: tuple[int, ...], predicts: str | None = None) -> None:
        """Refuse states of another shape than the times have, and networks that predict the score.

        Raises:
            ValueError: naming them.
        """
        if predicts == "score":
            raise ValueError(
                "predicts='score': with correlated noise the true score is -K^-1 epsilon / sigma; give the network as "
                "predicts='epsilon', -sigma K score (see urn.noise.correlated)"
            )
        times = tuple(self.correlation.times.shape)
        if len(shape) < 2 or shape[1] != times[-1] or (len(times) == 2 and shape[0] != times[0]):
            allowed = f"({times[0] if len(times) == 2 else 'B'}, {times[-1]}, *channels)"
            raise ValueError(f"states of shape {shape}: the correlation has times of shape {times}; allowed: {allowed}")


def as_times(times: Any) -> Tensor:
    """Times as float64 on the CPU, (N,) or (B, N). ValueError for anything else."""
    made = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if made.ndim not in (1, 2) or not made.numel() or not bool(made.isfinite().all()):
        raise ValueError(f"times has shape {tuple(made.shape)}; allowed: (N,) or (B, N), finite")
    return made


def spread(numbers: Tensor, z: Tensor) -> Tensor:
    """Numbers (n,) or (B, n) so that they broadcast against (B, n, *channels)."""
    batched = numbers if numbers.ndim == 2 else numbers[None]
    return batched.reshape(*batched.shape, *[1] * (z.ndim - 2))
