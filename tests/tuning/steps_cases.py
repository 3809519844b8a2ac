"""What the tests of the tuners that work step by step share: a small task on the digits mixture."""

from __future__ import annotations

from typing import Any

import torch

import urn
from urn.exact import digits_mixture
from urn.noise import sample_seeds
from urn.tuning import Task, ToReference
from urn.tuning.search import Search, open_study
from urn.tuning.task import make_starts

PROCESS = urn.VP.linear()


def task_of(calls: int, starts: int = 64, predicts: str = "v", objective: Any = None, process: Any = PROCESS) -> Task:
    model = digits_mixture().model(process, predicts)
    goal = ToReference(calls=60) if objective is None else objective
    train, held_out = (
        make_starts(model, sample_seeds(0, starts, first), {}, bool(first), torch.float64, "cpu")
        for first in (0, starts)
    )
    return Task(model, calls, goal, train, held_out)


def search_of(task: Task, **limits: Any) -> Search:
    return Search(task, open_study(None, "steps", {}, 0), 0, **limits)


def held_out_rms(task: Task, plan: Any) -> float:
    return task.figure(plan).estimate
