"""Grids: functions (process, steps) -> times, from the noise end to the data end, in the process's own t.

A grid has `steps` intervals, so steps + 1 times. Those in lambda or sigma/alpha run between `process.t_finite`, so the
plan ends at a small noise (`final="x0"` adds the jump to the clean prediction); the others run from `t_start` to `t_end`,
on most processes clean data. A table of betas is clean at t = -1, and no network was trained between that and 0: where a
grid's last step would start there, the grid runs to 0 first. A bridge starts at a point, where lambda is -inf: a grid in
lambda or sigma/alpha has one step from there to the start of `t_finite`. A grid with options is passed as a function:
`functools.partial(urn.grids.karras, rho=5)`.

ComfyUI's and RES4LYF's grids are in `urn.grids.trained`; those computed for a method and a spectrum of data are in
`urn.grids.computed`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.processes import VE, Flow, Interpolant, Polynomial, Process, Trigonometric
from urn.processes.process import as_float64, check_positive

from .checks import check_times
from .computed import ays, gits, optimal_steps
from .spaced import arctan, beta, karras, polyexponential, quadratic, uniform, uniform_lambda
from .spectra import measured_spectrum, natural_spectrum
from .trained import (
    beta57,
    beta_levels,
    bong_tangent,
    ddim_uniform,
    exponential_clean,
    karras_clean,
    kl_optimal,
    linear_quadratic,
    normal,
    sgm_uniform,
    simple,
)
from .whole import leading, linspace, trailing

Grid = Callable[[Process, int], Tensor]
GridLike = str | Grid | Sequence[float] | Tensor | np.ndarray[Any, Any]

__all__ = [
    "GRIDS",
    "Grid",
    "GridLike",
    "arctan",
    "ays",
    "beta",
    "beta57",
    "beta_levels",
    "bong_tangent",
    "check_times",
    "ddim_uniform",
    "default_grid",
    "exponential_clean",
    "find_grid",
    "gits",
    "grid_times",
    "karras",
    "karras_clean",
    "kl_optimal",
    "leading",
    "linear_quadratic",
    "linspace",
    "measured_spectrum",
    "natural_spectrum",
    "normal",
    "optimal_steps",
    "polyexponential",
    "quadratic",
    "rounded",
    "sgm_uniform",
    "shifted",
    "simple",
    "trailing",
    "uniform",
    "uniform_lambda",
]


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
    "simple": simple,
    "normal": normal,
    "sgm_uniform": sgm_uniform,
    "ddim_uniform": ddim_uniform,
    "karras_clean": karras_clean,
    "exponential_clean": exponential_clean,
    "kl_optimal": kl_optimal,
    "beta_levels": beta_levels,
    "beta57": beta57,
    "linear_quadratic": linear_quadratic,
    "bong_tangent": bong_tangent,
    "ays": ays,
    "gits": gits,
    "optimal_steps": optimal_steps,
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
