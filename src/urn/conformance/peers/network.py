"""The kit's model as a network in a peer's words: its states' scale, the noise level that it names, what it wants predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from urn.model import Model
from urn.plan import Node
from urn.prediction import conversion
from urn.processes import Process

# share = sigma/(alpha + sigma), in [0, 1]: a noise level's name that is finite at both ends
UNITS: dict[str, Callable[[float], tuple[float, float]]] = {
    "vp": lambda share: ((1 - share) / math.hypot(share, 1 - share), share / math.hypot(share, 1 - share)),
    "ratio": lambda share: (1.0, share / (1 - share)),
    "flow": lambda share: (1 - share, share),
}


class Network:
    """The exact prediction at states in a peer's units; computed in float64, answered in their dtype, its calls counted."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0

    def __call__(self, x: Tensor, units: str, share: float, wanted: str) -> Tensor:
        """x0, epsilon, v (alpha epsilon - sigma x0), velocity (epsilon - x0) or score (-epsilon/sigma) in these units.

        Args:
            x: (B, d), alpha x0 + sigma epsilon with the (alpha, sigma) of `units` at `share`.
        """
        self.calls += 1
        alpha, sigma = UNITS[units](share)
        node, (x0_x, x0_out), (e_x, e_out) = _weights(self.model.process, self.model.outputs[0], share)
        own = x.double() * ((float(node.alpha) + float(node.sigma)) / (alpha + sigma))
        output = self.model.net(own, torch.full((len(x),), float(node.t), dtype=torch.float64))
        x0, epsilon = x0_x * own + x0_out * output, e_x * own + e_out * output
        answers: dict[str, Callable[[], Tensor]] = {
            "x0": lambda: x0,
            "epsilon": lambda: epsilon,
            "v": lambda: alpha * epsilon - sigma * x0,
            "velocity": lambda: epsilon - x0,
            "score": lambda: -epsilon / sigma,
        }
        answer: Tensor = answers[wanted]().to(x.dtype)
        return answer


def shares_of(process: Process, times: Tensor) -> list[float]:
    """The noise levels of times."""
    alpha, sigma = process.alpha(times), process.sigma(times)
    shares: list[float] = (sigma / (alpha + sigma)).tolist()
    return shares


def rescaled(x: Tensor, process: Process, t: float, units: str, share: float, back: bool = False) -> Tensor:
    """States of the process at t in a peer's units, or `back`."""
    own, theirs = float(process.alpha(t) + process.sigma(t)), sum(UNITS[units](share))
    return x * (own / theirs if back else theirs / own)


def time_at(process: Process, share: float) -> float:
    """The process's time of a noise level; its ends where the level is beyond them."""
    first, last = shares_of(process, torch.tensor([process.t_start, process.t_end], dtype=torch.float64))
    if share >= first:
        return float(process.t_start)
    if share <= last:
        return float(process.t_end)
    return float(process.t_of_lambda(math.log1p(-share) - math.log(share)))


@lru_cache(maxsize=4096)
def _weights(process: Any, predicts: str, share: float) -> tuple[Node, tuple[float, float], tuple[float, float]]:
    t = time_at(process, share)
    node = Node(t, float(process.alpha(t)), float(process.sigma(t)))
    on_x0, on_epsilon = (conversion(predicts, wanted, node, process) for wanted in ("x0", "epsilon"))
    return node, _floats(on_x0), _floats(on_epsilon)


def _floats(pair: tuple[Any, Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
