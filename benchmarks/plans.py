"""Urn's side of the accuracy benchmark: every deterministic method on every grid, and the variants of the Adams family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

import urn
from benchmarks.course import FIRST, PROCESS, SMALLEST, Network, NotPossibleError, Ready, times_shown
from urn.methods import own_names
from urn.plan import Evaluate
from urn.prediction import PREDICTIONS
from urn.processes import Flow, Process


def quadratic_to_0(process: Process, steps: int) -> Tensor:
    """Urn's quadratic grid, from the table's noisiest time to its least noisy one."""
    return FIRST * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** 2


def even_share(process: Process, steps: int) -> Tensor:
    """sigma/(alpha + sigma) evenly spaced between the table's ends: what a uniform grid on a flow is."""
    first, last = (process.sigma(t) / (process.alpha(t) + process.sigma(t)) for t in (FIRST, SMALLEST))
    share = torch.lerp(first, last, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
    times = process.t_of_lambda(torch.log((1 - share) / share))
    times[0], times[-1] = FIRST, SMALLEST
    return times


@dataclass(frozen=True)
class Grid:
    """Times for a plan.

    Attributes:
        times: what `compile_plan` takes.
        jump: whether they end at t = 0, from where a last call jumps to the clean prediction.
        whole: whether all times are integers, which a network may need.
        flow: whether the plan is one of a rectified flow from pure noise, its network that of the same data; as diffusers'
            flow sigmas it begins at a noise level that the table does not have.
    """

    times: str | Callable[[Any, int], Tensor]
    jump: bool = False
    whole: bool = False
    flow: bool = False


GRIDS: dict[str, Grid] = {
    "quadratic": Grid("quadratic"),
    "quadratic to 0": Grid(quadratic_to_0, jump=True),
    "quadratic, whole": Grid(urn.grids.rounded("quadratic"), whole=True),
    "quadratic to 0, whole": Grid(urn.grids.rounded(quadratic_to_0), jump=True, whole=True),
    "uniform": Grid("uniform"),
    "arctan": Grid("arctan"),
    "beta": Grid("beta"),
    "share": Grid(even_share, jump=True),
    "flow": Grid("uniform", flow=True),
    "lambda": Grid("lambda", jump=True),
    "karras": Grid("karras", jump=True),
    "karras rho 3": Grid(partial(urn.grids.karras, rho=3.0), jump=True),
    "trailing": Grid("trailing", whole=True),
    "leading": Grid("leading", whole=True),
    "linspace": Grid("linspace", whole=True),
}


def plan_within(budget: int, method: str, process: Process, grid: Grid, **options: Any) -> urn.Plan:
    """The plan with the most steps of at most `budget` calls.

    Raises:
        NotPossibleError: there is none.
    """
    stages = urn.METHODS[method].nfe
    most = budget // stages + 1 if isinstance(stages, int) else budget
    final = "x0" if grid.jump else None
    steps = min(most, budget)
    while steps > 0:
        try:
            plan: urn.Plan = urn.compile_plan(method, process, steps, grid.times, final=final, **options)
        except (urn.PlanError, ValueError) as error:
            raise NotPossibleError(f"{type(error).__name__}: {error}") from None
        if plan.nfe <= budget:
            return plan
        a_step = -(-plan.nfe // steps)  # calls, on average and rounded up: no step that fits is passed over
        steps -= max(1, (plan.nfe - budget) // a_step)
    raise NotPossibleError(f"no plan of at most {budget} calls")


@dataclass(frozen=True)
class UrnConfiguration:
    """A method with its options on a grid."""

    method: str
    grid: str
    options: tuple[tuple[str, Any], ...] = ()
    side: str = field(default="urn", init=False)

    @property
    def family(self) -> str:
        """The method and its options, without the grid."""
        return " ".join([self.method, *(f"{name}={value}" for name, value in self.options)])

    @property
    def label(self) -> str:
        return f"{self.family}, {self.grid}"

    @property
    def pools(self) -> tuple[str, ...]:
        return ("any", "whole times") if GRIDS[self.grid].whole else ("any",)

    def at(self, budget: int) -> Ready:
        """The plan with the most steps of at most `budget` calls.

        Raises:
            NotPossibleError: there is none, or it would call the network below t = 0, where none was trained, or it wants
                more of the network than a prediction.
        """
        grid = GRIDS[self.grid]
        process: Process = Flow() if grid.flow else PROCESS
        plan = plan_within(budget, self.method, process, grid, **dict(self.options))
        wanted = {name for row in plan.rows if isinstance(row, Evaluate) for _, name in row.outs}
        if others := sorted(wanted - {*PREDICTIONS}):
            raise NotPossibleError(f"wants {', '.join(others)} of the network")
        least = float(process.t_of_lambda(PROCESS.lambda_(SMALLEST))) if grid.flow else SMALLEST
        if min(times_shown(plan)) < least:
            raise NotPossibleError("calls its network below t = 0")
        return Ready(plan.steps, plan.nfe, partial(_run, plan))


def _run(plan: urn.Plan, starts: Tensor) -> Tensor:
    network = Network()
    found: Tensor = urn.execute(plan, network.model(plan.process), {"x": starts})["x"]
    if network.calls != plan.nfe:
        raise RuntimeError(f"{plan.method}: {network.calls} calls, and plan.nfe is {plan.nfe}")
    return found


def methods() -> list[tuple[str, tuple[tuple[str, Any], ...]]]:
    """Every deterministic method once: not its aliases, nor a family's bare name where that is one of its orders."""
    chosen: list[tuple[str, tuple[tuple[str, Any], ...]]] = []
    seen = set()
    for name in own_names():
        method = urn.METHODS[name]
        same = (method.function, *sorted(method_options(method).items(), key=str))
        if not method.stochastic and same not in seen:
            seen.add(same)
            chosen.append((name, ()))
    for name, _ in list(chosen):
        if name.startswith("adams"):
            for prediction in ("x0", "epsilon"):
                for variable in ("t", "lambda", "ratio", "share"):
                    if (prediction, variable) != ("x0", "t"):  # the default
                        chosen.append((name, (("prediction", prediction), ("variable", variable))))
    return chosen


def method_options(method: urn.Method) -> dict[str, Any]:
    """All options with which a method's function runs."""
    return {**method.defaults, **method.fixed, **method.options}


def urn_configurations() -> list[UrnConfiguration]:
    """The whole table."""
    return [UrnConfiguration(name, grid, options) for name, options in methods() for grid in GRIDS]


QUICK: tuple[UrnConfiguration, ...] = (
    UrnConfiguration("ddim", "trailing"),
    UrnConfiguration("dpmpp_2m", "quadratic"),
    UrnConfiguration("dpmpp_3m", "lambda"),
    UrnConfiguration("unipc_3", "quadratic"),
    UrnConfiguration("deis_3", "quadratic, whole"),
    UrnConfiguration("heun", "quadratic"),
    UrnConfiguration("dpm_solver_2", "quadratic to 0"),
    UrnConfiguration("dpm_solver_3", "uniform"),
    UrnConfiguration("adams_pc_3", "quadratic", (("prediction", "epsilon"), ("variable", "t"))),
)
