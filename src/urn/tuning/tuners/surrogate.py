"""Search on a surrogate: another tuner on an exact mixture in the network's place, its best plans confirmed on the network.

The mixture (`urn.tuning.surrogate`) is fitted to data, or to samples drawn from the network, which count as evaluations. The
inner search has no limit but its own and costs the network nothing; the best plans that it found are then measured on the
network. How untuned plans of all kinds rank on both, Spearman's correlation, is noted in the record. A gradient tuner may
search so for a network without gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from urn.tuning.arguments import check_settings
from urn.tuning.objectives import ToData, ToReference
from urn.tuning.search import CHEAP, Search
from urn.tuning.surrogate import DRAWN, FINE, rank_transfer
from urn.tuning.surrogate import surrogate as fitted
from urn.tuning.task import Task, check_differentiable, check_times_move
from urn.tuning.tuners import find_tuner, tuner
from urn.tuning.untuned import untuned_plans

EVERY = 3  # of the untuned plans that are ranked on both
INNER_SHARE = 0.7  # of the seconds that are left


@tuner(source="")
def surrogate(
    search: Search,
    inner: str = "usf",
    confirm: int = 8,
    inner_trials: int | None = None,
    samples: int = DRAWN,
    components: int = 10,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Another tuner's search on a fitted mixture, whose best plans are then measured on the network.

    Args:
        inner: the other tuner.
        confirm: how many of its plans are measured on the network.
        inner_trials: the limit of its search; by default that of this one. Of its seconds it has INNER_SHARE.
        samples: how many are drawn where the objective has no data; at most one per training start.
        components: Gaussians of the mixture.
        options: the inner tuner's.
    """
    check_settings(confirm=confirm, samples=samples, components=components)
    chosen = find_tuner(inner)
    if chosen.name == "surrogate":
        raise ValueError("inner='surrogate' must be another tuner")
    chosen.check_options(options or {})
    task = search.task
    if chosen.paired and not task.objective.paired:
        raise ValueError(
            f"inner={inner!r} needs objective='reference'; {task.objective.name} has no error for every start"
        )
    conditioning = dict(task.train.first(samples).conditioning)
    drawn = min(samples, len(task.train))
    data = task.train_target if isinstance(task.objective, ToData) else None
    model = fitted(task.model, data, samples=drawn, components=components, seed=search.seed, conditioning=conditioning)
    if data is None:
        task.evaluations += drawn * FINE
    if task.model.integer_times:
        model = replace(model, integer_times=True)
    train, held_out = (replace(part, conditioning={}) for part in (task.train, task.held_out))
    goal = replace(task.objective, kept=None) if isinstance(task.objective, ToReference) else task.objective
    on_mixture = Task(model, task.calls, goal, train, held_out, batch=task.batch)
    if chosen.gradients:
        check_times_move(model)
        check_differentiable(model, on_mixture.train)
    spread = [plan for _, plan in untuned_plans(model.process, task.calls, whole=model.integer_times)][::EVERY]
    if len(spread) > 2 and search.affords(len(spread) * CHEAP * task.calls):
        transfer = rank_transfer(on_mixture, task, spread, min(CHEAP, len(task.train)))
        search.notes["rank correlation of untuned plans on surrogate and network"] = round(transfer.correlation, 3)
    inside = inner_search(search, on_mixture, inner_trials)
    for one in search.tried:
        if one.untuned:
            inside.try_plan(one.plan, one.label, untuned=True)
    if not inside.is_over:
        chosen(inside, **(options or {}))
    best = sorted((one for one in inside.tried if not one.pruned and not one.untuned), key=lambda one: one.value)
    for one in best[:confirm]:
        if search.is_over:
            break
        search.try_plan(one.plan, f"on the surrogate: {one.label}")
    search.notes["evaluations of the surrogate"] = on_mixture.evaluations


def inner_search(search: Search, task: Task, trials: int | None) -> Search:
    """A search on another task, its trials in a study of their own beside the search's."""
    import optuna

    study = optuna.create_study(
        storage=search.study._storage,
        study_name=f"{search.study.study_name}, on its surrogate",
        pruner=search.study.pruner,
        load_if_exists=True,
    )
    left = None if search.seconds is None else INNER_SHARE * max(search.seconds - search.spent, 1.0)
    return Search(task, study, search.seed, trials=search.trials if trials is None else trials, seconds=left)
