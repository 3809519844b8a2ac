"""What a diffusers pipeline does with its scheduler, and what kind of states and network each wants."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

RATIO = (  # states are x/alpha
    *("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete"),
    *("LMSDiscrete", "DPMSolverSDE"),
)
EDM = ("EDMEuler", "EDMDPMSolverMultistep", "CosineDPMSolverMultistep")  # likewise, with EDM's preconditioned network
FLOW_MATCH = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "LTXEulerAncestralRF", "MiniMaxH3")

Answer = Callable[[Tensor, int, Any], Tensor]


def steps_of(scheduler: Any, answer: Answer, x: Tensor, timesteps: Iterable[Any], **step: Any) -> Tensor:
    """The loop of a pipeline from states in the scheduler's units: `answer` is the network, shown (scaled state, i, t)."""
    for i, t in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(answer(scaled, i, t), t, x, **step).prev_sample
    return x


def short_name(scheduler: Any) -> str:
    """The class's name without "Scheduler"."""
    return type(scheduler).__name__.removesuffix("Scheduler")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' warnings about settings."""
    logger = logging.getLogger("diffusers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
