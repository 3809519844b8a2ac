"""AMED and EPD: the points inside the steps, the weights of what is predicted there, and the times shown, by distillation.

The methods are `amed` and `epd` of `urn.methods.amed`; with theta their numbers, which are a step's own, psi the plan and Psi the
reference,

    min over theta of E distance(psi(x_T), Psi(x_T)),    r = sigmoid(.), w_k and c free, a = exp(.)

The papers match the reference's states after every step, step by step; here it is the end that is matched, through all steps.
AMED's numbers come from a small network there, which sees the denoiser's features, so that they may differ between samples;
EPD's are a step's own as here, its K calls independent: `plan.rounds` is 2 a step. Their ranges for c, 1 + o_k and a (0.99 to
1.01, and 0.8 to 1.2 or narrower) are left out: they keep a large network from being shown what it was not trained on.

Sources: Zhou, Chen, Wang, Chen 2024, Fast ODE-based Sampling for Diffusion Models in Around 5 Steps, arXiv 2312.00094; Zhu, Wang,
Zhao, Zhang, Zhang 2025, Distilling Parallel Gradients for Fast ODE Solvers of Diffusion Models, arXiv 2507.14797.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from urn.methods import find_method
from urn.plan import Plan
from urn.tuning.arguments import check_settings
from urn.tuning.descent import descend, grid_of, last_tried, recompiled
from urn.tuning.search import CHEAP, Search
from urn.tuning.times import gaps_of, times_of
from urn.tuning.tuners import tuner
from urn.tuning.untuned import GRIDS, plan_within

CLOSE = 0.2  # of the step, over which the points lie that begin around its middle


@tuner(source=find_method("amed").source, gradients=True, paired=True)
def amed(
    search: Search,
    scales: bool = True,
    labels: bool = True,
    times: bool = False,
    rounds: int = 4,
    iterations: int = 10,
    batch: int = 256,
) -> None:
    """A point inside each step, the weight of the prediction there, and the time shown, by gradient descent.

    Args:
        scales: whether the weights are free, or 1.
        labels: whether the times shown are free, or the points' own.
        times: whether the grid is free too, which the paper leaves as it is.
        rounds, iterations, batch: of the descent.
    """
    check_settings(rounds=rounds, iterations=iterations, batch=batch)
    known = last_tried(search, "amed")
    plan = best_grid(search, "amed") if known is None else known.plan
    steps, options = plan.steps, dict(plan.options)
    shares = _tensor(options.get("share", 0.5), (steps,)).logit().requires_grad_(True)
    weights = _tensor(options.get("scale", 1.0), (steps,)).requires_grad_(scales)
    scaled = _tensor(options.get("time_scale", 1.0), (steps,)).log().requires_grad_(labels)

    grid = grid_of(plan)
    gaps = gaps_of(plan.process, grid).requires_grad_(times)

    def draft() -> Any:
        given: dict[str, Any] = {"share": torch.sigmoid(shares), "scale": weights}
        if labels:
            given["time_scale"] = torch.exp(scaled)
        made = times_of(plan.process, gaps, grid[0], grid[-1]) if times else grid
        return recompiled(plan, made, **given)

    free = [one for one in (shares, weights, scaled, gaps) if one.requires_grad]
    descend(search, free, draft, "amed", rounds=rounds, iterations=iterations, batch=batch)


@tuner(source=find_method("epd").source, gradients=True, paired=True)
def epd(
    search: Search,
    points: int = 2,
    labels: bool = True,
    times: bool = False,
    rounds: int = 4,
    iterations: int = 10,
    batch: int = 256,
) -> None:
    """Several points inside each step, evaluated in parallel, their weights and the times shown, by gradient descent.

    Args:
        points: K; a step takes K + 1 of the budget's calls, in two rounds.
        labels: whether the times shown are free, or the points' own.
        times: whether the grid is free too, which the paper leaves as it is.
        rounds, iterations, batch: of the descent.

    Raises:
        ValueError: a setting is out of range, or the budget has no step of so many points.
    """
    check_settings(points=points, rounds=rounds, iterations=iterations, batch=batch)
    label = f"epd, {points} points"
    known = last_tried(search, label)
    plan = _first(search, points) if known is None else known.plan
    shape, options = (plan.steps, points), dict(plan.options)
    shares = _tensor(options["shares"], shape).logit().requires_grad_(True)
    weights = _tensor(options["weights"], shape).requires_grad_(True)
    scaled = _tensor(options.get("time_scales") or 1.0, shape).log().requires_grad_(labels)

    grid = grid_of(plan)
    gaps = gaps_of(plan.process, grid).requires_grad_(times)

    def draft() -> Any:
        given: dict[str, Any] = {"shares": torch.sigmoid(shares).unbind(), "weights": weights.unbind()}
        if labels:
            given["time_scales"] = torch.exp(scaled).unbind()
        made = times_of(plan.process, gaps, grid[0], grid[-1]) if times else grid
        return recompiled(plan, made, **given)

    free = [one for one in (shares, weights, scaled, gaps) if one.requires_grad]
    descend(search, free, draft, label, rounds=rounds, iterations=iterations, batch=batch)


def _first(search: Search, points: int) -> Plan:
    """The better on some training starts of points even over the step, and close around its middle."""
    even = [(k + 1) / (points + 1) for k in range(points)]
    made = [
        best_grid(search, "epd", {"shares": tuple(shares), "weights": (1 / points,) * points})
        for shares in (even, [0.5 + CLOSE * (share - 0.5) for share in even])
    ]
    return min(made, key=lambda plan: search.task.value(plan, CHEAP))


def best_grid(search: Search, method: str, options: Mapping[str, Any] | None = None) -> Plan:
    """The method within the budget on that of the usual grids which is best on some training starts."""
    task = search.task
    plans = [plan_within(task.model.process, method, task.calls, grid, **(options or {})) for grid in GRIDS]
    return min(plans, key=lambda plan: task.value(plan, CHEAP))


def _tensor(value: Any, shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(value, dtype=torch.float64).expand(shape).clone()
