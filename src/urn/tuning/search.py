"""A search under way: the plans that were tried, kept as trials of an Optuna study, and what is left of its limits.

The study is the one place where trials live: in memory, in a SQLite file, or in a database that several machines share. A
search that is started again with the same settings finds its trials there and goes on; nothing of them is measured again.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urn.plan import Plan
from urn.tuning.task import Task, TuningError

if TYPE_CHECKING:
    import optuna

PATIENCE = 60  # seconds that a write waits for another process
CHEAP = 64  # starts of the first look, after which a trial may be pruned


@dataclass(frozen=True)
class Tried:
    """A plan that was tried.

    Attributes:
        label: what it is, in words.
        plan: the plan.
        value: the objective on the training starts; on `CHEAP` of them alone where it was pruned.
        pruned: whether it was given up after a cheap look.
        untuned: whether it is one that the search was seeded with.
        evaluations, seconds: what the search had cost when it was tried.
    """

    label: str
    plan: Plan
    value: float
    pruned: bool
    untuned: bool
    evaluations: int
    seconds: float


class Search:
    """What a tuner is given: the task, a seed, the trials so far, and whether its limits are reached.

    Attributes:
        task: the task.
        study: the Optuna study.
        seed: of the tuner's own random numbers.
        trials, evaluations, seconds: the limits, None for none.
        notes: what a tuner has to say beside its plans, for the record: JSON values by name.
        is_judged: whether the plans found are being run from held-out starts, or were.
    """

    def __init__(
        self,
        task: Task,
        study: optuna.Study,
        seed: int = 0,
        *,
        trials: int | None = None,
        evaluations: int | None = None,
        seconds: float | None = None,
        told: Any = None,
    ) -> None:
        self.task, self.study, self.seed = task, study, seed
        self.trials, self.evaluations, self.seconds = trials, evaluations, seconds
        self._told, self._started = told, time.monotonic()
        self.notes: dict[str, Any] = {}
        self.is_judged = False
        self.tried: list[Tried] = []
        self._numbers: set[int] = set()
        self._by_plan: dict[Plan, Tried] = {}
        self.refresh()
        if self.tried:  # what was spent before counts
            last = self.tried[-1]
            task.evaluations += last.evaluations
            self._started -= last.seconds

    def refresh(self) -> None:
        """Take up the trials that others have told the study since, one among them that was interrupted after its measurement."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.number not in self._numbers and "tried" in trial.user_attrs:
                self._numbers.add(trial.number)
                one = _tried(trial.user_attrs["tried"])
                self.tried.append(one)
                self._by_plan.setdefault(one.plan, one)

    @property
    def spent(self) -> float:
        """Seconds."""
        return time.monotonic() - self._started

    @property
    def is_over(self) -> bool:
        """Whether a limit is reached, others' trials counted; tuners look before each trial."""
        self.refresh()
        tuned = sum(not one.untuned for one in self.tried)
        limits = ((self.trials, tuned), (self.evaluations, self.task.evaluations), (self.seconds, self.spent))
        return any(limit is not None and found >= limit for limit, found in limits)

    def affords(self, evaluations: int) -> bool:
        """Whether so many more evaluations stay within the limit."""
        return self.evaluations is None or self.task.evaluations + evaluations <= self.evaluations

    @property
    def best(self) -> Tried:
        """The plan of least value on the training starts.

        Raises:
            TuningError: no plan gave finite samples.
        """
        return self._least(self.tried)

    @property
    def best_untuned(self) -> Tried:
        """The same among those that the search was seeded with."""
        return self._least([one for one in self.tried if one.untuned])

    def _least(self, tried: list[Tried]) -> Tried:
        finite = [one for one in tried if not one.pruned and one.value < float("inf")]
        if not finite:
            raise TuningError(f"none of {len(tried)} plans gave finite samples: is the model's process right?")
        return min(finite, key=lambda one: one.value)

    def ask(self, distributions: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> optuna.Trial:
        """A new trial of the study, with values of its sampler for the parameters, or with those given.

        These do not wait in the study's queue, from which two processes may take one.
        """
        import optuna

        if given is None:
            return self.study.ask(dict(distributions))
        sampler = self.study.sampler
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.study.sampler = optuna.samplers.PartialFixedSampler(dict(given), sampler)
            return self.study.ask(dict(distributions))
        finally:
            self.study.sampler = sampler

    def try_plan(
        self,
        plan: Plan,
        label: str,
        *,
        trial: optuna.Trial | None = None,
        prune: bool = False,
        untuned: bool = False,
        value: float | None = None,
    ) -> float:
        """Measure a plan on the training starts, and keep it as a trial.

        Args:
            trial: where `ask` gave the plan's parameters.
            prune: look at `CHEAP` starts first, and give up where the study's pruner says so.
            value: the objective, where the tuner has measured it on all training starts already.

        Returns:
            The value; infinity for a plan whose samples are not finite.
        """
        import optuna

        if (cost := self.task.cost(plan)) > self.task.calls + 1e-9:
            raise TuningError(f"{label}: the plan calls the model {cost:g} times; the budget is {self.task.calls}")
        known = self._by_plan.get(plan)
        if known is not None and trial is None:
            return known.value
        trial = self.study.ask() if trial is None else trial
        if known is not None:
            value, pruned = known.value, known.pruned
        elif value is None:
            value, pruned = self._measured(plan, trial, prune)
        else:
            pruned = False
        one = Tried(label, plan, value, pruned, untuned, self.task.evaluations, self.spent)
        self._keep(one, trial)
        infinite = value == float("inf")
        state = optuna.trial.TrialState
        self.study.tell(
            trial,
            None if pruned or infinite else value,
            state=state.PRUNED if pruned else state.FAIL if infinite else state.COMPLETE,
        )
        return value

    def _measured(self, plan: Plan, trial: optuna.Trial, prune: bool) -> tuple[float, bool]:
        """The value, and whether the trial is given up after a cheap look."""
        if prune and len(self.task.train) > CHEAP:
            value = self.task.value(plan, CHEAP)
            trial.report(value, 0)
            if trial.should_prune():
                return value, True
        return self.task.value(plan), False

    def _keep(self, one: Tried, trial: optuna.Trial) -> None:
        """In the storage first: what is in the record must be there too, whenever a signal comes."""
        told = {name: value for name, value in vars(one).items() if name != "plan"}
        trial.set_user_attr("tried", {**told, "value": repr(one.value), "plan": one.plan.to_json()})
        self._numbers.add(trial.number)
        self.tried.append(one)
        self._by_plan.setdefault(one.plan, one)
        if self._told is not None:
            self._told(one)


def _tried(told: Mapping[str, Any]) -> Tried:
    return Tried(**{**told, "plan": Plan.from_json(told["plan"]), "value": float(told["value"])})


def _storage(address: str | None) -> Any:
    """Where trials are kept; a SQLite file waits for the others that write to it."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import DBAPIError

    if address is None or not address.startswith("sqlite:"):
        return address
    waiting = {"connect_args": {"timeout": PATIENCE}}
    try:
        return RDBStorage(address, engine_kwargs=waiting)
    except DBAPIError:  # another process made the tables at the same moment
        time.sleep(1)
        return RDBStorage(address, engine_kwargs=waiting)


def open_study(storage: str | Path | None, name: str, settings: Mapping[str, Any], seed: int) -> optuna.Study:
    """The study of a search, new or with the trials that are there.

    Args:
        storage: None for memory; the path of a SQLite file; or an address, as postgresql://user@host/database.
        name: of the study in its storage.
        settings: what the search is about; those of an older study of the name must be the same.

    Raises:
        ImportError: Optuna is not installed.
        TuningError: the storage cannot be reached, or holds a study of the name with other settings.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("urn.tune needs Optuna: pip install 'urn-samplers[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address = None if storage is None else str(storage)
    if address is not None and "://" not in address:
        path = Path(address)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TuningError(f"storage={address!r} cannot be written: {error}") from error
        address = f"sqlite:///{path}"
    try:
        study = optuna.create_study(
            storage=_storage(address),
            study_name=name,
            sampler=optuna.samplers.RandomSampler(seed),
            pruner=optuna.pruners.PercentilePruner(25.0, n_startup_trials=20),
            load_if_exists=True,
        )
    except Exception as error:  # whatever the database's driver raises
        said = str(error).splitlines()[0]
        raise TuningError(f"storage={str(storage)!r} cannot be reached: {type(error).__name__}: {said}") from error
    known, asked = study.user_attrs.get("settings"), json.loads(json.dumps(settings))
    if known is None:
        study.set_user_attr("settings", asked)
    elif known != asked:
        other = [
            f"{key}: {known.get(key)!r} there, {asked[key]!r} here" for key in asked if known.get(key) != asked[key]
        ]
        raise TuningError(f"study={name!r} in {storage} is of another search ({'; '.join(other)}): choose another name")
    return study
