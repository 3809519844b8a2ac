"""Descent on a function of the samples, judged on starts kept from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("optuna")

import urn
from urn.exact import GaussianMixture
from urn.processes import VP
from urn.tuning import Own, ToData, dense_plan, plan_within
from urn.tuning.refinement import apart, freed, is_differentiable, refine
from urn.tuning.search import Search, open_study
from urn.tuning.task import Task, make_starts

MIXTURE = GaussianMixture([0.3, 0.7], [[2.0, -1.0], [-1.0, 0.5]], [[0.3, 0.05], [0.1, 0.4]])
PROCESS = VP.linear()
TABLE = VP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))


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


def test_starts_that_judge_are_none_that_are_fitted_on() -> None:
    task = search_of(Own(spread)).task
    inner = apart(task, 0)
    assert (len(inner.train), len(inner.held_out)) == (192, 64)
    assert set(inner.train.seeds) | set(inner.held_out.seeds) == set(task.train.seeds)
    where = {seed: place for place, seed in enumerate(task.train.seeds)}
    assert torch.equal(inner.train.normals, task.train.normals[[where[seed] for seed in inner.train.seeds]])


def test_it_gains_on_starts_that_it_has_not_seen() -> None:
    search = search_of(Own(spread), 512)
    plan = first()
    refine(search, plan, "refined", rounds=2, iterations=5, batch=384)
    before, after = search.task.figure(plan), search.task.figure(search.best.plan)
    assert search.best.label == "refined"
    assert after.estimate < 0.1 * before.estimate
    assert search.task.judged == 2 * 3 * 512  # those of the two figures: nothing held out was looked at before


def test_what_does_not_gain_on_the_starts_kept_is_not_tried() -> None:
    """A function that only knows the samples of one set of starts: the descent makes it small, and nothing comes of it."""
    task = search_of(Own(spread), 64).task
    fitted = apart(task, 0).train
    wanted = MIXTURE.sample(len(fitted), 5).double()

    def of_one_set(x: Tensor) -> Tensor:
        return (x - wanted[: len(x)]).square().mean() if len(x) >= 32 else torch.ones(())  # 16 judge, by eights

    search = search_of(Own(of_one_set), 64)
    refine(search, first(), "refined", rounds=2, iterations=5, batch=64)
    assert search.task.evaluations > 6 * 3 * 48
    assert not search.tried


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


def test_where_a_limit_ends_it_inside_a_round_what_was_reached_is_kept() -> None:
    search = search_of(Own(spread), evaluations=40_000)
    refine(search, first(), "refined", rounds=1, iterations=500, batch=192)
    assert search.best.value < 0.9 * search.task.value(first())


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


def test_auto_leaves_a_distance_to_data_to_the_reference() -> None:
    def apart_by(x: Tensor, data: Tensor) -> Tensor:
        return (x.mean(0) - data.mean(0)).square().sum()

    options: dict[str, Any] = {"black_box": 2, "iterations": 2, "plans": 1, "rounds": 3, "starts": 64, "held_out": 64}
    objective = ToData(MIXTURE.sample(64, 3), apart_by)
    record = urn.tune(MIXTURE.model(PROCESS, "v"), 3, objective=objective, dtype=torch.float64, **options).record
    kinds = {label.split(":")[0] for label, *_ in record.tried}
    assert "coefficients" in kinds
    assert "refined" not in kinds
