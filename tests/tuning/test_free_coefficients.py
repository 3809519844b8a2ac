"""The tuner of free coefficients: its Jacobian, what it reaches, what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("optuna")

import urn
from urn.exact import Gaussian, GaussianMixture
from urn.nets import load_digits
from urn.processes import VE, VP, Flow, Process
from urn.tuning import ToReference, TuningError, dense_plan
from urn.tuning.least_squares import Settings, _weights, fit
from urn.tuning.search import Search, open_study
from urn.tuning.sensitivity import count_of, jacobian, tangents_of
from urn.tuning.task import Task, make_starts
from urn.tuning.tuners.coefficients import Coefficients, coefficients, gain

MIXTURE = GaussianMixture([0.3, 0.7], [[2.0, -1.0], [-1.0, 0.5]], [[0.3, 0.05], [0.1, 0.4]])
PROCESS = VP.linear()


def task_of(model: urn.Model, calls: int, count: int = 32) -> Task:
    parts = [make_starts(model, tuple(range(s, s + count)), {}, bool(s), torch.float64, "cpu") for s in (0, count)]
    return Task(model, calls, ToReference(60), *parts)


def tuned(model: urn.Model, steps: int, **options: Any) -> urn.tuning.Tuned:
    given = {"starts": 96, "held_out": 96, "dtype": torch.float64, "objective": ToReference(60), **options}
    return urn.tune(model, steps, **given)


# --- the Jacobian -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("times", [True, False])
@pytest.mark.parametrize(
    ("process", "predicts"), [(VP.linear(), "epsilon"), (Flow(), "velocity"), (VE(), "v")], ids=str
)
def test_the_jacobian_is_that_of_differences(process: Process, predicts: str, times: bool, first: int) -> None:
    task = task_of(MIXTURE.model(process, predicts), 4, 6)
    grid = urn.grids.grid_times(process, 4, "arctan" if not isinstance(process, VE) else "karras")
    plan = dense_plan(urn.compile_plan("unipc_2", process, grid=grid))
    family = Coefficients(task, plan, times, 4 - first)
    found = family.derivatives(family.theta, plan, task.train)
    assert len(found) == len(family.theta) == count_of(4, times, first)
    width = 1e-6
    for place in range(len(found)):
        move = width * torch.eye(len(found), dtype=torch.float64)[place]
        ahead, behind = (family.plan(family.theta + sign * move) for sign in (1, -1))
        assert ahead is not None
        assert behind is not None
        slope = (task.run(ahead, task.train) - task.run(behind, task.train)) / (2 * width)
        torch.testing.assert_close(found[place], slope, rtol=2e-5, atol=2e-6 * float(found.abs().max()))


@pytest.mark.parametrize("times", [True, False])
def test_the_jacobian_where_a_state_does_not_read_its_newest_prediction(times: bool) -> None:
    """A weight of exactly 0 drops its term, and the state has fewer tangents than numbers were met."""
    task = task_of(MIXTURE.model(PROCESS, "v"), 4, 6)
    made = dense_plan(urn.compile_plan("dpmpp_2m", PROCESS, 4, "uniform"))
    rows = [list(row) for row in dict(made.options)["weights"]]
    rows[1][1] += rows[1].pop()
    rows[1].append(0.0)
    plan = urn.compile_plan("linear", PROCESS, grid=made.times, weights=tuple(map(tuple, rows)))
    assert plan.nfe == 4
    family = Coefficients(task, plan, times)
    found = family.derivatives(family.theta, plan, task.train)
    for place in range(len(found)):
        move = 1e-6 * torch.eye(len(found), dtype=torch.float64)[place]
        ahead, behind = (family.plan(family.theta + sign * move) for sign in (1, -1))
        assert ahead is not None
        assert behind is not None
        slope = (task.run(ahead, task.train) - task.run(behind, task.train)) / 2e-6
        torch.testing.assert_close(found[place], slope, rtol=2e-5, atol=2e-6 * float(found.abs().max()))


@pytest.mark.parametrize("first", [0, 1, 3])
def test_what_a_jacobian_costs_is_counted(first: int) -> None:
    task = task_of(MIXTURE.model(PROCESS, "v"), 5, 7)
    plan = dense_plan(urn.compile_plan("dpmpp_2m", PROCESS, 5, "uniform"))
    list(jacobian(task, plan, task.train, first=first))
    assert task.evaluations == 7 * (5 + tangents_of(5, True, first))


@pytest.mark.parametrize("labelled", [False, True])
def test_a_network_without_forward_derivative_is_differentiated_by_differences(labelled: bool) -> None:
    """Many of diffusers' networks are such: they view tensors whose tangents lie otherwise in memory."""
    exact = MIXTURE.model(PROCESS, "v")

    class BackwardOnly(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1.0

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0]

    def net(x: Tensor, t: Tensor, scale: Tensor | None = None, other: Any = None) -> Tensor:
        return exact.net(BackwardOnly.apply(x), t) * (1.0 if scale is None else scale)

    given: dict[str, Any] = {}
    if labelled:  # an entry for each start, and what is for all alike
        given = {"scale": torch.linspace(0.9, 1.1, 64, dtype=torch.float64).reshape(32, 2), "other": torch.ones(3, 2)}
    plan = dense_plan(urn.compile_plan("dpmpp_2m", PROCESS, 4, "uniform"))
    found = []
    for one in (net, lambda x, t, scale=None, other=None: exact.net(x, t) * (1.0 if scale is None else scale)):
        task = task_of(urn.Model(one, PROCESS, "v", shape=(2,)), 4)
        starts = replace(task.train, conditioning=given)
        found.append(torch.cat([J for _, _, J in jacobian(task, plan, starts)], 1))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4 * float(found[1].abs().max()))


def test_through_attention_too() -> None:
    pytest.importorskip("sklearn")
    model = load_digits()
    labels = {"label": torch.arange(2) % 10}
    starts = make_starts(model, (1, 2), labels, False, torch.float32, "cpu")
    task = Task(model, 3, ToReference(10), starts, starts)
    plan = dense_plan(urn.compile_plan("ddim", model.process, 3, "quadratic"))
    family = Coefficients(task, plan, True)
    found = family.derivatives(family.theta, plan, starts)
    width = 1e-3
    for place in (0, 1, 5):
        move = width * torch.eye(len(found), dtype=torch.float64)[place]
        ahead, behind = (family.plan(family.theta + sign * move) for sign in (1, -1))
        assert ahead is not None
        assert behind is not None
        with torch.no_grad():
            slope = (task.run(ahead, starts) - task.run(behind, starts)).flatten(1) / (2 * width)
        assert float((slope - found[place]).norm() / found[place].norm()) < 0.03


# --- what it reaches --------------------------------------------------------------------------------------------------


def test_on_a_gaussian_of_one_axis_it_finds_the_exact_plan() -> None:
    """The flow is affine there, and so is a linear plan: two calls can be exact, and DDIM's are not."""
    data = Gaussian([0.7], [0.4])
    model = data.model(PROCESS, "v")
    task = task_of(model, 2)
    plan = dense_plan(urn.compile_plan("ddim", PROCESS, 2, "uniform"))
    search = Search(task, open_study(None, "exact", {}, 0))
    family = Coefficients(task, plan, times=False)
    fit(search, family, "exact", Settings(iterations=60, ridge=0.0, patience=30, robust=math.inf))
    assert task.value(plan) > 1e-2
    assert search.best.value < 1e-4 * task.value(plan)
    # the reference is no better: so judged by the exact end instead
    node = dict(search.best.plan.inputs)["x"].node
    assert node is not None
    alpha, sigma = float(node.alpha), float(node.sigma)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    exact = 0.7 + (x - alpha * 0.7) * math.sqrt(0.4 / (alpha**2 * 0.4 + sigma**2))
    made = urn.execute(search.best.plan, model, {"x": x})["x"]
    assert float((made - exact).abs().max()) < 2e-3


def test_it_is_far_better_than_the_best_untuned_plan_on_starts_held_out() -> None:
    plan, record = tuned(MIXTURE.model(PROCESS, "v"), 5, tuner="coefficients", iterations=12)
    assert record.returned == "tuned"
    assert plan.method == "linear"
    assert plan.nfe == 5
    assert record.gain > 2
    assert record.tuned.held_out.median is not None
    assert record.untuned.held_out.median is not None
    assert record.tuned.held_out.median < record.untuned.held_out.median / 4
    assert "gain" in record.tuned.label
    assert gain(plan) < 3


def test_the_gain_of_ddim_to_clean_data_is_one() -> None:
    assert gain(dense_plan(urn.compile_plan("ddim", PROCESS, 4, "uniform"))) == pytest.approx(1.0, abs=1e-12)


def test_a_ridge_keeps_the_weights_where_they_were() -> None:
    task = task_of(MIXTURE.model(PROCESS, "v"), 4)
    plan = dense_plan(urn.compile_plan("dpmpp_2m", PROCESS, 4, "uniform"))
    moved = []
    for ridge in (1e-6, 1e3):
        search = Search(task, open_study(None, f"ridge {ridge}", {}, 0))
        found = fit(search, Coefficients(task, plan, False), "ridge", Settings(iterations=5, ridge=ridge))
        assert found is not None
        moved.append(float((Coefficients(task, found, False).theta - Coefficients(task, plan, False).theta).norm()))
    assert moved[1] < 0.05 * moved[0]


def test_a_start_far_off_counts_less() -> None:
    squares = torch.tensor([1.0, 3.0, 100.0], dtype=torch.float64)
    assert _weights(squares, 1.0).tolist() == pytest.approx([1 / 2, 1 / 4, 1 / 101])
    assert _weights(squares, float("inf")).tolist() == [1.0, 1.0, 1.0]
    assert _weights(squares, 0.0).tolist() == [1.0, 1.0, 1.0]


def test_few_evaluations_are_kept_to() -> None:
    plan, record = tuned(MIXTURE.model(PROCESS, "v"), 5, tuner="auto", starts=48, evaluations=20_000)
    assert record.evaluations <= 20_000
    assert record.gain > 1.3
    assert plan.nfe == 5


def test_a_search_that_was_stopped_goes_on(tmp_path: Path) -> None:
    model = MIXTURE.model(PROCESS, "v")
    settings: dict[str, Any] = {"tuner": "coefficients", "storage": tmp_path / "trials.db", "study": "one"}
    _, first = tuned(model, 4, trials=3, **settings)
    _, second = tuned(model, 4, trials=7, **settings)
    assert second.tried[: len(first.tried)] == first.tried
    assert len(second.tried) > len(first.tried)
    assert second.evaluations > first.evaluations
    assert second.tuned.train.estimate <= first.tuned.train.estimate


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"plans": 0}, "plans=0 must be an integer of at least 1"),
        ({"iterations": 0}, "iterations=0 must be"),
        ({"part": 1.5}, r"part=1\.5 must be"),
        ({"times": "no"}, "times='no' must be True or False"),
        ({"ridge": -1.0}, r"ridge=-1\.0 must be"),
        ({"robust": 0.0}, r"robust=0\.0 must be"),
        ({"rows": 3}, "has no option rows=3"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tuned(MIXTURE.model(PROCESS, "v"), 3, tuner="coefficients", starts=8, held_out=8, **options)


def test_what_it_cannot_differentiate_or_compare_is_refused() -> None:
    model = MIXTURE.model(PROCESS, "v")

    def opaque(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            return model.net(x, t)

    few = {"starts": 16, "held_out": 16}
    with pytest.raises(TuningError, match="no gradient of its input"):
        tuned(urn.Model(opaque, PROCESS, "v", shape=(2,)), 3, tuner="coefficients", **few)
    with pytest.raises(ValueError, match="needs objective='reference'"):
        tuned(model, 3, tuner="coefficients", objective=None, data=torch.randn(16, 2), **few)
    assert coefficients.paired
    assert coefficients.gradients
