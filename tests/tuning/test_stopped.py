"""Searches that are stopped, gone on with, or have no time: what they keep, and what they say."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time

import pytest
import torch
from tuning_models import PROCESS, SMALL, plane, shifting

import urn
from urn.tuning import Task, ToReference, TuningError, TuningInterrupted, plan_within, tune, tuner
from urn.tuning.task import make_starts
from urn.tuning.trajectories import fine_states, starting_states


def test_a_search_killed_among_the_untuned_plans_measures_the_rest_of_them(tmp_path, monkeypatch):
    storage, real, calls = tmp_path / "tune.db", urn.tuning.Search.try_plan, itertools.count()

    def interrupted(self, *given, **options):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(self, *given, **options)

    whole = tune(plane(), 5, tuner="untuned", **SMALL).record
    with monkeypatch.context() as patched:
        patched.setattr(urn.tuning.Search, "try_plan", interrupted)
        with pytest.raises(TuningInterrupted) as caught:
            tune(plane(), 5, tuner="untuned", storage=storage, **SMALL)
    assert len(caught.value.record.tried) == 1
    rest = tune(plane(), 5, tuner="untuned", storage=storage, **SMALL).record
    assert [one[:4] for one in rest.tried] == [one[:4] for one in whole.tried]
    mine = {"mine": plan_within(PROCESS, "ddim", 5, "karras")}
    assert "mine" in [
        one[0] for one in tune(plane(), 5, tuner="untuned", storage=storage, seeded=mine, **SMALL).record.tried
    ]


@pytest.mark.parametrize("found", [KeyboardInterrupt, TuningError])
def test_a_search_stopped_while_it_is_judged_keeps_its_plan(found, monkeypatch):
    def stopped(*_, **__):
        raise found

    monkeypatch.setattr(urn.tuning.Task, "figure", stopped)
    with pytest.raises(TuningInterrupted if found is KeyboardInterrupt else TuningError) as caught:
        tune(plane(), 5, tuner="untuned", **SMALL)
    assert caught.value.plan is not None
    assert caught.value.record is None

    @tuner(source="made up")
    def impatient(search):
        """Ctrl-C, and again in the judging."""
        raise KeyboardInterrupt

    with pytest.raises(TuningInterrupted) as caught:
        tune(plane(), 5, tuner=impatient, **SMALL)
    assert caught.value.plan is not None


@pytest.mark.parametrize("late", [False, True])
def test_a_function_or_network_that_fails_is_named_and_what_was_found_is_kept(late):
    """An objective that fails at its fortieth call, or only on the tuner's own plan; a network that takes no such argument."""
    count = itertools.count()

    def bright(x):
        if (seen or not late) and next(count) >= 40 * (not late):
            raise KeyError("mood")
        return float(x.mean())

    seen = []

    @tuner(source="made up")
    def tries(search):
        """One plan more."""
        seen.append(True)
        search.try_plan(plan_within(PROCESS, "ddim", 4, "karras"), "mine")

    with pytest.raises(TuningError, match="KeyError: 'mood'") as caught:
        tune(plane(), 5, tuner=tries, objective=bright, **SMALL)
    assert (caught.value.plan is not None) == late
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(TuningError, match=r"TypeError: .*unexpected keyword argument 'mood'"):
        tune(plane(), 5, tuner="untuned", conditioning={"mood": 1}, **SMALL)


def test_a_study_of_another_network_or_other_data_is_not_gone_on_with(tmp_path):
    given = {"tuner": "untuned", "storage": tmp_path / "tune.db", **SMALL}
    tune(plane(), 5, **given)
    trained = dataclasses.replace(plane(), net=lambda x, t: 1.01 * plane().net(x, t))
    with pytest.raises(TuningError, match="holds the trials of another search, the model differs"):
        tune(trained, 5, **given)
    with pytest.raises(TuningError, match="the reference's calls differs"):
        tune(plane(), 5, objective=ToReference(calls=60), **given)
    data = urn.sample(plane(), "ddim", shape=(40, 2), steps=20, seed=9)
    tune(plane(), 5, data=data, **given)
    with pytest.raises(TuningError, match="the data differs"):
        tune(plane(), 5, data=data + 0.1, **given)


def test_a_reward_has_no_gain_in_times_but_a_difference():
    @tuner(source="made up")
    def bent(search):
        """One plan more."""
        search.try_plan(plan_within(PROCESS, "ddim", 4, "karras"), "bent")

    record = tune(plane(), 5, tuner=bent, objective=lambda x: -1 - float(x.std()), **SMALL).record
    figures = [one.held_out.estimate for one in (record.tuned, record.untuned)]
    tuned = dataclasses.replace(
        record,
        returned="tuned",
        tuned=dataclasses.replace(record.tuned, held_out=record.tuned.held_out._replace(estimate=figures[1] - 0.25)),
    )
    assert math.isnan(tuned.gain)
    assert str(tuned).endswith("0.25 below the best untuned plan on held-out starts")
    assert tune(plane(), 5, tuner=bent, objective=lambda x: 0.0, **SMALL).record.gain == 1
    with pytest.raises(TuningError, match="returned -inf on finite samples"):
        tune(plane(), 5, tuner=bent, objective=lambda x: float("-inf"), **SMALL)
    with pytest.raises(TuningError, match=r"returned a tensor of shape \(64, 2\), which is not a number"):
        tune(plane(), 5, tuner=bent, objective=lambda x: x, **SMALL)


def test_a_limit_that_leaves_the_tuner_no_time_is_said_and_untuned_plans_take_half():
    slow = dataclasses.replace(plane(), net=lambda x, t: (time.sleep(2e-4), plane().net(x, t))[1])
    record = tune(slow, 5, tuner=shifting, seconds=0.05, **SMALL).record
    assert "nothing was tuned" in record.notes["limit"]
    assert len(record.tried) == 1
    assert record.untuned.label == tune(plane(), 5, tuner="untuned", **SMALL).record.tried[0][0]
    assert "limit" not in tune(plane(), 5, tuner=shifting, trials=1, **SMALL).record.notes


def test_a_method_that_is_not_there_is_refused():
    for name, options in (("gits", {"methods": ("nope",)}), ("beta", {"method": "nope"})):
        with pytest.raises(ValueError, match="nope"):
            tune(plane(), 4, tuner=name, **options, **SMALL)
    with pytest.raises(ValueError, match="discounts=0 must be positive"):
        tune(plane(), 4, tuner="gits", discounts=(0,), **SMALL)
    with pytest.raises(ValueError, match="fine=1 must be at least 2"):
        tune(plane(), 4, tuner="beta", fine=1, **SMALL)


def test_a_surrogate_has_no_reference_where_the_search_has_none():
    data = urn.sample(plane(), "ddim", shape=(128, 2), steps=20, seed=9)  # half as many as there are starts
    with pytest.raises(ValueError, match="inner='coefficients' needs objective='reference'"):
        tune(plane(), 4, tuner="surrogate", inner="coefficients", components=3, data=data, **SMALL)


def test_a_kept_reference_is_run_once_for_searches_from_the_same_starts():
    goal, plain = ToReference(calls=60, kept={}), ToReference(calls=60)
    assert goal == plain
    assert hash(goal) == hash(plain)
    records = [tune(plane(), calls, objective=goal, tuner="untuned", **SMALL).record for calls in (4, 5)]
    apart = [tune(plane(), calls, objective=plain, tuner="untuned", **SMALL).record for calls in (4, 5)]
    assert [one.untuned for one in records] == [one.untuned for one in apart]
    saved = [two.evaluations - one.evaluations for one, two in zip(records, apart, strict=True)]
    assert saved == [0, 60 * 64]
    options = {"inner": "untuned", "components": 3, "samples": 64}
    one, two = (tune(plane(), 4, objective=of, tuner="surrogate", **options, **SMALL).record for of in (goal, plain))
    assert one.notes == two.notes  # the mixture has a reference of its own


@pytest.mark.parametrize("name", ["dc_solver", "iia"])
def test_tuners_that_follow_a_fine_trajectory_show_integers_to_a_network_that_takes_them(name):
    table = urn.VP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    whole = dataclasses.replace(plane(table), integer_times=True)
    record = tune(whole, 4, tuner=name, **SMALL).record
    tried = [value for label, _, value, *_ in record.tried if "fitted" in label or "compensated" in label]
    assert tried
    assert min(tried) < math.inf


def test_the_fine_trajectory_of_integers_is_the_fine_trajectory():
    table = urn.VP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    seeds, times = urn.sample_seeds(0, 32), urn.compile_plan("ddim", table, 6, "trailing").times
    given = torch.tensor(times, dtype=torch.float64)
    ends = []
    for model in (plane(table), dataclasses.replace(plane(table), integer_times=True)):
        starts = make_starts(model, seeds, {}, False, torch.float64, "cpu")
        task = Task(model, 6, ToReference(), starts, starts)
        x = starting_states(table, float(given[0]), starts)
        ends.append(fine_states(task, given, x, starts, parts=12))
    for one, two in zip(*ends, strict=True):
        assert float((one - two).square().mean().sqrt()) < 0.01
