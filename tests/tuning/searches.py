"""Searches on the skewed two-component mixture in two dimensions, for the tests of tuners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from urn.conformance.targets import MIXTURE
from urn.model import Model
from urn.noise import sample_seeds
from urn.processes import VP
from urn.tuning import Search, Task, ToReference, untuned_plans
from urn.tuning.search import open_study
from urn.tuning.task import make_starts

PROCESS = VP.linear()


def plane() -> Model:
    model: Model = MIXTURE.model(PROCESS, "v")
    return model


def search_on(model: Model, calls: int, count: int = 96, objective: Any = None, **limits: Any) -> Search:
    """A search with some untuned plans measured."""
    starts = [
        make_starts(model, sample_seeds(0, count, first), {}, bool(first), torch.float64, "cpu") for first in (0, count)
    ]
    task = Task(model, calls, ToReference(45) if objective is None else objective, *starts)
    search = Search(task, open_study(None, "test", {}, 0), 0, **limits)
    for label, plan in untuned_plans(model.process, calls, ("adams_pc_2", "dpmpp_2m"), ("arctan", "quadratic")):
        search.try_plan(plan, label, untuned=True)
    return search


def held_out(search: Search) -> tuple[float, float]:
    """The rms distance of the best plan and of the best untuned one on the held-out starts."""
    best, plain = (search.task.figure(one.plan).estimate for one in (search.best, search.best_untuned))
    return best, plain


def slopes_by_differences(value: Callable[[], float], free: Sequence[Tensor], step: float = 1e-5) -> list[Tensor]:
    """Central differences of a number in every entry of some tensors."""
    made = []
    for tensor in free:
        flat = tensor.detach().flatten()  # a view
        slope = torch.zeros_like(flat)
        for i, kept in enumerate(flat.tolist()):
            ends = []
            for sign in (1, -1):
                flat[i] = kept + sign * step
                ends.append(value())
            flat[i] = kept
            slope[i] = (ends[0] - ends[1]) / (2 * step)
        made.append(slope.reshape(tensor.shape))
    return made
