"""Runs a diffusers scheduler on the exact model, whatever the units of its states and the kind of network that it wants."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks.course import FIRST, PROCESS, SMALLEST, TABLE, Network, NotPossibleError, Ready
from urn.conformance.peers.pipeline import EDM, FLOW_MATCH, RATIO, quiet, short_name, steps_of


def ready(
    name: str,
    settings: dict[str, Any],
    given: Callable[[int], dict[str, Any]] | None,
    budget: int,
    run: Callable[[Any, Tensor], Tensor],
) -> Ready:
    """A scheduler with the most steps that call its network at most `budget` times.

    Raises:
        NotPossibleError: no number of steps does, or the scheduler refuses its settings.
    """
    for steps in range(budget, 0, -1):
        try:
            scheduler = prepared(name, settings, given, steps)
        except (ArithmeticError, AssertionError, IndexError, NotImplementedError, TypeError, ValueError) as error:
            raise NotPossibleError(f"{type(error).__name__} in {steps} steps: {error}"[:200]) from None
        if len(scheduler.timesteps) <= budget:
            return Ready(steps, len(scheduler.timesteps), partial(_guarded, run, scheduler))
    raise NotPossibleError(f"no number of steps calls the network at most {budget} times")


def prepared(name: str, settings: dict[str, Any], given: Callable[[int], dict[str, Any]] | None, steps: int) -> Any:
    """A fresh scheduler of the table with its timesteps set."""
    cls = getattr(diffusers, f"{name}Scheduler")
    arguments = {**_table(cls, name), **settings}
    own = {} if given is None else given(steps)
    if "trained_betas" in own:
        arguments["trained_betas"] = own.pop("trained_betas")
    with quiet():
        scheduler = cls(**arguments)
        scheduler.set_timesteps(**(own or {"num_inference_steps": steps}))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # else a first time that stands twice starts at the second
    return scheduler


def drive(scheduler: Any, starts: Tensor, level: bool, step: dict[str, Any], of: type[Network] = Network) -> Tensor:
    """The loop of a pipeline, from unit normals to samples in the table's own units."""
    name, network = short_name(scheduler), of()
    flow = name in FLOW_MATCH or scheduler.config.get("use_flow_sigmas", False)
    sigmas = getattr(scheduler, "sigmas", None)
    x = starts * (float(sigmas[0]) if flow else float(scheduler.init_noise_sigma))
    with torch.random.fork_rng(devices=[]), quiet():  # SASolver draws noise, which a tau of 0 then leaves out

        def answer(scaled: Tensor, i: int, t: Any) -> Tensor:
            return _answer(network, scheduler, flow, level, scaled, float(sigmas[i]) if level else float(t))

        x = steps_of(scheduler, answer, x, scheduler.timesteps, **step)
    if network.calls != len(scheduler.timesteps):
        raise RuntimeError(f"{name}: {network.calls} calls in {len(scheduler.timesteps)} timesteps")
    if flow:
        last = float(sigmas[-1])
        return x / math.hypot(last, 1 - last)
    return x / math.hypot(1.0, float(sigmas[-1])) if name in (*RATIO, *EDM) else x


def _answer(network: Network, scheduler: Any, flow: bool, level: bool, x: Tensor, shown: float) -> Tensor:
    """What the network of this kind of scheduler answers; `shown` is a noise level where `level`, else a time."""
    name = short_name(scheduler)
    if flow:
        kind = "flow epsilon" if scheduler.config.get("prediction_type") == "epsilon" else "velocity"
        return network(x, shown if level else shown / 1000, kind)
    if name in EDM:  # with data of std 1 EDM's preconditioned network is the v network of VP
        return network(x, time_of(math.exp(4 * shown)), "v")
    if name == "IPNDM":
        return network(x, time_of(math.tan(shown * math.pi / 2)), "v")
    return network(x, time_of(shown) if level else shown)


def time_of(ratio: float) -> float:
    """The table's time of a noise level sigma/alpha."""
    return min(max(float(PROCESS.t_of_lambda(-math.log(ratio))), SMALLEST), FIRST)


def _table(cls: type, name: str) -> dict[str, Any]:
    """The table, as the scheduler takes it."""
    if name in EDM:
        low, high = (float(PROCESS.sigma(t) / PROCESS.alpha(t)) for t in (SMALLEST, FIRST))
        return {"sigma_min": low, "sigma_max": high, "sigma_data": 1.0, "prediction_type": "v_prediction"}
    taken = inspect.signature(cls.__init__).parameters
    return {key: value for key, value in TABLE.items() if key in taken}


def _guarded(run: Callable[[Any, Tensor], Tensor], scheduler: Any, starts: Tensor) -> Tensor:
    """The run, once; what a scheduler raises in it is the configuration's own failure.

    A scheduler keeps state, so a second run is of a copy made before the first.
    """
    try:
        return run(copy.deepcopy(scheduler), starts)
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError, RuntimeError, NameError) as error:
        raise NotPossibleError(f"{type(error).__name__}: {error}"[:200]) from None
