"""What the kit measures of peers alone: their own grid as installed, and what a step costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.conformance import checks
from urn.conformance.report import Check
from urn.conformance.subject import Subject
from urn.conformance.targets import MIXTURE, exact_end, fitting_states, fitting_times, model_of
from urn.model import Model
from urn.processes import Flow, Process

STEPS = (10, 20, 40, 80)


def cost(subject: Subject, process: Process) -> Check:
    """Model calls a step, in 48 steps; nothing is promised."""
    counted = 0
    exact = model_of(MIXTURE, process)

    def net(*given: Any) -> Any:
        nonlocal counted
        counted += 1
        return exact.net(*given)

    x, _ = fitting_states(process)
    subject.run(Model(net, process, exact.predicts), x[:2], fitting_times(process, 48), [0, 1])
    return Check("cost", "info", f"{counted} calls in 48 steps", {"calls": counted / 48})


def own_grid(scheduler: Any) -> Callable[[Subject, Process], Check]:
    """As a user has it: own table, own spacing, own float32, from unit normals times `init_noise_sigma` to the end."""

    def own(subject: Subject, process: Process) -> Check:
        errors = []
        for steps in STEPS:
            y, start, ends = scheduler.own_samples(steps)
            if not bool(torch.isfinite(y).all()):
                bad = f"{int((~torch.isfinite(y)).any(1).sum())} of {len(y)}"
                return Check(
                    "own grid", "FAIL", f"{bad} samples not finite in {steps} steps on its own grid, in float32"
                )
            if not subject.stochastic:
                errors.append(float((y - _exact(start, *ends)).square().mean().sqrt()))
        if subject.stochastic:
            return Check("own grid", "pass", f"finite in {STEPS} steps, in float32")
        slope = -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])
        listed = ", ".join(f"{e:.1e}" for e in errors)
        numbers = {"slope": slope} | {f"error {n}": e for n, e in zip(STEPS, errors, strict=True)}
        return Check("own grid", "pass", f"errors {listed} at {STEPS} steps, slope {slope:.2f}, in float32", numbers)

    own.__name__ = "own_grid"
    return own


def own_order(scheduler: Any) -> Callable[[Subject, Process], Check]:
    """The order on its own grid, for a scheduler that runs on no other."""

    def order(subject: Subject, process: Process) -> Check:
        errors = []
        for steps in checks.STEPS:
            y, start, ends = scheduler.own_samples(steps, fine=True)
            errors.append(float((y - _exact(start, *ends)).square().mean().sqrt()))
        return checks.order_verdict("order", subject, errors)

    return order


def own_batch(scheduler: Any) -> Callable[[Subject, Process], Check]:
    """A sample alone and in a batch, on its own grid."""

    def batch(subject: Subject, process: Process) -> Check:
        together = scheduler.own_samples(6, True, slice(7))[0]
        alone = scheduler.own_samples(6, True, slice(3, 4))[0]
        return checks.batch_verdict(float((alone - together[3:4]).abs().max()), together)

    return batch


def _exact(start: Tensor, first: float, last: float) -> Tensor:
    """Where the mixture's trajectories of the rectified flow end."""
    return _ends(tuple(map(tuple, start.tolist())), first, last)


@lru_cache(maxsize=64)
def _ends(start: Any, first: float, last: float) -> Tensor:
    x = torch.tensor(start, dtype=torch.float64)
    return x if math.isclose(first, last) else exact_end(Flow(), x, first, last)
