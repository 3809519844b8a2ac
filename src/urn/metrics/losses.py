"""The three distances that a plan may be fitted to, with the samples' gradient: tensors of one float64 number.

They are `energy_distance` and `mmd` less the term of the data alone, which no sample changes, and `frechet_distance`, to rounding;
for as many samples as fit in memory at once: N (N + M) numbers for the first two. The slope of |x - y| where two points coincide, which has none, is taken as 0.

The Fréchet distance needs no root of the samples' covariance: with X the centred samples over sqrt(N - 1) and C2 = R2^T R2,
tr (C1 C2)^(1/2) is the sum of the singular values of X R2^T, whose slope in X R2^T = U S V^T is U V^T.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from urn.metrics.frechet import covariance_root
from urn.metrics.kernels import median_distance


def energy_loss(samples: Tensor, data: Tensor) -> Tensor:
    """2 E|X - Y| - E|X - X'|, unbiased; see `energy_distance`."""
    x, y = _centred(samples, data)
    return -_discrepancy(x, y, _root)


def mmd_loss(samples: Tensor, data: Tensor) -> Tensor:
    """E k(X, X') - 2 E k(X, Y) with a Gaussian kernel of the data's median distance, unbiased; see `mmd`."""
    x, y = _centred(samples, data)
    scale = -0.5 / median_distance(y) ** 2
    return _discrepancy(x, y, lambda squared: torch.exp(scale * squared))


def frechet_loss(samples: Tensor, data: Tensor) -> Tensor:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); see `frechet_distance`."""
    x, y = _centred(samples, data)
    mean = x.mean(0)
    X, R2 = (x - mean) / math.sqrt(len(x) - 1), covariance_root(y)
    cross = torch.linalg.svdvals(X @ R2.T).sum()
    squared: Tensor = mean.square().sum() + X.square().sum() + R2.square().sum() - 2 * cross
    return squared


def _centred(samples: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    y = data.detach().to(samples.device, torch.float64).flatten(1)
    centre = y.mean(0)
    return samples.to(torch.float64).flatten(1) - centre, y - centre


def _discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    within = kernel(_squares(x, x))
    pairs = len(x) * (len(x) - 1)
    return (within.sum() - within.diagonal().sum()) / pairs - 2 * kernel(_squares(x, y)).mean()


def _squares(x: Tensor, y: Tensor) -> Tensor:
    products = torch.addmm(y.square().sum(1), x, y.T, alpha=-2)
    return (products + x.square().sum(1, keepdim=True)).clamp(min=0)


def _root(squared: Tensor) -> Tensor:
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


__all__ = ["energy_loss", "frechet_loss", "mmd_loss"]
