"""Grids that are evenly spaced in some variable: t, lambda, a power or an angle of sigma/alpha, a distribution of t."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from urn.processes import RDDM, Process, Tabulated


def uniform(process: Process, steps: int) -> Tensor:
    """Evenly spaced in t, from t_start to t_end."""
    return _over_the_whole(process, steps, lambda u: u)


def quadratic(process: Process, steps: int) -> Tensor:
    """t - t_end proportional to u^2 with u even from 1 to 0: dense at the data. From t_start to t_end.

    Source: the quadratic sub-sequence of Song, Meng, Ermon 2021, Denoising Diffusion Implicit Models, arXiv 2010.02502.
    """
    return _over_the_whole(process, steps, lambda u: u**2)


def uniform_lambda(process: Process, steps: int) -> Tensor:
    """Evenly spaced in lambda, between the ends of `t_finite`; the same as evenly spaced in log sigma ("exponential").

    Source: Lu et al. 2022, DPM-Solver, arXiv 2206.00927, section 3.4.
    """

    def between(first: float, last: float, steps: int) -> Tensor:
        start, end = process.lambda_(first), process.lambda_(last)
        lambdas = torch.lerp(start, end, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
        return with_ends(process.t_of_lambda(lambdas), first, last)

    return _where_finite(process, steps, between)


def karras(process: Process, steps: int, rho: float = 7.0) -> Tensor:
    """EDM's grid: (sigma/alpha)^(1/rho) evenly spaced between the ends of `t_finite`.

    Source: Karras et al. 2022, arXiv 2206.00364, equation 5.
    """
    return _in_ratio(process, steps, lambda s: s ** (1 / rho), lambda s: s**rho)


def polyexponential(process: Process, steps: int, rho: float = 1.0) -> Tensor:
    """log(sigma/alpha) falls as u^rho with u even from 1 to 0, between the ends of `t_finite`; k-diffusion's name."""

    def between(first: float, last: float, steps: int) -> Tensor:
        start, end = process.lambda_(first), process.lambda_(last)
        u = torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** rho
        return with_ends(process.t_of_lambda(end + u * (start - end)), first, last)

    return _where_finite(process, steps, between)


def arctan(process: Process, steps: int, data_std: float = 1.0) -> Tensor:
    """arctan(sigma/(alpha data_std)) evenly spaced, from t_start to t_end: the optimal grid for Gaussian data of that std.

    Source: Sabour, Fidler, Kreis 2024, Align Your Steps, arXiv 2404.14507, section 3.1.
    """

    def between(first: float, last: float, steps: int) -> Tensor:
        angles = [torch.atan(torch.exp(-process.lambda_(t)) / data_std) for t in (first, last)]
        angle = torch.lerp(angles[0], angles[1], torch.linspace(0, 1, steps + 1, dtype=torch.float64))
        lambdas = -torch.log(torch.tan(angle) * data_std)
        times = torch.full_like(lambdas, first)
        times[1:-1] = process.t_of_lambda(lambdas[1:-1])
        return with_ends(times, first, last)

    return to_clean(process, steps, between)


def beta(process: Process, steps: int, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Quantiles of the Beta(a, b) distribution of t, from t_start to t_end: below 1, dense at both ends.

    Source: Lee et al. 2024, Beta Sampling is All You Need, arXiv 2407.12173.
    """
    from scipy.special import betaincinv

    return _over_the_whole(process, steps, lambda u: torch.from_numpy(betaincinv(a, b, u.numpy())))


def _over_the_whole(process: Process, steps: int, warp: Callable[[Tensor], Tensor]) -> Tensor:
    """t - last proportional to warp(u), u even from 1 to 0."""

    def between(first: float, last: float, steps: int) -> Tensor:
        shares = warp(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
        return with_ends(last + (first - last) * shares, first, last)

    return to_clean(process, steps, between)


def to_clean(process: Process, steps: int, between: Callable[[float, float, int], Tensor]) -> Tensor:
    """A grid from t_start to t_end; on a table whose last step would start below t = 0, one to 0 and then the end."""
    times = between(process.t_start, process.t_end, steps)
    if is_table(process) and times[-2] < 0:
        times = torch.cat([between(process.t_start, 0.0, steps - 1), times[-1:]])
    return times


def _where_finite(process: Process, steps: int, between: Callable[[float, float, int], Tensor]) -> Tensor:
    """A grid over `t_finite`; of a process that starts at a point (alpha = sigma = 0), after one step from there."""
    start = process.t_start
    if process.alpha(start).ndim:
        raise ValueError(f"{process} has no time of one lambda: use a grid in t, such as 'uniform'")
    if bool(process.alpha(start) == 0) and bool(process.sigma(start) == 0):
        return torch.cat([torch.tensor([start], dtype=torch.float64), between(*process.t_finite, steps - 1)])
    return between(*process.t_finite, steps)


def _in_ratio(process: Process, steps: int, warp: Any, unwarp: Any) -> Tensor:
    def between(first: float, last: float, steps: int) -> Tensor:
        start, end = (warp(torch.exp(-process.lambda_(t))) for t in (first, last))
        ratios = unwarp(torch.lerp(start, end, torch.linspace(0, 1, steps + 1, dtype=torch.float64)))
        return with_ends(process.t_of_lambda(-torch.log(ratios)), first, last)

    return _where_finite(process, steps, between)


def with_ends(times: Tensor, first: float, last: float) -> Tensor:
    """The ends exactly, rather than to rounding, so that they lie inside the process; of one time the last."""
    times[0], times[-1] = first, last
    return times


def is_table(process: Process) -> bool:
    """Whether a process, or the one it is made of, is known at integer times."""
    return isinstance(getattr(process, "base", process), (Tabulated, RDDM))
