"""tune: what it returns, that held-out starts are apart, that nothing is lost, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from typing import Any

import optuna
import pytest
import torch
from tuning_models import PROCESS, SMALL, plane, shifting

import urn
from urn.noise import sample_seeds
from urn.tuning import (
    ToReference,
    Tuned,
    TuningError,
    TuningInterrupted,
    load,
    plan_within,
    tune,
    tuner,
    untuned_plans,
)
from urn.tuning.objectives import ToData
from urn.tuning.times import times_of


def test_the_best_untuned_plan_is_the_best_of_them_on_the_training_starts():
    plan, record = tune(plane(), 6, tuner="untuned", **SMALL)
    seeds = sample_seeds(0, 64)
    reference = urn.sample(plane(), "dpm_solver_3", steps=66, seeds=seeds, dtype=torch.float64)
    errors = {}
    for label, one in untuned_plans(PROCESS, 6):
        x = urn.sample(plane(), one, seeds=seeds, dtype=torch.float64)
        errors[label] = float((x - reference).square().mean().sqrt())
    assert record.untuned.label == min(errors, key=errors.__getitem__)
    assert record.untuned.train.estimate == pytest.approx(min(errors.values()), rel=1e-6)
    assert record.returned == "untuned"
    assert record.gain == 1
    assert plan.nfe <= 6


def test_held_out_starts_are_none_of_the_training_starts_and_give_the_held_out_figure():
    plan, record = tune(plane(), 6, tuner="untuned", **SMALL)
    held_out = sample_seeds(0, 64, first=64)
    assert not set(held_out) & set(sample_seeds(0, 64))
    x, y = (
        urn.sample(plane(), one, seeds=held_out, dtype=torch.float64)
        for one in (plan, plan_within(PROCESS, "dpm_solver_3", 200))
    )
    figure = record.untuned.held_out
    assert figure.estimate == pytest.approx(float((x - y).square().mean().sqrt()), rel=1e-9)
    assert figure.low < figure.estimate < figure.high
    assert figure.median is not None
    assert figure.median < figure.q90
    assert figure.estimate != record.untuned.train.estimate


def test_a_tuned_plan_that_is_worse_on_held_out_starts_is_not_returned():
    target: dict[int, Any] = {}

    @tuner(source="made up")
    def overfitting(search):
        """Remembers the training starts."""
        plan = plan_within(PROCESS, "ddim", 4, "uniform")
        target[0] = plan
        search.try_plan(plan, "remembered", value=0.0)

    plan, record = tune(plane(), 6, tuner=overfitting, **SMALL)
    assert record.tuned.label == "remembered"
    assert record.returned == "untuned"
    assert plan != target[0]
    assert "so that one is returned" in str(record)


def test_a_plan_that_calls_too_often_is_an_error():
    @tuner(source="made up")
    def greedy(search):
        """Ignores the budget."""
        search.try_plan(plan_within(PROCESS, "ddim", 7), "seven calls")

    with pytest.raises(TuningError, match="seven calls: the plan calls the model 7 times; the budget is 6") as caught:
        tune(plane(), 6, tuner=greedy, **SMALL)
    assert caught.value.plan is not None
    assert caught.value.record.returned == "untuned"


def test_a_search_that_was_killed_goes_on_and_measures_nothing_again(tmp_path, monkeypatch):
    whole = tune(plane(), 5, tuner=shifting, **SMALL)
    storage = tmp_path / "new" / "tune.db"
    first = tune(plane(), 5, tuner=shifting, trials=2, storage=storage, **SMALL)
    assert [label for label, *_ in first.record.tried if label.startswith("bent")] == ["bent 0", "bent 1"]
    measured: list[Any] = []
    value = urn.tuning.Task.value
    monkeypatch.setattr(urn.tuning.Task, "value", lambda *given: (measured.append(given[1]), value(*given))[1])
    rest = tune(plane(), 5, tuner=shifting, storage=storage, **SMALL)
    assert len(measured) == 4
    assert rest.plan == whole.plan
    assert [one[:4] for one in rest.record.tried] == [one[:4] for one in whole.record.tried]
    assert rest.record.evaluations >= whole.record.evaluations


def test_an_interrupted_search_keeps_what_was_found(tmp_path):
    @tuner(source="made up")
    def stopped(search):
        """Ctrl-C after one plan."""
        search.try_plan(plan_within(PROCESS, "ddim", 5, "uniform"), "first")
        raise KeyboardInterrupt

    with pytest.raises(TuningInterrupted) as caught:
        tune(plane(), 5, tuner=stopped, storage=tmp_path / "tune.db", **SMALL)
    assert caught.value.plan is not None
    assert any(label == "first" for label, *_ in caught.value.record.tried)


@pytest.mark.parametrize("where", ["tell", "ask"])
def test_what_was_measured_is_there_wherever_a_signal_comes(where, tmp_path, monkeypatch):
    storage, study = tmp_path / "tune.db", optuna.Study
    calls, real = itertools.count(), getattr(study, where)

    def interrupted(self, *given, **options):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(study, where, interrupted)
        with pytest.raises(TuningInterrupted) as caught:
            tune(plane(), 5, tuner=shifting, storage=storage, **SMALL)
    found = [one[:4] for one in caught.value.record.tried]
    assert len(found) == (4 if where == "tell" else 3)
    rest = tune(plane(), 5, tuner=shifting, storage=storage, **SMALL)
    assert [one[:4] for one in rest.record.tried][: len(found)] == found
    assert len({one[:1] for one in rest.record.tried}) == len(rest.record.tried)


def test_an_objective_that_gives_nan_keeps_what_was_found():
    calls = [0]

    def broken(samples):
        calls[0] += 1
        return float("nan") if calls[0] > 90 else float(samples.square().mean())

    @tuner(source="made up")
    def endless(search):
        """Many plans."""
        for k in range(200):
            times = torch.linspace(1, 0, 6, dtype=torch.float64) ** (1 + 0.01 * k)
            search.try_plan(urn.compile_plan("ddim", PROCESS, grid=times), f"{k}")

    with pytest.raises(TuningError, match="objective='broken' returned nan on finite samples") as caught:
        tune(plane(), 5, tuner=endless, objective=broken, **SMALL)
    assert caught.value.plan is None or caught.value.plan.nfe <= 5

    with pytest.raises(TuningError, match="returned 'much', which is not a number"):
        tune(plane(), 5, tuner="untuned", objective=lambda samples: "much", **SMALL)


def test_a_model_that_gives_nan_is_an_error_with_advice():
    model = urn.Model(lambda x, t: x * float("nan"), PROCESS, "epsilon", shape=(2,))
    with pytest.raises(TuningError, match="finite samples"):
        tune(model, 5, tuner="untuned", objective=lambda x: float(x.mean()), **SMALL)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"steps": 1}, "steps=1 must be an integer of at least 2: one call leaves nothing to choose"),
        ({"steps": 5, "tuner": "untund"}, "tuner='untund' is unknown; did you mean untuned"),
        ({"steps": 5, "tuner": shifting, "least": 3}, "tuner 'shifting' has no option least=3; its options: most"),
        ({"steps": 5, "starts": 4}, "starts=4 must be an integer of at least 8"),
        ({"steps": 5, "seconds": -1}, "seconds=-1 must be positive"),
        ({"steps": 5, "trials": 0}, "trials=0 must be an integer of at least 1"),
        ({"steps": 5, "objective": "fid"}, "objective='fid' must be 'reference', 'energy', 'frechet', 'mmd'"),
        ({"steps": 5, "objective": "energy"}, "objective='energy' compares samples with data: pass data"),
        ({"steps": 5, "objective": 3}, "objective=3 must be a name, an Objective, or a function of the samples"),
        ({"steps": 5, "data": torch.zeros(20, 3)}, r"data: \(20, 3\); this model's samples have shape \(2,\)"),
        ({"steps": 5, "data": torch.zeros(4, 2)}, r"data: \(4, 2\); a floating-point tensor"),
        ({"steps": 5, "data": torch.full((9, 2), torch.nan)}, "data: 18 of its numbers are nan or infinite"),
        ({"steps": 5, "dtype": "float32"}, "dtype='float32' must be a floating-point torch.dtype"),
        ({"steps": 5, "dtype": torch.int64}, "dtype=torch.int64 must be a floating-point torch.dtype"),
        ({"steps": 5, "device": "gpu"}, "device='gpu' is none that torch has here"),
        ({"steps": 5, "seconds": "9"}, "seconds='9' must be positive"),
        ({"steps": 5, "seeded": {"mine": 3}}, r"seeded\['mine'\]=3 must be a Plan"),
        ({"steps": 5, "seeded": [3]}, r"seeded=\[3\] must be plans by their labels"),
        (
            {"steps": 5, "evaluations": 9000},
            "evaluations=9000: the reference and one plan from 64 training starts take 12992",
        ),
        ({"steps": 5, "tuner": "usf", "predictor": "no"}, "tuner 'usf': predictor='no' must be True or False"),
        ({"steps": 5, "tuner": "auto", "plans": "2"}, "tuner 'auto': plans='2' must be an integer"),
        ({"steps": 5, "tuner": "grid", "robust": "big"}, "tuner 'grid': robust='big' must be a number"),
        ({"steps": 5, "tuner": "gits", "discounts": 1.1}, "tuner 'gits': discounts=1.1 must be several"),
        ({"steps": 5, "conditioning": {"label": torch.zeros(7)}}, r"conditioning\['label'\]: 7 entries; 64 training"),
        ({"steps": 5, "seeded": {"mine": plan_within(urn.Flow(), "ddim", 4)}}, r"seeded\['mine'\] is for Flow"),
        ({"steps": 5, "seeded": {"mine": plan_within(PROCESS, "ddim", 8)}}, "calls the model 8 times; the budget is 5"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(given, said, monkeypatch):
    monkeypatch.setattr(urn.tuning.Task, "run", lambda *_: pytest.fail("a plan was run"))
    with pytest.raises(ValueError, match=said):
        tune(plane(), **{"tuner": "untuned", **SMALL, **given})


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("auto", {"robust": -1.0}, "robust=-1.0 must be positive"),
        ("grid", {"robust": 0.0}, "robust=0.0 must be positive"),
        ("coefficients", {"ridge": -1e-3}, "ridge=-0.001 must be at least 0"),
        ("ld3", {"radius": -0.1}, "radius=-0.1 must be at least 0"),
        ("ld3", {"method": "dimm"}, "method='dimm' is unknown"),
        ("s4s", {"history": 0}, "history=0 must be an integer of at least 1"),
        ("amed", {"rounds": 0}, "rounds=0 must be an integer of at least 1"),
        ("epd", {"batch": -5}, "batch=-5 must be an integer of at least 1"),
        ("ays", {"draws": 0}, "draws=0 must be an integer of at least 1"),
        ("gits", {"discounts": (1.0, -1.0)}, "discounts=-1.0 must be positive"),
        ("usf", {"etas": -1.0}, "etas=-1.0 must be at least 0"),
        ("autodiffusion", {"extra": -1}, "extra=-1 must be an integer of at least 0"),
        ("beta", {"fine": 1}, "fine=1 must be at least 2"),
        ("tpe", {"labels": 0.9}, "labels=0.9 must be between 0 and 0.5"),
        ("surrogate", {"inner": "surrogate"}, "inner='surrogate' must be another tuner"),
        ("surrogate", {"inner": "tpe", "options": {"etas": -1.0}}, "etas=-1.0 must be at least 0"),
        ("dc_solver", {"grids": ("karas",)}, "grid='karas' is unknown"),
        ("iia", {"regressors": 99}, "regressors=99 must be an integer from 1 to"),
        ("timestep_aligner", {"width": 2.0}, "width=2.0 must be between 0 and 1"),
        ("dpm_solver_v3", {"lambdas": (2,)}, "lambdas=2 must be at least 3"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_runs(name, options, said, monkeypatch):
    monkeypatch.setattr(urn.tuning.Task, "run", lambda *given: pytest.fail("something ran"))
    with pytest.raises(ValueError, match=re.escape(said)):
        tune(plane(), 5, tuner=name, **options, **SMALL)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="model=None must be a Model"):
        tune(None, 5, tuner="untuned")
    with pytest.raises(ValueError, match="does not know the shape of a sample"):
        tune(dataclasses.replace(plane(), shape=None), 5, tuner="untuned")
    with pytest.raises(ValueError, match="plans are tuned on processes x = alpha x0"):
        tune(urn.Model(lambda *given: given[0], urn.processes.PhaseSpace(), "score", shape=(2,)), 5, tuner="untuned")


def test_gradient_tuners_refuse_what_gives_no_gradient():
    @tuner(source="made up", gradients=True)
    def descending(search):
        """Takes one gradient."""
        gaps = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        draft = urn.compile_plan("ddim", PROCESS, grid=times_of(PROCESS, gaps, PROCESS.t_start, PROCESS.t_end))
        search.task.loss(draft, search.task.train, search.task.train_target).backward()
        assert gaps.grad is not None

    tune(plane(), 5, tuner=descending, **SMALL)
    whole = urn.Model(plane().net, PROCESS, "v", shape=(2,), integer_times=True)
    with pytest.raises(TuningError, match="integer_times=True: a gradient tuner moves times"):
        tune(whole, 5, tuner=descending, **SMALL)
    cut = dataclasses.replace(plane(), net=lambda x, t: plane().net(x.detach(), t))
    with pytest.raises(TuningError, match="its output carries no gradient of its input"):
        tune(cut, 5, tuner=descending, **SMALL)
    with pytest.raises(TuningError, match="gives no gradient, which a gradient tuner needs"):
        tune(plane(), 5, tuner=descending, objective=lambda x: float(x.mean().detach()), **SMALL)


def test_the_storage_says_what_is_wrong_with_it(tmp_path):
    with pytest.raises(TuningError, match="cannot be reached"):
        tune(plane(), 5, tuner="untuned", storage="postgresql://nobody@127.0.0.1:1/none", **SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="cannot be written"):
        tune(plane(), 5, tuner="untuned", storage=tmp_path / "file" / "tune.db", **SMALL)
    (tmp_path / "text.db").write_text("this is not a database, but it is long enough to be looked at" * 20)
    with pytest.raises(TuningError, match="cannot be reached"):
        tune(plane(), 5, tuner="untuned", storage=tmp_path / "text.db", **SMALL)
    tune(plane(), 5, tuner="untuned", storage=tmp_path / "tune.db", study="mine", **SMALL)
    with pytest.raises(TuningError, match=r"study='mine' in .* is of another search .*calls: 5 there, 6 here"):
        tune(plane(), 6, tuner="untuned", storage=tmp_path / "tune.db", study="mine", **SMALL)


def test_a_tuned_plan_is_a_file_that_any_reader_of_plans_takes(tmp_path):
    found = tune(plane(), 5, tuner=shifting, **SMALL)
    path = found.save(tmp_path / "new" / "plan.json")
    again = load(path)
    assert again == found
    assert urn.Plan.from_json(path.read_text()) == found.plan
    content = json.loads(path.read_text())
    content["plan"]["rows"][1]["weights"][0][0] *= 1.01
    path.write_text(json.dumps(content))
    with pytest.raises(urn.PlanError, match="damaged"):
        load(path)
    for text, said in (
        ("{", "not JSON"),
        ("{}", "not a tuned plan"),
        ('{"format": "urn-tuned", "version": 9}', "version 9"),
        ('{"format": "urn-tuned", "version": 1, "plan": {}, "record": {}}', "its record cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(urn.PlanError, match=said):
            load(path)


def test_distances_to_data_are_of_data_held_out():
    data = urn.sample(plane(), "adams_pc_3", shape=(400, 2), steps=60, seed=9)
    found = tune(plane(), 5, tuner="untuned", data=data, **SMALL)
    goal = ToData(data)
    parts = [goal.target(lambda plan: plan, PROCESS, held_out) for held_out in (False, True)]
    assert len(parts[0]) == len(parts[1]) == 200
    assert not (parts[0][:, None] == parts[1][None]).all(-1).any()
    samples = urn.sample(plane(), found.plan, seeds=sample_seeds(0, 64, first=64), dtype=torch.float64)
    expected = urn.metrics.energy_distance(samples, parts[1].double())
    assert found.record.untuned.held_out.estimate == pytest.approx(expected, abs=1e-9)


def test_the_reference_is_near_the_exact_ends():
    """What is called an error is one: the reference's own is a hundredth of it."""
    fine = plan_within(PROCESS, "dpm_solver_3", 1200)
    seeds = sample_seeds(0, 64)
    x, y = (
        urn.sample(plane(), plan, seeds=seeds, dtype=torch.float64) for plan in (ToReference().reference(PROCESS), fine)
    )
    _, record = tune(plane(), 10, tuner="untuned", **SMALL)
    assert float((x - y).square().mean().sqrt()) < record.untuned.train.estimate / 100


def test_costs_are_counted():
    _, record = tune(plane(), 5, tuner=shifting, trials=2, objective=ToReference(calls=30), **SMALL)
    full = sum(calls * 64 for _, calls, *_ in record.tried)
    looked = sum(plan.nfe * 64 for _, plan in untuned_plans(PROCESS, 5))
    reference = plan_within(PROCESS, "dpm_solver_3", 30).nfe * 64
    assert record.evaluations == full + looked + reference
    assert isinstance(tune(plane(), 5, tuner="untuned", **SMALL), Tuned)


@pytest.mark.parametrize("process", [urn.Flow(), urn.VE(0.002, 80.0), PROCESS])
def test_plans_within_a_budget_end_clean(process):
    for calls in (2, 5, 7):
        for _, plan in untuned_plans(process, calls):
            assert plan.nfe <= calls
            assert plan.outputs[0][2].sigma == 0
    assert plan_within(process, "heun", 7).nfe == 7
    with pytest.raises(ValueError, match="calls=1: method 'dpm_solver_3' takes more in one step"):
        plan_within(process, "dpm_solver_3", 1)
