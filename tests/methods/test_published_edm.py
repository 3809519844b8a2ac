"""EDM against its paper's algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from methods_cases import bent, normals
from methods_published import Array, assert_close, exact, numbers, start, urns

from urn.processes import VE, VP, Flow


@pytest.mark.parametrize(
    "options",
    [{"s_churn": 0.0}, {"s_churn": 3.0}, {"s_churn": 30.0, "s_min": 0.2, "s_max": 2.0, "s_noise": 1.005}],
    ids=str,
)
def test_edm_algorithm_2(options: dict[str, float]) -> None:
    """Karras et al. 2022, algorithm 2, on their grid (equation 5, t_N = 0), with its own noise."""
    steps, rho, low, high = 8, 7, 0.02, 5.0
    i = np.arange(steps)
    t = [*(high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho, 0.0]
    every = {"s_min": 0.05, "s_max": 50.0, "s_noise": 1.0} | options
    churn, smallest, largest, inflate = (every[name] for name in ("s_churn", "s_min", "s_max", "s_noise"))
    denoised, z, drawn = exact(VE(), "x0"), normals(steps).numpy(), 0
    x = start(VE(), t)
    for i in range(steps):
        gamma = min(churn / steps, math.sqrt(2) - 1) if smallest <= t[i] <= largest else 0.0
        hat = t[i] + gamma * t[i]
        if gamma > 0:
            x = x + math.sqrt(hat**2 - t[i] ** 2) * inflate * z[drawn]
            drawn += 1
        d = (x - denoised(x, hat)) / hat
        x_next = x + (t[i + 1] - hat) * d
        if t[i + 1] != 0:
            d_next = (x_next - denoised(x_next, t[i + 1])) / t[i + 1]
            x_next = x + (t[i + 1] - hat) * (d + d_next) / 2
        x = x_next
    assert_close(urns("edm", VE(), t, z, predicts="x0", **options), x)


@pytest.mark.parametrize("process", [VP.linear(), Flow(), Flow(shift=3.0)], ids=repr)
def test_edm_algorithm_1(process: Any) -> None:
    """Deterministic Heun in t for any s(t), sigma(t): dx/dt = (sigma'/sigma + s'/s) x - sigma' s/sigma D(x/s; sigma)."""
    times = bent(process, 6)
    alpha, sigma, *_ = numbers(process)
    x0 = exact(process, "x0")

    def slope(x: Array, t: float) -> Array:
        step = 1e-4  # derivatives by differences of order four
        s, noise = alpha, lambda u: sigma(u) / alpha(u)

        def d(f: Callable[[float], float]) -> float:
            return (8 * (f(t + step) - f(t - step)) - (f(t + 2 * step) - f(t - 2 * step))) / (12 * step)

        return (d(noise) / noise(t) + d(s) / s(t)) * x - d(noise) * s(t) / noise(t) * x0(x, t)

    x = start(process, times)
    for t, t_next in pairwise(times.tolist()):
        d = slope(x, t)
        euler = x + (t_next - t) * d
        x = x + (t_next - t) * (d + slope(euler, t_next)) / 2
    assert_close(urns("probability_flow_heun", process, times), x, 1e-8)
