"""Energy distance and maximum mean discrepancy: differences of mean pairwise kernels.

With a kernel k, X, X' drawn from the law of the samples and Y, Y' from the law of the data,

    MMD^2 = E k(X, X') + E k(Y, Y') - 2 E k(X, Y).

The energy distance is the case k(x, y) = -|x - y| (Sejdinovic, Sriperumbudur, Gretton, Fukumizu, 2013, "Equivalence of
distance-based and RKHS-based statistics in hypothesis testing", arXiv 1207.6076). Both are estimated by U-statistics:
pairs of a point with itself are left out, so the mean over draws is the true value, and single values fall below zero
when the laws are close.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from urn.metrics.inputs import as_pair
from urn.metrics.pairwise import mean_across, mean_within, squared_distances

MEDIAN_POINTS = 1000  # half a million pairs: the median is then known to well under a per cent


def energy_distance(samples: Tensor, data: Tensor) -> float:
    """The energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'|, unbiased.

    It vanishes only for equal laws (with finite means), and has no parameter.

    `scipy.stats.energy_distance` (one dimension only) is the square root of the V-statistic, which averages over all
    pairs, those of a point with itself included. With W_x and W_y the means over different points used here,
    scipy^2 = this + W_x / N + W_y / M.

    Args:
        samples: shape (N, *S), N >= 2.
        data: shape (M, *S), M >= 2.

    Returns:
        the squared-type distance (not its root), in the unit of the data; may be negative.

    Raises:
        TypeError, ValueError: input that is not two finite tensors of one sample shape.

    Source: Székely, Rizzo (2013), "Energy statistics: a class of statistics based on distances", Journal of
    Statistical Planning and Inference 143.

    Example:
        >>> energy_distance(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 3.0]))  # 2 * 1.5 - 1 - 3
        -1.0
    """
    x, y = as_pair(samples, data)
    return -_discrepancy(x, y, torch.sqrt)


def mmd(samples: Tensor, data: Tensor, bandwidth: float | Sequence[float] | None = None) -> float:
    """The squared maximum mean discrepancy with Gaussian kernels, unbiased.

    The kernel is the mean over the bandwidths h of exp(-|x - y|^2 / (2 h^2)).

    Args:
        samples: shape (N, *S), N >= 2.
        data: shape (M, *S), M >= 2.
        bandwidth: h > 0 in the unit of the data, or several of them. None takes the median distance between two
            points of ``data`` (of 1000 of them, the same ones at every call, where there are more), never of
            ``samples``: so that the values of several samplers against the same data can be compared.

    Returns:
        the squared discrepancy, without unit, at most 2; may be negative.

    Raises:
        TypeError: input that is not two tensors.
        ValueError: values that are not finite, unequal sample shapes, a bandwidth that is not positive and finite, or
            no bandwidth where half the pairs of ``data`` coincide.

    Source: Gretton, Borgwardt, Rasch, Schölkopf, Smola (2012), "A kernel two-sample test", JMLR 13 (earlier form:
    arXiv 0805.2368), with the median heuristic of its section 8.

    Example:
        >>> near, far = torch.tensor([0.0, 1.0]), torch.tensor([9.0, 10.0])
        >>> round(mmd(near, far, bandwidth=1.0), 4)  # 2 exp(-1/2), and nothing across
        1.2131
    """
    x, y = as_pair(samples, data)
    scales = [-0.5 / h**2 for h in _bandwidths(bandwidth, y)]

    def kernel(squared: Tensor) -> Tensor:
        values = torch.zeros_like(squared)
        for scale in scales:
            values += torch.exp(squared * scale)
        return values / len(scales)

    return _discrepancy(x, y, kernel)


def _discrepancy(x: Tensor, y: Tensor, kernel: Callable[[Tensor], Tensor]) -> float:
    return mean_within(x, kernel) + mean_within(y, kernel) - 2 * mean_across(x, y, kernel)


def _bandwidths(bandwidth: float | Sequence[float] | None, data: Tensor) -> list[float]:
    if bandwidth is None:
        return [_median_distance(data)]
    given = [bandwidth] if isinstance(bandwidth, (int, float)) else list(bandwidth)
    if not given or not all(math.isfinite(h) and h > 0 for h in given):
        raise ValueError(f"bandwidth must be one or more positive finite numbers, or None, got {bandwidth!r}")
    return [float(h) for h in given]


def _median_distance(data: Tensor) -> float:
    if len(data) > MEDIAN_POINTS:  # drawn, since every n-th point of ordered data may be special
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        data = data[order[:MEDIAN_POINTS].to(data.device)]
    first, second = torch.triu_indices(len(data), len(data), offset=1, device=data.device)
    median = float(squared_distances(data, data)[first, second].median().sqrt())
    # Coinciding points come out of the matrix product as far apart as rounding puts them.
    if median <= 1e-6 * float(data.square().sum(dim=1).max().sqrt()):
        raise ValueError("bandwidth must be given: the median distance within data is 0, for half its pairs coincide")
    return median
