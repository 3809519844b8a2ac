"""Descent on what is free in a plan, through compiler and executor, which the gradient tuners share.

L-BFGS with a strong Wolfe line search on a batch of the training starts, the same in all rounds: the objective is smooth in a
plan's numbers and they are few, so that it goes further in twenty steps than Adam on minibatches in two hundred. After every
round the plan is tried on all training starts, so that the search keeps the best of the way, and a search that was killed has
its last try to go on from.

With a radius r the starts are free too, each in a ball around its own (the relaxed objective of LD3 and S4S): the plan must
come to the reference's end from somewhere near its start x_T,

    min over the plan, and over x'_T with |x'_T - x_T| <= r s_T,   of the distance of plan(x'_T) from reference(x_T)

with s_T the prior's std. Between rounds a start is moved by r/2 down its gradient, pulled back into the ball, and keeps the move
where its own error fell, some times over. Held-out starts are never moved, nor are those by which a plan is tried.

Sources: Tong et al. 2024, Learning to Discretize Denoising Diffusion ODEs, arXiv 2405.15506, section 3; Frankel et al. 2025,
S4S: Solving for a Diffusion Model Solver, arXiv 2502.17423, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from urn.compiler import compile_plan
from urn.method import Method, number
from urn.plan import Plan, PlanError, Rows
from urn.tuning.arguments import check_settings
from urn.tuning.search import Search, Tried
from urn.tuning.task import Starts, Task, TuningError

MOVES = 3  # of the starts after each round
SLICE = 5  # iterations between looks at the search's limits
FIRST = 0.01  # the length, summed over the numbers, of the first step, before a scale is known
SEARCHED = 15  # calls of the objective in a slice, at most
WORST = 1e30  # the objective of a plan whose samples are not finite, to the line search


def descend(
    search: Search,
    free: Sequence[Tensor],
    draft_of: Callable[[], Any],
    label: str,
    *,
    rounds: int,
    iterations: int,
    batch: int,
    radius: float = 0.0,
    turns: Sequence[Sequence[int]] = (),
) -> None:
    """Descend from where the free tensors are, which are changed in place.

    Args:
        free: leaf tensors, float64, that carry gradients.
        draft_of: makes the draft of their present values.
        label: of the plans that are tried.
        rounds: after each the plan is tried.
        iterations: of L-BFGS in a round, at most.
        batch: training starts of the descent, drawn without replacement.
        radius: r, in units of the prior's std; needs a paired objective.
        turns: places in `free` that move together, group after group, a round each; all at once by default.

    Raises:
        ValueError: a setting is out of range.
        TuningError: the objective or the model is not differentiable.
    """
    check_settings(rounds=rounds, iterations=iterations, batch=batch)
    number("radius", radius, 0)
    task = search.task
    if radius > 0 and not task.objective.paired:
        raise TuningError(
            f"radius={radius!r} moves starts, which needs an error for every start; {task.objective.name} gives none"
        )
    generator = torch.Generator().manual_seed(search.seed + len(search.tried))
    chosen = torch.randperm(len(task.train), generator=generator)[:batch]
    part, target = task.train.part(chosen), target_of(task, chosen)
    offsets = torch.zeros_like(part.normals)
    if last_tried(search, label) is None:
        search.try_plan(frozen(draft_of()), f"{label}, start")
    group, optimiser = list(free), _optimiser(free)
    for done in range(rounds):
        starts = part if radius == 0 else shifted(part, offsets)
        if turns:
            group = [free[place] for place in turns[done % len(turns)]]
        if turns or radius > 0:
            optimiser = _optimiser(group)  # what it has learnt was of another objective
        for _ in range(-(-iterations // SLICE) + (not optimiser.state)):
            if search.is_over:
                return
            if optimiser.state:
                _go_on(optimiser)
            optimiser.step(_closure(search, draft_of, group, starts, target))  # type: ignore[no-untyped-call]
        search.try_plan(frozen(draft_of()), f"{label}, round {done + 1}")
        for _ in range(MOVES if radius > 0 and done + 1 < rounds else 0):
            if search.is_over:
                return
            offsets = moved_starts(task, draft_of(), part, cast(Tensor, target), offsets, radius)


def _optimiser(free: Sequence[Tensor]) -> torch.optim.LBFGS:
    """For one step, tried at the length `FIRST`; then `_go_on`."""
    options: dict[str, Any] = {"max_eval": SEARCHED, "history_size": 20, "line_search_fn": "strong_wolfe"}
    return torch.optim.LBFGS(list(free), lr=FIRST, max_iter=1, **options)


def _go_on(optimiser: torch.optim.LBFGS) -> None:
    optimiser.param_groups[0].update(lr=1.0, max_iter=SLICE, max_eval=SEARCHED)


def _closure(
    search: Search, draft_of: Callable[[], Any], free: Sequence[Tensor], part: Starts, target: Tensor | None
) -> Callable[[], float]:
    """The objective, with its gradients left in the free tensors; `WORST` where a step has gone too far for a plan, and
    when the search is over, so that a line search that is under way ends at its best."""

    def closure() -> float:
        for tensor in free:
            tensor.grad = torch.zeros_like(tensor)
        if search.is_over:
            return WORST
        try:
            draft = draft_of()
        except (PlanError, ValueError):  # times that coincide, or a number out of its range
            return WORST
        value, slopes = gradients(search.task, draft, free, part, target)
        if not all(bool(torch.isfinite(one).all()) for one in (value, *slopes)):
            return WORST
        for tensor, slope in zip(free, slopes, strict=True):
            tensor.grad = slope
        return float(value)

    return closure


def gradients(
    task: Task, draft: Rows, free: Sequence[Tensor], part: Starts, target: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The objective over some training starts, and its gradients in the free tensors."""
    loss = task.loss(draft, part, target)
    found = torch.autograd.grad(loss, list(free), allow_unused=True)
    slopes = [torch.zeros_like(one) if slope is None else slope for one, slope in zip(free, found, strict=True)]
    return loss.detach(), slopes


def moved_starts(task: Task, draft: Rows, part: Starts, target: Tensor, offsets: Tensor, radius: float) -> Tensor:
    """The starts' offsets after a move of half a radius down the gradient, back into the ball, where a start's own error fell."""
    free = offsets.clone().requires_grad_(True)
    _, (slope,) = gradients(task, draft, [free], shifted(part, free), target)
    over = tuple(range(1, slope.ndim))
    length = torch.linalg.vector_norm(slope, dim=over, keepdim=True)
    moved = offsets - radius / 2 * slope / length.clamp(min=torch.finfo(slope.dtype).tiny)
    moved = moved / (torch.linalg.vector_norm(moved, dim=over, keepdim=True) / radius).clamp(min=1.0)
    with torch.no_grad():
        before, after = (
            (task.run(draft, shifted(part, one)) - target).square().flatten(1).sum(1) for one in (offsets, moved)
        )
    return torch.where((after < before).reshape(-1, *(1 for _ in over)), moved, offsets)


def target_of(task: Task, chosen: Tensor) -> Tensor | None:
    """What the samples of some training starts are compared with."""
    target = task.train_target
    return target[chosen] if target is not None and task.objective.paired else target


def shifted(part: Starts, offset: Tensor) -> Starts:
    """Starts with their unit normals moved."""
    return replace(part, normals=part.normals + offset)


def frozen(draft: Any) -> Plan:
    """The plan of a draft, or the plan itself."""
    made: Plan = draft if isinstance(draft, Plan) else draft.freeze()
    return made


def recompiled(plan: Plan, times: Any, method: str | Method | None = None, **options: Any) -> Any:
    """A plan's method, with its options, or others, and its jump to the clean prediction if it has one, on other times."""
    process = plan.process
    ended = float(process.sigma(torch.tensor(float(plan.times[-1]), dtype=torch.float64)))  # type: ignore[arg-type]
    final = "x0" if ended != 0 and float(plan.outputs[0][2].sigma) == 0 else None
    return compile_plan(method or plan.method, process, grid=times, final=final, **{**dict(plan.options), **options})


def grid_of(plan: Plan) -> Tensor:
    """A plan's times, (steps + 1,) float64."""
    return torch.tensor([float(t) for t in plan.times], dtype=torch.float64)  # type: ignore[arg-type]


def last_tried(search: Search, label: str) -> Tried | None:
    """The best plan that this tuner tried before, where a search goes on: one whose label begins so."""
    before = [one for one in search.tried if one.label.startswith(label) and not one.pruned]
    return min(before, key=lambda one: one.value, default=None)


__all__ = [
    "descend",
    "frozen",
    "gradients",
    "grid_of",
    "last_tried",
    "moved_starts",
    "recompiled",
    "shifted",
    "target_of",
]
