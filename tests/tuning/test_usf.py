"""USF's search: never worse than what it was seeded with, better on held-out starts, and nothing lost when it is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from urn.conformance.targets import MIXTURE
from urn.processes import VP
from urn.tuning import Search, ToReference, TuningError, TuningInterrupted, tune, untuned_candidates
from urn.tuning.evolution import Member, predicted
from urn.tuning.space import Space

MODEL = MIXTURE.model(VP.linear(), "v")
SMALL: dict[str, Any] = {"objective": ToReference(60), "starts": 48, "held_out": 64, "seed": 3}
OURS = ("usf ",)

# a search in a process of its own: arguments are the storage, and after how many values it dies (0 for never)
PROGRAM = """
import os, sys
from urn.conformance.targets import MIXTURE
from urn.processes import VP
from urn.tuning import ToReference, Task, tune
storage, last = sys.argv[1], int(sys.argv[2])
count = 0
value = Task.value
def counted(self, plan, some=None):
    global count
    if plan.method == "usf":
        count += 1
        if count == last:
            os._exit(9)
    return value(self, plan, some)
Task.value = counted
tune(MIXTURE.model(VP.linear(), "v"), 5, tuner="usf", objective=ToReference(60), starts=48, held_out=64, seed=3, trials=20,
     storage=storage)
print(count)
"""


def started(storage: Path, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(storage), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def trials_in(storage: Path) -> list[optuna.trial.FrozenTrial]:
    found = optuna.load_study(study_name=None, storage=f"sqlite:///{storage}").get_trials()
    return [one for one in found if one.user_attrs.get("tried", {}).get("label", "").startswith(OURS)]


def test_a_search_finds_better_plans_on_starts_it_has_not_seen() -> None:
    plan, record = tune(MODEL, 5, tuner="usf", trials=60, **SMALL)
    assert record.tuned.train.estimate <= record.untuned.train.estimate
    assert record.gain > 1.2
    assert plan.method == "usf"
    assert plan.nfe == 5


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    storage = tmp_path / "trials.db"
    killed = started(storage, last=9)
    killed.communicate(timeout=120)
    assert killed.returncode == 9
    before = trials_in(storage)
    assert len(before) == 8
    found = tune(MODEL, 5, tuner="usf", trials=20, storage=storage, **SMALL)
    after = trials_in(storage)
    assert len(after) == 20
    assert [one.params for one in after[:8]] == [one.params for one in before]
    least = min(float(one.user_attrs["tried"]["value"]) for one in after if not one.user_attrs["tried"]["pruned"])
    assert found.record.tuned.train.estimate == pytest.approx(min(least, found.record.untuned.train.estimate), rel=1e-6)


@pytest.mark.slow
def test_two_processes_search_together(tmp_path: Path) -> None:
    storage = tmp_path / "trials.db"
    both = [started(storage, last=0) for _ in range(2)]
    counts = [int(one.communicate(timeout=200)[0].split()[-1]) for one in both]
    assert all(one.returncode == 0 for one in both)
    done = [one for one in trials_in(storage) if one.state.is_finished()]
    assert 20 <= len(done) <= 21  # the last may be begun by both
    assert min(counts) >= 3


def test_an_interrupted_search_keeps_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    whole = Search.try_plan

    def interrupted(self: Search, *given: Any, **named: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise KeyboardInterrupt
        return whole(self, *given, **named)

    monkeypatch.setattr(Search, "try_plan", interrupted)
    with pytest.raises(TuningInterrupted) as caught:
        tune(MODEL, 5, tuner="usf", trials=60, **SMALL)
    assert caught.value.plan is not None
    assert caught.value.record is not None
    assert caught.value.record.tuned.train.estimate <= caught.value.record.untuned.train.estimate
    assert len(caught.value.record.tried) == 29


def test_the_predictor_learns_which_are_better() -> None:
    """On a figure that is a function of the grid alone, its order is nearly that of the children."""
    process = VP.linear()
    rng = np.random.default_rng(0)
    _, base = next(iter(untuned_candidates(process, 6, ("dpmpp_2m",))))
    space = Space(process, base)

    def figure(candidate: Any) -> float:
        return float(np.exp(20 * np.linalg.norm(space.vector(candidate)[:5] - space.vector(base)[:5])))

    drawn = [space.mutate(space.mutate(base, rng), rng) for _ in range(160)]
    known = [Member(one, figure(one), True) for one in drawn[:120]]
    guessed, _ = predicted(space, known, drawn[120:], 0)
    true = [figure(one) for one in drawn[120:]]
    found = np.corrcoef(np.argsort(np.argsort(guessed)), np.argsort(np.argsort(true)))[0, 1]
    assert found > 0.5


def test_noise_and_shown_times_are_searched_where_they_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    whole = Search.try_plan

    def watched(self: Search, plan: Any, label: str, **named: Any) -> float:
        if label.startswith(OURS):
            seen.append(dict(plan.options))
        return whole(self, plan, label, **named)

    monkeypatch.setattr(Search, "try_plan", watched)
    tune(MODEL, 4, tuner="usf", trials=16, etas=1.0, labels=0.4, **SMALL)
    assert any("etas" in one for one in seen)
    assert any("labels" in one for one in seen)
    seen.clear()
    tune(MODEL, 4, tuner="usf", trials=8, **SMALL)
    assert len(seen) == 8
    assert not any("etas" in one or "labels" in one for one in seen)


@pytest.mark.parametrize(
    "storage", ["postgresql://nobody@127.0.0.1:9/trials", "postgresql+psycopg2://nobody@127.0.0.1:9/trials"]
)
def test_a_database_that_cannot_be_reached_is_a_tuning_error(storage: str) -> None:
    with pytest.raises(TuningError, match="cannot be reached"):
        tune(MODEL, 4, tuner="usf", trials=1, storage=storage, **SMALL)


def test_a_file_that_cannot_be_written_is_a_tuning_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    for storage in (file / "trials.db", tmp_path, file):
        with pytest.raises(TuningError, match="storage="):
            tune(MODEL, 4, tuner="usf", trials=1, storage=storage, **SMALL)


@pytest.mark.parametrize(
    "option", [{"population": 0}, {"measured": 1.5}, {"most": True}, {"labels": 0.9}, {"etas": -1.0}]
)
def test_a_bad_option_names_itself(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        tune(MODEL, 4, tuner="usf", trials=1, **SMALL, **option)
