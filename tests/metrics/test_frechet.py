"""The Fréchet distance against its formula, on sets whose empirical moments are prescribed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from urn.metrics import frechet, frechet_distance


def with_moments(mean: Tensor, root: Tensor, count: int, seed: int) -> Tensor:
    """Points (count, d) with empirical mean ``mean`` and covariance ``root @ root.T`` to rounding: whiten, colour."""
    noise = torch.randn(count, root.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    white = torch.linalg.qr(noise - noise.mean(dim=0)).Q * (count - 1) ** 0.5
    return mean + white @ root.T


def random_root(dimensions: int, seed: int) -> Tensor:
    root = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root * torch.linspace(0.2, 3.0, dimensions, dtype=torch.float64)


def test_formula_on_prescribed_moments() -> None:
    mean1, mean2 = torch.arange(6.0, dtype=torch.float64), torch.linspace(-3, 1, 6, dtype=torch.float64)
    root1, root2 = random_root(6, 0), random_root(6, 1)
    cov1, cov2 = root1 @ root1.T, root2 @ root2.T
    # The eigenvalues of a product of two covariances are nonnegative: an expression that Urn does not use.
    cross = np.sqrt(np.linalg.eigvals((cov1 @ cov2).numpy()).real).sum()
    truth = float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace()) - 2 * cross
    got = frechet_distance(with_moments(mean1, root1, 40, 2), with_moments(mean2, root2, 23, 3))
    assert got == pytest.approx(truth, rel=1e-11)


def test_commuting_covariances_with_null_directions() -> None:
    """(m1 - m2)^2 + sum (s1 - s2)^2, where each law is singular in a direction of its own and both are in one."""
    s1 = torch.tensor([0.0, 1.0, 3.0, 0.0, 0.5], dtype=torch.float64)
    s2 = torch.tensor([2.0, 0.0, 1.0, 0.0, 4.0], dtype=torch.float64)
    shift = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0], dtype=torch.float64)
    truth = float(shift.square().sum() + (s1 - s2).square().sum())
    x, y = with_moments(shift, torch.diag(s1), 30, 0), with_moments(torch.zeros(5), torch.diag(s2), 30, 1)
    assert frechet_distance(x, y) == pytest.approx(truth, rel=1e-12)


def test_an_isometry_into_more_dimensions_changes_nothing() -> None:
    """Fewer points than dimensions. Roots of rounded null eigenvalues would show at 1e-8 per direction."""
    x, y = with_moments(torch.ones(5), random_root(5, 0), 30, 2), with_moments(torch.zeros(5), random_root(5, 1), 40, 3)
    wide = torch.linalg.qr(random_root(300, 4)).Q[:5]
    assert frechet_distance(x @ wide, y @ wide) == pytest.approx(frechet_distance(x, y), rel=1e-11)


def test_a_shift_costs_its_squared_length() -> None:
    x = with_moments(torch.zeros(4), random_root(4, 0), 20, 0)
    shift = torch.tensor([1.0, -2.0, 0.0, 4.0], dtype=torch.float64)
    assert frechet_distance(x, x + shift) == pytest.approx(21.0, rel=1e-12)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-11)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (
        with_moments(torch.ones(3), random_root(3, 0), 200, 2),
        with_moments(torch.zeros(3), random_root(3, 1), 77, 3),
    )
    whole = frechet_distance(x, y)
    monkeypatch.setattr(frechet, "QR_ROWS", 1)  # blocks of 4 d = 12 rows
    assert frechet_distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_features_are_applied_in_batches_without_gradients() -> None:
    seen: list[int] = []

    def features(batch: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        seen.append(len(batch))
        return batch.sum(dim=2).square()

    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1100, 3, 4, generator=generator), 1 + torch.randn(600, 3, 4, generator=generator)
    got = frechet_distance(x, y, features)
    assert seen == [512, 512, 76, 512, 88]
    assert got == pytest.approx(frechet_distance(x.sum(dim=2).square(), y.sum(dim=2).square()), rel=1e-12)


def test_features_that_break_their_promise_are_named() -> None:
    x = torch.arange(12.0).reshape(6, 2)
    with pytest.raises(TypeError, match=r"features must return a torch\.Tensor, got list"):
        frechet_distance(x, x, lambda batch: batch.tolist())  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"features must return one row per input, got \(2,\) for 6"):
        frechet_distance(x, x, lambda batch: batch.sum(dim=0))
    with pytest.raises(ValueError, match=r"features\(data\) must be finite, got NaN or infinity in 1 of 6 rows"):
        frechet_distance(x + 1, x, lambda batch: batch[:, :1].log())
