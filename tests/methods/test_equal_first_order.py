"""First order is one step under many names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods_cases import (
    assert_does_the_same,
    bent,
    compiled,
)
from methods_equalities import on_every_grid, on_every_process

from urn.method import combine, evaluate, noise
from urn.methods import ALIASES, METHODS


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_the_same_function(alias: str) -> None:
    assert METHODS[alias] is METHODS[ALIASES[alias]]


@on_every_grid
@on_every_process
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unip", {"order": 1}),
        ("unip", {"order": 1, "prediction": "epsilon", "size": "bh1"}),
        ("deis_3", {"order": 1}),
        ("deis_3_ramped", {"order": 1}),
        ("deis_rho_3", {"order": 1}),
        ("dpmpp_1_sde", {"eta": 0.0}),
        ("sde_dpm_solver_1", {"eta": 0.0}),
    ],
)
def test_first_order_methods_are_ddim(name: str, options: dict[str, Any], process: Any, grid: Any) -> None:
    times = grid(process, 6)
    assert_does_the_same(compiled(name, process, times, **options), compiled("ddim", process, times))


@on_every_process
def test_ddim_is_dpm_solver_1_in_both_predictions(process: Any) -> None:
    def dpm_solver_1(nodes, x):
        for cur, next in nodes.steps():
            epsilon = yield evaluate(x, cur, "epsilon")
            h = next.lambda_ - cur.lambda_
            x = yield combine(next, (next.alpha / cur.alpha, x), (-next.sigma * torch.expm1(h), epsilon))
        return x

    def dpmpp_1(nodes, x):
        for cur, next in nodes.steps():
            x0 = yield evaluate(x, cur, "x0")
            h = next.lambda_ - cur.lambda_
            x = yield combine(next, (next.sigma / cur.sigma, x), (-next.alpha * torch.expm1(-h), x0))
        return x

    times = bent(process, 6)
    for written in (dpm_solver_1, dpmpp_1):
        assert_does_the_same(compiled(written, process, times), compiled("ddim", process, times))


@on_every_process
def test_ddim_is_euler_in_sigma_over_alpha(process: Any) -> None:
    def k_euler(nodes, x):
        for cur, next in nodes.steps():
            x0 = yield evaluate(x, cur, "x0")
            rho, rho_next = cur.sigma / cur.alpha, next.sigma / next.alpha
            # y = x/alpha, d = (y - x0)/rho, y_next = y + (rho_next - rho) d
            share = (rho_next - rho) / rho
            x = yield combine(next, (next.alpha / cur.alpha * (1 + share), x), (-next.alpha * share, x0))
        return x

    times = bent(process, 6)
    assert_does_the_same(compiled(k_euler, process, times), compiled("ddim", process, times))


@on_every_grid
@on_every_process
def test_ddim_with_eta_1_is_ddpm_and_dpmpp_1_sde_and_euler_ancestral(process: Any, grid: Any) -> None:
    times = grid(process, 6)
    ddpm = compiled("ddpm", process, times)
    for plan in (
        compiled("ddim", process, times, eta=1.0),
        compiled("euler_ancestral", process, times),
        compiled("dpmpp_1_sde", process, times, eta=1.0),
        compiled("ddpm_interpolated", process, times, fraction=0.0),
    ):
        assert_does_the_same(plan, ddpm)


def k_diffusion_ancestral(eta: float):
    """k-diffusion's euler_ancestral: down to sigma_down by Euler in sigma, up again by noise; on x/alpha."""

    def method(nodes, x):
        for cur, next in nodes.steps():
            x0, epsilon = yield evaluate(x, cur, "x0", "epsilon")
            z = yield noise(cur, next)
            rho, rho_next = cur.sigma / cur.alpha, next.sigma / next.alpha
            up = eta * torch.sqrt(rho_next**2 * (rho**2 - rho_next**2) / rho**2)
            down = torch.sqrt(rho_next**2 - up**2)
            x = yield combine(next, (next.alpha, x0), (next.alpha * down, epsilon), (next.alpha * up, z))
        return x

    return method


@on_every_process
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_eta_is_k_diffusions_ancestral_step(process: Any, eta: float) -> None:
    times = bent(process, 6)
    plan = compiled(k_diffusion_ancestral(eta), process, times)
    assert_does_the_same(plan, compiled("ddim", process, times, eta=eta))
