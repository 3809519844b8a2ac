"""Free coefficients, by Levenberg-Marquardt with the exact Jacobian.

Every deterministic plan with one call a step is a weighted sum of the start and of its predictions (`urn.methods.linear`). Here
all these weights are free, and the times of the calls with them: n (n + 3)/2 + n - 1 numbers for n calls. They start at the
best plans tried so far and are fitted to the reference's ends. In the paper the same numbers are learned by Adam on
single trajectories, in some thousand steps; as least squares a few tens of steps do, for there are fewer numbers than there
are coordinates of a few samples. What makes them: `urn.tuning.sensitivity`, what fits them: `urn.tuning.least_squares`.

Weights of x0 are what is fitted, since weights of epsilon cancel one another at the noisy end, and an error in the network
would come out multiplied. The gain of a plan, sqrt(sum_j B_nj^2) over the last sum's weights, is by how much independent errors
of the predictions come out in the sample; it stands in every trial's label. DDIM's is 1. A ridge towards the start's weights
keeps it there.

Source: Shaul, Singer, Chen, Le, Thabet, Pumarola, Lipman 2024, Bespoke Non-Stationary Solvers for Fast Sampling of Diffusion
and Flow Models, arXiv 2403.01329.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from urn.compiler import compile_plan
from urn.method import at_least_one, number
from urn.methods import METHODS
from urn.plan import Plan, PlanError
from urn.prediction import as_tensor
from urn.processes import Process
from urn.tuning.dense import dense_plan
from urn.tuning.least_squares import Settings, fit
from urn.tuning.search import Search
from urn.tuning.sensitivity import count_of, jacobian, tangents_of
from urn.tuning.task import Starts, Task, TuningError
from urn.tuning.times import Inner, angle, numbers_of
from urn.tuning.tuners import tuner

PART = 128  # starts of a Jacobian


@tuner(source=METHODS["linear"].source, gradients=True, paired=True)
def coefficients(
    search: Search,
    plans: int = 1,
    iterations: int = 30,
    times: bool = True,
    ridge: float = 1e-4,
    robust: float = 5.0,
    part: int = PART,
) -> None:
    """All weights of a plan with one call a step, and the times of its calls, by Levenberg-Marquardt.

    `plans`: from how many of the best plans; `times`: whether these are free too; `ridge`, `robust`, `part`: see
    `urn.tuning.least_squares.Settings`.
    """
    at_least_one("plans", plans)
    if not isinstance(times, bool):
        raise ValueError(f"times={times!r} must be True or False")
    settings = settings_of(iterations, part, ridge, robust)
    for label, plan in starting(search, plans):
        if search.is_over:
            return
        fit_coefficients(search, plan, label, settings, times=times)


def settings_of(iterations: int, part: int, ridge: float, robust: float) -> Settings:
    """Checked settings."""
    return Settings(
        iterations=at_least_one("iterations", iterations),
        part=at_least_one("part", part),
        ridge=number("ridge", ridge, 0),
        robust=robust if robust == math.inf else number("robust", robust, 0, ends=False),
    )


def starting(search: Search, count: int) -> list[tuple[str, Plan]]:
    """The best plans tried that have weights on x0, as those; with a resumed search, the best that it had come to."""
    found: dict[str, tuple[str, Plan]] = {}
    for one in sorted(search.tried, key=lambda one: one.value):
        if one.pruned or one.value == math.inf or len(found) == count:
            continue
        name = one.label.split(": ")[-1].split(", iteration")[0]  # one start a descent, not one a step of it
        try:
            found.setdefault(name, (name, dense_plan(one.plan)))
        except (ValueError, PlanError):
            continue
    if not found:
        raise TuningError("none of the plans tried has one call a step: seed the search with one that has")
    return list(found.values())


def fit_coefficients(
    search: Search, plan: Plan, label: str, settings: Settings, *, times: bool = True, rows: int | None = None
) -> Plan | None:
    """Fit the weights of a `linear` plan, of its last `rows` sums alone if given, trying plans in the search."""
    family = Coefficients(search.task, plan, times, rows)
    return fit(search, family, f"coefficients: {label}", settings)


def gain(plan: Plan) -> float:
    """sqrt(sum_j B_nj^2): what the sample's last sum makes of independent unit errors in its predictions."""
    weights = dict(plan.options)["weights"]
    return math.sqrt(sum(weight**2 for weight in weights[-1][1:]))


class Coefficients:
    """`linear` plans by their gaps and weights, in the order of `urn.tuning.sensitivity`."""

    def __init__(self, task: Task, plan: Plan, times: bool, rows: int | None = None) -> None:
        self.task, self.times, self.calls = task, times, plan.nfe
        self.first = 0 if rows is None else max(0, self.calls - rows)
        self.process: Process = task.model.process
        self.grid = numbers_of(plan)
        self.weights = [list(row) for row in dict(plan.options)["weights"]]
        angles = angle(self.process, torch.tensor(self.grid, dtype=torch.float64))
        low = float(angle(self.process, as_tensor(self.process.t_finite[1])))
        self.moving = list(range(max(self.first, 1), self.calls)) if times else []
        self.inner = None
        if self.moving:
            moving = angles[self.moving]
            self.inner = Inner(self.process, float(angles[self.moving[0] - 1]), moving, min(low, float(moving[-1])))
        numbers: list[float] = []
        self.places: list[int] = []  # of the times' numbers in theta
        for i in range(self.first, self.calls):
            if self.inner is not None and i in self.moving:
                self.places.append(len(numbers))
                numbers.append(float(self.inner.z[len(self.places) - 1]))
            numbers.extend(self.weights[i])
        self.theta = torch.tensor(numbers, dtype=torch.float64)
        self.scale = torch.ones_like(self.theta)

    def plan(self, theta: Tensor) -> Plan | None:
        """The plan of gaps and weights, None where two times are one to rounding."""
        grid, weights, left = list(self.grid), list(self.weights), theta.tolist()
        times = [] if self.inner is None else self.inner.times(theta[self.places])
        for i in range(self.first, self.calls):
            if i in self.moving:
                left, grid[i] = left[1:], times[i - self.moving[0]]
            weights[i], left = left[: i + 2], left[i + 2 :]
        if any(not later < earlier for earlier, later in pairwise(grid)):
            return None
        rows = tuple(map(tuple, weights))
        made: Plan = compile_plan("linear", self.process, grid=grid, weights=rows)
        return made

    def derivatives(self, theta: Tensor, plan: Plan, starts: Starts) -> Tensor:
        """The exact Jacobian."""
        found = [J.flatten(2) for _, _, J in jacobian(self.task, plan, starts, times=self.times, first=self.first)]
        J = torch.cat(found, 1)
        if self.inner is not None:
            slopes = self.inner.slopes(theta[self.places]).to(J)
            J[self.places] = torch.einsum("ik,ibd->kbd", slopes, J[self.places])
        return J

    def words(self, plan: Plan) -> str:
        """Its gain."""
        return f", gain {gain(plan):.3g}"

    def evaluations(self, count: int) -> int:
        """Tangents through calls, and the run itself."""
        return count * (2 * self.calls + tangents_of(self.calls, self.times, self.first))


__all__ = ["Coefficients", "coefficients", "count_of", "fit_coefficients", "gain", "settings_of", "starting"]
