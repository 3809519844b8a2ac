"""GITS: the grid as the cheapest path through a table of costs that are measured on the network's own trajectories.

The reference is followed from the training starts over a fine grid of candidates. With x_i its states, the cost of a step is how
far DDIM, given the reference's prediction there (made at its predicted state), ends from the reference's own state (Euler's
step in sigma/alpha on x/alpha),

    c(i, j) = sqrt(mean over starts of |ddim(x_i; t_i -> t_j) - x_j|^2) / alpha_j

and the grid is the path of least V(i) = min over j of c(i, j) + gamma V(j), by dynamic programming (`urn.grids.computed`). All
costs come from the one trajectory of a start, so they need as many model calls as there are candidates, and no more.

On Gaussian data, from states of the exact law, these are the costs of `urn.grids.gits` in closed form. The paper takes the mean
of the starts' distances, here it is the root of the mean of their squares, as there. The grid is one of any number of steps: it
is tried with every usual method.

Source: Chen, Zhou, Wang, Shen, Lyu 2024, On the Trajectory Regularity of ODE-based Diffusion Sampling, arXiv 2405.11326,
section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from urn.compiler import compile_plan
from urn.executor import execute
from urn.grids import arctan
from urn.grids.computed import cheapest
from urn.method import number
from urn.methods import find_method
from urn.model import Model
from urn.plan import Combine, Evaluate, Plan
from urn.processes import Process
from urn.processes.process import check_positive
from urn.tuning.arguments import check_settings
from urn.tuning.search import Search
from urn.tuning.task import TuningError
from urn.tuning.times import angle, time_of
from urn.tuning.tuners import tuner
from urn.tuning.untuned import METHODS, untuned_plans

SOURCE = (
    "Chen, Zhou, Wang, Shen, Lyu 2024, On the Trajectory Regularity of ODE-based Diffusion Sampling, arXiv 2405.11326"
)
REFERENCE = "adams_pc_2"


@tuner(source=SOURCE)
def gits(
    search: Search,
    candidates: int = 60,
    starts: int = 256,
    discounts: tuple[float, ...] = (1.0, 1.15),
    data_std: float = 0.5,
    methods: tuple[str, ...] = METHODS,
) -> None:
    """The cheapest path through costs measured on the reference's trajectories, tried with every usual method.

    Args:
        candidates: intervals of the fine grid that the times are chosen from.
        starts: trajectories that the costs are measured on, of the training starts.
        discounts: the values of gamma that are tried; the paper's code has 1.15 as a rule.
        data_std: of the candidates' grid, `arctan`.
        methods: that are tried on the grid.

    Raises:
        ValueError: a setting is out of range, or fewer candidates than calls.
    """
    check_settings(candidates=candidates, starts=starts)
    check_positive(data_std=data_std)
    if isinstance(discounts, (str, bytes)) or not isinstance(discounts, Sequence) or not discounts:
        raise ValueError(f"discounts={discounts!r} must be some values of gamma, as (1.0, 1.15)")
    for discount in discounts:
        number("discounts", discount, 0, ends=False)
    for method in methods:
        find_method(method)
    task = search.task
    process = task.model.process
    if candidates < task.calls:
        raise ValueError(f"candidates={candidates!r} must be at least the {task.calls} calls")
    if task.model.integer_times:
        raise TuningError("model.integer_times=True: GITS chooses among times in between; take another tuner")
    times = arctan(process, candidates, data_std)
    costs = trajectory_costs(search, times, starts)
    for discount in discounts:

        def grid(_: Process, steps: int, discount: float = discount) -> Tensor:
            return times[cheapest(costs, steps, discount)]

        for label, plan in untuned_plans(process, task.calls, methods, [grid]):
            if search.is_over:
                return
            search.try_plan(plan, f"gits, gamma {discount:g}, {label.split(',')[0]}")


def trajectory_costs(search: Search, times: Tensor, starts: int) -> Tensor:
    """The costs, (N, N) at [cur, next], along the trajectories of the first training starts; what they take is counted."""
    task = search.task
    part = task.train.first(starts)
    process = task.model.process
    task.evaluations += (len(times) - 1) * len(part)
    with torch.no_grad():
        x = part.normals * process.prior_std(times[0]).to(part.normals)
        return flow_costs(task.model, times, x, dict(part.conditioning))


def flow_costs(
    model: Model, times: Tensor, x: Tensor, conditioning: dict[str, Any] | None = None, substeps: int = 1
) -> Tensor:
    """GITS' costs, (N, N) at [cur, next], of DDIM's steps along the trajectories of states x at the first time.

    The trajectories are those of a third-order multistep plan with `substeps` calls between two of the times.
    """
    process = model.process
    angles = angle(process, times)
    shares = torch.arange(1, substeps, dtype=torch.float64) / substeps
    between = time_of(process, torch.lerp(angles[:-1, None], angles[1:, None], shares))
    fine = torch.cat([torch.cat([times[:-1, None], between], 1).flatten(), times[-1:]])
    plan: Plan = compile_plan(REFERENCE, process, grid=fine)
    seen: dict[int, Tensor] = {0: x}  # by node; the corrected state is written last
    calls: list[dict[str, Tensor]] = []

    def watch(row: Any, registers: Any) -> None:
        if isinstance(row, Evaluate):
            calls.append({wanted: registers[name] for name, wanted in row.outs})
        elif isinstance(row, Combine) and row.node is not None and row.node.index is not None:
            seen[row.node.index] = registers[row.out]

    execute(plan, model, {"x": x}, conditioning=conditioning, watch=watch)
    states, predictions = [seen[i] for i in sorted(seen)][::substeps], calls[::substeps]
    alphas, sigmas = process.alpha(times), process.sigma(times)
    costs = torch.zeros(len(times), len(times), dtype=torch.float64)
    for i, made in enumerate(predictions):
        x0 = made["x0"]  # the one prediction that the reference asks for
        epsilon = (states[i] - float(alphas[i]) * x0) / float(sigmas[i])
        for j in range(i + 1, len(times)):
            missed = float(alphas[j]) * x0 + float(sigmas[j]) * epsilon - states[j]
            costs[i, j] = missed.double().square().flatten(1).sum(1).mean().sqrt() / alphas[j]
    return costs
