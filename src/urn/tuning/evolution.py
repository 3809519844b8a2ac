"""Evolution in a space of plans: parents are the best so far, children are measured, and a regressor says which.

All that it knows is in the search's study, so several processes can evolve one population, and a search that was killed goes
on with it. Its random numbers are made from the seed and the number of trials there.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from urn.plan import Plan, PlanError
from urn.tuning.candidates import Candidate, untuned_candidates
from urn.tuning.search import Search
from urn.tuning.space import Random, Space

if TYPE_CHECKING:
    import optuna

Numbers = np.ndarray[Any, Any]
LEARNED = 150  # members that the regressor is fitted to, the best
SPREAD = 2.0  # stds that a child's guess is lowered by: without, all that is chosen is like its parents
LEARNED_FROM = 12  # members, before which the regressor is not asked


@dataclass(frozen=True)
class Member:
    """A candidate that was measured.

    Attributes:
        candidate: the candidate.
        value: the objective on the training starts, or on some of them where it was given up.
        full: whether it is on all.
    """

    candidate: Candidate
    value: float
    full: bool


def members(search: Search, space: Space, seeds: Mapping[str, Candidate]) -> list[Member]:
    """What the study knows of a space: its trials, and the seeds that were measured, best first."""
    search.refresh()
    known = {one.label: one.value for one in search.tried if one.untuned and one.value < float("inf")}
    found = [Member(seeds[label], value, True) for label, value in known.items() if label in seeds]
    names = set(space.distributions())
    for trial in search.study.get_trials(deepcopy=False):
        if trial.state.is_finished() and "tried" in trial.user_attrs and set(trial.params) == names:
            told = trial.user_attrs["tried"]
            if told["value"] != "inf":
                found.append(Member(space.candidate(trial.params), float(told["value"]), not told["pruned"]))
    return sorted(found, key=lambda one: (not one.full, one.value))


def seeds_in(search: Search, space: Space) -> dict[str, Candidate]:
    """The untuned plans, by their labels, that lie in a space."""
    task = search.task
    every = untuned_candidates(task.model.process, task.calls, whole=task.model.integer_times)
    return {label: one for label, one in every if not space.refusal(one)}


def evolve(
    search: Search,
    space: Space,
    *,
    population: int,
    brood: int,
    measured: int,
    most: int,
    predictor: bool,
    label: str,
    seeds: Mapping[str, Candidate] | None = None,
    first: Sequence[Candidate] = (),
    admits: Callable[[Candidate], bool] | None = None,
) -> None:
    """Evolve a population until `most` of its children are measured or a limit of the search is reached.

    Args:
        population: how many of the best are parents.
        brood: how many children are made in a round; of these `measured` are measured, those that the regressor, or without
            it chance, prefers.
        most: children measured in all, those that the study has already among them.
        predictor: whether a regressor chooses.
        label: of the trials.
        seeds: the first candidates, by the labels of untuned plans; by default all that lie in the space.
        first: candidates that are measured before the children.
        admits: which children may be measured.
    """
    given = seeds_in(search, space) if seeds is None else seeds
    while not search.is_over:
        known = members(search, space, given)
        born = sum(set(one.params) == set(space.distributions()) for one in search.study.get_trials(deepcopy=False))
        if born >= most:
            return
        rng = np.random.default_rng((search.seed, born))
        if born < len(first):
            measure(search, space, first[born], label)
            continue
        children = _brood(space, [one for one in known if one.full][:population], brood, rng, admits)
        seen = {one.candidate for one in known}
        children = [one for one in dict.fromkeys(children) if one not in seen]
        if predictor and len(known) >= LEARNED_FROM:
            mean, std = predicted(space, known, children, search.seed)
            children = [children[place] for place in np.argsort(mean - SPREAD * std, kind="stable")]
        for child in children[: min(measured, most - born)]:
            if search.is_over:
                return
            measure(search, space, child, label)


def measure(search: Search, space: Space, candidate: Candidate, label: str) -> float:
    """Measure a candidate as a trial of the study, given up after a look at a few starts where it is among the worse."""
    trial = search.ask(space.distributions(), space.parameters(candidate))
    plan = given_plan(search, space, trial)
    return float("inf") if plan is None else search.try_plan(plan, f"{label} {trial.number}", trial=trial, prune=True)


def given_plan(search: Search, space: Space, trial: optuna.Trial) -> Plan | None:
    """The plan of a trial's parameters; None where it has no finite coefficients, and the trial has failed."""
    try:
        return space.candidate(trial.params).plan(space.process)
    except (PlanError, ValueError):
        from optuna.trial import TrialState

        search.study.tell(trial, state=TrialState.FAIL)
        return None


def predicted(space: Space, known: list[Member], children: list[Candidate], seed: int) -> tuple[Numbers, Numbers]:
    """The logarithm of each child's value, shifted and scaled, that a Gaussian process fitted to the best members expects, and
    its std.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import Matern, WhiteKernel
    except ImportError as error:
        raise ImportError("the predictor needs scikit-learn: pip install 'urn-samplers[digits]'") from error
    used = sorted(known, key=lambda one: one.value)[:LEARNED]
    points, others = (np.stack([space.vector(one) for one in part]) for part in ([m.candidate for m in used], children))
    spreads = points.std(0)
    scale = np.where(spreads < 1e-9, 1.0, spreads)
    values = np.log([max(one.value, 1e-300) for one in used])
    values = np.minimum(values, np.median(values) + 1)  # how bad the worst are is of no interest
    values = (values - values.mean()) / (values.std() + 1e-9)
    length = math.sqrt(points.shape[1])
    kernel = 1.0 * Matern(length, (1.0, 100.0), nu=2.5) + WhiteKernel(0.01, (1e-5, 1.0))
    process = GaussianProcessRegressor(kernel, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is as good
        process.fit((points - points.mean(0)) / scale, values)
    mean, std = process.predict((others - points.mean(0)) / scale, return_std=True)
    return mean, std


def _brood(
    space: Space, parents: list[Member], count: int, rng: Random, admits: Callable[[Candidate], bool] | None
) -> list[Candidate]:
    """Children: most of two parents or one, changed; some drawn anew. The better of two random parents is taken."""
    found: list[Candidate] = []
    for _ in range(20 * count):
        if len(found) == count:
            break
        kind = rng.random()
        if not parents or kind < 0.05:
            child = space.random(rng)
        else:
            one, other = (parents[int(rng.integers(len(parents), size=2).min())].candidate for _ in range(2))
            child = space.cross(one, other, rng) if kind < 0.4 else one
            if kind > 0.2:
                child = space.mutate(child, rng)
        if admits is None or admits(child):
            found.append(child)
    return found


__all__ = ["Member", "evolve", "given_plan", "measure", "members", "predicted", "seeds_in"]
