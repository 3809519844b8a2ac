"""Descent on objectives that give no error for every start, judged on starts kept from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("optuna")

import urn
from urn.exact import GaussianMixture
from urn.metrics import energy_distance, frechet_distance, mmd
from urn.metrics.losses import energy_loss, frechet_loss, mmd_loss
from urn.processes import VP
from urn.tuning import Own, ToData, dense_plan, plan_within
from urn.tuning.refinement import apart, freed, is_differentiable, judged, refine
from urn.tuning.search import Search, open_study
from urn.tuning.task import Task, make_starts

MIXTURE = GaussianMixture([0.3, 0.7], [[2.0, -1.0], [-1.0, 0.5]], [[0.3, 0.05], [0.1, 0.4]])
PROCESS = VP.linear()
TABLE = VP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
PAIRS = ((energy_loss, energy_distance), (mmd_loss, mmd), (frechet_loss, frechet_distance))


def spread(x: Tensor) -> Tensor:
    """Smallest where every coordinate's mean square is 1."""
    return (x.square().mean(0) - 1).square().sum()


def of_numpy(x: Tensor) -> float:
    return float(((x.numpy() ** 2).mean() - 1) ** 2)


def search_of(objective: Any, count: int = 256, process: Any = PROCESS, **limits: Any) -> Search:
    parts = [
        make_starts(MIXTURE.model(process, "v"), tuple(range(s, s + count)), {}, bool(s), torch.float64, "cpu")
        for s in (0, count)
    ]
    task = Task(MIXTURE.model(process, "v"), 3, objective, *parts)
    return Search(task, open_study(None, "refine", {}, 0), **limits)


def first(process: Any = PROCESS) -> urn.Plan:
    return dense_plan(plan_within(process, "ddim", 3))


@pytest.mark.parametrize(("loss", "metric"), PAIRS)
def test_the_losses_are_the_metrics_and_their_gradients_the_differences(loss: Any, metric: Any) -> None:
    x, y = MIXTURE.sample(40, 1).double(), MIXTURE.sample(30, 2).double()
    x[1] = x[0]  # two samples that coincide
    free = x.clone().requires_grad_(True)
    value, other = loss(free, y), loss(y.flip(1), y)  # the data's own term aside, which no sample changes
    assert float((value - other).detach()) == pytest.approx(metric(x, y) - metric(y.flip(1), y), rel=1e-6)
    (slope,) = torch.autograd.grad(value, free)
    assert bool(torch.isfinite(slope).all())
    for place in ((5, 0), (17, 1)):
        move = torch.zeros_like(x)
        move[place] = 1e-4
        assert float(slope[place]) == pytest.approx((metric(x + move, y) - metric(x - move, y)) / 2e-4, rel=1e-4)


@pytest.mark.parametrize("process", [PROCESS, TABLE])
def test_the_free_numbers_are_the_plan(process: Any) -> None:
    plan = first(process)
    free, draft = freed(plan)
    x = MIXTURE.sample(8, 1).double()
    made, given = (urn.execute(one, MIXTURE.model(process, "v"), {"x": x})["x"] for one in (draft().freeze(), plan))
    assert torch.allclose(made, given, rtol=0, atol=1e-10)
    with torch.no_grad():
        free[1] += 9.0  # the last gap has next to nothing left
    least = float(process.t_finite[1])
    assert least <= float(draft().times[-2]) < least + 0.01 * float(process.t_start)


def test_starts_and_data_that_judge_are_none_that_are_fitted_on() -> None:
    data = MIXTURE.sample(200, 3)
    task = search_of(ToData(data)).task
    inner = apart(task, 0)
    assert (len(inner.train), len(inner.held_out)) == (192, 64)
    assert set(inner.train.seeds) | set(inner.held_out.seeds) == set(task.train.seeds)
    fitted, kept = inner.train_target, inner.held_out_target
    assert fitted is not None
    assert kept is not None
    assert task.train_target is not None
    assert (len(fitted), len(kept)) == (75, 25)  # of the training half alone
    together = sorted(map(tuple, torch.cat([fitted, kept]).tolist()))
    assert together == sorted(map(tuple, task.train_target.tolist()))


@pytest.mark.parametrize("objective", [Own(spread), ToData(MIXTURE.sample(4000, 3), "frechet")])
def test_it_gains_on_starts_that_it_has_not_seen(objective: Any) -> None:
    search = search_of(objective, 1024)
    plan = first()
    refine(search, plan, "refined", rounds=3, iterations=5, batch=512)
    before, after = search.task.figure(plan), search.task.figure(search.best.plan)
    assert search.best.label == "refined"
    assert after.estimate < 0.3 * before.estimate
    assert search.task.judged == 2 * 3 * 1024  # those of the two figures: nothing held out was looked at before


def test_what_does_not_gain_on_the_starts_kept_is_not_tried() -> None:
    """From a plan fitted already, another fit can only follow the training starts."""
    search = search_of(ToData(MIXTURE.sample(64, 3)), 32)
    fine = dense_plan(plan_within(PROCESS, "adams_pc_3", 12, "quadratic"))
    search.task.calls = 12
    refine(search, fine, "refined", rounds=2, iterations=5, batch=32)
    assert not search.tried
    assert search.task.evaluations > 0
    task = apart(search.task, 0)
    assert judged(task, fine, [fine]) is None


@pytest.mark.parametrize("objective", [Own(of_numpy), Own(lambda x: 1.0), Own(lambda x: (x > 0).double().mean())])
def test_an_objective_without_a_gradient_is_left_alone(objective: Any) -> None:
    search = search_of(objective)
    assert not is_differentiable(search.task, first())
    refine(search, first(), "refined", rounds=2, iterations=5, batch=64)
    assert not search.tried


def test_it_keeps_to_the_searchs_evaluations() -> None:
    search = search_of(Own(spread), evaluations=20_000)
    refine(search, first(), "refined", rounds=50, iterations=20, batch=256, share=0.5)
    assert 3_000 < search.task.evaluations < 14_000


def test_auto_refines_what_it_can_and_goes_on_without_where_it_cannot() -> None:
    options: dict[str, Any] = {"black_box": 2, "iterations": 2, "plans": 1, "rounds": 3}
    found = {}
    for name, objective in (("torch", spread), ("numpy", of_numpy)):
        record = urn.tune(
            MIXTURE.model(PROCESS, "v"),
            3,
            objective=objective,
            starts=128,
            held_out=128,
            dtype=torch.float64,
            **options,
        ).record
        found[name] = record, [label.split(":")[0] for label, *_ in record.tried]
    assert "refined" in found["torch"][1]
    assert "refined" not in found["numpy"][1]
    assert "black box" in found["numpy"][1]
    assert found["torch"][0].gain > 3
