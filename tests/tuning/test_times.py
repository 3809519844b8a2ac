"""Grids as free numbers: there and back, in order whatever the numbers, and with the right gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import urn
from urn.grids import grid_times
from urn.tuning.times import Inner, gaps_of, times_of

PROCESSES = (urn.VP.linear(), urn.VE(0.002, 80.0), urn.Flow(), urn.VP.cosine())


@pytest.mark.parametrize("process", PROCESSES)
def test_there_and_back(process):
    times = grid_times(process, 8)
    again = times_of(process, gaps_of(process, times), times[0], times[-1])
    assert torch.allclose(again, times, rtol=1e-12, atol=1e-13)
    assert again[0] == times[0]
    assert again[-1] == times[-1]


@pytest.mark.parametrize("process", PROCESSES)
@settings(max_examples=30, deadline=None)
@given(gaps=st.lists(st.floats(-6, 6), min_size=2, max_size=12))
def test_any_numbers_give_a_decreasing_grid(process, gaps):
    times = times_of(process, torch.tensor(gaps, dtype=torch.float64), process.t_start, process.t_end)
    assert bool((times.diff() < 0).all())


@pytest.mark.parametrize("process", PROCESSES)
def test_gradients_are_those_of_finite_differences(process):
    gaps = torch.tensor([0.3, -0.2, 0.8, 0.1], dtype=torch.float64)

    def inner(z):
        return times_of(process, z, process.t_start, process.t_end)[1:-1]

    jacobian = torch.autograd.functional.jacobian(inner, gaps)
    step = 1e-6
    for k in range(4):
        move = torch.zeros(4, dtype=torch.float64)
        move[k] = step
        slope = (inner(gaps + move) - inner(gaps - move)) / (2 * step)
        assert torch.allclose(jacobian[:, k], slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("process", PROCESSES)
def test_gaps_are_the_logarithms_of_the_shares_of_the_angle(process):
    times = grid_times(process, 6)
    angles = torch.atan2(process.sigma(times), process.alpha(times))
    shares = (angles[:-1] - angles[1:]) / (angles[0] - angles[-1])
    assert torch.allclose(gaps_of(process, times).exp(), shares, rtol=1e-12)


@pytest.mark.parametrize("process", PROCESSES)
def test_inner_times_are_shares_of_an_angle_whose_last_gap_is_not_free(process):
    above, least = 1.4, 0.1
    angles = torch.tensor([1.1, 0.9, 0.35], dtype=torch.float64)
    inner = Inner(process, above, angles, least)
    gaps = torch.tensor([0.3, 0.2, 0.55, 0.25], dtype=torch.float64)
    assert torch.allclose(inner.z, torch.log(gaps[:-1] / gaps[-1]), rtol=1e-12)
    assert torch.allclose(inner.angles(inner.z), angles, rtol=1e-12)
    times = torch.tensor(inner.times(inner.z), dtype=torch.float64)
    assert torch.allclose(torch.atan2(process.sigma(times), process.alpha(times)), angles, rtol=1e-9)
    moved = inner.z + torch.tensor([0.7, -0.4, 0.1], dtype=torch.float64)
    raised = torch.cat([moved.exp(), torch.ones(1, dtype=torch.float64)])
    expected = above - (above - least) * (raised.cumsum(0) / raised.sum())[:-1]
    assert torch.allclose(inner.angles(moved), expected, rtol=1e-12)
    shares = raised / raised.sum()  # p: d angle_i/d z_k = -(above - least) p_k ([k <= i] - sum_{j <= i} p_j)
    slopes = -(above - least) * shares[None, :3] * (torch.ones(3, 3).tril() - shares.cumsum(0)[:3, None])
    assert torch.allclose(inner.slopes(moved), slopes, atol=1e-12)


def test_a_last_time_at_the_least_angle_leaves_a_millionth_of_the_way_free():
    inner = Inner(urn.VP.linear(), 1.4, torch.tensor([1.0, 0.1], dtype=torch.float64), 0.1)
    assert inner.z.tolist() == pytest.approx([math.log(0.4 / 1.3e-6), math.log(0.9 / 1.3e-6)], rel=1e-9)
