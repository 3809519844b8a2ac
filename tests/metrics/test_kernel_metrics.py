"""Energy distance and MMD against brute force, SciPy, closed forms and their own unbiasedness."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, sqrt

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from urn.metrics import energy_distance, mmd, pairwise


def brute_force(x: Tensor, y: Tensor, kernel: Callable[[np.ndarray], np.ndarray]) -> float:
    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        values = [kernel(np.linalg.norm(p - q)) for i, p in enumerate(a) for j, q in enumerate(b) if not same or i != j]
        return float(np.mean(values))

    a, b = x.numpy(), y.numpy()
    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


def test_energy_distance_is_brute_force(skewed) -> None:
    x, y = skewed(17, 3, 0), skewed(23, 3, 1, rate=0.5)
    assert energy_distance(x, y) == pytest.approx(brute_force(x, y, lambda r: -r), rel=1e-12)


def test_mmd_is_brute_force_and_several_bandwidths_are_averaged(skewed) -> None:
    x, y = skewed(17, 3, 0), skewed(23, 3, 1, rate=0.5)
    alone = [brute_force(x, y, lambda r, h=h: np.exp(-(r**2) / (2 * h**2))) for h in (0.7, 4.0)]
    assert mmd(x, y, bandwidth=4.0) == pytest.approx(alone[1], rel=1e-12)
    assert mmd(x, y, bandwidth=[0.7, 4.0]) == pytest.approx(sum(alone) / 2, rel=1e-12)


def test_energy_distance_is_scipys_up_to_the_pairs_of_a_point_with_itself(skewed) -> None:
    x, y = skewed(30, 1, 0), skewed(41, 1, 1, rate=0.6)

    def within(points: Tensor) -> float:
        return float((points - points.T).abs().sum()) / (len(points) * (len(points) - 1))

    v_statistic = scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert energy_distance(x, y) + within(x) / 30 + within(y) / 41 == pytest.approx(v_statistic, rel=1e-12)


@pytest.mark.parametrize("rate", [1.0, 2.5])
def test_energy_distance_is_unbiased(skewed, rate: float) -> None:
    """Exponential laws of rates a and b are (a - b)^2 / (a b (a + b)) apart, since E|X - Y| = 1/a + 1/b - 2/(a + b)."""
    values = torch.tensor([energy_distance(skewed(6, 1, 2 * s), skewed(9, 1, 2 * s + 1, rate)) for s in range(1500)])
    truth = (1 - rate) ** 2 / (rate * (1 + rate))
    error = float(values.std()) / sqrt(len(values))
    assert float(values.mean()) == pytest.approx(truth, abs=3.5 * error)
    assert error < 0.02  # the V-statistic's bias, 1/6 + 1/9 and more, is over ten times that


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.5, 0.4)])
def test_mmd_is_unbiased(shift: float, scale: float) -> None:
    """E exp(-(X - Y)^2 / 2 h^2) = h / s exp(-m^2 / 2 s^2), s^2 = h^2 + Var X + Var Y, for Gaussians m apart."""
    h = 0.8

    def expected(mean: float, variance: float) -> float:
        return h / sqrt(h**2 + variance) * exp(-(mean**2) / (2 * (h**2 + variance)))

    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(1500, 16, generator=generator, dtype=torch.float64)
    values = torch.tensor([mmd(row[:7], shift + scale * row[7:], bandwidth=h) for row in draws])
    truth = expected(0, 2) + expected(0, 2 * scale**2) - 2 * expected(shift, 1 + scale**2)
    error = float(values.std()) / sqrt(len(values))
    assert float(values.mean()) == pytest.approx(truth, abs=3.5 * error)
    assert error < 0.01  # the V-statistic is biased by about 0.1


def test_default_bandwidth_is_the_median_distance_of_the_data_alone(skewed) -> None:
    x, y = skewed(20, 2, 0), skewed(31, 2, 1, rate=0.5)
    median = float(torch.pdist(y).median())  # 465 distances: the middle one
    assert mmd(x, y) == pytest.approx(mmd(x, y, bandwidth=median), rel=1e-12)
    assert mmd(5 * x, y) == pytest.approx(mmd(5 * x, y, bandwidth=median), rel=1e-12)


def test_a_large_set_gives_its_bandwidth_from_a_fixed_part(skewed) -> None:
    x, y = skewed(50, 2, 0), skewed(3000, 2, 1)
    median = float(torch.pdist(y).median())
    assert mmd(x, y) == mmd(x, y)
    assert mmd(x, y) == pytest.approx(mmd(x, y, bandwidth=median), rel=0.02)


@pytest.mark.parametrize("metric", [energy_distance, mmd])
def test_tiles_order_and_origin_change_nothing(metric, skewed, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = skewed(50, 3, 0), skewed(33, 3, 1, rate=0.5)
    whole = metric(x, y)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert metric(x[order], y.flip(0)) == pytest.approx(whole, rel=1e-11)
    assert metric(x + 1e6, y + 1e6) == pytest.approx(whole, rel=1e-8)  # the inputs themselves round at 1e-10
    monkeypatch.setattr(pairwise, "TILE", 7)
    assert metric(x, y) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), [], [1.0, 0.0]])
def test_a_bandwidth_that_is_not_positive_is_refused(bandwidth) -> None:
    x = torch.tensor([0.0, 1.0, 3.0])
    with pytest.raises(ValueError, match="bandwidth must be one or more positive finite numbers, or None"):
        mmd(x, x, bandwidth=bandwidth)


def test_coinciding_data_need_a_bandwidth() -> None:
    data = torch.full((9, 3), 0.1)
    data[0] = 7.0
    with pytest.raises(ValueError, match="bandwidth must be given: the median distance within data is 0"):
        mmd(data, data)
    assert mmd(data, data, bandwidth=1.0) == pytest.approx(2 * (7 / 9) - 2 * (65 / 81), abs=1e-12)
