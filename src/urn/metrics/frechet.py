"""The Fréchet distance between the Gaussians that share two sets' means and covariances."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from urn.metrics.inputs import as_pair

FEATURE_ROWS = 512  # images that go through ``features`` at once
QR_ROWS = 8192


def frechet_distance(samples: Tensor, data: Tensor, features: Callable[[Tensor], Tensor] | None = None) -> float:
    """The squared Fréchet (2-Wasserstein) distance between Gaussians with the empirical moments of both sets.

        d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    It is reported squared, as FID is; with Inception features it is FID. C = R^T R with R from a QR decomposition of
    the centred points, so tr (C1 C2)^(1/2) is the sum of the singular values of R1 R2^T. No covariance is formed and
    no root of an eigenvalue taken, hence nothing is lost where covariances are singular (fewer points than
    dimensions, or data on a subspace), and nothing turns complex.

    The estimate is biased upwards by an amount of order 1/N which itself depends on the model (Chong, Forsyth, 2020,
    "Effectively unbiased FID and Inception Score and where to find them", arXiv 1911.07023): compare values at equal
    N, or look at the interval of `bootstrap`, which takes that bias out.

    Args:
        samples: shape (N, *S), N >= 2.
        data: shape (M, *S), M >= 2.
        features: maps a batch (b, *S) to (b, *F), row by row; called on at most 512 rows at a time, without
            gradients. None compares the flattened tensors.

    Returns:
        d^2 >= 0, with covariances divided by N - 1 and M - 1.

    Raises:
        TypeError: input that is not two tensors, or ``features`` that returns something else.
        ValueError: values that are not finite, unequal sample shapes, or ``features`` that changes the number of rows.

    Source: Dowson, Landau (1982), "The Fréchet distance between multivariate normal distributions", Journal of
    Multivariate Analysis 12; Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter (2017), "GANs trained by a two
    time-scale update rule converge to a local Nash equilibrium", arXiv 1706.08500.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> round(frechet_distance(x, 3 * x + 4), 6)  # means 1 and 7, standard deviations sqrt(2) and 3 sqrt(2)
        44.0
    """
    if features is None:
        x, y = as_pair(samples, data)
    else:
        through = _apply("samples", samples, features), _apply("data", data, features)
        x, y = as_pair(*through, naming="features({})")
    mean1, mean2 = x.mean(dim=0), y.mean(dim=0)
    root1, root2 = _covariance_root(x - mean1), _covariance_root(y - mean2)
    cross = torch.linalg.svdvals(root1 @ root2.T).sum()
    squared = (mean1 - mean2).square().sum() + root1.square().sum() + root2.square().sum() - 2 * cross
    return max(0.0, float(squared))  # rounding alone takes it below zero


def _covariance_root(centred: Tensor) -> Tensor:
    """R of shape (min(n, d), d) with R^T R = centred^T centred / (n - 1), from blocks of rows."""
    root: Tensor = centred[:0]
    for block in torch.split(centred, max(QR_ROWS, 4 * centred.shape[1])):
        root = torch.linalg.qr(torch.cat([root, block]), mode="r").R
    return root / math.sqrt(len(centred) - 1)


def _apply(name: str, value: Tensor, features: Callable[[Tensor], Tensor]) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape (N, *S), got {type(value).__name__}")
    pieces = []
    with torch.no_grad():
        for batch in torch.split(value, FEATURE_ROWS):
            piece = features(batch)
            if not isinstance(piece, Tensor):
                raise TypeError(f"features must return a torch.Tensor, got {type(piece).__name__}")
            if piece.ndim == 0 or len(piece) != len(batch):
                raise ValueError(f"features must return one row per input, got {tuple(piece.shape)} for {len(batch)}")
            pieces.append(piece)
    return torch.cat(pieces)
