"""Annealed Langevin dynamics: the weights of two far modes, with noise levels and without."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from urn.exact import GaussianMixture
from urn.method import Steps, combine, evaluate, method, noise
from urn.nodes import Nodes
from urn.plan import Plan, Register
from urn.processes import VE

LEVELS = np.geomspace(20.0, 1.0, 10)
PROCESS = VE(1.0, 20.0)
TOY = GaussianMixture([0.2, 0.8], [[-5.0, -5.0], [5.0, 5.0]], 0.0)  # at the last level, sigma = 1, the paper's mixture
WEIGHT = 0.8
STEP = 0.1  # times sigma^2
CALLS = 1000


@case(
    "Generative Modeling by Estimating Gradients of the Data Distribution",
    "Song & Ermon 2019, Generative Modeling by Estimating Gradients of the Data Distribution, arXiv 1907.05600",
)
def run(full: bool) -> list[Finding]:
    """The paper's toy 1/5 N((-5, -5), I) + 4/5 N((5, 5), I) with its closed-form score and the settings of its code: 1280
    starts uniform in [-8, 8]^2 (16 times as many at full size), 1000 steps of 0.1 sigma^2, in ten levels or all at 1."""
    starts = uniform_starts(1280 * (16 if full else 1))
    plain, annealed = (share(plan, starts) for plan in (plain_plan(), annealed_plan()))
    before = float((starts.sum(1) > 0).double().mean())
    return [
        Finding(
            "Langevin dynamics from a uniform start gives two far modes wrong weights",
            f"the share of {len(starts)} samples in the mode of weight 0.8 off by more than 0.1 after {CALLS} calls",
            f"share {_with_error(plain, len(starts))}; of the starts {before:.3f} lay on that mode's side",
            abs(plain - WEIGHT) > 0.1,
        ),
        Finding(
            "annealed Langevin dynamics gives them their right weights",
            f"the share within 0.05 of 0.8 from the same starts after {CALLS} calls",
            f"share {_with_error(annealed, len(starts))}",
            abs(annealed - WEIGHT) < 0.05,
        ),
    ]


@method(order=None, stochastic=True, source="Song & Ermon 2019, arXiv 1907.05600, equation 4")
def langevin(nodes: Nodes, x: Register, repeats: int = CALLS) -> Steps:
    """The baseline: Langevin steps at the last node alone."""
    node = nodes[len(nodes) - 1]
    size = STEP * node.sigma**2
    for _ in range(repeats):
        score = yield evaluate(x, node, "score")
        z = yield noise(node, node)
        x = yield combine(node, (1.0, x), (size / 2, score), (size**0.5, z))
    return x


def plain_plan() -> Plan:
    return urn.compile_plan(langevin, PROCESS, grid=[LEVELS[0], LEVELS[-1]])


def annealed_plan() -> Plan:
    return urn.compile_plan("annealed_langevin", PROCESS, grid=LEVELS, step_ratio=STEP, repeats=CALLS // len(LEVELS))


def uniform_starts(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 16 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 8


def share(plan: Plan, starts: Tensor) -> float:
    """How many of the samples end nearer to (5, 5)."""
    ends = urn.sample(TOY.model(PROCESS, "score"), plan, start=starts, seed=2)
    return float((ends.sum(1) > 0).double().mean())


def _with_error(p: float, count: int) -> str:
    return f"{p:.3f} +- {1.96 * (p * (1 - p) / count) ** 0.5:.3f}"
