"""Churn in the installed diffusers' Euler family."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from methods_cases import (
    Listed,
    compiled,
    gap,
    normals,
)
from methods_diffusers import drive, float64
from methods_diffusers_pairs import (
    CLEAN,
    EXACT,
    POINT,
    scheduler_class,
    table_pair,
)
from torch import Tensor

import urn
from urn.conformance.targets import states_at
from urn.method import combine, evaluate, noise
from urn.processes import VE, Flow


def churned_behind_the_call(nodes, x, churn: float = 5.0):
    """Euler in sigma/alpha on x/alpha with noise added after the call: the prediction is that of x without the noise."""
    gamma = min(churn / (len(nodes) - 1), math.sqrt(2) - 1)
    for cur, next in nodes.steps():
        epsilon = yield evaluate(x, cur, "epsilon")
        z = yield noise(cur, cur)
        rho, rho_next = cur.sigma / cur.alpha, next.sigma / next.alpha
        hat = rho * (1 + gamma)
        added = torch.sqrt(hat**2 - rho**2)
        scale = next.alpha
        x = yield combine(next, (scale / cur.alpha, x), (scale * added, z), (scale * (rho_next - hat), epsilon))
    return x


def test_euler_churns_behind_its_networks_back() -> None:
    settings = CLEAN | {"over_alpha": True, "step": {"s_churn": 5.0}}
    assert gap(*table_pair("EulerDiscrete", 10, churned_behind_the_call, **settings)) < EXACT


@pytest.mark.parametrize("name", ["EulerDiscrete", "EDMEuler", "FlowMatchHeunDiscrete"])
def test_the_noise_of_a_last_churn_is_never_removed(name: str) -> None:
    """Data that are one point must come out as that point; EDM's algorithm, which calls after the noise, gives it."""
    cls, draws = scheduler_class(name), normals(60)
    with float64(cls, draws):
        scheduler = cls(sigma_min=0.02) if name == "EDMEuler" else cls()
        scheduler.set_timesteps(10)
        sigmas = scheduler.sigmas.double()
        process: Any = Flow() if name.startswith("Flow") else VE()
        x = states_at(process, float(sigmas[0]), 12, POINT)

        def network(y: Tensor, t: float) -> Tensor:
            sigma = float(sigmas[scheduler.step_index or 0])
            if name.startswith("Flow"):
                return POINT.prediction(y, process, t / 1000, "velocity")
            if name == "EDMEuler":
                root = math.hypot(sigma, 0.5)
                return (POINT.mean - (0.5 / root) ** 2 * y * root) / (sigma * 0.5 / root)
            return (y * math.hypot(sigma, 1.0) - POINT.mean) / sigma

        y = drive(scheduler, network, x, s_churn=5.0)
    left = float((y - POINT.mean).square().mean().sqrt())
    smallest = float(sigmas[sigmas > 0].min())
    assert left > 0.5 * smallest * math.sqrt(1.5**2 - 1)
    plan = compiled("edm", VE(), [3.0, 1.5, 0.7, 0.3, 0.1, 0.0], s_churn=5.0)
    begin = states_at(VE(), 3.0, 12, POINT)
    clean = urn.execute(plan, POINT.model(VE(), "x0"), {"x": begin}, Listed(draws))["x"]
    assert plan.stochastic
    assert float((clean - POINT.mean).abs().max()) < 1e-12
