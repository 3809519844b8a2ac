"""Starts to fit on beside a course's, which stay held out, and models that tuners' papers need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import urn
from evidence.measure import Course, course, normals
from urn.exact import GaussianMixture, digits_mixture
from urn.processes import VP, Process
from urn.tuning import Starts, Task, ToReference


def fitting_task(data: Course, calls: int, count: int, seed: int = 77) -> Task:
    """A task whose training starts are none of the course's."""
    shape = tuple(data.starts.shape[1:])
    starts = Starts(normals(seed, count, *shape), tuple(range(count)), {}, False)
    return Task(data.model, calls, ToReference(), starts, starts)


def guided(scale: float) -> Any:
    """The exact digits mixture guided towards its first two components: u + scale (c - u), in any prediction."""
    whole = digits_mixture()
    weights = whole.weights[:2] / whole.weights[:2].sum()
    part = GaussianMixture(weights, whole.means[:2], whole.covariances[:2], shape=(1, 8, 8))

    def exact(process: Process, predicts: str) -> urn.Model:
        u, c = whole.model(process, predicts), part.model(process, predicts)

        def net(x: Tensor, t: Tensor) -> Tensor:
            without = u.net(x, t)
            made: Tensor = without + scale * (c.net(x, t) - without)
            return made

        return urn.Model(net, process, predicts=predicts, shape=(1, 8, 8))

    return exact


def guided_course(scale: float, count: int) -> Course:
    """Its probability flow on VP.linear() from t = 1 to 1e-3."""
    return course(guided(scale), normals(2, count, 1, 8, 8), VP.linear(), 1.0, 1e-3, 1e-7)


def on(times: Tensor, method: Any, **options: Any) -> urn.Plan:
    """A plan on VP.linear() on these times."""
    plan: urn.Plan = urn.compile_plan(method, VP.linear(), grid=times, **options)
    return plan


def ends(model: urn.Model, plan: urn.Plan, starts: Tensor) -> Tensor:
    """A deterministic plan's samples."""
    with torch.no_grad():
        found: Tensor = urn.execute(plan, model, {"x": starts})["x"]
    return found
