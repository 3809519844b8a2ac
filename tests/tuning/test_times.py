"""Grids as free numbers: there and back, in order whatever the numbers, and with the right gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import urn
from urn.grids import grid_times
from urn.tuning.times import gaps_of, times_of

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
