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
    return torch.cat([first[None], time_of(process, inner), last[None]])


def time_of(process: Process, angles: Tensor) -> Tensor:
    """The times of angles strictly between 0 and pi/2."""
    return process.t_of_lambda(-torch.log(torch.tan(angles)))


def angle(process: Process, times: Tensor) -> Tensor:
    """atan(sigma/alpha), between 0 at clean data and pi/2 at pure noise."""
    return torch.atan2(process.sigma(times), process.alpha(times))


class Inner:
    """The times inside a grid as free numbers z: angles between `above` and `least`, in order whatever z is.

        angle_i = above - (above - least) sum_{j <= i} softmax(z, 0)_j

    Attributes:
        z: those of the angles given, (m,).
    """

    def __init__(self, process: Process, above: float, angles: Tensor, least: float) -> None:
        self.process, self.above, self.least = process, above, least
        ends = torch.tensor([above, *angles.tolist(), least], dtype=torch.float64)
        gaps = (ends[:-1] - ends[1:]).clamp(min=1e-6 * (above - least))  # the last may be none
        self.z = torch.log(gaps[:-1]) - torch.log(gaps[-1])

    def angles(self, z: Tensor) -> Tensor:
        """The angles of z, (m,)."""
        shares = torch.softmax(torch.cat([z, z.new_zeros(1)]), 0).cumsum(0)[:-1]
        return self.above - (self.above - self.least) * shares

    def times(self, z: Tensor) -> list[float]:
        """The times of z."""
        found: list[float] = self.process.t_of_lambda(-torch.log(torch.tan(self.angles(z)))).tolist()
        return found

    def slopes(self, z: Tensor) -> Tensor:
        """d angle_i/d z_k, (m, m)."""
        found: Tensor = torch.func.jacfwd(self.angles)(z)
        return found


def numbers_of(plan: Plan) -> list[float]:
    """The grid of a plan as numbers.

    Raises:
        ValueError: frames have times of their own.
    """
    if any(isinstance(t, Array) for t in plan.times):
        raise ValueError(f"plan: {plan.method} has a time per frame; one for all is needed")
    return [float(t) for t in plan.times]  # type: ignore[arg-type]
