"""diffusers' schedulers as an oracle: run in float64 with noise and models of ours, on their own grids or on any other.

With a scheduler's file in float64 (`urn.conformance.peers.precision`) what remains between it and a plan is arithmetic, and
agreement is to about 1e-12 rather than 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from urn.conformance.peers import precision
from urn.conformance.peers.pipeline import steps_of

Network = Callable[[Tensor, float], Tensor]


class Draws:
    """Stands in for `randn_tensor`: the given tensors one after the other."""

    def __init__(self, noise: Any) -> None:
        self.noise = iter(noise)

    def __call__(self, shape: Any, **_: Any) -> Tensor:
        return next(self.noise).reshape(shape)


def float64(scheduler_class: type, noise: Any = (), only_noise: bool = False) -> Any:
    """Run a scheduler's file in float64 (or as it is, with `only_noise`); its noise comes from `noise`."""
    return precision.float64(scheduler_class, Draws(noise), only_noise)


def on_grid(scheduler: Any, sigmas: Tensor, times: Tensor) -> Any:
    """Put a scheduler that steps from sigma to sigma on a grid: its sigmas, with `times` to find them by."""
    scheduler.set_timesteps(len(times))
    if len(scheduler.sigmas) > len(times) + 1:  # Heun's second stages stand in the list too
        times = torch.cat([times[:1], times[1:].repeat_interleave(2)])
        sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    scheduler.sigmas, scheduler.timesteps = sigmas.clone(), times.clone()
    return scheduler


def drive(scheduler: Any, network: Network, x: Tensor, **options: Any) -> Tensor:
    """The loop of a pipeline: states (B, 2), shown to the scheduler as (B, 1, 1, 2)."""

    def answer(scaled: Tensor, _: int, t: Any) -> Tensor:
        return network(scaled.reshape(-1, 2), float(t)).reshape(len(scaled), -1, 1, 2)

    return steps_of(scheduler, answer, x.reshape(-1, 1, 1, 2), scheduler.timesteps, **options).reshape(-1, 2)
