"""Untuned plans: what a budget buys without a search, with which every search is seeded and beside which it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from urn.compiler import compile_plan
from urn.grids import GridLike
from urn.method import Method
from urn.plan import Plan
from urn.processes import Process, is_between

METHODS = ("ddim", "dpmpp_2m", "dpmpp_3m", "unipc_2", "unipc_3", "adams_pc_2", "adams_pc_3", "deis_2", "deis_3", "heun")
GRIDS = ("quadratic", "lambda", "karras", "uniform", "arctan", "beta")
WHOLE = ("trailing", "linspace", "leading")


def plan_within(
    process: Process, method: str | Method, calls: int, grid: GridLike | None = None, **options: Any
) -> Plan:
    """The plan of a method with the most steps that call the model at most `calls` times and end at clean data.

    A grid that ends at a small noise is ended with the jump to the clean prediction, `final="x0"`, which is one of the calls.

    Raises:
        ValueError: no number of steps has so few calls.
    """
    steps = calls
    while steps > 0:
        plan: Plan = compile_plan(method, process, steps, grid, **options)
        if plan.outputs[0][2].sigma != 0 and not is_between(process):
            plan = compile_plan(method, process, steps, grid, final="x0", **options)
        if plan.nfe <= calls:
            return plan
        steps = min(steps - 1, -(-calls * steps // plan.nfe))
    raise ValueError(f"calls={calls}: method {method!r} takes more in one step")


def untuned_plans(
    process: Process,
    calls: int,
    methods: Sequence[str] = METHODS,
    grids: Sequence[GridLike] | None = None,
    whole: bool = False,
) -> Iterator[tuple[str, Plan]]:
    """(label, plan) of every method on every grid that this process and budget allow.

    Args:
        whole: for a network that takes integer times: grids of integers alone.
    """
    seen = set()
    for grid in grids or (WHOLE if whole else GRIDS):
        for method in methods:
            try:
                plan = plan_within(process, method, calls, grid)
            except ValueError:  # the grid is not for this process, or the method not for so few calls
                continue
            if plan not in seen:
                seen.add(plan)
                yield f"{method}, {grid}", plan
