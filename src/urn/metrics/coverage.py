"""Precision and recall, density and coverage: do samples lie where data do, and the other way round?

A law's support is estimated by balls: around each of its points one that reaches to that point's k-th nearest other
point of the same set. A point on the sphere counts as inside, to within rounding, so that sets with repeated points
(whose balls may have radius zero) keep their meaning.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from urn.metrics.inputs import as_pair
from urn.metrics.pairwise import squared_distances

BLOCK_VALUES = 2**22  # distances held at once: 32 MiB
ROUNDING = 1e-12  # of |x|^2 + |y|^2: thousands of roundings, and a millionth of a norm in distance


class PrecisionRecall(NamedTuple):
    """Both in [0, 1]: ``precision``, of samples on the data's support; ``recall``, of data on the samples'."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """``density`` >= 0, about 1 for equal laws and possibly above; ``coverage`` in [0, 1]."""

    density: float
    coverage: float


def precision_recall(samples: Tensor, data: Tensor, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall.

    precision is the fraction of samples inside the ball of at least one data point, recall the fraction of data
    inside the ball of at least one sample. Low precision: samples off the data; low recall: modes missing.
    Both depend on N, M and k: compare values at equal ones.

    Args:
        samples: shape (N, *S), N > k.
        data: shape (M, *S), M > k.
        k: which neighbour gives the radius, >= 1.

    Returns:
        a named pair (precision, recall).

    Raises:
        TypeError, ValueError: input that is not two finite tensors of one sample shape, or k outside [1, min(N, M)).

    Source: Kynkäänniemi, Karras, Laine, Lehtinen, Aila (2019), "Improved precision and recall metric for assessing
    generative models", arXiv 1904.06991.

    Example:
        >>> data = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
        >>> precision_recall(torch.tensor([0.1, 0.9, 1.6, 5.0]), data, k=1)
        PrecisionRecall(precision=0.75, recall=0.5)
    """
    x, y = as_pair(samples, data)
    _check_neighbour(k, samples=len(x), data=len(y))
    around_data, _ = _hits(x, y, _squared_radii(y, k))
    around_samples, _ = _hits(y, x, _squared_radii(x, k))
    return PrecisionRecall(_positive(around_data), _positive(around_samples))


def density_coverage(samples: Tensor, data: Tensor, k: int = 5) -> DensityCoverage:
    """Density and coverage, which one outlier cannot spoil: its large ball adds 1/k to a count, and covers itself only.

    density is the number of balls of data points that a sample lies in, on average, divided by k; coverage the
    fraction of data points whose own ball holds a sample. For equal laws the mean density is 1 and the mean coverage

        1 - (M-1)...(M-k) / ((N+M-1)...(N+M-k)).

    Args:
        samples: shape (N, *S), N >= 2.
        data: shape (M, *S), M > k.
        k: which neighbour gives the radius, >= 1.

    Returns:
        a named pair (density, coverage).

    Raises:
        TypeError, ValueError: input that is not two finite tensors of one sample shape, or k outside [1, M).

    Source: Naeem, Oh, Uh, Choi, Yoo (2020), "Reliable fidelity and diversity metrics for generative models",
    arXiv 2002.09797.

    Example:
        >>> data = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])
        >>> density_coverage(torch.tensor([0.25, 30.0]), data, k=1)  # 0.25 lies in the balls of 0 and of 1
        DensityCoverage(density=1.0, coverage=0.3333333333333333)
    """
    x, y = as_pair(samples, data)
    _check_neighbour(k, data=len(y))
    balls_of_sample, samples_of_ball = _hits(x, y, _squared_radii(y, k))
    return DensityCoverage(float(balls_of_sample.sum()) / (k * len(x)), _positive(samples_of_ball))


def _squared_radii(points: Tensor, k: int) -> Tensor:
    """Each point's squared distance to its k-th nearest other point."""
    radii, start = [], 0
    for rows in torch.split(points, max(1, BLOCK_VALUES // len(points))):
        squared = squared_distances(rows, points)
        squared.diagonal(offset=start).fill_(torch.inf)  # the point itself
        radii.append(squared.topk(k, dim=1, largest=False).values.amax(dim=1))
        start += len(rows)
    return torch.cat(radii)


def _hits(points: Tensor, centres: Tensor, squared_radii: Tensor) -> tuple[Tensor, Tensor]:
    """In how many balls each point lies, and how many points lie in each ball."""
    limits = squared_radii + ROUNDING * centres.square().sum(dim=1)
    balls_of_point, points_of_ball = [], torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
    for rows in torch.split(points, max(1, BLOCK_VALUES // len(centres))):
        squared = squared_distances(rows, centres)
        inside = squared.sub_(ROUNDING * rows.square().sum(dim=1, keepdim=True)) <= limits
        balls_of_point.append(inside.sum(dim=1))
        points_of_ball += inside.sum(dim=0)
    return torch.cat(balls_of_point), points_of_ball


def _positive(counts: Tensor) -> float:
    return int((counts > 0).sum()) / len(counts)


def _check_neighbour(k: int, **counts: int) -> None:
    for name, count in counts.items():
        if not 1 <= k < count:
            raise ValueError(f"k must be at least 1 and less than the {count} points of {name}, got {k!r}")
