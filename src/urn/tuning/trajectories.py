"""What tuners look at beside ends: the states of a plan at the points of its grid, and a fine flow between two times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from urn.arithmetic import weighted_sum
from urn.compiler import compile_plan
from urn.executor import Watch, execute
from urn.method import Method
from urn.plan import Evaluate, Plan, Row, Rows
from urn.processes import Process
from urn.tuning.task import Starts, Task
from urn.tuning.times import angle

FINE = "dpm_solver_3"
FINE_WHOLE = "dpmpp_3m"  # calls at the grid's points alone, as a network that takes integer times needs


def remade_plan(plan: Plan, method: str | Method, **options: Any) -> Any:
    """The plan, or draft, of another method or other options on a plan's times and to its end."""
    final = None if plan.outputs[0][2].t == plan.times[-1] else "x0"
    return compile_plan(method, plan.process, grid=grid_of(plan), final=final, **options)


def grid_of(plan: Plan) -> Tensor:
    """A plan's times, float64."""
    return torch.tensor(plan.times, dtype=torch.float64)


def starting_states(process: Process, t: float, starts: Starts) -> Tensor:
    """The states that plans start from at t: unit normals times the prior's std."""
    std = float(process.prior_std(torch.tensor(t, dtype=torch.float64)))
    x: Tensor = weighted_sum(((std, "z"),), {"z": starts.normals})
    return x


def followed(task: Task, plan: Rows, x: Tensor, starts: Starts, watch: Watch | None = None) -> Tensor:
    """The end of a deterministic plan from states x that belong to these starts; the task counts the evaluations."""
    task.evaluations += sum(isinstance(row, Evaluate) for row in plan.rows) * len(x)
    found: Tensor = execute(plan, task.model, {"x": x}, conditioning=starts.conditioning, watch=watch)["x"]
    return found


def states_at_nodes(task: Task, plan: Rows, x: Tensor, starts: Starts) -> dict[int, Tensor]:
    """A plan's states at the points of its grid, by their places; corrected ones, where a method corrects."""
    found = {0: x}

    def watch(row: Row, registers: Mapping[str, Any]) -> None:
        node = getattr(row, "node", None)
        if not isinstance(row, Evaluate) and node is not None and node.index is not None:
            found[node.index] = registers[row.defines[0]]

    followed(task, plan, x, starts, watch)
    return found


def refined(process: Process, times: Tensor, parts: int) -> Tensor:
    """A grid with every step cut into parts that are even in atan(sigma/alpha)."""
    angles = angle(process, times)
    shares = torch.arange(1, parts, dtype=torch.float64) / parts
    made = [times[:1]]
    for start, end, last in zip(angles[:-1], angles[1:], times[1:], strict=True):
        inner = torch.lerp(start, end, shares)
        made += [process.t_of_lambda(-torch.log(torch.tan(inner))), last[None]]
    return torch.cat(made)


def fine_states(task: Task, times: Tensor, x: Tensor, starts: Starts, parts: int = 4) -> list[Tensor]:
    """States of the flow at each of some times, from x at the first: a third-order plan with `parts` steps in each interval,
    fewer where a network takes integer times and an interval has not so many."""
    whole = task.model.integer_times
    grid = refined(task.model.process, times, parts)
    if whole:  # the times given as they are, and between them integers
        inner = {t for t in grid.round().tolist() if float(times[-1]) < t < float(times[0])}
        grid = torch.tensor(sorted(inner | set(times.tolist()), reverse=True), dtype=torch.float64)
    plan = compile_plan(FINE_WHOLE if whole else FINE, task.model.process, grid=grid)
    found = states_at_nodes(task, plan, x, starts)
    return [found[int((grid == t).nonzero()[0])] for t in times]
