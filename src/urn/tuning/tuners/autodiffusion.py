"""AutoDiffusion: evolution of the times of a given method, then of times and of the blocks that each call skips.

First stage: grids, the method as it is. Second stage, where `variants` are given: for each call also which of the models it
asks, the whole network or one with blocks skipped; a plan may then have `extra` more calls, as long as all of them cost no
more than the budget. The figure is that of few generated samples, the training starts; how far it is from that of the
held-out ones is in the record. The paper's figure is FID.

Skipped blocks: `urn.nets.skippable(model, ["up_block", ...])` gives variants of a network. The plan found calls them by name:
`urn.sample(model, plan, models={name: variant for name, (variant, _) in variants.items()})`.

Source: Li, Li, Zheng, Wu, Xiao, Wang, Zheng, Pan, Chao, Ji 2023, AutoDiffusion: Training-Free Optimization of Time Steps and
Architectures for Automated Diffusion Model Acceleration, arXiv 2309.10438, sections 3.2 to 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from urn.model import Model
from urn.tuning.arguments import check_settings
from urn.tuning.candidates import HOMOGENEOUS, Candidate
from urn.tuning.evolution import evolve, members, seeds_in
from urn.tuning.search import Search
from urn.tuning.space import Random, Space, space_of
from urn.tuning.times import angle
from urn.tuning.tuners import tuner

SOURCE = (
    "Li, Li, Zheng, Wu, Xiao, Wang, Zheng, Pan, Chao, Ji 2023, AutoDiffusion: Training-Free Optimization of Time Steps and "
    "Architectures for Automated Diffusion Model Acceleration, arXiv 2309.10438"
)


@tuner(source=SOURCE)
def autodiffusion(
    search: Search,
    method: str | None = None,
    variants: Mapping[str, tuple[Model, float]] | None = None,
    extra: int = 1,
    population: int = 10,
    most: int = 100,
) -> None:
    """Evolution of the times of a method, and then of times and skipped blocks, on few samples.

    Args:
        method: a method of the untuned plans that calls once a step; by default that of the best.
        variants: further models that a call may ask, by name, with what a call costs beside one of the model.
        extra: calls more than the budget's number, in the second stage.
        population: how many of the best are parents.
        most: plans measured in each stage.
    """
    check_settings(population=population, most=most)
    check_settings(0, extra=extra)
    chosen = method or _best_method(search)
    if chosen not in HOMOGENEOUS:
        raise ValueError(f"method={chosen!r} must be one of {', '.join(HOMOGENEOUS)}")
    costs = {"main": 1.0, **{name: price for name, (_, price) in (variants or {}).items()}}
    budget, calls = search.task.calls + 1e-9, search.task.calls + (extra if variants else 0)
    if calls * min(costs.values()) > budget:
        raise ValueError(f"extra={extra!r}: {calls} calls of the cheapest variant cost more than {search.task.calls}")
    fixed: dict[str, Any] = dict.fromkeys(("orders", "predictions", "differences", "correctors", "origins"), ())
    settings: dict[str, Any] = {"population": population, "brood": 4, "measured": 4, "most": most, "predictor": False}

    times = space_of(search, methods=(chosen,), **fixed)
    seeds = seeds_in(search, times)
    measured = {one.label for one in search.tried if one.untuned}
    grids = [one for label, one in seeds.items() if label.startswith(f"{chosen}, ") and label not in measured]
    evolve(search, times, label=f"autodiffusion {chosen} times", seeds=seeds, first=grids, **settings)
    if not variants:
        return
    search.task.variants = dict(variants)
    blocks = space_of(search, calls, methods=(chosen,), models=tuple(costs), **fixed)
    parents = [one.candidate.times for one in members(search, times, seeds) if one.full][:population]
    rng = np.random.default_rng(search.seed)
    first = [
        _thinned(replace(blocks.base, times=_refined(blocks, one, calls)), costs, budget, rng)
        for one in (parents or [times.base.times])
    ]
    evolve(
        search,
        blocks,
        label=f"autodiffusion {chosen} times and blocks",
        seeds={},
        first=first,
        admits=lambda one: sum(costs[name] for name in one.models) <= budget,
        **settings,
    )


def _best_method(search: Search) -> str:
    """That of the best untuned plan which calls once a step."""
    named = [(one.value, one.label.split(", ")[0]) for one in search.tried if one.untuned]
    return min([one for one in named if one[1] in HOMOGENEOUS], default=(0.0, "ddim"))[1]


def _refined(space: Space, times: Sequence[float], calls: int) -> tuple[float, ...]:
    """A grid with its longest steps, by angle, halved until there are so many."""
    found = list(times)
    while len(found) <= calls:
        angles = angle(space.process, torch.tensor(found, dtype=torch.float64))
        widest = int((angles[:-1] - angles[1:]).argmax())
        middle = (angles[widest] + angles[widest + 1]) / 2
        found.insert(widest + 1, float(space.process.t_of_lambda(-torch.log(torch.tan(middle)))))
    return space.settled(found)


def _thinned(candidate: Candidate, costs: Mapping[str, float], budget: float, rng: Random) -> Candidate:
    """A candidate with the models of calls at random made cheaper until they are within the budget."""
    models = list(candidate.models)
    while sum(costs[name] for name in models) > budget:
        i = int(rng.integers(len(models)))
        cheaper = [name for name, price in costs.items() if price < costs[models[i]]]
        if cheaper:
            models[i] = cheaper[int(rng.integers(len(cheaper)))]
    return replace(candidate, models=tuple(models))
