"""Precision, recall, density and coverage: extremes, brute force, and their means for equal laws."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from urn.metrics import coverage, density_coverage, precision_recall


def inside(points: np.ndarray, centres: np.ndarray, k: int) -> np.ndarray:
    """Whether each point (row) lies in each centre's ball (column), by scikit-learn and explicit differences."""
    radii = NearestNeighbors(n_neighbors=k).fit(centres).kneighbors()[0][:, -1]
    return np.linalg.norm(points[:, None] - centres[None], axis=2) <= radii


@pytest.mark.parametrize("k", [1, 3, 6])
def test_all_four_are_brute_force_in_any_blocks(k: int, skewed, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = skewed(40, 2, 0), skewed(55, 2, 1, rate=0.7)
    around_data, around_samples = inside(x.numpy(), y.numpy(), k), inside(y.numpy(), x.numpy(), k)
    expected = around_data.any(1).mean(), around_samples.any(1).mean(), around_data.sum() / (k * 40)
    for block in (2**22, 1, 200):
        monkeypatch.setattr(coverage, "BLOCK_VALUES", block)
        precision, recall = precision_recall(x, y, k)
        density, covered = density_coverage(x, y, k)
        assert (precision, recall, density) == pytest.approx(expected, rel=1e-12)
        assert covered == pytest.approx(around_data.any(0).mean(), rel=1e-12)
        assert precision_recall(x.flip(0), y, k) == (precision, recall)
    assert min(precision, recall, covered) < 1


def test_swapping_the_sets_swaps_precision_and_recall(skewed) -> None:
    x, y = skewed(60, 2, 0), skewed(50, 2, 1, rate=0.4)
    assert precision_recall(x, y) == precision_recall(y, x)[::-1]
    assert precision_recall(x, y).precision > precision_recall(x, y).recall


def test_extremes(skewed) -> None:
    x = skewed(50, 3, 0)
    assert precision_recall(x.flip(0), x) == (1, 1)
    assert density_coverage(x.flip(0), x)[1] == 1
    assert precision_recall(x + 1e3, x) == (0, 0)
    assert density_coverage(x + 1e3, x) == (0, 0)


def test_a_missing_mode_costs_recall_and_a_false_one_precision(skewed) -> None:
    mode, other = skewed(60, 2, 0), 1e3 + skewed(20, 2, 1)
    both = torch.cat([mode, other])
    assert precision_recall(mode, both) == (1, 0.75)
    assert precision_recall(both, mode) == (0.75, 1)
    assert density_coverage(mode, both).coverage == 0.75


def test_density_and_coverage_shrug_off_an_outlier(skewed) -> None:
    data = torch.cat([skewed(60, 2, 0), torch.full((1, 2), -1e3, dtype=torch.float64)])  # its ball covers all
    bad = -skewed(30, 2, 1)
    assert precision_recall(bad, data).precision == 1
    assert density_coverage(bad, data).density < 0.5


@pytest.mark.parametrize("offset", [0.0, 0.1, 1e4])
def test_repeated_points_lie_in_their_own_balls(offset: float) -> None:
    """Balls of radius zero: rounding must not push a point out of a ball around itself."""
    data = offset + torch.tensor([[0.1, 0.7], [0.3, 0.9], [1.7, 0.2]], dtype=torch.float64).repeat(5, 1)
    assert precision_recall(data[:6], data, k=1) == (1, 1)
    assert density_coverage(data[:6], data, k=1) == (5, 1)
    assert precision_recall(data[:6] + 1e-3, data, k=1) == (0, 0)


def test_a_constant_is_its_own_support() -> None:
    """Every distance, radius and norm is zero here: what is left is that a ball contains its sphere."""
    constant = torch.full((7, 2), 3.0)
    assert precision_recall(constant[:5], constant) == (1, 1)


def test_means_for_equal_laws(skewed) -> None:
    """Density has mean 1; a ball stays empty if all k nearest of the other N + M - 1 points are data."""
    n, m, k = 12, 20, 3
    pairs = [density_coverage(skewed(n, 2, 2 * s), skewed(m, 2, 2 * s + 1), k) for s in range(1500)]
    empty = prod((m - i) / (n + m - i) for i in range(1, k + 1))
    for name, values, truth in zip(
        ("density", "coverage"), torch.tensor(pairs, dtype=torch.float64).T, (1.0, 1 - empty), strict=True
    ):
        error = float(values.std()) / sqrt(len(values))
        assert float(values.mean()) == pytest.approx(truth, abs=3.5 * error), name
        assert error < 0.02


@pytest.mark.parametrize("k", [0, 5])
def test_a_neighbour_that_does_not_exist_is_refused(k: int, skewed) -> None:
    x: Tensor = skewed(5, 2, 0)
    with pytest.raises(ValueError, match=f"k must be at least 1 and less than the 5 points of samples, got {k}"):
        precision_recall(x, skewed(9, 2, 1), k)
    with pytest.raises(ValueError, match=f"k must be at least 1 and less than the 5 points of data, got {k}"):
        density_coverage(skewed(9, 2, 1), x, k)
