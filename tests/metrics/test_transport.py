"""Wasserstein distances against SciPy's quantiles and assignments, and against shifts."""

from __future__ import annotations

import sys
from math import sqrt

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from urn.metrics import sliced_wasserstein, transport, wasserstein


@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 33), (12, 18), (2, 35)])
def test_in_one_dimension_sliced_is_exact_for_any_counts(n: int, m: int, skewed) -> None:
    x, y = skewed(n, 1, 0), skewed(m, 1, 1, rate=0.4)
    truth = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_wasserstein(x, y, projections=3, p=1) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_unequal_counts_are_repeated_points(p: float, skewed) -> None:
    """Six points and four are the laws of twelve points each, which pair off in order."""
    x, y = skewed(6, 1, 0), skewed(4, 1, 1, rate=0.4)
    gaps = x.repeat_interleave(2, dim=0).sort(dim=0).values - y.repeat_interleave(3, dim=0).sort(dim=0).values
    truth = float(gaps.abs().pow(p).mean()) ** (1 / p)
    assert sliced_wasserstein(x, y, p=p) == pytest.approx(truth, rel=1e-12)
    assert wasserstein(x, y, p=p) == pytest.approx(truth, rel=1e-12)


def test_sliced_shift_is_the_mean_square_of_its_projections(skewed) -> None:
    """SW_2(x, x + c)^2 = E (theta.c)^2 = |c|^2 / d; each term has variance 2 (d - 1) / (d^2 (d + 2)) |c|^4."""
    d, projections = 5, 4000
    x, shift = skewed(30, d, 0), torch.tensor([3.0, 0.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    squared = sliced_wasserstein(x, x + shift, projections=projections) ** 2
    error = 14 * sqrt(2 * (d - 1) / (d**2 * (d + 2)) / projections)
    assert squared == pytest.approx(14 / d, abs=3.5 * error)


def test_sliced_is_the_mean_over_its_directions(skewed, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = skewed(20, 4, 0), skewed(30, 4, 1, rate=0.5)
    directions = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    directions /= directions.norm(dim=1, keepdim=True)
    alone = [scipy.stats.wasserstein_distance((x @ theta).numpy(), (y @ theta).numpy()) for theta in directions]
    whole = sliced_wasserstein(x, y, projections=7, seed=5, p=1)
    assert whole == pytest.approx(float(np.mean(alone)), rel=1e-12)
    assert whole != sliced_wasserstein(x, y, projections=7, seed=6, p=1)
    assert sliced_wasserstein(x.flip(0), y, projections=7, seed=5, p=1) == pytest.approx(whole, rel=1e-12)
    monkeypatch.setattr(transport, "PROJECTED_VALUES", 1)  # one direction at a time
    assert sliced_wasserstein(x, y, projections=7, seed=5, p=1) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_exact_is_the_best_assignment(p: float, skewed, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = skewed(40, 3, 0), skewed(40, 3, 1, rate=0.5)
    costs = torch.cdist(x, y).pow(p).numpy()
    truth = costs[scipy.optimize.linear_sum_assignment(costs)].mean() ** (1 / p)
    assert wasserstein(x, y, p=p) == pytest.approx(truth, rel=1e-12)
    monkeypatch.setattr(transport, "TILE", 7)
    assert wasserstein(x.flip(0), y, p=p) == pytest.approx(truth, rel=1e-12)


def test_exact_shift_and_identity(skewed) -> None:
    x = 1e3 + skewed(60, 5, 0)
    shift = torch.tensor([3.0, 0.0, -1.0, 0.0, 2.0], dtype=torch.float64)
    assert wasserstein(x.flip(0), x + shift) == pytest.approx(sqrt(14), rel=1e-12)
    assert wasserstein(x.flip(0), x) == 0.0


def test_weights_are_repeated_points(skewed) -> None:
    x, y = skewed(5, 2, 0), skewed(9, 2, 1, rate=0.5)
    counts = torch.tensor([1, 0, 4, 2, 1])
    repeated = wasserstein(x.repeat_interleave(counts, dim=0), y)
    assert wasserstein(x, y, sample_weights=counts) == pytest.approx(repeated, rel=1e-12)
    assert wasserstein(y, x, data_weights=0.1 * counts) == pytest.approx(repeated, rel=1e-6)  # float32 weights
    assert wasserstein(x, y) != pytest.approx(repeated, rel=1e-3)


def test_bad_arguments_are_named(skewed, monkeypatch: pytest.MonkeyPatch) -> None:
    x = skewed(5, 2, 0)
    for metric in (sliced_wasserstein, wasserstein):
        with pytest.raises(ValueError, match=r"p must be finite and at least 1, got 0\.5"):
            metric(x, x, p=0.5)
    with pytest.raises(ValueError, match="projections must be at least 1, got 0"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(ValueError, match=r"sample_weights must have shape \(5,\), got \(4,\)"):
        wasserstein(x, x, sample_weights=torch.ones(4))
    with pytest.raises(ValueError, match="data_weights must be finite, nonnegative and not all zero, got 2 wrong of 5"):
        wasserstein(x, x, data_weights=torch.tensor([1.0, -1.0, 2.0, float("nan"), 0.0]))
    with pytest.raises(TypeError, match=r"data_weights must be a torch\.Tensor"):
        wasserstein(x, x, data_weights=[0.2] * 5)
    monkeypatch.setattr(transport, "LARGEST_COSTS", 24)
    with pytest.raises(ValueError, match="at most 24 pairs, got 5 x 5; take fewer points, or sliced_wasserstein"):
        wasserstein(x, x)


def test_an_unsolved_program_is_refused(skewed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PIVOTS", 1)
    with (
        pytest.warns(UserWarning, match="numItermax"),
        pytest.raises(RuntimeError, match="did not solve the transport problem of 30 x 30 points"),
    ):
        wasserstein(skewed(30, 2, 0), skewed(30, 2, 1))


def test_without_pot_the_extra_is_named(skewed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"pip install 'urn-samplers\[metrics\]'"):
        wasserstein(skewed(5, 2, 0), skewed(5, 2, 1))
