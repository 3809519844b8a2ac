"""LD3: the grid by gradient descent through the whole plan, against the ends of a reference.

With z the gaps of a grid (`urn.tuning.times`; the paper's xi, its softmax and cumulative sum, here of the angle
atan(sigma/alpha) rather than of t or lambda), psi the plan of a method on times t(z), and Psi the reference,

    min over z, and over x'_T with |x'_T - x_T| <= r s_T,   of E distance(psi(x'_T), Psi(x_T))

The ball is the relaxed objective (`urn.tuning.descent`): a plan of few calls cannot map every start where the reference does, and
a fit that asks for it fits the training starts' noise. With radius 0 it is the plain fit. The paper also frees the times that
the network is shown (xi^c): with `labels` the k-th call after the first is shown an angle up to half of the smaller of the
gaps to its neighbours away from its own; the paper clamps t by half of the smallest gap of all. Times and labels then move at
once; the authors' code moves the times alone first.

Source: Tong, Hoang, Liu, Van den Broeck, Niepert 2024, Learning to Discretize Denoising Diffusion ODEs, arXiv 2405.15506.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from urn.method import Method, Steps, number, rewritten
from urn.methods import METHODS, find_method
from urn.nodes import Nodes
from urn.plan import Evaluate, Plan, Read, Register, Row
from urn.processes import Process
from urn.tuning.arguments import check_settings
from urn.tuning.descent import descend, grid_of, last_tried, recompiled
from urn.tuning.search import Search
from urn.tuning.task import TuningError
from urn.tuning.times import angle, gaps_of, time_of, times_of
from urn.tuning.tuners import tuner
from urn.tuning.untuned import plan_within

SOURCE = (
    "Tong, Hoang, Liu, Van den Broeck, Niepert 2024, Learning to Discretize Denoising Diffusion ODEs, arXiv 2405.15506"
)
WINDOW = 0.5  # of the gap to the nearer neighbour, by which a label may differ from its time


@tuner(source=SOURCE, gradients=True, paired=True)
def ld3(
    search: Search,
    method: str | None = None,
    labels: bool = False,
    radius: float = 0.1,
    rounds: int = 4,
    iterations: int = 10,
    batch: int = 256,
) -> None:
    """The grid, and if asked the times that the network is shown, by gradient descent through the plan.

    Args:
        method: whose grid; by default that of the best untuned plan.
        labels: whether the times that the network is shown are free too.
        radius: of the ball in which each training start may move, in units of the prior's std; 0 for none.
        rounds, iterations, batch: of the descent; the starts move between rounds.
    """
    check_settings(rounds=rounds, iterations=iterations, batch=batch)
    number("radius", radius, 0)
    if method is not None:
        find_method(method)
    plan = first_plan(search, method)
    label = f"ld3, {plan.method}"
    known = last_tried(search, label)
    plan = plan if known is None else known.plan
    times, process = grid_of(plan), plan.process
    gaps = gaps_of(process, times).requires_grad_(True)
    shifts = shifts_of(plan).requires_grad_(True)

    def draft() -> Any:
        made = times_of(process, gaps, times[0], times[-1])
        return recompiled(plan, made, labelled(plan.method, shifts) if labels else None)

    free = [gaps, shifts] if labels else [gaps]
    descend(search, free, draft, label, rounds=rounds, iterations=iterations, batch=batch, radius=radius)


def first_plan(search: Search, method: str | None, calls: int | None = None) -> Plan:
    """The best untuned plan of a method, or of any in the registry, with exactly `calls` calls where that is given.

    Raises:
        ValueError: an unknown method.
        TuningError: no untuned plan has a method of the registry.
    """
    if method is not None:
        method = find_method(method).name
    known = [
        one
        for one in search.tried
        if one.untuned and one.plan.method in METHODS and not METHODS[one.plan.method].stochastic
    ]
    fits = [one for one in known if method in (None, one.plan.method) and calls in (None, one.plan.nfe)]
    if fits:
        return min(fits, key=lambda one: one.value).plan
    if method is not None:
        return plan_within(search.task.model.process, method, search.task.calls)
    raise TuningError("no untuned plan of a deterministic method in urn.METHODS: name one by method=...")


def labelled(method: str, shifts: Tensor) -> Method:
    """The method with other times shown to the network: the angle of its call k is moved by tanh(shifts_k) windows.

    The first call keeps its time, as the paper's do.
    """
    chosen = find_method(method)

    def function(nodes: Nodes, x: Register, **options: Any) -> Steps:
        places = iter(range(len(shifts)))

        def show(request: Row | Read) -> Generator[Any, Any, Any]:
            if isinstance(request, Evaluate) and (place := next(places)) > 0:
                here, window = window_at(nodes.process, nodes.times, torch.as_tensor(request.node.t))
                moved = here + window * torch.tanh(shifts[place])
                request = replace(request, t=time_of(nodes.process, moved))
            return (yield request)

        return (yield from rewritten(chosen(nodes, x, **options), show))

    function.__doc__ = chosen.function.__doc__
    function.__signature__ = chosen.signature  # type: ignore[attr-defined]
    return replace(chosen, function=function)


def window_at(process: Process, times: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The angle of t, and half of the smaller gap to the grid's nearest other angles above and below."""
    here, grid = angle(process, t), angle(process, times)
    gaps = (grid - here).abs()
    sides = [gaps[side] for side in (grid > here + 1e-9, grid < here - 1e-9) if bool(side.any())]
    return here, WINDOW * torch.stack([side.min() for side in sides]).min()


def shifts_of(plan: Plan) -> Tensor:
    """The shifts with which `labelled` shows the network a plan's times, one for each of its calls."""
    found = []
    for row in plan.rows:
        if isinstance(row, Evaluate):
            t, shown = (torch.tensor(float(number), dtype=torch.float64) for number in (row.node.t, row.t))
            here, window = window_at(plan.process, grid_of(plan), t)
            found.append(torch.atanh((angle(plan.process, shown) - here) / window))
    return torch.stack(found)
