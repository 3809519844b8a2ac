"""The tuner of DPM-Solver-v3: its statistics are those of the model's own trajectories; what it tries; what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from steps_cases import PROCESS, held_out_rms, search_of, task_of

import urn
from urn.loops.model_statistics import model_statistics, noised_states
from urn.tuning import ToData, plan_within
from urn.tuning.tuners.dpm_solver_v3 import dpm_solver_v3, lambdas_of, measured


def test_statistics_are_measured_on_the_models_own_trajectories() -> None:
    """A Gaussian's flow is known: from the same normals the statistics are those at its exact states."""
    gaussian = urn.exact.Gaussian([0.7, -0.4], [[1.3, 0.0], [0.0, 0.2]])
    task = task_of(6, 16)
    task.model = gaussian.model(PROCESS, "v")
    task.train.normals = torch.randn(16, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    low, high = lambdas_of([plan_within(PROCESS, "dpm_solver_v3", 6, "quadratic")])
    assert low == pytest.approx(float(PROCESS.lambda_(torch.tensor(1.0, dtype=torch.float64))))
    knots = torch.linspace(low, high, 41, dtype=torch.float64)
    exact = torch.stack([gaussian.flow(task.train.normals, PROCESS, 1.0, float(t)) for t in PROCESS.t_of_lambda(knots)])
    expected, found = model_statistics(task.model, knots, exact), measured(task, knots, task.train)
    for name in ("l", "s", "b"):
        assert np.allclose(getattr(found, name).values, getattr(expected, name).values, atol=2e-3), name


def test_data_of_the_objective_are_noised_instead() -> None:
    data = urn.exact.digits_mixture().sample(64, 1)
    task = task_of(6, 16, objective=ToData(data))
    before = task.evaluations
    measured(task, torch.linspace(-2, 2, 5, dtype=torch.float64), task.train)
    assert task.evaluations - before == 3 * 5 * 16  # no fine plan was run


def test_lambdas_are_the_ends_of_all_grids() -> None:
    plans = [urn.compile_plan("ddim", PROCESS, grid=times) for times in ([0.9, 0.5, 0.2], [0.8, 0.3, 0.1, 0.0])]
    ends = PROCESS.lambda_(torch.tensor([0.9, 0.1], dtype=torch.float64)).tolist()
    assert lambdas_of(plans) == pytest.approx(ends, rel=1e-12)


def test_noised_data_give_the_statistics_of_noised_states() -> None:
    data = urn.exact.digits_mixture().sample(64, 1)
    task = task_of(6, 16, objective=ToData(data))
    knots = torch.linspace(-2, 2, 5, dtype=torch.float64)
    states = noised_states(PROCESS, task.train_target[:16], knots, 3)
    expected = model_statistics(task.model, knots, states, probes=2, seed=3)
    found = measured(task, knots, task.train, probes=2, seed=3)
    for name in ("l", "s", "b"):
        assert np.array_equal(getattr(found, name).values, getattr(expected, name).values), name
    assert task.evaluations == 4 * 5 * 16


def test_options_are_tried_and_the_best_is_no_worse_than_data_prediction() -> None:
    task = task_of(6)
    search = search_of(task)
    dpm_solver_v3(
        search, orders=(3, 2), correct=("always", "never"), lambdas=(21,), grids=("quadratic",), calibration=32
    )
    assert len(search.tried) == 2 * 2 * 2
    assert len({one.plan for one in search.tried}) == 8
    plain = plan_within(PROCESS, "dpm_solver_v3", 6, "quadratic")
    best = min(search.tried, key=lambda one: one.value)
    assert held_out_rms(task, best.plan) < 0.9 * held_out_rms(task, plain)


def test_wrong_options_are_refused_before_any_work() -> None:
    task = task_of(5, 8)
    for options, said in (
        ({"methods": ("unipc",)}, "methods="),
        ({"orders": (0,)}, "orders="),
        ({"correct": ("no",)}, "correct="),
        ({"lambdas": (2,)}, "lambdas="),
        ({"calibration": 1}, "calibration="),
        ({"probes": 0}, "probes="),
        ({"kept": 0}, "kept="),
    ):
        with pytest.raises(ValueError, match=said):
            dpm_solver_v3(search_of(task), **options)


def test_knots_that_begin_at_the_start_but_for_rounding_begin_there() -> None:
    """On a table of betas t of lambda(999) is not 999 to the last bit."""
    table = urn.VP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    task = task_of(5, 8, process=table)
    plans = [plan_within(table, "dpm_solver_v3", 5, grid) for grid in ("lambda", "uniform")]
    for count in (5, 6, 9):
        knots = torch.linspace(*lambdas_of(plans), count, dtype=torch.float64)
        assert np.isfinite(measured(task, knots, task.train).l.values).all()
