"""What may be given as a grid: names, functions and times; and how each bad one is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from urn import compile_plan, grids
from urn.grids import GRIDS, grid_times
from urn.processes import VE, VP, Flow, linear_betas

VP_LINEAR = VP.linear()
TABLE = VP.from_betas(linear_betas(100))


@pytest.mark.parametrize("steps", [0, -3, 1.5, 2.0, True, False, None, "4", math.nan, np.float64(3.0), [3]], ids=repr)
def test_steps_must_be_a_positive_integer(steps):
    with pytest.raises(ValueError, match=r"steps=.* must be an integer of at least 1"):
        grid_times(VP_LINEAR, steps, "uniform")
    with pytest.raises(ValueError, match=r"steps=.* must be an integer of at least 1"):
        compile_plan("ddim", VP_LINEAR, steps, "uniform")


def test_numpy_integers_are_steps_too():
    assert torch.equal(grid_times(VP_LINEAR, np.int64(4), "uniform"), grid_times(VP_LINEAR, 4, "uniform"))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("karass", "karras"), ("lamda", "lambda"), ("quadric", "quadratic"), ("trailling", "trailing"), ("Beta", "beta")],
)
def test_an_unknown_name_offers_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"grid='{name}' is unknown; did you mean .*{nearest}.*known: ") as error:
        grid_times(VP_LINEAR, 4, name)
    for known in GRIDS:
        assert known in str(error.value)


def test_a_name_like_nothing_is_offered_all():
    with pytest.raises(ValueError, match="grid='0123' is unknown; known: uniform, "):
        grid_times(VP_LINEAR, 4, "0123")


@pytest.mark.parametrize(
    ("process", "times", "message"),
    [
        (VP_LINEAR, [1.0, 0.5, 0.5, 0.1], r"grid is repeated at \[1\], \[2\]: 0\.5, 0\.5"),
        (VP_LINEAR, [1.0, 0.2, 0.5, 0.1], r"grid is not monotone at \[1\], \[2\]: 0\.2, 0\.5"),
        (VP_LINEAR, [0.1, 0.5, 0.2, 1.0], r"grid is not monotone at \[1\], \[2\]: 0\.5, 0\.2"),
        (VP_LINEAR, [0.5, 0.5], r"grid is repeated at \[0\], \[1\]"),
        (VP_LINEAR, [1.5, 0.5], r"grid\[0\]=1\.5 is outside the process VP\.linear\(0\.1, 20\.0\), whose t is in \[0"),
        (VP_LINEAR, [1.0, -0.1], r"grid\[1\]=-0\.1 is outside"),
        (VP_LINEAR, [1.0, math.nan, 0.1], r"grid\[1\]=nan is outside"),
        (VE(), [math.inf, 1.0], r"grid\[0\]=inf is outside"),
        (TABLE, [100.0, 0.0], r"grid\[0\]=100\.0 is outside the process Tabulated\(100 steps"),
        (TABLE, [99.0, -1.5], r"grid\[1\]=-1\.5 is outside"),
        (VP_LINEAR, [1.0], r"one-dimensional with at least 2 times, not of shape \(1,\)"),
        (VP_LINEAR, [], r"at least 2 times, not of shape \(0,\)"),
        (VP_LINEAR, [[1.0, 0.0]], r"not of shape \(1, 2\)"),
        (VP_LINEAR, 0.5, r"not of shape \(\)"),
        (VP_LINEAR, lambda process, steps: torch.ones(steps + 1), r"grid is repeated at \[0\], \[1\]"),
        (VP_LINEAR, lambda process, steps: torch.linspace(2, 0, steps + 1), r"grid\[0\]=2\.0 is outside"),
    ],
)
def test_bad_times_are_named(process, times, message):
    with pytest.raises(ValueError, match=message):
        grid_times(process, 3 if callable(times) else None, times)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_steps_beside_an_array_must_fit_it(steps):
    with pytest.raises(ValueError, match=f"steps={steps} does not fit a grid of 3 times, which has 2"):
        grid_times(VP_LINEAR, steps, [1.0, 0.5, 0.1])


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, lambda t: torch.tensor(t, dtype=torch.float64)])
def test_times_are_taken_as_they_are(kind):
    given = [0.875, 0.5, 0.03125]  # exact in float32 too
    for steps in (None, 2):
        times = grid_times(VP_LINEAR, steps, kind(given))
        assert times.dtype == torch.float64
        assert times.tolist() == given
    plan = compile_plan("ddim", VP_LINEAR, grid=kind(given))
    assert plan.times == tuple(given)
    assert plan.inputs[0][1].node.t == 0.875
    assert plan.outputs[0][2].t == 0.03125


def test_times_keep_their_gradient():
    given = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(grid_times(VP_LINEAR, None, given).sum(), given)
    assert gradient.tolist() == [1.0, 1.0, 1.0]


def test_increasing_times_are_for_deterministic_methods_only():
    up = [0.1, 0.5, 1.0]
    assert compile_plan("ddim", VP_LINEAR, grid=up).times == tuple(up)
    for options in ({"method": "ddim", "eta": 1.0}, {"method": "euler_ancestral"}):
        with pytest.raises(ValueError, match=r"draws noise and needs decreasing times, not 0\.1 to 1\.0"):
            compile_plan(process=VP_LINEAR, grid=up, **options)


@pytest.mark.parametrize("process", [VE(), TABLE])
def test_a_shift_needs_a_time_between_zero_and_one(process):
    with pytest.raises(ValueError, match=r"grid=shifted\(3\.0\) needs a t in \[0, 1\]"):
        grid_times(process, 4, grids.shifted(3.0))


@pytest.mark.parametrize("shift", [0.0, -1.0, math.nan, math.inf, "3"])
def test_a_shift_must_be_positive(shift):
    with pytest.raises(ValueError, match=r"shift=.* must be a positive finite number"):
        grids.shifted(shift)


def test_a_shift_of_one_is_no_shift():
    assert torch.equal(grid_times(Flow(), 8, grids.shifted(1.0)), grid_times(Flow(), 8, "uniform"))
