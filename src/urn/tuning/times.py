"""Grids as free numbers: the times of a plan as shares of an angle, which can be any real numbers and stay in order.

A time's angle is atan(sigma/alpha), which is finite on every process and falls towards the data. With gaps z of any size,

    angle_i = start + (end - start) sum_{j < i} softmax(z)_j,      t_i = t(lambda = -log tan(angle_i))

is a decreasing grid whatever z is, differentiable in z. The first and the last time are those given, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from urn.plan import Array, Plan
from urn.processes import Process


def gaps_of(process: Process, times: Tensor) -> Tensor:
    """The gaps z of a grid, (steps,) for times (steps + 1,): the logarithms of its steps' shares of the angle."""
    angles = angle(process, times)
    return torch.log(angles[:-1] - angles[1:]) - torch.log(angles[0] - angles[-1])


def times_of(process: Process, gaps: Tensor, start: float | Tensor, end: float | Tensor) -> Tensor:
    """The grid of gaps z from `start` to `end`, (steps + 1,) float64; it carries the gaps' gradients."""
    first, last = torch.as_tensor(start, dtype=torch.float64), torch.as_tensor(end, dtype=torch.float64)
    ends = angle(process, torch.stack([first, last]))
    shares = torch.softmax(gaps, 0).cumsum(0)[:-1]
    inner = ends[0] + (ends[1] - ends[0]) * shares
    times = process.t_of_lambda(-torch.log(torch.tan(inner)))
    return torch.cat([first[None], times, last[None]])


def angle(process: Process, times: Tensor) -> Tensor:
    """atan(sigma/alpha), between 0 at clean data and pi/2 at pure noise."""
    return torch.atan2(process.sigma(times), process.alpha(times))


def numbers_of(plan: Plan) -> list[float]:
    """The grid of a plan as numbers.

    Raises:
        ValueError: frames have times of their own.
    """
    if any(isinstance(t, Array) for t in plan.times):
        raise ValueError(f"plan: {plan.method} has a time per frame; one for all is needed")
    return [float(t) for t in plan.times]  # type: ignore[arg-type]
