"""Times alone: the grid of a given method, by Levenberg-Marquardt in the gaps of its inner times (`urn.tuning.times.Inner`).

The method keeps its own coefficients, computed in float64 for each grid, so that the derivative of the samples in a gap is a
difference of two runs: it needs no gradient of the model. Everything else is as for free coefficients
(`urn.tuning.least_squares`). The best pairs of a method and a grid that were tried are where it starts; with several, the
methods are chosen among after their grids were fitted, not before. The first time and the last stay, and no call goes
below the times that networks know (`process.t_finite`).

Times by least squares or gradients on a reference: Watson et al. 2022, Learning Fast Samplers for Diffusion Models by
Differentiating Through Sample Quality, arXiv 2202.05830; Chen et al. 2024, On the Trajectory Regularity of ODE-based Diffusion
Sampling, arXiv 2405.11326; Tong et al. 2025, Learning to Discretize Denoising Diffusion ODEs, arXiv 2405.15506.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from urn.compiler import compile_plan
from urn.method import at_least_one, number
from urn.methods import METHODS
from urn.plan import Plan, PlanError
from urn.prediction import as_tensor
from urn.tuning.least_squares import Settings, fit
from urn.tuning.search import Search
from urn.tuning.task import Starts, Task, TuningError
from urn.tuning.times import Inner, angle, numbers_of
from urn.tuning.tuners import tuner

SOURCE = (
    "Tong, Hoang, Liu, Van den Broeck, Niepert 2025, Learning to Discretize Denoising Diffusion ODEs, arXiv 2405.15506"
)
STEP = 1e-3  # of the difference, in the logarithm of a gap


@tuner(source=SOURCE, paired=True)
def grid(search: Search, pairs: int = 3, iterations: int = 10, part: int = 128, robust: float = 10.0) -> None:
    """The times of the best methods tried, by Levenberg-Marquardt with differences.

    `pairs`: from how many of the best pairs of method and grid; `part`, `robust`: see `urn.tuning.least_squares.Settings`.
    """
    at_least_one("pairs", pairs)
    if robust != math.inf:
        number("robust", robust, 0, ends=False)
    settings = Settings(at_least_one("iterations", iterations), at_least_one("part", part), robust=robust, ridge=1e-6)
    if search.task.model.integer_times:
        raise TuningError("model.integer_times=True: times are moved by small steps; take the tuner 'auto'")
    for label, plan in compilable(search, pairs):
        if search.is_over:
            return
        fit_grid(search, plan, label, settings)


def compilable(search: Search, count: int) -> list[tuple[str, Plan]]:
    """The best plans tried that are a method of the registry on a grid whose times can move."""
    found: dict[str, tuple[str, Plan]] = {}
    for one in sorted(search.tried, key=lambda one: one.value):
        plan = one.plan
        if one.pruned or one.value == math.inf or len(found) == count:
            continue
        if plan.method in METHODS and plan.method != "linear" and not plan.stochastic and len(free_of(plan)) > 0:
            name = one.label.split(": ")[-1].split(", iteration")[0]
            found.setdefault(name, (name, plan))
    if not found:
        raise TuningError("none of the plans tried is a deterministic method on a grid with inner times")
    return list(found.values())


def fit_grid(search: Search, plan: Plan, label: str, settings: Settings) -> Plan | None:
    """Fit the inner times of a plan, trying plans in the search."""
    return fit(search, Grid(search.task, plan), f"grid: {label}", settings)


def free_of(plan: Plan) -> list[int]:
    """Which of a plan's times are free: all between its ends, and the last one where a jump to clean data follows it."""
    return list(range(1, len(plan.times) - (0 if jumps(plan) else 1)))


def jumps(plan: Plan) -> bool:
    """Whether the plan ends with the jump from its last time to clean data."""
    return float(plan.outputs[0][2].t) != numbers_of(plan)[-1]


class Grid:
    """A method's plans by the gaps between their free times."""

    def __init__(self, task: Task, plan: Plan) -> None:
        self.task, self.start, self.free = task, plan, free_of(plan)
        self.process = plan.process
        self.times = numbers_of(plan)
        angles = angle(self.process, torch.tensor(self.times, dtype=torch.float64))
        low = float(angle(self.process, as_tensor(self.process.t_finite[1])))
        inner = angles[self.free]
        self.inner = Inner(self.process, float(angles[0]), inner, min(low, float(inner[-1])))
        self.theta, self.scale = self.inner.z, torch.ones_like(self.inner.z)

    def plan(self, theta: Tensor) -> Plan | None:
        """The plan of these gaps; None where two times are one to rounding, or the method has no weights there."""
        times = list(self.times)
        for place, time in zip(self.free, self.inner.times(theta), strict=True):
            times[place] = time
        try:
            made: Plan = compile_plan(
                self.start.method,
                self.process,
                grid=times,
                final="x0" if jumps(self.start) else None,
                **dict(self.start.options),
            )
        except (ValueError, PlanError):
            return None
        return made

    def derivatives(self, theta: Tensor, plan: Plan, starts: Starts) -> Tensor:
        """Differences, with a small step of each number."""
        found = []
        with torch.no_grad():
            base = self.task.run(plan, starts).flatten(1)
            for one in STEP * torch.eye(len(theta), dtype=torch.float64):
                moved = self.plan(theta + one)
                found.append(
                    torch.zeros_like(base) if moved is None else (self.task.run(moved, starts).flatten(1) - base) / STEP
                )
        return torch.stack(found)

    def words(self, plan: Plan) -> str:
        """Nothing more."""
        return ""

    def evaluations(self, count: int) -> int:
        """A run for each time, and two more."""
        return count * self.start.nfe * (len(self.theta) + 2)
