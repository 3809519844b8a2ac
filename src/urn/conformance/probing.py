"""The exact law of anybody's sampler on Gaussian data: its answers to unit vectors in place of its noise.

On the exact model of Gaussian data a sampler with fixed coefficients is affine in its start and in every noise that it draws.
So one run on a batch in which each sample has one unit vector as its start or as one of its noises, and zeros elsewhere, gives
every matrix of that map, and with them the mean and covariance of the output: to rounding, without Monte Carlo error.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Interval = tuple[float, float]
Draw = Callable[[Interval | None, Tensor], Tensor]
Drawn = Callable[[Tensor, Draw], Tensor]

AFFINE = 1e-6  # relative to the output; a clipped or normalised update is off by far more


def probed_moments(drawn: Drawn, mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean (d,) and covariance (d, d) of what a sampler makes of starts of law N(mean, covariance), or None.

    Args:
        drawn: drawn(x, draw) -> samples, (B, d) each. It takes its noise from draw(interval, like): standard normals for
            `interval` of one Brownian path, the same path at every call; fresh ones where the interval is None.

    Returns:
        None where the map turns out not to be affine, as when the sampler clips, or looks at norms.
    """
    size = len(mean)
    log: list[Interval | None] = []

    def recording(interval: Interval | None, like: Tensor) -> Tensor:
        log.append(interval)
        return torch.zeros_like(like)

    drawn(mean[None], recording)
    edges = sorted({end for interval in log if interval is not None for end in interval})
    place = {edge: k for k, edge in enumerate(edges)}
    fresh = sum(interval is None for interval in log)
    pieces = fresh + max(len(edges) - 1, 0)
    rows = (
        1 + size + size * pieces
    )  # the mean, the unit starts, the unit noises; and one of everything, to test the map
    x = mean.repeat(rows + 1, 1)
    x[1 : 1 + size] += torch.eye(size, dtype=mean.dtype)
    everything = torch.randn(size * (1 + pieces), generator=torch.Generator().manual_seed(5), dtype=mean.dtype)
    x[-1] += everything[:size]
    units = torch.zeros(rows + 1, pieces, size, dtype=mean.dtype)
    units[1 + size : rows] = torch.eye(size * pieces, dtype=mean.dtype).reshape(size * pieces, pieces, size)
    units[-1] = everything[size:].reshape(pieces, size)
    calls = iter(range(fresh))

    def unit(interval: Interval | None, like: Tensor) -> Tensor:
        if interval is None:
            return units[:, next(calls)].to(like).reshape(like.shape)
        low, high = (place[end] for end in sorted(interval))
        lengths = torch.tensor(edges[low : high + 1], dtype=mean.dtype).diff()
        shares = (lengths / lengths.sum()).sqrt()
        total = torch.einsum("bkd,k->bd", units[:, fresh + low : fresh + high], shares)
        return total.to(like).reshape(like.shape)

    y = drawn(x, unit).to(mean.dtype)
    columns = y[1:rows] - y[0]
    predicted = y[0] + everything @ columns
    if not bool((y[-1] - predicted).abs().max() <= AFFINE * (y.abs().max() + 1)):
        return None
    starts, noises = columns[:size], columns[size:]
    return y[0], starts.T @ covariance @ starts + noises.T @ noises
