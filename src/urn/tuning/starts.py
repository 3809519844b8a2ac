"""The best start: one x_T for every condition, found on a few pairs of condition and reference.

A deterministic plan makes of a start and a condition y one sample h(x_T, y). Where one sample near a reference z is wanted rather
than a draw (super-resolution, restoration), the start is a free choice:

    x_T* = argmin over K random x_T of  (1/N) sum_i distance(h(x_T, y_i), z_i),

which is then used for every y; samples of one y no longer vary. For Gaussian data the sample is h = m(y) + A x_T with a matrix A
that no condition changes, so that the expected squared distance is a constant + |A x_T|^2: x_T = 0 is optimal and gives the
posterior mean. The optimum is that of the distance: squared error is least at the mean, which looks smoother than any draw.

Source: Ma, Yang, Yang, Wang, Chen, Li 2023, Solving Diffusion ODEs with Optimal Boundary Conditions for Better Image
Super-Resolution, arXiv 2305.15357.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from urn.executor import execute
from urn.method import at_least_one
from urn.model import Model
from urn.plan import Plan

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class BestStart:
    """The start that was chosen, and what every candidate came to.

    Attributes:
        x: (*S), the start.
        chosen: its place among the candidates.
        distances: (K,), each candidate's mean distance over the calibration pairs.
        candidates: (K, *S).
    """

    x: Tensor
    chosen: int
    distances: Tensor
    candidates: Tensor

    def starts(self, count: int) -> Tensor:
        """The same start `count` times, (count, *S), for `urn.sample(..., start=)`."""
        return self.x.expand(count, *self.x.shape).clone()


def squared_distance(samples: Tensor, references: Tensor) -> Tensor:
    """(B,) mean squared differences over coordinates."""
    return (samples - references).square().flatten(1).mean(1)


def best_start(
    model: Model,
    plan: Plan,
    references: Tensor,
    *,
    conditioning: Mapping[str, Any] | None = None,
    candidates: int | Tensor = 64,
    distance: Distance = squared_distance,
    seed: int = 0,
    batch_size: int = 1024,
) -> BestStart:
    """Choose among random starts the one whose samples are nearest to references, over all conditions of a calibration set.

    Args:
        model: a conditional model.
        plan: a deterministic plan from the process's noise end.
        references: (N, *S), the wanted sample of each condition.
        conditioning: keyword arguments for the network; tensors of N entries have one for each reference.
        candidates: how many random starts, or the starts themselves, (K, *S).
        distance: (samples, references) -> (N,), smaller is better.
        seed: of the random starts.
        batch_size: model calls at a time.

    Returns:
        A `BestStart`. It costs K N plan.nfe evaluations.

    Raises:
        ValueError: the plan draws noise, an argument's shape does not fit, or no candidate has a finite distance.

    Source: Ma et al. 2023, arXiv 2305.15357, section 3.

    Example:
        >>> found = best_start(model, plan, pictures, conditioning={"low": low})
        >>> x = urn.sample(model, plan, start=found.starts(len(new_low)), conditioning={"low": new_low})
    """
    if plan.stochastic:
        raise ValueError(f"plan: {plan.method} draws noise, so that its samples are no function of the start")
    at_least_one("batch_size", batch_size)
    if not isinstance(references, Tensor) or references.ndim < 2 or len(references) == 0:
        raise ValueError(f"references={_shape(references)} must be a tensor (N, *S) with N at least 1")
    shape = tuple(references.shape[1:])
    if isinstance(candidates, Tensor):
        tried = candidates
        if tuple(tried.shape[1:]) != shape or len(tried) == 0:
            raise ValueError(f"candidates={_shape(tried)} must be (K, *S) with S = {shape}")
    else:
        count = at_least_one("candidates", candidates)
        generator = torch.Generator().manual_seed(seed)
        std = dict(plan.inputs)["x"].std
        tried = float(std) * torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(references)
    given = dict(conditioning or {})
    pairs = len(references)
    with torch.no_grad():
        values = torch.stack([_mean(model, plan, x, references, given, pairs, distance, batch_size) for x in tried])
    if not bool(torch.isfinite(values).any()):
        raise ValueError(f"candidates: none of {len(tried)} has a finite distance to the references")
    chosen = int(torch.where(torch.isfinite(values), values, torch.inf).argmin())
    return BestStart(tried[chosen], chosen, values, tried)


def _mean(
    model: Model,
    plan: Plan,
    x: Tensor,
    references: Tensor,
    given: Mapping[str, Any],
    pairs: int,
    distance: Distance,
    batch_size: int,
) -> Tensor:
    found = []
    for part in torch.split(torch.arange(pairs), batch_size):
        here = {
            name: value[part] if isinstance(value, Tensor) and value.shape[:1] == (pairs,) else value
            for name, value in given.items()
        }
        start = x.expand(len(part), *x.shape).clone()
        samples = execute(plan, model, {"x": start}, conditioning=here)["x"]
        each = distance(samples, references[part])
        if not isinstance(each, Tensor) or tuple(each.shape) != (len(part),):
            raise ValueError(f"distance returned {_shape(each)}; one number for each of {len(part)} samples is needed")
        found.append(each.double())
    return torch.cat(found).mean().cpu()


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
