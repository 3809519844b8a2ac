"""LD3: gradients through compiler and executor, the relaxed objective, labels, gains on starts not seen, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from searches import PROCESS, held_out, plane, search_on, slopes_by_differences

import urn
from urn.model import Model
from urn.plan import Evaluate
from urn.tuning import ToData, TuningError, tune
from urn.tuning.descent import (
    descend,
    frozen,
    gradients,
    grid_of,
    last_tried,
    moved_starts,
    recompiled,
    shifted,
    target_of,
)
from urn.tuning.times import gaps_of, times_of
from urn.tuning.tuners.ld3 import first_plan, labelled, ld3, shifts_of


@pytest.mark.parametrize("method", ["adams_pc_2", "unipc_3", "deis_3", "heun"])
def test_gradients_are_differences(method):
    search = search_on(plane(), 6, 24)
    plan = first_plan(search, method)
    times = grid_of(plan)
    gaps = gaps_of(PROCESS, times).requires_grad_(True)
    shifts = torch.full((plan.nfe,), 0.1, dtype=torch.float64, requires_grad=True)

    def draft():
        made = times_of(PROCESS, gaps, times[0], times[-1])
        return recompiled(plan, made, labelled(method, shifts))

    task = search.task
    value, slopes = gradients(task, draft(), [gaps, shifts], task.train, task.train_target)
    expected = slopes_by_differences(lambda: task.value(frozen(draft())), [gaps, shifts])
    assert float(value) == pytest.approx(task.value(frozen(draft())), rel=1e-12)
    for slope, difference in zip(slopes, expected, strict=True):
        assert float(difference.abs().max()) > 1e-4
        np.testing.assert_allclose(slope.numpy(), difference.numpy(), atol=1e-6)


def test_at_radius_zero_it_is_the_plain_fit():
    """The same gradients, and the same plans."""
    search = search_on(plane(), 5, 48)
    plan, task = search.best_untuned.plan, search.task
    times = grid_of(plan)
    gaps = gaps_of(PROCESS, times).requires_grad_(True)

    def draft():
        return recompiled(plan, times_of(PROCESS, gaps, times[0], times[-1]))

    resting = shifted(task.train, torch.zeros_like(task.train.normals))
    plain = gradients(task, draft(), [gaps], task.train, task.train_target)
    still = gradients(task, draft(), [gaps], resting, task.train_target)
    assert torch.equal(plain[1][0], still[1][0])

    ld3(search, radius=0.0, rounds=2, iterations=5, batch=48)
    other = search_on(plane(), 5, 48)
    options = {"max_eval": 15, "history_size": 20, "line_search_fn": "strong_wolfe"}
    optimiser = torch.optim.LBFGS([gaps], lr=0.01, max_iter=1, **options)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(len(other.tried)))
    part, target = task.train.part(order), target_of(task, order)

    def closure():
        value, (gaps.grad,) = gradients(task, draft(), [gaps], part, target)
        return float(value)

    made = []
    optimiser.step(closure)
    for _ in range(2):
        optimiser.param_groups[0].update(lr=1.0, max_iter=5)
        optimiser.step(closure)
        made.append(frozen(draft()))
    tuned = [one.plan for one in search.tried if "round" in one.label]
    assert [plan.times for plan in tuned] == [plan.times for plan in made]


def test_starts_move_in_their_ball_and_their_errors_fall():
    search = search_on(plane(), 5, 48)
    plan, task, radius = search.best_untuned.plan, search.task, 0.1
    target = task.train_target
    offsets = torch.zeros_like(task.train.normals)

    def errors(offsets):
        return (task.run(plan, shifted(task.train, offsets)) - target).square().flatten(1).sum(1)

    gaps = gaps_of(PROCESS, grid_of(plan)).requires_grad_(True)
    draft = recompiled(plan, times_of(PROCESS, gaps, plan.times[0], plan.times[-1]))
    for _ in range(6):
        before = errors(offsets)
        offsets = moved_starts(task, draft, task.train, target, offsets, radius)
        assert bool((errors(offsets) <= before * (1 + 1e-9)).all())
        assert float(torch.linalg.vector_norm(offsets, dim=1).max()) <= radius * (1 + 1e-12)
    assert float(errors(offsets).mean()) < 0.7 * float(errors(torch.zeros_like(offsets)).mean())
    assert float((torch.linalg.vector_norm(offsets, dim=1) > 0).double().mean()) > 0.9


def test_a_move_is_half_a_radius_down_a_start_s_own_slope():
    """Then onto the ball where it has left it, and only where the start's own error falls."""
    search = search_on(plane(), 5, 48)
    plan, task, radius = search.best_untuned.plan, search.task, 0.01
    gaps = gaps_of(PROCESS, grid_of(plan)).requires_grad_(True)
    draft = recompiled(plan, times_of(PROCESS, gaps, plan.times[0], plan.times[-1]))

    def error(offset):
        return (task.run(plan, shifted(task.train, offset)) - task.train_target).square().sum(1)

    offsets = torch.zeros(48, 2, dtype=torch.float64)
    for _ in range(4):
        free = offsets.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(error(free).sum(), free)
        moved = offsets - 0.005 * slope / slope.norm(dim=1, keepdim=True)
        length = moved.norm(dim=1, keepdim=True)
        moved = torch.where(length > 0.01, 0.01 * moved / length, moved)
        expected = torch.where((error(moved) < error(offsets))[:, None], moved, offsets).detach()
        found = moved_starts(task, draft, task.train, task.train_target, offsets, radius)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-9)
        offsets = found
    assert int((offsets.norm(dim=1) > 0.01 - 1e-12).sum()) > 10  # came to the ball's border


def test_labels_move_by_half_of_the_nearer_gap_at_most():
    """In the angle atan(sigma/alpha): tanh of the shift, times half of the gap to the nearer of the two neighbours."""
    times = urn.compile_plan("ddim", PROCESS, 5, "arctan").times
    given = torch.tensor([3.0, -0.5, 8.0, -8.0, 0.2], dtype=torch.float64)
    moved = urn.compile_plan(
        labelled("ddim", given), PROCESS, grid=grid_of(urn.compile_plan("ddim", PROCESS, 5, "arctan"))
    )
    t = torch.tensor(times, dtype=torch.float64)
    angles = torch.atan2(PROCESS.sigma(t), PROCESS.alpha(t))
    for i, row in enumerate([row for row in moved.rows if isinstance(row, Evaluate)][1:], start=1):
        window = min(angles[i - 1] - angles[i], angles[i] - angles[i + 1]) / 2
        shown = torch.tensor(row.t, dtype=torch.float64)
        found = torch.atan2(PROCESS.sigma(shown), PROCESS.alpha(shown))
        assert float(found) == pytest.approx(float(angles[i] + window * torch.tanh(given[i])), rel=1e-9)


def test_labels():
    """Without shifts the plan is as it was; with them a label stays between its neighbours, and is read back from a plan."""
    plan = urn.compile_plan("unipc_2", PROCESS, 5, "arctan")
    times = grid_of(plan)
    none = urn.compile_plan(labelled("unipc_2", torch.zeros(5, dtype=torch.float64)), PROCESS, grid=times)
    assert plan.diff(none, 1e-12) == ""
    given = torch.tensor([3.0, -0.5, 8.0, -8.0, 0.2], dtype=torch.float64)
    moved = urn.compile_plan(labelled("unipc_2", given), PROCESS, grid=times)
    shown = [row.t for row in moved.rows if isinstance(row, Evaluate)]
    assert shown[0] == plan.times[0]
    assert all(plan.times[i - 1] > shown[i] > plan.times[i + 1] for i in range(1, 5))
    assert shown[2] > plan.times[2]
    assert shown[3] < plan.times[3]
    np.testing.assert_allclose(shifts_of(moved)[1:].numpy(), given[1:].numpy(), rtol=1e-6)


def test_it_gains_on_starts_that_it_has_not_seen():
    search = search_on(plane(), 5, 256)
    ld3(search, radius=0.0)
    best, plain = held_out(search)
    assert best < 0.7 * plain
    tried = len(search.tried)
    again = last_tried(search, "ld3")
    assert again is not None
    ld3(search, radius=0.0, rounds=1, iterations=1)  # goes on from the best, which is not measured again
    assert [one.label for one in search.tried[tried:]] == ["ld3, adams_pc_2, round 1"]
    assert search.best.value <= again.value


def test_labels_are_kept_when_a_search_goes_on():
    search = search_on(plane(), 5, 48)
    ld3(search, labels=True, radius=0.0, rounds=1, iterations=5)
    made = search.tried[-1].plan
    assert any(row.t != row.node.t for row in made.rows if isinstance(row, Evaluate))
    known = last_tried(search, "ld3")
    assert known is not None
    ld3(search, labels=True, radius=0.0, rounds=1, iterations=1)
    assert search.tried[-1].value <= known.value * (1 + 1e-6)


def test_limits_are_kept():
    search = search_on(plane(), 5, 48, trials=1)
    ld3(search)
    assert sum(not one.untuned for one in search.tried) == 1
    search = search_on(plane(), 5, 48)
    search.evaluations = search.task.evaluations + 1500
    ld3(search, rounds=50)
    assert search.task.evaluations < search.evaluations + 48 * 5 * 12


def test_what_is_refused():
    broken = Model(lambda x, t: x.detach(), PROCESS, "v", shape=(2,))
    with pytest.raises(TuningError, match="carries no gradient"):
        tune(broken, 5, tuner="ld3", starts=8, held_out=8)
    with pytest.raises(TuningError, match="integer_times=True"):
        tune(replace(plane(), integer_times=True), 5, tuner="ld3", starts=8, held_out=8)
    with pytest.raises(ValueError, match="needs objective='reference'"):
        tune(plane(), 5, tuner="ld3", data=torch.zeros(32, 2), starts=8, held_out=8)
    search = search_on(plane(), 5, 16)
    for options, words in (
        ({"radius": -0.1}, "radius=-0.1"),
        ({"rounds": 0}, "rounds=0"),
        ({"batch": 1.5}, "batch=1.5"),
        ({"method": "unknown"}, "method='unknown' is unknown"),
    ):
        with pytest.raises(ValueError, match=words):
            ld3(search, **options)


def test_an_objective_without_gradient_is_refused():
    class Rounded:
        name, paired = "rounded", True

        def target(self, run, process, held_out):
            return run(urn.compile_plan("heun", process, 20))

        def value(self, samples, target):
            return (samples - target).abs().mean().item()

    search = search_on(plane(), 5, 16, Rounded())
    with pytest.raises(TuningError, match="gives no gradient"):
        ld3(search)


def test_moving_starts_needs_errors_of_their_own():
    search = search_on(plane(), 5, 16, ToData(torch.randn(64, 2, dtype=torch.float64)))
    with pytest.raises(TuningError, match="needs an error for every start"):
        descend(search, [], lambda: None, "x", rounds=1, iterations=1, batch=8, radius=0.1)
