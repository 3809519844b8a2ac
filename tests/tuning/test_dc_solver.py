"""The tuner of compensation ratios: each is the best of its step; gains on held-out starts; the polynomial that predicts them."""

from __future__ import annotations

import math

import pytest
import torch
from steps_cases import PROCESS, held_out_rms, search_of, task_of

import urn
from urn.tuning import plan_within
from urn.tuning.trajectories import fine_states, grid_of, refined, remade_plan, starting_states, states_at_nodes
from urn.tuning.tuners.dc_solver import RatioPolynomial, dc_solver, fitted_ratios


def test_each_ratio_is_the_best_of_its_step() -> None:
    """Moved by 1 % of the way either side, with the later ones 1, it is no better; and the step's state is nearer than at 1."""
    task = task_of(6, 12)
    plan = plan_within(PROCESS, "dc_unipc", 6, "quadratic")
    ratios = fitted_ratios(task, plan, urn.METHODS["dc_unipc"], task.train)
    times = grid_of(plan)
    x = starting_states(PROCESS, float(times[0]), task.train)
    goals = fine_states(task, times, x, task.train)

    def distance(step: int, ratio: float) -> float:
        given = (*ratios[:step], ratio, *[1.0] * (len(ratios) - step - 1))
        states = states_at_nodes(task, remade_plan(plan, "dc_unipc", ratios=given), x, task.train)
        return float((states[step + 1] - goals[step + 1]).square().mean())

    assert ratios[0] == 1
    assert len(ratios) == len(times) - 1
    assert sum(ratio != 1 for ratio in ratios) >= 4
    for step, ratio in enumerate(ratios[1:], start=1):
        if ratio != 1 and abs(ratio - 1) < 0.49:  # inside the interval
            assert distance(step, ratio) < distance(step, 1.0)
            assert distance(step, ratio) <= min(distance(step, ratio * 1.01), distance(step, ratio * 0.99)) * (1 + 1e-6)


def test_compensation_wins_on_held_out_starts() -> None:
    """UniPC of order two on the quadratic grid, at 8 calls."""
    task = task_of(8)
    search = search_of(task)
    dc_solver(search, methods=("dc_unipc",), orders=(2,), grids=("quadratic",))
    plain, tuned = search.tried
    assert "compensated" in tuned.label
    assert plain.plan == remade_plan(plain.plan, "dc_unipc", order=2)
    assert held_out_rms(task, tuned.plan) < 0.8 * held_out_rms(task, plain.plan)
    assert urn.Plan.from_json(tuned.plan.to_json()) == tuned.plan


def test_wrong_options_are_refused_before_any_work() -> None:
    task = task_of(5, 8)
    for options, said in (
        ({"methods": ("unipc",)}, "methods="),
        ({"orders": (4,)}, "orders="),
        ({"width": 2.5}, "width="),
        ({"calibration": 0}, "calibration="),
        ({"grids": ("no",)}, "no"),
    ):
        with pytest.raises(ValueError, match=said):
            dc_solver(search_of(task), **options)


def test_limits_are_looked_at() -> None:
    search = search_of(task_of(6, 8), trials=1)
    dc_solver(search, grids=("quadratic",))
    assert len(search.tried) == 1


def test_the_cascade_finds_a_polynomial_again_and_predicts_between() -> None:
    def rho(guidance: float, steps: int, i: int) -> float:
        g, n, s = guidance / 12, steps / 50, i / steps
        return (1 + 0.3 * n - n * n) * (0.5 - g + 0.2 * g * g) * (1 - 2 * s + s * s) + 0.8

    found = [
        (g, [1.0, *[rho(g, n, i) for i in range(2, n + 1)]]) for g in (1.5, 4.0, 7.5, 11.0) for n in (5, 6, 8, 10, 15)
    ]
    fit = RatioPolynomial.fit(found)
    assert fit.weights.shape == (3, 3, 3)
    expected = [1.0, *[rho(6.0, 7, i) for i in range(2, 8)]]
    assert fit.ratios(6.0, 7) == pytest.approx(expected, abs=1e-8)
    assert not math.isclose(fit.ratios(6.0, 7)[3], fit.ratios(6.5, 7)[3], rel_tol=1e-4)
    with pytest.raises(ValueError, match="degrees="):
        RatioPolynomial.fit(found, (2, -1, 2))
    with pytest.raises(ValueError, match="found:"):
        RatioPolynomial.fit([(1.0, (1.0,))])


def test_a_refined_grid_keeps_its_points_and_fine_states_are_the_flow() -> None:
    times = torch.tensor([1.0, 0.6, 0.3, 0.05, 0.0], dtype=torch.float64)
    fine = refined(PROCESS, times, 4)
    assert len(fine) == 17
    assert torch.equal(fine[::4], times)
    assert bool((fine[1:] < fine[:-1]).all())
    gaussian = urn.exact.Gaussian([0.7, -0.4], [[1.3, 0.2], [0.2, 0.4]])
    task = task_of(5, 8)
    task.model = gaussian.model(PROCESS, "v")
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    before = task.evaluations
    found = fine_states(task, times, x, task.train, parts=12)
    assert task.evaluations - before == 8 * 3 * 48
    for t, state in zip(times[1:], found[1:], strict=True):
        exact = gaussian.flow(x, PROCESS, 1.0, float(t))
        assert float((state - exact).abs().max()) < 2e-4
