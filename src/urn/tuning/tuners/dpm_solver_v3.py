"""DPM-Solver-v3, set up for a model: its statistics measured on the model's own trajectories, its few options tried.

The states at which l, s and b are measured (`urn.loops.model_statistics`) are those of a fine plan from training starts, at every
lambda of the statistics; with data as the objective's target, data noised to each lambda, as in the paper. They are measured once
for each number of lambdas; then order, corrector and start are tried on the grids where order 3 does best at a first look.

Source: Zheng, Lu, Chen & Zhu 2023, DPM-Solver-v3, arXiv 2310.13268, section 3.2 and appendices C and H.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.model_statistics import ModelStatistics
from urn.grids import find_grid
from urn.loops.model_statistics import model_statistics, noised_states
from urn.method import at_least_one, one_of
from urn.plan import Plan
from urn.tuning.objectives import ToData
from urn.tuning.search import CHEAP, Search
from urn.tuning.task import Starts, Task, TuningError
from urn.tuning.trajectories import fine_states, grid_of, remade_plan, starting_states
from urn.tuning.tuners import tuner
from urn.tuning.untuned import GRIDS, plan_within

SOURCE = (
    "Zheng, Lu, Chen & Zhu 2023, DPM-Solver-v3: Improved Diffusion ODE Solver with Empirical Model Statistics, "
    "arXiv 2310.13268"
)
METHODS = ("dpm_solver_v3", "dpm_solver_v3_published")
CORRECT = ("always", "half", "never")


@tuner(source=SOURCE, gradients=True)
def dpm_solver_v3(
    search: Search,
    methods: Sequence[str] = METHODS,
    orders: Sequence[int] = (3, 2),
    correct: Sequence[str] = CORRECT,
    lambdas: Sequence[int] = (41, 161),
    grids: Sequence[str] | None = None,
    kept: int = 2,
    calibration: int = 128,
    probes: int = 1,
) -> None:
    """DPM-Solver-v3 with statistics measured on the model itself, over its orders, correctors and numbers of lambdas.

    Options: the `methods`, from the start of their own order or as published; `orders`, 1 to 3; what to `correct`, "always",
    "half" or "never"; the numbers of `lambdas` of the statistics; the names of `grids`, those of the untuned plans by default, of
    which the best few are `kept`; how many training starts are for `calibration`; and `probes`, random vectors a state.
    """
    for name in methods:
        one_of("methods", name, METHODS)
    for order in orders:
        at_least_one("orders", order, 3)
    for name in correct:
        one_of("correct", name, CORRECT)
    for count in lambdas:
        if at_least_one("lambdas", count) < 3:
            raise ValueError(f"lambdas={count!r} must be at least 3")
    if at_least_one("calibration", calibration) < 2:
        raise ValueError(f"calibration={calibration!r} must be at least 2: the statistics have variances")
    at_least_one("probes", probes)
    at_least_one("kept", kept)
    for name in grids or ():
        find_grid(name)
    task = search.task
    starts = task.train.first(min(calibration, len(task.train)))
    plans: dict[str, Plan] = {}
    for grid in grids or GRIDS:
        try:
            plans[grid] = plan_within(task.model.process, "dpm_solver_v3", task.calls, grid)
        except ValueError:  # a grid that is not for this process
            if grids is not None:
                raise
    low, high = lambdas_of(plans.values())
    for count in lambdas:
        if search.is_over:
            return
        knots = torch.linspace(low, high, count, dtype=torch.float64)
        given = {"statistics": measured(task, knots, starts, probes, search.seed)}
        few = min(CHEAP, len(task.train))
        looks = {grid: task.value(remade_plan(plan, METHODS[0], **given), few) for grid, plan in plans.items()}
        best = sorted(looks, key=lambda grid: looks[grid])[:kept]
        for grid, name, order, how in product(best, methods, orders, correct):
            if search.is_over:
                return
            plan = remade_plan(plans[grid], name, order=order, correct=how, **given)
            search.try_plan(plan, f"{name} {order}, {how} corrected, {count} lambdas, {grid}")


def lambdas_of(plans: Iterable[Plan]) -> tuple[float, float]:
    """The least and the largest finite lambda at the points of these plans' grids."""
    every = torch.cat([plan.process.lambda_(grid_of(plan)) for plan in plans])
    every = every[torch.isfinite(every)]
    return float(every.min()), float(every.max())


def measured(task: Task, knots: Tensor, starts: Starts, probes: int | None = 1, seed: int = 0) -> ModelStatistics:
    """The statistics of the task's model at the lambdas `knots`, on its own trajectories, or on data noised to them.

    Raises:
        TuningError: the model has no forward derivatives.
    """
    process, objective = task.model.process, task.objective
    given: Mapping[str, Any] = starts.conditioning
    if isinstance(objective, ToData) and task.train_target is not None and not given:
        data = task.train_target[: len(starts)].to(starts.normals)
        states = noised_states(process, data, knots, seed)
    else:
        times = process.t_of_lambda(knots)
        first = torch.as_tensor(process.t_start, dtype=torch.float64)
        begins = math.isclose(float(knots[0]), float(process.lambda_(first)), abs_tol=1e-9)  # to rounding
        whole = torch.cat([first[None], times[1:] if begins else times])
        x = starting_states(process, float(whole[0]), starts)
        with torch.no_grad():
            states = torch.stack(fine_states(task, whole, x, starts, parts=1)[-len(knots) :])
    task.evaluations += (2 + (probes or states[0, 0].numel())) * len(knots) * states.shape[1]
    try:
        return model_statistics(task.model, knots, states, probes=probes, seed=seed, conditioning=given)
    except (RuntimeError, NotImplementedError) as error:
        raise TuningError(f"model: it has no forward derivatives, which its statistics need ({error})") from error
