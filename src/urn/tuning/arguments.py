"""What `urn.tune` and its tuners refuse before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from urn.model import Model
from urn.plan import Plan
from urn.processes import components_of, is_between, with_side_input
from urn.tuning.objectives import Objective, ToData, ToReference


def check_arguments(
    model: Any,
    steps: Any,
    starts: Any,
    held_out: Any,
    goal: Objective,
    seeded: Mapping[str, Plan],
    trials: Any,
    evaluations: Any,
    seconds: Any,
    batch_size: Any,
    dtype: Any,
    device: Any,
) -> None:
    """Refuse what `urn.tune` was given.

    Raises:
        ValueError: an argument is wrong; it says which, and what is allowed.
    """
    if not isinstance(model, Model):
        raise ValueError(f"model={model!r} must be a Model: urn.Model(net, process, predicts=...)")
    if model.shape is None:
        raise ValueError("model: it does not know the shape of a sample: Model(..., shape=(...))")
    process = model.process
    if len(components_of(process)) > 1 or with_side_input(process) is not None or is_between(process):
        raise ValueError(f"model: plans are tuned on processes x = alpha x0 + sigma epsilon; {process} is another kind")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps={steps!r} must be an integer of at least 2: one call leaves nothing to choose")
    for name, value, least in (
        ("starts", starts, 8),
        ("held_out", held_out, 8),
        ("trials", 1 if trials is None else trials, 1),
        ("evaluations", 1 if evaluations is None else evaluations, 1),
        ("batch_size", batch_size, 1),
    ):
        check_settings(least, **{name: value})
    if seconds is not None and (not isinstance(seconds, (int, float)) or not seconds > 0):
        raise ValueError(f"seconds={seconds!r} must be positive")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype!r} must be a floating-point torch.dtype")
    try:
        torch.empty(1, dtype=dtype, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"device={device!r} is none that torch has here: {str(error).splitlines()[0]}") from None
    if isinstance(goal, ToReference) and evaluations is not None:
        least = (goal.reference(process).nfe + steps) * starts
        if evaluations < least:
            raise ValueError(
                f"evaluations={evaluations!r}: the reference and one plan from {starts} training starts take {least}; take "
                "fewer starts, or ToReference(calls=...) with fewer calls"
            )
    if isinstance(goal, ToData) and tuple(goal.data.shape[1:]) != model.shape:
        raise ValueError(f"data: {tuple(goal.data.shape)}; this model's samples have shape {model.shape}")
    if not isinstance(seeded, Mapping):
        raise ValueError(f"seeded={seeded!r} must be plans by their labels, a dict")
    for label, plan in seeded.items():
        if not isinstance(plan, Plan):
            raise ValueError(f"seeded[{label!r}]={plan!r} must be a Plan")
        if plan.process != process:
            raise ValueError(f"seeded[{label!r}] is for {plan.process}; the model's process is {process}")
        if plan.nfe > steps:
            raise ValueError(f"seeded[{label!r}] calls the model {plan.nfe} times; the budget is {steps}")


def check_settings(least: int = 1, /, **settings: Any) -> None:
    """Refuse settings that are no integers of at least that."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
