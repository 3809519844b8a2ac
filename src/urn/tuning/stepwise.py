"""One number for each step, fitted in order: each makes the step's end nearest to a fine trajectory, given those before it.

    rho_i = argmin over |rho - 1| <= width of  mean |x_{i+1}(rho_1, ..., rho_i) - x_{i+1}^GT|^2

x_{i+1} is the state from which the next step starts, corrected where the method corrects; x^GT is a fine solver's from the same
start. One number between two ends needs no gradient: Brent's method, with rho = 1 among what is compared, so that no step ends
further from the fine trajectory than it would with its own 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from urn.compiler import compile_plan
from urn.method import Method
from urn.plan import Plan
from urn.tuning.task import Starts, Task
from urn.tuning.trajectories import fine_states, grid_of, starting_states, states_at_nodes

LOOKS = 12  # at a number, by Brent's method

MethodOf = Callable[[tuple[float, ...]], Method]


def fitted_numbers(
    task: Task,
    plan: Plan,
    method_of: MethodOf,
    starts: Starts,
    width: float,
    first: int = 0,
    highest: Sequence[float] | None = None,
) -> tuple[float, ...]:
    """The numbers of a plan's steps.

    Args:
        task: gives the model; it counts the evaluations.
        plan: the plan with all numbers 1.
        method_of: the method with given numbers, one for each step of the grid that it is compiled on.
        starts: to fit on, about ten.
        width: how far a number may be from 1.
        first: the first step that has a number; those before it keep 1.
        highest: the most that each number may be.
    """
    times = grid_of(plan)
    x = starting_states(task.model.process, float(times[0]), starts)
    with torch.no_grad():
        targets = fine_states(task, times, x, starts)
        numbers = [1.0] * (len(times) - 1)
        for step in range(first, len(numbers)):

            def loss(value: float, step: int = step) -> float:
                given = (*numbers[:step], float(value))
                return _distance(task, times, method_of, given, targets[step + 1], x, starts)

            top = 1 + width if highest is None else min(1 + width, highest[step])
            found: Any = minimize_scalar(
                loss, bounds=(1 - width, top), method="bounded", options={"maxiter": LOOKS, "xatol": 1e-4}
            )
            if found.fun < loss(1.0):
                numbers[step] = float(found.x)
    return tuple(numbers)


def _distance(
    task: Task,
    times: Tensor,
    method_of: MethodOf,
    numbers: tuple[float, ...],
    target: Tensor,
    x: Tensor,
    starts: Starts,
) -> float:
    """The loss of the last of these numbers: on a grid one step longer, so that a corrector at the step's end is in it."""
    known = len(numbers)
    steps = min(known + 1, len(times) - 1)
    method = method_of((*numbers, *[1.0] * (steps - known)))
    plan = compile_plan(method, task.model.process, grid=times[: steps + 1])
    state = states_at_nodes(task, plan, x, starts)[known]
    value = float((state - target).double().square().mean())
    return value if value == value else float("inf")
