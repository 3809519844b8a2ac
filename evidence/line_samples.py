"""W2 on a line by samples, for plans with history and noise, whose law has no quantile map; and a model that errs.

Samples start from the target's own law at the plan's first time. In one dimension W2 is between sorted samples and the
target's quantiles, so that what is left of it for exact draws, the floor, is small; it is measured beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

import urn
from evidence.measure import mean_interval, normals
from urn.conformance.targets import MIXTURE
from urn.exact import GaussianMixture
from urn.metrics import Interval
from urn.noise import FastNoise
from urn.processes import Process

LINE = GaussianMixture(MIXTURE.weights, MIXTURE.means[:, :1], MIXTURE.covariances[:, :1, :1])
Exact = Callable[[Process], urn.Model]


def exact(process: Process) -> urn.Model:
    """The exact model of the line's mixture."""
    return LINE.model(process, "v")


def perturbed(process: Process, size: float = 0.15) -> urn.Model:
    """Its epsilon with a ripple over x/(alpha + sigma) that moves with the share of noise: an error no grid takes away."""

    def net(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t[0]), process.sigma(t[0])
        ripple = torch.sin(6 * x / (alpha + sigma) + 4 * sigma / (alpha + sigma))
        return LINE.epsilon(x, process, t[0]) + size * ripple

    return urn.Model(net, process, "epsilon")


def w2(plan: Any, model: Exact = exact, batches: int = 6, size: int = 8000) -> Interval:
    """W2 between what a plan to (nearly) clean data makes and the target, the mean over batches of `size` samples."""
    process, first = plan.process, plan.times[0]
    found = []
    for batch in range(batches):
        x0 = LINE.sample(size, 100 + batch)
        x = process.alpha(first) * x0 + process.sigma(first) * normals(200 + batch, size, 1)
        y = urn.execute(plan, model(process), {"x": x}, FastNoise(300 + batch))["x"]
        found.append(distance(y))
    return mean_interval(found)


def floor(batches: int = 6, size: int = 8000) -> Interval:
    """W2 of as many exact draws."""
    return mean_interval([distance(LINE.sample(size, 400 + batch)) for batch in range(batches)])


def distance(samples: Tensor) -> float:
    """Root mean square difference of sorted samples and the target's quantiles."""
    count = len(samples)
    y = np.linspace(-6, 6, 40_001)
    means, stds = LINE.means[:, 0].numpy(), LINE.covariances[:, 0, 0].sqrt().numpy()
    distribution = ndtr((y[:, None] - means) / stds) @ LINE.weights.numpy()
    inside = (distribution > 1e-9) & (distribution < 1 - 1e-9)
    quantiles = np.interp((np.arange(count) + 0.5) / count, distribution[inside], y[inside])
    return float(np.sqrt(np.square(np.sort(samples[:, 0].numpy()) - quantiles).mean()))
