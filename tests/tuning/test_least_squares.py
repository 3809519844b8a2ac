"""Robust least squares: its parts in closed form, and one iteration on what is linear in the numbers."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("optuna")

import urn
from urn.exact import GaussianMixture
from urn.tuning import ToReference, dense_plan
from urn.tuning.least_squares import Settings, _loss, _normal, _solve, _squares, _weights, fit
from urn.tuning.search import Search, open_study
from urn.tuning.task import Task, make_starts
from urn.tuning.tuners.coefficients import Coefficients

MIXTURE = GaussianMixture([0.3, 0.7], [[2.0, -1.0], [-1.0, 0.5]], [[0.3, 0.05], [0.1, 0.4]])
PROCESS = urn.VP.linear()


def search_of(calls: int, count: int = 40) -> Search:
    model = MIXTURE.model(PROCESS, "v")
    parts = [make_starts(model, tuple(range(s, s + count)), {}, bool(s), torch.float64, "cpu") for s in (0, count)]
    return Search(Task(model, calls, ToReference(60), *parts), open_study(None, "squares", {}, 0))


def test_the_loss_is_its_formula() -> None:
    squares = torch.tensor([0.5, 2.0, 6.0], dtype=torch.float64)
    expected = 3.0 * (math.log(1 + 0.5 / 3) + math.log(1 + 2 / 3) + math.log(3)) / 3
    assert _loss(squares, 3.0) == pytest.approx(expected, rel=1e-14)
    assert _loss(squares, math.inf) == pytest.approx(8.5 / 3, rel=1e-14)
    assert _loss(squares, 0.0) == pytest.approx(8.5 / 3, rel=1e-14)


def test_weights_are_the_losss_slopes() -> None:
    """d loss/d e^2, times the number of starts."""
    squares = torch.tensor([0.5, 2.0, 6.0], dtype=torch.float64)
    for i, weight in enumerate(_weights(squares, 3.0).tolist()):
        move = 1e-6 * torch.eye(3, dtype=torch.float64)[i]
        slope = 3 * (_loss(squares + move, 3.0) - _loss(squares - move, 3.0)) / 2e-6
        assert weight == pytest.approx(slope, rel=1e-6)


def test_normal_equations_and_their_damped_step() -> None:
    generator = torch.Generator().manual_seed(1)
    J = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    r = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 0.25, 0.8, 0.1], dtype=torch.float64)
    H, g = _normal(J, r, weights)
    torch.testing.assert_close(H, torch.einsum("pbd,b,qbd->pq", J, weights, J) / 10, rtol=1e-12, atol=0)
    torch.testing.assert_close(g, torch.einsum("pbd,b,bd->p", J, weights, r) / 10, rtol=1e-12, atol=1e-15)
    step = _solve(H, g, 0.3)
    assert step is not None
    torch.testing.assert_close((H + 0.3 * torch.diag(torch.diag(H))) @ step, -g, rtol=1e-10, atol=1e-13)
    assert _solve(-H, g, 0.3) is None


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_one_iteration_solves_what_is_linear_in_the_numbers(ridge: float) -> None:
    """The last sum's weights alone: the step is that of the weighted normal equations of the starts that are fitted on."""
    search = search_of(4)
    task = search.task
    plan = dense_plan(urn.compile_plan("dpmpp_2m", PROCESS, 4, "uniform"))
    family = Coefficients(task, plan, times=False, rows=1)
    family.scale = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    target = task.train_target
    assert target is not None
    squares, value = _squares(search, plan, target)
    torch.testing.assert_close(squares, (task.run(plan, task.train) - target).square().mean(1))
    assert value == pytest.approx(math.sqrt(float(squares.mean())), rel=1e-12)
    J = family.derivatives(family.theta, plan, task.train)[:, :30]  # three in four of the 40
    residuals = (task.run(plan, task.train) - target)[:30]
    c = 5.0 * float(squares[:30].median())
    weights = _weights(squares[:30], c)
    H = torch.einsum("pbd,b,qbd->pq", J, weights, J) / 60 + torch.diag(ridge * squares.median() / family.scale.square())
    expected = family.theta - torch.linalg.solve(H, torch.einsum("pbd,b,bd->p", J, weights, residuals) / 60)
    found = fit(search, family, "one", Settings(iterations=1, part=64, ridge=ridge, damping=1e-9))
    assert len(search.tried) == 2
    made = Coefficients(task, search.tried[-1].plan, times=False, rows=1).theta
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert found is not None


def test_many_iterations_come_to_the_least_of_distance_and_ridge() -> None:
    """mean r^2 + ridge |theta - theta_0|^2/scale^2 over what is linear in theta, from damped steps to the closed form."""
    search = search_of(4)
    task, ridge = search.task, 0.5
    plan = dense_plan(urn.compile_plan("dpmpp_2m", PROCESS, 4, "uniform"))
    family = Coefficients(task, plan, times=False, rows=1)
    family.scale = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    target = task.train_target
    assert target is not None
    J = family.derivatives(family.theta, plan, task.train)[:, :30].flatten(1)
    first = task.run(plan, task.train) - target
    R = torch.diag(ridge * first.square().mean(1).median() / family.scale.square())
    expected = family.theta - torch.linalg.solve(J @ J.T / 60 + R, J @ first[:30].flatten() / 60)
    settings = Settings(iterations=16, part=64, ridge=ridge, damping=1.0, robust=math.inf, patience=30)
    fit(search, family, "many", settings)
    made = Coefficients(task, search.tried[-1].plan, times=False, rows=1).theta
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-7)
    assert float((made - family.theta).norm()) > 1e-2


def test_it_stops_when_validation_has_waited_long_enough() -> None:
    """Twelve starts and all numbers of five calls: what is fitted soon is of no use to the four others."""
    search = search_of(5, 16)
    plan = dense_plan(urn.compile_plan("dpmpp_2m", PROCESS, 5, "uniform"))
    settings = Settings(iterations=40, ridge=0.0, robust=math.inf, patience=2)
    found = fit(search, Coefficients(search.task, plan, times=False), "patience", settings)
    target = search.task.train_target
    assert target is not None
    judged = [float(_squares(search, one.plan, target)[0][12:].mean()) for one in search.tried]
    best = judged.index(min(judged))
    assert found == search.tried[best].plan
    assert len(judged) == best + 1 + 2
    assert 3 < len(judged) < 40


def test_what_comes_back_is_best_on_the_starts_that_were_not_fitted_on() -> None:
    """And every plan on the way is better than the one before on those that were."""
    search = search_of(3)
    plan = dense_plan(urn.compile_plan("ddim", PROCESS, 3, "uniform"))
    settings = Settings(iterations=8, ridge=0.0, robust=math.inf)
    found = fit(search, Coefficients(search.task, plan, times=True), "kept", settings)
    target = search.task.train_target
    assert target is not None
    squares = [_squares(search, one.plan, target)[0] for one in search.tried]
    judged = [float(one[30:].mean()) for one in squares]
    assert found == search.tried[judged.index(min(judged))].plan
    fitted = [float(one[:30].mean()) for one in squares]
    assert fitted == sorted(fitted, reverse=True)
    assert len(fitted) > 4
