"""S4S: the coefficients of a linear multistep method by distillation, and in turns with them its times (S4S-Alt).

The method is `urn.methods.s4s`: in every step a free number for each of the last k predictions, of x0 or of epsilon. With phi the
coefficients, z the gaps of the grid, psi the plan and Psi the reference,

    min over phi (S4S), or in turns over phi and z (S4S-Alt), and over x'_T with |x'_T - x_T| <= r s_T,
    of E distance(psi(x'_T), Psi(x_T))

which is LD3's relaxed objective (`urn.tuning.descent`). The first coefficients are those of the polynomial through the
predictions, in the variable and the prediction that are best on some of the starts, on the grid of the best untuned plan with
a call in every step; with them the plan is exponential Adams-Bashforth.

Source: Frankel, Chen, Li, Koh, Ratliff, Oh 2025, S4S: Solving for a Diffusion Model Solver, arXiv 2502.17423.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import EPSILON, X0, by_lambda, by_share, integral_weights
from urn.compiler import compile_plan
from urn.method import number
from urn.nodes import Nodes
from urn.plan import Plan
from urn.processes import Process
from urn.tuning.arguments import check_settings
from urn.tuning.descent import descend, grid_of, last_tried, recompiled
from urn.tuning.search import CHEAP, Search
from urn.tuning.times import gaps_of, times_of
from urn.tuning.tuners import tuner

SOURCE = "Frankel, Chen, Li, Koh, Ratliff, Oh 2025, S4S: Solving for a Diffusion Model Solver, arXiv 2502.17423"
LABEL = "s4s"
FORMS = {"x0": X0, "epsilon": EPSILON}


@tuner(source=SOURCE, gradients=True, paired=True)
def s4s(
    search: Search,
    history: int = 3,
    times: bool = True,
    radius: float = 0.1,
    rounds: int = 8,
    iterations: int = 10,
    batch: int = 256,
) -> None:
    """The coefficients of a linear multistep method by gradient descent, in turns with its times.

    Args:
        history: predictions in a step.
        times: whether the times are free too (S4S-Alt), or the coefficients alone (S4S).
        radius: of the ball in which each training start may move, in units of the prior's std; 0 for none.
        rounds, iterations, batch: of the descent; coefficients and times take turns, a round each, and the starts move
            between rounds.
    """
    check_settings(history=history, rounds=rounds, iterations=iterations, batch=batch)
    number("radius", radius, 0)
    known = last_tried(search, LABEL)
    plan = first_plan(search, history) if known is None else known.plan
    process, grid = plan.process, grid_of(plan)
    rows = dict(plan.options)["coefficients"]
    counts = [len(row) for row in rows]
    coefficients = torch.tensor([c for row in rows for c in row], dtype=torch.float64, requires_grad=True)
    gaps = gaps_of(process, grid).requires_grad_(True)

    def draft() -> Any:
        made = times_of(process, gaps, grid[0], grid[-1]) if times else grid
        return recompiled(plan, made, coefficients=torch.split(coefficients, counts))

    free = [coefficients, gaps] if times else [coefficients]
    turns = [[0], [1]] if times else []
    descend(search, free, draft, LABEL, rounds=rounds, iterations=iterations, batch=batch, radius=radius, turns=turns)


def first_plan(search: Search, history: int) -> Plan:
    """The best on some training starts of exponential Adams-Bashforth plans, with their coefficients as numbers."""
    task = search.task
    process = task.model.process
    untuned = [one for one in search.tried if one.untuned]
    fits = [one for one in untuned if one.plan.nfe == task.calls and one.plan.steps in (task.calls, task.calls - 1)]
    best = min(fits or untuned, key=lambda one: one.value).plan
    grid = grid_of(best)
    made = [
        recompiled_as(best, coefficients_of(process, grid, history, prediction, variable), history, prediction)
        for prediction in FORMS
        for variable in VARIABLES
    ]
    return min(made, key=lambda plan: task.value(plan, CHEAP))


VARIABLES = ("lambda", "share", "t")


def coefficients_of(
    process: Process, times: Tensor, history: int, prediction: str = "x0", variable: str = "lambda"
) -> tuple[tuple[float, ...], ...]:
    """The coefficients of the polynomial through the last predictions, in lambda, sigma/(alpha + sigma) or t."""
    interpolate = {"lambda": by_lambda, "share": by_share, "t": process.t_of_lambda}[variable]
    weights = partial(integral_weights, variable=interpolate)
    nodes = Nodes(process, times)
    rows = []
    for i, (cur, next) in enumerate(nodes.steps()):
        form = FORMS[prediction].at(cur)
        points = [nodes[j] for j in range(i, max(i - history, -1), -1)]
        total = form.total(cur, next)
        rows.append(tuple(float(w / total) for w in weights(form, cur, next, points)))
    return tuple(rows)


def recompiled_as(plan: Plan, coefficients: Any, history: int, prediction: str) -> Plan:
    """The method on a plan's grid, with its jump to the clean prediction if it has one."""
    process = plan.process
    times = grid_of(plan)
    clean = float(plan.outputs[0][2].sigma) == 0
    final = "x0" if clean and float(process.sigma(times[-1])) != 0 else None
    made: Plan = compile_plan(
        "s4s", process, grid=times, final=final, coefficients=coefficients, history=history, prediction=prediction
    )
    return made
