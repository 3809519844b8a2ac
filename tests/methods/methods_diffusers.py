"""diffusers' schedulers as an oracle: run in float64 with noise and models of ours, on their own grids or on any other.

Every scheduler's file says `torch.float32` and `np.float32` where it makes its tables and casts its samples; here its
module sees both libraries with these names leading to float64, and nothing else is changed. So what remains between a
scheduler and a plan is arithmetic, and agreement is to about 1e-12 rather than 1e-5.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

Network = Callable[[Tensor, float], Tensor]


class InFloat64:
    """A library whose `float32` is its `float64`."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, "float64" if name == "float32" else name)


class Draws:
    """Stands in for `randn_tensor`: the given tensors one after the other."""

    def __init__(self, noise: Any) -> None:
        self.noise = iter(noise)

    def __call__(self, shape: Any, **_: Any) -> Tensor:
        return next(self.noise).reshape(shape)


@contextlib.contextmanager
def float64(scheduler_class: type, noise: Any = (), only_noise: bool = False) -> Iterator[None]:
    """Run a scheduler's file in float64 (or as it is, with `only_noise`); its noise comes from `noise`."""
    module = importlib.import_module(scheduler_class.__module__)
    before = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        for name, library in (("torch", torch), ("np", np)):
            if hasattr(module, name) and not only_noise:
                stack.enter_context(mock.patch.object(module, name, InFloat64(library)))
        if hasattr(module, "randn_tensor"):
            stack.enter_context(mock.patch.object(module, "randn_tensor", Draws(noise)))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        torch.set_default_dtype(before if only_noise else torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


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
    x = x.reshape(-1, 1, 1, 2)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = network(scaled.reshape(-1, 2), float(t)).reshape(len(x), -1, 1, 2)
        x = scheduler.step(output, t, x, **options).prev_sample
    return x.reshape(-1, 2)
