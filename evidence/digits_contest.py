"""Two samplers on the network Urn ships: their distances to held-out digits, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import urn
from evidence.book import Finding
from evidence.measure import mean_interval, shown
from urn.metrics import frechet_distance
from urn.nets.data import digits
from urn.nets.digits_network import load_digits


@lru_cache(maxsize=1)
def held_out() -> Tensor:
    """The digits of the test split, (N, 64)."""
    return digits("test")[0].flatten(1).double()


def distance(method: Any, steps: int, count: int, seed: int, grid: str = "quadratic") -> float:
    """The Frechet distance, on pixels, of `count` samples from given seeds to the held-out digits."""
    model = load_digits()
    plan = urn.compile_plan(method, model.process, steps, grid)
    labels = torch.arange(count) % 10
    x = urn.sample(model, plan, shape=(count, *model.shape), seed=seed, conditioning={"label": labels})
    return frechet_distance(x.flatten(1).double(), held_out())


def closer(claim: str, method: Any, rival: Any, rival_name: str, steps: Sequence[int], full: bool) -> Finding:
    """Whether a method's samples are nearer to held-out digits than a rival's from the same starts."""
    batches, count = (8, 1000) if full else (3, 200)
    parts, holds = [], True
    for n in steps:
        pairs = [(distance(method, n, count, seed), distance(rival, n, count, seed)) for seed in range(batches)]
        interval = mean_interval([ours - theirs for ours, theirs in pairs])
        of_rival = sum(theirs for _, theirs in pairs) / batches
        parts.append(f"{n} steps: {shown(interval, 2)} from {of_rival:.3g}")
        holds = holds and interval.high < 0
    return Finding(
        claim,
        f"the Frechet distance to held-out digits less {rival_name}'s below 0, by 95 % intervals over {batches} batches of "
        f"{count} from the same starts",
        "; ".join(parts),
        holds,
    )
