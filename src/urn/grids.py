"""Grids: functions (process, steps) -> times, from the noise end to the data end, in the process's own t.

A grid has `steps` intervals, so steps + 1 times. Those in lambda or sigma/alpha run between `process.t_finite`, so the
plan ends at a small noise (`final="x0"` adds the jump to the clean prediction); the others run from `t_start` to `t_end`,
on most processes clean data. A table of betas is clean at t = -1, and no network was trained between that and 0: where a
grid's last step would start there, the grid runs to 0 first. A bridge starts at a point, where lambda is -inf: a grid in
lambda or sigma/alpha has one step from there to the start of `t_finite`. A grid with options is passed as a function:
`functools.partial(urn.grids.karras, rho=5)`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.processes import RDDM, VE, Flow, Interpolant, Polynomial, Process, Tabulated, Trigonometric
from urn.processes.process import as_float64, check_positive

Grid = Callable[[Process, int], Tensor]
GridLike = str | Grid | Sequence[float] | Tensor | np.ndarray[Any, Any]


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
        return _with_ends(process.t_of_lambda(lambdas), first, last)

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
        return _with_ends(process.t_of_lambda(end + u * (start - end)), first, last)

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
        return _with_ends(times, first, last)

    return _to_clean(process, steps, between)


def beta(process: Process, steps: int, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Quantiles of the Beta(a, b) distribution of t, from t_start to t_end: below 1, dense at both ends.

    Source: Lee et al. 2024, Beta Sampling is All You Need, arXiv 2407.12173.
    """
    from scipy.special import betaincinv

    return _over_the_whole(process, steps, lambda u: torch.from_numpy(betaincinv(a, b, u.numpy())))


def trailing(process: Process, steps: int) -> Tensor:
    """Integer times T, T - T/steps, ..., each less one and rounded, then t_end: always starts at the noisiest time.

    Tabulated processes only. Source: Lin et al. 2024, arXiv 2305.08891, table 2.
    """
    size = _table_size(process, steps, "trailing")
    return _integers(process, np.round(np.arange(size, 0, -size / steps))[:steps] - 1)


def leading(process: Process, steps: int, offset: int = 0) -> Tensor:
    """Integer times i (T // steps) + offset for i = steps - 1 ... 0, then t_end; never starts at the noisiest time.

    Tabulated processes only; DDPM's and DDIM's own spacing. Source: named so in Lin et al. 2024, arXiv 2305.08891.
    """
    size = _table_size(process, steps, "leading")
    return _integers(process, np.arange(steps - 1, -1, -1) * (size // steps) + offset)


def linspace(process: Process, steps: int) -> Tensor:
    """Integer times evenly spaced from T - 1 to 0 and rounded, then t_end; one step starts at T - 1. Tabulated only.

    Source: named so in Lin et al. 2024, arXiv 2305.08891.
    """
    size = _table_size(process, steps, "linspace")
    # made upwards, as peers make it: downwards, halves such as 38.5 come out a rounding error apart and round otherwise
    return _integers(process, np.round(np.linspace(0, size - 1, max(steps, 2)))[::-1][:steps])


def shifted(shift: float, grid: GridLike = "uniform") -> Grid:
    """A grid on a flow with its share of noise s moved to shift s / (1 + (shift - 1) s): more steps near the noise.

    Source: Esser et al. 2024, arXiv 2403.03206, equation 23.
    """
    check_positive(shift=shift)

    def shifted_grid(process: Process, steps: int) -> Tensor:
        if process.domain != (0.0, 1.0):
            raise ValueError(f"grid=shifted({shift}) needs a t in [0, 1]; that of {process} is in {process.domain}")
        t = grid_times(process, steps, grid)
        return shift * t / (1 + (shift - 1) * t)

    return shifted_grid


def rounded(grid: GridLike) -> Grid:
    """A grid with its times rounded to integers and repeats dropped (so it may have fewer steps)."""

    def rounded_grid(process: Process, steps: int) -> Tensor:
        times = torch.round(grid_times(process, steps, grid))
        return times[torch.cat([torch.ones(1, dtype=torch.bool), times[1:] != times[:-1]])]

    return rounded_grid


GRIDS: dict[str, Grid] = {
    "uniform": uniform,
    "quadratic": quadratic,
    "lambda": uniform_lambda,
    "exponential": uniform_lambda,
    "karras": karras,
    "polyexponential": polyexponential,
    "arctan": arctan,
    "beta": beta,
    "trailing": trailing,
    "leading": leading,
    "linspace": linspace,
}


def default_grid(process: Process) -> str:
    """The name of the grid taken where none is asked for: what did best at 5 to 15 evaluations on the digits mixture."""
    if isinstance(process, (Flow, Polynomial, Trigonometric, Interpolant)):
        return "uniform"
    return "karras" if isinstance(process, VE) else "quadratic"


def grid_times(process: Process, steps: int | None, grid: GridLike | None = None) -> Tensor:
    """The times of a grid given by name, function or array, checked.

    Raises:
        ValueError: an unknown name (the nearest are offered), no or too few steps, or times that are repeated, not
            monotone, not finite, or outside the process.
    """
    if grid is None:
        grid = default_grid(process)
    if isinstance(grid, str) or callable(grid):
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
            raise ValueError(f"steps={steps!r} must be an integer of at least 1")
        times = as_float64((find_grid(grid) if isinstance(grid, str) else grid)(process, int(steps)))
    else:
        times = as_float64(grid if isinstance(grid, Tensor) else torch.tensor(np.asarray(grid, dtype=np.float64)))
        if steps is not None and times.ndim and steps != len(times) - 1:
            raise ValueError(f"steps={steps} does not fit a grid of {len(times)} times, which has {len(times) - 1}")
    check_times(process, times)
    return times


def find_grid(name: str) -> Grid:
    """The grid function of a name, or a ValueError with the nearest names."""
    if name not in GRIDS:
        near = difflib.get_close_matches(name, GRIDS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"grid={name!r} is unknown; {hint}known: {', '.join(GRIDS)}")
    return GRIDS[name]


def check_times(process: Process, times: Tensor) -> None:
    """Refuse times that are no grid of the process, naming the first offender."""
    if times.ndim < 1 or len(times) < 2:
        raise ValueError(
            f"grid must be one-dimensional with at least 2 times, not of shape {tuple(times.shape)}; or (steps + 1, *F), a "
            "time per frame"
        )
    if times.ndim > 1:
        _check_frames(process, times.detach())
        return
    values = times.detach().tolist()
    low, high = process.domain
    for i, t in enumerate(values):
        if not math.isfinite(t) or not low <= t <= high:
            raise ValueError(f"grid[{i}]={t!r} is outside the process {process}, whose t is in [{low}, {high}]")
    direction = -1 if values[-1] < values[0] else 1
    for i in range(len(values) - 1):
        if direction * (values[i + 1] - values[i]) <= 0:
            what = "repeated" if values[i + 1] == values[i] else "not monotone"
            raise ValueError(f"grid is {what} at [{i}], [{i + 1}]: {values[i]!r}, {values[i + 1]!r}")


def _check_frames(process: Process, times: Tensor) -> None:
    """The same of a time per frame, (steps + 1, *F): some may rest in a step, none may turn back."""
    low, high = process.domain
    if not bool(((times >= low) & (times <= high)).all()):
        raise ValueError(f"grid has a time outside the process {process}, whose t is in [{low}, {high}]")
    moved = times.diff(dim=0).flatten(1)
    downwards = bool(times[-1].sum() < times[0].sum())
    for i, step in enumerate(-moved if downwards else moved):
        if bool((step < 0).any()) or not bool((step > 0).any()):
            raise ValueError(f"grid at [{i}], [{i + 1}]: every frame must rest or go on, and one at least go on")


def _over_the_whole(process: Process, steps: int, warp: Callable[[Tensor], Tensor]) -> Tensor:
    """t - last proportional to warp(u), u even from 1 to 0."""

    def between(first: float, last: float, steps: int) -> Tensor:
        shares = warp(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
        return _with_ends(last + (first - last) * shares, first, last)

    return _to_clean(process, steps, between)


def _to_clean(process: Process, steps: int, between: Callable[[float, float, int], Tensor]) -> Tensor:
    """A grid from t_start to t_end; on a table whose last step would start below t = 0, one to 0 and then the end."""
    times = between(process.t_start, process.t_end, steps)
    if _is_table(process) and times[-2] < 0:
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
        return _with_ends(process.t_of_lambda(-torch.log(ratios)), first, last)

    return _where_finite(process, steps, between)


def _with_ends(times: Tensor, first: float, last: float) -> Tensor:
    """The ends exactly, rather than to rounding, so that they lie inside the process; of one time the last."""
    times[0], times[-1] = first, last
    return times


def _is_table(process: Process) -> bool:
    """Whether a process, or the one it is made of, is known at integer times."""
    return isinstance(getattr(process, "base", process), (Tabulated, RDDM))


def _table_size(process: Process, steps: int, name: str) -> int:
    if not _is_table(process):
        raise ValueError(f"grid={name!r} is made of a table's integer times; {process} is continuous, try 'uniform'")
    size = round(process.t_start) + 1
    if steps > size:
        raise ValueError(f"steps={steps} is more than the {size} integer times of {process}")
    return size


def _integers(process: Process, times: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.append(times, process.t_end).astype(np.float64))
