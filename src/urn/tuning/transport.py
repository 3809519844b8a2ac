"""Starts by optimal transport: noise is mapped to a finite bank of states on the way, and only the rest of the way is walked.

Semi-discrete optimal transport from N(0, I) to the bank's states y_1 ... y_n, each of mass 1/n, is the gradient of

    u(z) = max_i (<z, y_i> + h_i),        z -> y_i on the cell where plane i is the highest,

with heights h for which all cells have mass 1/n. E[u(z)] - mean(h) is convex in h with gradient (mass of cell i) - 1/n, which is
counted on draws of z; Adam goes down it. Near a border between cells whose states point apart the map tears: a z is dropped
where the states of its two highest planes are at more than a given angle. From y on, at a noise level in the middle, the last
steps of a plan lead to data.

**The bank is finite.** All that this draws are the ends of n states; made of noised data they remember these. A report should
show how near samples are to the bank's data (`nearest`): near 0 is copying.

Source: Li, Li, Wang, Lei, Luo, Gu 2023, DPM-OT: A New Diffusion Probabilistic Model Based on Optimal Transport, arXiv
2307.11308; the map and its angles: An et al. 2020, AE-OT, ICLR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from urn.method import at_least_one, number

CHUNK = 1 << 22  # entries of a table of heights at a time


@dataclass(frozen=True, eq=False)
class Transport:
    """The map from noise to the bank.

    Attributes:
        bank: (n, *S), the states.
        heights: (n,), of their planes, mean 0.
    """

    bank: Tensor
    heights: Tensor

    def two_highest(self, z: Tensor) -> Tensor:
        """(B, 2): the places of the highest plane over each z, and of the next."""
        y = self.bank.flatten(1).double()
        parts = torch.split(z.flatten(1).double(), max(1, CHUNK // len(y)))
        return torch.cat([(part @ y.T + self.heights).topk(2, dim=1).indices for part in parts])

    def masses(self, draws: int, seed: int) -> Tensor:
        """(n,): the share of `draws` unit normals in each cell."""
        y = self.bank.flatten(1).double()
        parts = torch.split(_normals(draws, self.bank, seed), max(1, CHUNK // len(y)))
        found = torch.cat([torch.addmm(self.heights, part, y.T).argmax(1) for part in parts])
        return torch.bincount(found, minlength=len(self.bank)).double() / draws

    def angles(self, places: Tensor) -> Tensor:
        """(B,): the angle between the states at pairs of places, in radians."""
        first, second = (self.bank.flatten(1).double()[places[:, k]] for k in (0, 1))
        cosine = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1)).clamp(min=1e-300)
        return torch.arccos(cosine.clamp(-1, 1))

    def starts(self, count: int, seed: int, angle: float | None = None) -> tuple[Tensor, Tensor]:
        """States for `count` unit normals, (count, *S), and their places in the bank, (count,).

        Args:
            count: how many.
            seed: of the normals.
            angle: in radians, in (0, pi]; a normal whose two highest planes' states are at more is dropped, and another one
                drawn. None keeps all.

        Raises:
            ValueError: the angle is none, or drops more than 99 of 100 normals.
        """
        at_least_one("count", count)
        if angle is not None:
            number("angle", angle, 0, math.pi)
        kept: list[Tensor] = []
        found, drawn = 0, 0
        while found < count:
            places = self.two_highest(_normals(count, self.bank, seed + 7919 * (drawn // count)))
            drawn += count
            if angle is not None:
                places = places[self.angles(places) <= angle]
            kept.append(places[:, 0])
            found += len(places)
            if drawn >= 100 * count and found < count:
                raise ValueError(f"angle={angle!r} drops {drawn - found} of {drawn} normals: allow a larger one")
        chosen = torch.cat(kept)[:count]
        return self.bank[chosen], chosen


def transport_starts(
    bank: Tensor, *, iterations: int = 300, draws: int = 4096, rate: float | None = None, seed: int = 0
) -> Transport:
    """Fit the heights so that all cells have the same mass.

    Args:
        bank: (n, *S), at least 2 states, all at one noise level: data noised to it, or a fine plan's states there.
        iterations: of Adam, whose rate falls to a hundredth of `rate` on the way.
        draws: normals in each iteration; a mass is known to about sqrt(n/draws) of itself in each.
        rate: by default a tenth of the spread of the planes' heights, E|<z, y_i - y_j>|.
        seed: of the normals.

    Returns:
        A `Transport`: `.starts(count, seed)` are states from which a plan on the rest of the grid goes on.

    Raises:
        ValueError: fewer than two states, states that are not finite, or two that are the same.

    Source: Li et al. 2023, DPM-OT, arXiv 2307.11308, section 3.2.

    Example:
        >>> found = transport_starts(alpha * data + sigma * noise)          # at time t
        >>> plan = compile_plan("dpmpp_2m", process, grid=times)              # from t to the data
        >>> x = urn.sample(model, plan, start=found.starts(64, seed=0)[0])
    """
    if not isinstance(bank, Tensor) or bank.ndim < 2 or len(bank) < 2 or not bool(torch.isfinite(bank).all()):
        what = tuple(bank.shape) if isinstance(bank, Tensor) else type(bank).__name__
        raise ValueError(f"bank={what} must be a tensor (n, *S) of at least 2 finite states")
    at_least_one("iterations", iterations)
    at_least_one("draws", draws)
    y = bank.detach().flatten(1).double()
    if len(torch.unique(y, dim=0)) < len(y):
        raise ValueError(f"bank: {len(y)} states of which some are the same; one of each is needed")
    scale = float((y - y.roll(1, 0)).norm(dim=1).mean())
    step = 0.1 * scale if rate is None else number("rate", rate, 0, ends=False)
    heights = torch.zeros(len(y), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([heights], lr=step)
    falling = torch.optim.lr_scheduler.ExponentialLR(adam, gamma=0.01 ** (1 / iterations))
    total, averaged = torch.zeros_like(heights), 0
    for iteration in range(iterations):
        now = Transport(bank, heights.detach())
        heights.grad = now.masses(draws, seed + iteration) - 1 / len(y)
        adam.step()
        falling.step()
        with torch.no_grad():
            heights -= heights.mean()
            if iteration >= iterations // 2:
                total, averaged = total + heights, averaged + 1
    return Transport(bank, (total / max(averaged, 1)).detach())


def nearest(samples: Tensor, data: Tensor) -> Tensor:
    """(B,): each sample's distance to the nearest of the data, root mean square over coordinates."""
    distances: Any = torch.cdist(samples.flatten(1).double(), data.flatten(1).double())
    found: Tensor = distances.min(1).values / math.sqrt(samples[0].numel())
    return found


def _normals(count: int, like: Tensor, seed: int) -> Tensor:
    return torch.randn(count, like[0].numel(), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
