"""Least squares of weights: normal equations, residuals that never grow, and gains on held-out starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from steps_cases import PROCESS, held_out_rms, search_of, task_of

import urn
from urn.plan import Combine
from urn.tuning import plan_within, untuned_plans
from urn.tuning.trajectories import fine_states, grid_of, remade_plan, starting_states, states_at_nodes
from urn.tuning.tuners.iia import ODD, VARIANTS, fitted_coefficients, fitted_rows, iia

CASES = [(name, way) for name in VARIANTS for way in ("flow", "trajectory")]


@pytest.mark.parametrize(("name", "way"), CASES)
def test_no_residual_is_larger_than_untuned_and_each_is_the_least(name: str, way: str) -> None:
    """The residual that is told is that of the plan that comes out; a coefficient moved by 1 % makes it larger."""
    task = task_of(6, 16)
    plan = plan_within(PROCESS, name, 6, "quadratic")
    steps = len(plan.times) - 1
    fit = fitted_coefficients(task, plan, name, task.train, 3, way)
    assert len(fit.numbers) == steps
    assert all(found <= plain for found, plain in zip(fit.fitted, fit.published, strict=True))
    assert sum(found < 0.9 * plain for found, plain in zip(fit.fitted, fit.published, strict=True)) >= 2
    times, width = grid_of(plan), len(fit.numbers[0])
    x = starting_states(PROCESS, float(times[0]), task.train)

    def states(numbers) -> dict[int, torch.Tensor]:
        return states_at_nodes(task, remade_plan(plan, name, coefficients=numbers), x, task.train)

    reached = states(fit.numbers)
    fine = fine_states(task, times, x, task.train)
    for step in range(steps):
        goal = (
            fine[step + 1]
            if way == "trajectory"
            else fine_states(task, times[step : step + 2], reached[step], task.train)[1]
        )

        def residual(numbers, step: int = step, goal: torch.Tensor = goal) -> float:
            return float((states(numbers)[step + 1] - goal).square().mean().sqrt())

        assert residual(fit.numbers) == pytest.approx(fit.fitted[step], rel=1e-9)
        untuned = [list(row) for row in fit.numbers]
        untuned[step] = [1.0, *[0.0] * (width - 1)]
        assert residual(untuned) == pytest.approx(fit.published[step], rel=1e-9)
        for k in range(width):
            if fit.numbers[step][k] == 0:  # a difference that reaches back before the start
                continue
            for factor in (1.01, 0.99):
                moved = [list(row) for row in fit.numbers]
                moved[step][k] *= factor
                assert residual(moved) > fit.fitted[step]


def test_states_begin_at_the_prior_s_std() -> None:
    """On VE, where it is not one."""
    process = urn.VE(0.002, 5.0)
    task = task_of(4, 8, process=process)
    plan = plan_within(process, "iia_ddim", 4, "karras")
    fit = fitted_coefficients(task, plan, "iia_ddim", task.train, 1, "flow")
    times = grid_of(plan)
    x = float(process.prior_std(times[0])) * task.train.normals
    assert float(process.prior_std(times[0])) > 4
    goal = fine_states(task, times, x, task.train)[1]
    state = states_at_nodes(task, remade_plan(plan, "iia_ddim", coefficients=fit.numbers), x, task.train)[1]
    assert float((state - goal).square().mean().sqrt()) == pytest.approx(fit.fitted[0], rel=1e-9)


def test_rows_of_any_plan_are_fitted() -> None:
    """Residuals as told, states' weights as they were, and the plan read back is the plan."""
    task = task_of(6, 16)
    for name in ("adams_pc_2", "heun", "ddim", "dpm_solver_3"):
        plan = plan_within(PROCESS, name, 6, "quadratic")
        found, fit = fitted_rows(task, plan, task.train, "trajectory")
        assert found.nfe == plan.nfe
        assert urn.Plan.from_json(found.to_json()) == found
        assert all(a <= b for a, b in zip(fit.fitted, fit.published, strict=True))
        times = grid_of(plan)
        x = starting_states(PROCESS, float(times[0]), task.train)
        fine = fine_states(task, times, x, task.train)
        states = states_at_nodes(task, found, x, task.train)
        last = [
            row.node.index for row in plan.rows if isinstance(row, Combine) and row.node and row.node.index is not None
        ]
        for index in set(last):
            residual = float((states[index] - fine[index]).square().mean().sqrt())
            place = len(last) - 1 - last[::-1].index(index)
            assert residual == pytest.approx(fit.fitted[place], rel=1e-9)
        kept = [
            (a, b)
            for one, other in zip(plan.rows, found.rows, strict=True)
            if isinstance(one, Combine) and isinstance(other, Combine)
            for a, b in zip(one.weights, other.weights, strict=True)
            if a[1].startswith("x")
        ]
        assert all(a == b for a, b in kept)
    with pytest.raises(ValueError, match="draws noise"):
        fitted_rows(task, plan_within(PROCESS, "ddpm", 6, "quadratic"), task.train)


def test_a_flow_that_a_plan_follows_exactly_leaves_nothing_to_fit() -> None:
    """On a point mass every residual is rounding, and the weights stay."""
    task = task_of(5, 8)
    task.model = urn.exact.Gaussian([0.3, -0.8], 0.0).model(PROCESS, "v")
    task.train = replace(
        task.train, normals=torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    plan = plan_within(PROCESS, "dpmpp_2m", 5, "quadratic")
    found, fit = fitted_rows(task, plan, task.train, "flow")
    assert max(fit.published) < 1e-10
    x = starting_states(PROCESS, float(plan.times[0]), task.train)
    ends = [states_at_nodes(task, one, x, task.train)[len(plan.times) - 1] for one in (plan, found)]
    assert float((ends[0] - ends[1]).abs().max()) < 1e-9


def test_the_fit_wins_on_held_out_starts() -> None:
    """DDIM and Heun at 8 calls, against the flow as in the paper; and against the trajectory, the best untuned plan."""
    task = task_of(8)
    for name, same, share in (("iia_ddim", "ddim", 0.5), ("iia_heun", "heun", 0.9)):
        plan = plan_within(PROCESS, name, 8, "quadratic")
        fit = fitted_coefficients(task, plan, name, task.train, 3, "flow")
        tuned = remade_plan(plan, name, coefficients=fit.numbers)
        assert held_out_rms(task, tuned) < share * held_out_rms(task, remade_plan(plan, same))
    search = search_of(task)
    for label, plan in untuned_plans(PROCESS, 8, ("adams_pc_2", "unipc_3"), ("arctan", "quadratic")):
        search.try_plan(plan, label, untuned=True)
    iia(search, variants=("iia_ddim",), towards=("trajectory",), grids=("arctan", "quadratic"), rows=1)
    assert len(search.tried) == 4 + 3
    assert held_out_rms(task, search.best.plan) < 0.8 * held_out_rms(task, search.best_untuned.plan)


def test_wrong_options_are_refused_before_any_work() -> None:
    task = task_of(5, 8)
    for options, said in (
        ({"variants": ("ddim",)}, "variants="),
        ({"towards": ("there",)}, "towards="),
        ({"regressors": len(ODD) + 1}, "regressors="),
        ({"rows": -1}, "rows="),
        ({"calibration": 0}, "calibration="),
    ):
        with pytest.raises(ValueError, match=said):
            iia(search_of(task), **options)
