"""S4S, AMED and EPD: gradients of their numbers, what they begin with, gains on starts not seen, going on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from searches import PROCESS, held_out, plane, search_on, slopes_by_differences

from urn.tuning.descent import frozen, gradients, grid_of, last_tried, recompiled
from urn.tuning.tuners.amed import amed, best_grid, epd
from urn.tuning.tuners.s4s import coefficients_of, first_plan, recompiled_as, s4s


def check_gradients(search, draft, free):
    task = search.task
    _, slopes = gradients(task, draft(), free, task.train, task.train_target)
    expected = slopes_by_differences(lambda: task.value(frozen(draft())), free, 1e-6)
    for slope, difference in zip(slopes, expected, strict=True):
        assert float(difference.abs().max()) > 1e-4
        np.testing.assert_allclose(slope.numpy(), difference.numpy(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
def test_gradients_of_coefficients_are_differences(prediction):
    search = search_on(plane(), 5, 24)
    grid = grid_of(search.best_untuned.plan)
    rows = coefficients_of(PROCESS, grid, 3, prediction, "share")
    plan = recompiled_as(search.best_untuned.plan, rows, 3, prediction)
    free = [torch.tensor(row, dtype=torch.float64, requires_grad=True) for row in rows]
    check_gradients(search, lambda: recompiled(plan, grid, coefficients=tuple(free)), free)


def test_gradients_of_points_are_differences():
    search = search_on(plane(), 6, 24)
    for name, shape in (("amed", (3,)), ("epd", (2, 2))):
        given = {"shares": (0.3, 0.6), "weights": (0.4, 0.6)} if name == "epd" else {}
        plan = best_grid(search, name, given)
        free = [torch.full(shape, value, dtype=torch.float64, requires_grad=True) for value in (0.4, 0.8, 1.05)]
        names = ("share", "scale", "time_scale") if name == "amed" else ("shares", "weights", "time_scales")

        def draft(plan=plan, names=names, free=free):
            return recompiled(plan, grid_of(plan), **{k: tuple(v.unbind()) for k, v in zip(names, free, strict=True)})

        check_gradients(search, draft, free)


def test_s4s_begins_with_a_polynomial_and_gains():
    search = search_on(plane(), 5, 256)
    first = first_plan(search, 3)
    assert all(sum(row) == pytest.approx(1) for row in dict(first.options)["coefficients"])
    s4s(search, radius=0.0)
    tuned = search.best.plan
    assert tuned.method == "s4s"
    best, plain = held_out(search)
    assert best < 0.7 * plain
    assert best < 0.7 * search.task.figure(first).estimate
    known = last_tried(search, "s4s")
    assert known is not None
    s4s(search, radius=0.0, rounds=1, iterations=1)
    assert search.tried[-1].value < 1.2 * known.value


def test_s4s_without_times_leaves_the_grid():
    search = search_on(plane(), 5, 64)
    s4s(search, times=False, rounds=1, iterations=5)
    first, last = (one.plan for one in search.tried if one.label.startswith("s4s"))
    assert first.times == last.times
    assert dict(first.options)["coefficients"] != dict(last.options)["coefficients"]


@pytest.mark.parametrize(("tuner", "calls"), [(amed, 6), (epd, 6)], ids=["amed", "epd"])
def test_points_gain_over_where_they_began(tuner, calls):
    search = search_on(plane(), calls, 256)
    tuner(search)
    made = [one for one in search.tried if not one.untuned]
    best = min(made, key=lambda one: one.value)
    first = search.task.figure(made[0].plan).estimate
    assert search.task.figure(best.plan).estimate < 0.7 * first
    assert best.plan.nfe == calls
    assert best.plan.rounds == 2 * best.plan.steps
    tuner(search, rounds=1, iterations=1)
    assert search.tried[-1].value < 1.2 * best.value


def test_fewer_freedoms():
    search = search_on(plane(), 6, 48)
    amed(search, scales=False, labels=False, rounds=1, iterations=5)
    options = dict(search.tried[-1].plan.options)
    assert set(options["scale"]) == {1.0}
    assert "time_scale" not in options
    assert options["share"] != (0.5,) * 3
    before = search.tried[-1].plan.times
    amed(search, times=True, rounds=1, iterations=5)
    assert search.tried[-1].plan.times != before


def test_what_is_refused():
    search = search_on(plane(), 5, 16)
    for tuner, options, words in (
        (s4s, {"history": 0}, "history=0"),
        (s4s, {"rounds": 0}, "rounds=0"),
        (epd, {"points": 0}, "points=0"),
        (epd, {"points": 9}, "calls=5"),
        (amed, {"iterations": 0}, "iterations=0"),
    ):
        with pytest.raises(ValueError, match=words):
            tuner(search, **options)
