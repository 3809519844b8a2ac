"""All weights of a plan, and the times of its calls, by descent on a user's own function of the samples.

Such a function can be made smaller on the training starts than it is on any others. So a quarter of them is kept from the
descent (`urn.tuning.descent`). The plan that comes out is the best there of the plans after each round; and none comes out
unless the 95 % interval of its gain on them, over halves of these starts, lies above 0.

Distances to data are not refined so: `auto` leaves them to the fit on the reference and to the black-box search.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from urn.metrics import bootstrap
from urn.plan import Plan
from urn.prediction import as_tensor
from urn.tuning.descent import descend, frozen, recompiled
from urn.tuning.search import Search, open_study
from urn.tuning.task import Starts, Task, TuningError, as_number, check_differentiable
from urn.tuning.times import Inner, angle, numbers_of, time_of

LEAST = 32  # training starts, below which a quarter of them says nothing
SHARE = 0.25  # of them, which judge


def refine(
    search: Search, plan: Plan, label: str, *, rounds: int, iterations: int, batch: int, share: float = 0.5
) -> None:
    """Descend from a `linear` plan, and try in the search what comes out, if anything does.

    Nothing is done with less than 32 training starts, or where no gradient passes through the model or the objective.

    Args:
        rounds, iterations, batch: of the descent.
        share: of the search's remaining seconds and evaluations that it may take.
    """
    outer = search.task
    if len(outer.train) < LEAST or not is_differentiable(outer, plan):
        return
    task = apart(outer, search.seed)
    limits: dict[str, Any] = {
        "evaluations": None if search.evaluations is None else int(share * (search.evaluations - outer.evaluations)),
        "seconds": None if search.seconds is None else share * (search.seconds - search.spent),
    }
    inner = Search(task, open_study(None, "refinement", {}, search.seed), search.seed, **limits)
    try:
        if not inner.is_over:
            free, draft = freed(plan)
            batch = min(batch, len(task.train))
            descend(inner, free, draft, label, rounds=rounds, iterations=iterations, batch=batch)
            made = [one.plan for one in inner.tried if one.value < float("inf")]
            found = judged(task, plan, [*made, frozen(draft())])  # where a limit ended it, inside a round
            if found is not None:
                search.try_plan(found, label)
    finally:
        outer.evaluations += task.evaluations + task.judged


def is_differentiable(task: Task, plan: Plan) -> bool:
    """Whether a gradient passes through the model and the objective, tried on a few starts."""
    few = task.train.first(LEAST)
    with torch.enable_grad():
        free, draft = freed(plan)
        try:
            check_differentiable(task.model, few)
            loss = task.loss(draft(), few, task.target_of(few))
            slopes = torch.autograd.grad(loss, free, allow_unused=True)
        except (TuningError, RuntimeError, TypeError):  # the last of what NumPy makes of a tensor with a gradient
            return False
    return any(slope is not None and bool((slope != 0).any()) for slope in slopes)


def freed(plan: Plan) -> tuple[list[Tensor], Any]:
    """The weights of a `linear` plan and the gaps of its times as free tensors, and what makes the draft of their values."""
    process, rows = plan.process, dict(plan.options)["weights"]
    grid = torch.tensor(numbers_of(plan), dtype=torch.float64)
    angles = angle(process, grid)
    low = float(angle(process, as_tensor(process.t_finite[1])))
    inner = Inner(process, float(angles[0]), angles[1:-1], min(low, float(angles[-2])))
    weights = torch.tensor([weight for row in rows for weight in row], dtype=torch.float64, requires_grad=True)
    gaps = inner.z.clone().requires_grad_(True)

    def draft() -> Any:
        times = torch.cat([grid[:1], time_of(process, inner.angles(gaps)), grid[-1:]])
        return recompiled(plan, times, weights=torch.split(weights, [len(row) for row in rows]))

    return [weights, gaps], draft


def apart(task: Task, seed: int) -> Task:
    """The task on three quarters of the training starts, with the rest in the place of those held out."""
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(seed))
    few = int(SHARE * len(order))
    fitted, kept = (task.train.part(part) for part in (order[few:], order[:few]))
    return Task(task.model, task.calls, task.objective, fitted, replace(kept, held_out=True), task.batch, task.variants)


def judged(task: Task, plan: Plan, plans: list[Plan]) -> Plan | None:
    """The best of some plans on the starts kept from the fit, if it is better there than `plan` by more than chance."""
    target = task.held_out_target

    def value(samples: Tensor) -> float:
        return as_number(task.objective.value(samples, target), task.objective.name)

    def drawn(plan: Plan, starts: Starts) -> Tensor:
        with torch.no_grad():
            return task.run(plan, starts)

    samples = [drawn(one, task.held_out) for one in plans]
    finite = [place for place, x in enumerate(samples) if bool(torch.isfinite(x).all())]
    first = drawn(plan, task.held_out)
    best = min(finite, key=lambda place: value(samples[place]), default=None)
    if best is None or not bool(torch.isfinite(first).all()):
        return None
    gain = bootstrap(lambda a, b: value(a) - value(b), first, samples[best], resample="pairs")
    return plans[best] if gain.low > 0 else None


__all__ = ["apart", "freed", "is_differentiable", "judged", "refine"]
