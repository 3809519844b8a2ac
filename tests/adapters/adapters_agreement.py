"""diffusers' schedulers next to UrnScheduler with their config: the same network, start and noise, in a pipeline's loop."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from adapters_loops import TABLE
from torch import Tensor

import urn
from urn.adapters.diffusers import UrnScheduler, scheduler, segments
from urn.adapters.diffusers.source import TIMES_OF
from urn.coefficients.exponential import X0, halved_weights, integral_weights
from urn.method import combine, evaluate
from urn.schemes.multistep import predictions, step_row


class InFloat64:
    """A library whose `float32` is its `float64`."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, "float64" if name == "float32" else name)


class Draws:
    """Stands in for `randn_tensor`: the given tensors one after the other."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = iter(noise)

    def __call__(self, shape: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        return next(self.noise).reshape(shape).to(dtype)


class Tree:
    """Stands in for a Brownian tree in the same way."""

    def __init__(self, noise: Tensor) -> None:
        self.noise = iter(noise)

    def __call__(self, *_: Any) -> Tensor:
        return next(self.noise)


@contextmanager
def prepared(names: set[str], noise: Tensor, double: bool) -> Iterator[None]:
    """Schedulers' files in float64 or as they are, and the same noise for theirs and ours."""
    modules = [importlib.import_module(getattr(diffusers, name).__module__) for name in names]
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for module in [*modules, segments, scheduler]:
            for name, library in (("torch", torch), ("np", np)):
                if double and hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, InFloat64(library)))
            if hasattr(module, "randn_tensor"):
                stack.enter_context(mock.patch.object(module, "randn_tensor", Draws(noise)))
            if hasattr(module, "BrownianTreeNoiseSampler"):  # whose draws are named by sigmas
                tree = Tree(noise.double() if double else noise.float())
                stack.enter_context(mock.patch.object(module, "BrownianTreeNoiseSampler", lambda *_, made=tree: made))
        torch.set_default_dtype(torch.float64 if double else before)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def net(x: Tensor, t: Any) -> Tensor:
    """Smooth, and different in every element and at every time."""
    place = torch.linspace(0.5, 1.0, x[0].numel(), dtype=x.dtype).reshape(x[0].shape)
    return torch.tanh(x * place + 0.3) * (0.6 + 0.4 * torch.cos(torch.as_tensor(t, dtype=x.dtype) / 150))


def drive(scheduler: Any, x: Tensor, steps: int, shown: bool = True, **step: Any) -> Tensor:
    """A pipeline's loop; without `shown` the network does not look at the time."""
    scheduler.set_timesteps(steps)
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(net(seen, t if shown else 300.0), t, x, **step).prev_sample
    return x


def ours(config: Any, method: Any, options: dict[str, Any], steps: int, jump: bool) -> UrnScheduler:
    """UrnScheduler with a method by name, or with the plan of one that is written here, on the same times; with `jump` the last
    step is one to the clean prediction."""
    found: UrnScheduler = UrnScheduler.from_config(
        config, method=method if isinstance(method, str) else "ddim", options=options
    )
    if isinstance(method, str) and not jump:
        return found
    found.set_timesteps(steps)
    times = list(found.plan.times)
    plan = urn.compile_plan(
        method, found.process, grid=times[:-1] if jump else times, final="x0" if jump else None, **options
    )
    again: UrnScheduler = UrnScheduler.from_config(config, plan=plan)
    return again


def distance(
    name: str,
    method: Any,
    config: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    steps: int = 10,
    double: bool = True,
    shown: bool = True,
    step: dict[str, Any] | None = None,
    jump: bool = False,
) -> float:
    """The largest difference of the samples of a scheduler and of UrnScheduler with its config, of their largest element."""
    cls = f"{name}Scheduler"
    noise = torch.randn(60, 2, 2, 4, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    start = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, found = start if double else start.float(), []
    for urns in (False, True):
        swapped = urns and name == "DPMSolverSDE"  # there the stage's noise is drawn before the step's
        draws = noise.unflatten(0, (-1, 2)).flip(1).flatten(0, 1) if swapped else noise
        with prepared({cls, TIMES_OF.get(cls, cls)}, draws, double):
            table = {} if name.startswith("FlowMatch") else TABLE
            one = getattr(diffusers, cls)(**table | (config or {}))
            if urns:
                one = ours({**one.config, "_class_name": cls}, method, options or {}, steps, jump)
            found.append(drive(one, x, steps - (urns and jump), shown, **({} if urns else step or {})))
    return float((found[0] - found[1]).abs().max() / found[0].abs().max())


@urn.method(order=None, source="Liu et al. 2022, PNDM, arXiv 2202.09778, as in Stable Diffusion's repository")
def plms(nodes: Any, x: str) -> Any:
    """Adams-Bashforth of orders 1 to 4 in epsilon, each step a DDIM step; the first is made twice, the second time with the mean
    of the outputs at both its ends."""
    kept: list[str] = []
    for place, (cur, next) in enumerate(nodes.steps()):
        kept = [(yield evaluate(x, cur, "epsilon")), *kept[:3]]
        if place == 0:
            there = yield evaluate((yield from _ddim_step(cur, next, x, kept[:1], (1,))), next, "epsilon")
            x = yield from _ddim_step(cur, next, x, [kept[0], there], (1 / 2, 1 / 2))
        else:
            weights = ((), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
            x = yield from _ddim_step(cur, next, x, kept, weights[min(place, 3)])
    return x


def _ddim_step(cur: Any, next: Any, x: str, outputs: list[str], weights: tuple[float, ...]) -> Any:
    ratio = next.alpha / cur.alpha
    change = next.sigma - ratio * cur.sigma
    terms = [(change * w, output) for w, output in zip(weights, outputs, strict=True)]
    return (yield combine(next, (ratio, x), *terms))


def on_the_grid(order: int) -> Any:
    """diffusers' singlestep solver: a block of `order` intervals is one step whose stages are the grid's points."""

    @urn.method(order=None, source="test")
    def singlestep(nodes: Any, x: str) -> Any:
        orders = [1 + i % order for i in range(len(nodes) - 2)] + [1]
        block, begin, start = [], nodes[0], x
        for (cur, next), size in zip(nodes.steps(), orders, strict=True):
            here = yield from predictions(cur, x)
            if size == 1:
                block, begin, start = [], cur, x
            block.append(here)
            points = block if size < 3 else [block[0], block[2]]
            x = yield step_row(X0, integral_weights if size == 3 else halved_weights, begin, next, start, points)
        return x

    return singlestep
