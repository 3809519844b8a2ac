"""Every "equals" of Score-SDE and EDM."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from methods_cases import (
    PROCESSES,
    assert_does_the_same,
    assert_same_rows,
    bent,
    compiled,
    gap,
    law,
    run,
)
from methods_equalities import on_every_grid, on_every_process

from urn.method import combine, evaluate, noise
from urn.processes import VE, VP, Flow


@pytest.mark.parametrize("process", [VE(), Flow()], ids=repr)
@on_every_grid
def test_probability_flow_is_ddim_on_ve_and_on_the_straight_flow(process: Any, grid: Any) -> None:
    times = grid(process, 6)
    assert_does_the_same(compiled("probability_flow", process, times), compiled("ddim", process, times))


def test_probability_flow_is_not_ddim_on_a_shifted_flow() -> None:
    """There dx/dt = s'(t) (epsilon - x0), and a step of Euler's moves s by dt s'(t), not to s(t + dt)."""
    process = Flow(shift=3.0)
    times = bent(process, 6)
    assert gap(run(compiled("probability_flow", process, times)), run(compiled("ddim", process, times))) > 1e-2


@on_every_grid
def test_probability_flow_heun_is_heun_on_ve(grid: Any) -> None:
    times = grid(VE(), 6)
    assert_does_the_same(compiled("probability_flow_heun", VE(), times), compiled("heun", VE(), times))


def test_probability_flow_rk4_is_deis_rho_rk4_on_ve() -> None:
    times = bent(VE(), 6)
    assert_does_the_same(compiled("probability_flow_rk4", VE(), times), compiled("deis_rho_rk4", VE(), times))


@on_every_grid
@on_every_process
def test_edm_without_churn_is_heun(process: Any, grid: Any) -> None:
    times = grid(process, 6)
    assert_same_rows(compiled("edm", process, times, s_churn=0.0), compiled("heun", process, times))
    # nor where the churned range holds no node
    assert_same_rows(compiled("edm", process, times, s_min=90.0, s_max=91.0), compiled("heun", process, times))


def test_edm_does_not_churn_beyond_the_noisiest_time() -> None:
    process = VP.linear()
    plan = compiled("edm", process, bent(process, 4, start=float(process.lambda_(1.0))), s_max=1e9)
    assert max(row.t for row in plan.rows if row.kind == "evaluate") <= 1.0


@pytest.mark.parametrize("process", ["vp", "vp cosine", "table"])
def test_ddpm_large_is_songs_ancestral_sampling_on_vp(process: str) -> None:
    def ancestral(nodes, x):
        for cur, next in nodes.steps():
            beta = 1 - (cur.alpha / next.alpha) ** 2
            score = yield evaluate(x, cur, "score")
            z = yield noise(cur, next)
            kept = torch.sqrt(1 - beta)
            x = yield combine(next, (1 / kept, x), (beta / kept, score), (torch.sqrt(beta), z))
        return x

    times = bent(PROCESSES[process], 6)
    assert_does_the_same(
        compiled("ddpm_large", PROCESSES[process], times), compiled(ancestral, PROCESSES[process], times)
    )


def test_ddpm_is_songs_ancestral_sampling_on_ve() -> None:
    def ancestral(nodes, x):
        for cur, next in nodes.steps():
            score = yield evaluate(x, cur, "score")
            z = yield noise(cur, next)
            b = cur.sigma**2 - next.sigma**2
            x = yield combine(next, (1.0, x), (b, score), (torch.sqrt(next.sigma**2 * b / cur.sigma**2), z))
        return x

    times = bent(VE(), 6)
    assert_does_the_same(compiled("ddpm", VE(), times), compiled(ancestral, VE(), times))


@pytest.mark.parametrize("process", ["vp", "vp cosine", "table"])
def test_on_vp_reverse_diffusion_is_in_beta(process: str) -> None:
    def by_beta(nodes, x):
        for cur, next in nodes.steps():
            beta = 1 - (cur.alpha / next.alpha) ** 2
            score = yield evaluate(x, cur, "score")
            z = yield noise(cur, next)
            x = yield combine(next, (2 - torch.sqrt(1 - beta), x), (beta, score), (torch.sqrt(beta), z))
        return x

    times = bent(PROCESSES[process], 6)
    plan = compiled("reverse_diffusion", PROCESSES[process], times)
    assert_does_the_same(plan, compiled(by_beta, PROCESSES[process], times))


@pytest.mark.parametrize("process", ["vp", "vp cosine", "ve", "flow", "table"])
def test_reverse_diffusion_is_euler_maruyama_to_first_order(process: str) -> None:
    """In one step of length d their means differ by O(d^2) and their noises by O(d^1.5)."""
    forward = PROCESSES[process]
    start = float(bent(forward, 2)[1])
    if process == "table":
        start = math.floor(start) + 0.95  # a table's clock has kinks at the integers: stay between two
    unit = start / 40 if process != "table" else 0.9
    gaps = []
    for shrink in (1, 2, 4):
        times = torch.tensor([start, start - unit / shrink], dtype=torch.float64)
        one, other = (law(compiled(name, forward, times)) for name in ("reverse_diffusion", "euler_maruyama"))
        gaps.append([float((a - b).norm()) for a, b in zip(one, other, strict=True)])
    for part, exponent in zip(range(3), (2, 2, 1.5), strict=True):
        rates = [math.log2(gaps[i][part] / gaps[i + 1][part]) for i in range(2)] if gaps[0][part] > 1e-13 else []
        assert all(rate > exponent - 0.1 for rate in rates), (part, rates)
