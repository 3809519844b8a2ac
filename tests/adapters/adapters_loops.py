"""What the tests of UrnScheduler share: a pipeline's loop, and Urn's executor on the same network, start and noise."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from torch import Tensor

import urn
from urn.adapters.diffusers import UrnScheduler

TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def made(name: str, **config: Any) -> Any:
    return getattr(diffusers, f"{name}Scheduler")(**({} if name.startswith("FlowMatch") else TABLE) | config)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


def net(x: Tensor, t: Any) -> Tensor:
    """Smooth, and different in every element and at every time."""
    place = torch.linspace(0.5, 1.0, x[0].numel(), dtype=x.dtype).reshape(x[0].shape)
    return torch.tanh(x * place + 0.3) * (0.6 + 0.4 * torch.cos(torch.as_tensor(t, dtype=x.dtype) / 150))


def drive(scheduler: Any, x: Tensor, steps: int, set_up: dict[str, Any] | None = None, **options: Any) -> Tensor:
    """A pipeline's loop."""
    scheduler.set_timesteps(steps, **set_up or {})
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(net(shown, t), t, x, **options).prev_sample
    return x


class Drawn:
    """Noise from a generator in the order of the rows, the same again for the same row's identity."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.seen = generator, {}

    def normal(self, interval: Any, stream: int, like: Tensor) -> Tensor:
        if (interval, stream) not in self.seen:
            self.seen[interval, stream] = torch.randn(like.shape, generator=self.generator, dtype=like.dtype)
        return self.seen[interval, stream]


def executed(scheduler: UrnScheduler, network: Any, x: Tensor, generator: Any = None) -> Tensor:
    """The scheduler's plan by `urn.execute`, the network shown what a pipeline shows it."""
    flow = isinstance(scheduler.process, urn.Flow)
    label = (lambda t: 1000 * t) if flow else None
    model = urn.Model(network, scheduler.process, scheduler.model_predicts, label=label)
    found: Tensor = urn.execute(scheduler.plan, model, {"x": x}, Drawn(generator or seeded(0)))["x"]
    return found


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def per_sample(x: Tensor, t: Tensor) -> Tensor:
    return net(x, t[0])
