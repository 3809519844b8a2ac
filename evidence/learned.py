"""Plans that are tuned on some starts and judged on others, beside untuned ones, for the cases on tuners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import urn
from evidence.measure import distances, rms
from urn.conformance.targets import MIXTURE
from urn.exact import digits_mixture
from urn.noise import sample_seeds
from urn.plan import Plan
from urn.processes import VP
from urn.tuning import Search, Task, ToReference, find_tuner, plan_within
from urn.tuning.search import open_study
from urn.tuning.task import make_starts

GRIDS = {"log-SNR": "lambda", "quadratic": "quadratic", "EDM's": "karras"}


class Bench:
    """An exact mixture on VP.linear(), some training starts and as many held out, and a fine reference of both."""

    def __init__(self, full: bool, calls: int, starts: int | None = None) -> None:
        """Of the digits mixture if full, of the one in two dimensions if not."""
        target: Any = digits_mixture() if full else MIXTURE
        model: urn.Model = target.model(VP.linear(), "v")
        dtype = torch.float32 if full else torch.float64
        train = (256 if full else 128) if starts is None else starts
        counts = ((train, 0, False), (512 if full else 128, 100000, True))
        parts = [make_starts(model, sample_seeds(0, n, first), {}, kind, dtype, "cpu") for n, first, kind in counts]
        self.task = Task(model, calls, ToReference(120 if full else 60), *parts)
        self.calls = calls

    def errors(self, plan: Plan) -> Tensor:
        """(B,) of the held-out starts."""
        target = self.task.held_out_target
        assert target is not None
        return distances(self.task.run(plan, self.task.held_out), target).double()

    def on_grids(self, method: str, **options: Any) -> dict[str, Plan]:
        """A method within the budget on the papers' grids."""
        process = self.task.model.process
        return {name: plan_within(process, method, self.calls, grid, **options) for name, grid in GRIDS.items()}

    def best(self, plans: Sequence[Plan]) -> Tensor:
        """The errors of that plan which is best on the held-out starts themselves, in its favour."""
        return min((self.errors(plan) for plan in plans), key=rms)

    def tuned(self, tuner: str, untuned: dict[str, Plan], **options: Any) -> Search:
        """A search by a tuner that is given some untuned plans."""
        search = Search(self.task, open_study(None, tuner, {}, 0), 0)
        for name, plan in untuned.items():
            search.try_plan(plan, name, untuned=True)
        find_tuner(tuner)(search, **options)
        return search


def best_of_tuner(search: Search) -> Plan:
    """The best plan, by training starts, that the tuner itself tried."""
    return min((one for one in search.tried if not one.untuned), key=lambda one: one.value).plan
