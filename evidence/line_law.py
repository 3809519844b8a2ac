"""The law of what a plan makes of data on a line, without Monte Carlo: quantiles in, quantiles out.

A law is kept as the states x(g) at which its distribution function is Phi(g), Phi the standard normal's, on an even grid of
g. Its integrals are sums over that grid with weights phi(g), which converge faster than any power of the spacing. A
deterministic step moves the states; noise of std s is added by the new distribution function, the sum of Phi((y - x(g))/s),
from which the states are read off again. A plan runs on them by the ordinary executor, if the terms of each of its sums are
predictions made at one state and fresh noise, as DDIM's are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr, ndtri
from torch import Tensor

import urn
from urn.exact import GaussianMixture

Numbers = np.ndarray[Any, Any]
REACH = 5.5  # of g


@dataclass(frozen=True)
class States:
    """x(g) + std z, z standard normal and independent."""

    x: Numbers
    std: float = 0.0

    def __add__(self, other: States) -> States:
        return States(self.x + other.x, float(np.hypot(self.std, other.std)))

    def __mul__(self, factor: float) -> States:
        return States(self.x * factor, self.std * abs(factor))

    def settled(self) -> Numbers:
        """The states, rising, of the law with the noise in it."""
        x = self.x
        if self.std == 0:
            return np.sort(x)
        weights = np.exp(-(scores(len(x)) ** 2) / 2)
        weights = weights / weights.sum()
        y = np.linspace(x.min() - 6 * self.std, x.max() + 6 * self.std, 3 * len(x))
        return read_off(y, lambda y: ndtr((y[:, None] - x) / self.std) @ weights, len(x))


class Widening:
    """A noise source of states."""

    def normal(self, interval: Any, stream: int, like: States) -> States:
        """See `urn.noise.NoiseSource`."""
        return States(np.zeros_like(like.x), 1.0)


def scores(count: int) -> Numbers:
    """The grid of g."""
    return np.linspace(-REACH, REACH, count)


def read_off(y: Numbers, distribution: Callable[[Numbers], Numbers], count: int) -> Numbers:
    """x(g) of a distribution function, from its values at rising points y."""
    g = ndtri(np.clip(distribution(y), 1e-12, 1 - 1e-12))
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(g)) > 1e-9])
    return PchipInterpolator(g[rising], y[rising], extrapolate=True)(scores(count))


def states_of(target: GaussianMixture, count: int, alpha: float = 1.0, sigma: float = 0.0) -> Numbers:
    """Of alpha x0 + sigma epsilon, x0 from a mixture on a line."""
    means = alpha * target.means[:, 0].numpy()
    stds = np.sqrt(alpha**2 * target.covariances[:, 0, 0].numpy() + sigma**2)
    y = np.linspace((means - 7 * stds).min(), (means + 7 * stds).max(), 20_000)
    return read_off(y, lambda y: ndtr((y[:, None] - means) / stds) @ target.weights.numpy(), count)


def wasserstein_on_line(plan: Any, target: GaussianMixture, count: int = 400) -> float:
    """W2 between what a plan to clean data makes of the target's law at its first time, and the target."""
    process, first = plan.process, plan.times[0]
    start = States(states_of(target, count, float(process.alpha(first)), float(process.sigma(first))))

    def net(x: States, t: float) -> tuple[States, States]:
        state = torch.from_numpy(x.settled())[:, None]
        return _of(target.x0(state, process, t)), _of(target.epsilon(state, process, t))

    model = urn.Model(net, process, predicts=("x0", "epsilon"))
    end: States = urn.execute(plan, model, {"x": start}, Widening())["x"]
    weights = np.exp(-(scores(count) ** 2) / 2)
    squares = np.square(end.settled() - states_of(target, count))
    return float(np.sqrt(squares @ weights / weights.sum()))


def _of(prediction: Tensor) -> States:
    return States(prediction[:, 0].numpy())
