"""Every "equals" of DDPM's docstrings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods_cases import (
    MIXTURE,
    PROCESSES,
    assert_does_the_same,
    assert_same_rows,
    bent,
    compiled,
    gap,
    run,
    start_states,
)
from methods_equalities import on_every_process
from torch import Tensor

import urn
from urn.exact import Gaussian
from urn.exact.affine import moments
from urn.method import combine, evaluate, noise
from urn.noise import SeededNoise
from urn.processes import VP


@on_every_process
def test_ddpm_interpolated_with_fraction_1_is_ddpm_large(process: Any) -> None:
    times = bent(process, 6)
    plan = compiled("ddpm_interpolated", process, times, fraction=1.0)
    assert_same_rows(plan, compiled("ddpm_large", process, times))


@on_every_process
def test_ddpm_large_is_ddims_sigma_hat(process: Any) -> None:
    """DDIM, section 5: the coefficient of epsilon stays that of eta = 1, and the noise has sqrt(1 - alpha_t/alpha_t-1)."""

    def sigma_hat(nodes, x):
        for cur, next in nodes.steps():
            x0, epsilon = yield evaluate(x, cur, "x0", "epsilon")
            z = yield noise(cur, next)
            a = cur.alpha / next.alpha
            variance = cur.sigma**2 - (a * next.sigma) ** 2
            kept = torch.sqrt(next.sigma**2 - next.sigma**2 / cur.sigma**2 * variance)
            x = yield combine(next, (next.alpha, x0), (kept, epsilon), (torch.sqrt(variance), z))
        return x

    times = bent(process, 6)
    assert_does_the_same(compiled(sigma_hat, process, times), compiled("ddpm_large", process, times))


@pytest.mark.parametrize("v", [-1.0, -0.4, 0.0, 1.0])
@pytest.mark.parametrize("process", ["vp", "ve", "flow", "table"])
def test_iddpm_with_a_constant_variance_is_ddpm_interpolated(process: str, v: float) -> None:
    forward = PROCESSES[process]
    times = bent(forward, 6)
    x = start_states(compiled("ddpm", forward, times))

    def net(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return MIXTURE.prediction(x, forward, t, "v"), torch.full_like(x, v)

    learned = urn.Model(net, forward, ("v", "variance"))
    seeds = list(range(len(x)))
    y = urn.execute(compiled("iddpm", forward, times), learned, {"x": x}, SeededNoise(seeds))["x"]
    fixed = compiled("ddpm_interpolated", forward, times, fraction=(v + 1) / 2)
    expected = urn.execute(fixed, MIXTURE.model(forward), {"x": x}, SeededNoise(seeds))["x"]
    assert gap(y, expected) < 1e-12


@pytest.mark.parametrize("process", ["vp", "vp cosine", "table"])
def test_the_large_variance_is_right_for_standard_normal_data(process: str) -> None:
    forward = PROCESSES[process]
    standard = Gaussian([0.0, 0.0], 1.0)
    mean, covariance = moments(compiled("ddpm_large", forward, bent(forward, 4)), standard)
    assert float(mean.abs().max()) < 1e-14
    assert gap(covariance, torch.eye(2, dtype=torch.float64)) < 1e-12
    small = moments(compiled("ddpm", forward, bent(forward, 4)), standard)[1]
    assert float((small - torch.eye(2)).abs().max()) > 0.05


@on_every_process
def test_the_small_variance_is_right_for_a_point(process: Any) -> None:
    point = Gaussian([1.3, -2.1], 0.0)
    times = bent(process, 4)
    alpha, sigma = process.alpha(times[-1]), process.sigma(times[-1])
    mean, covariance = moments(compiled("ddpm", process, times), point)
    assert gap(mean, alpha * point.mean) < 1e-12
    assert gap(covariance, sigma**2 * torch.eye(2, dtype=torch.float64)) < 1e-11
    large = moments(compiled("ddpm_large", process, times), point)[1]
    assert float(large[0, 0] / sigma**2) > 1.2


@pytest.mark.parametrize("name", ["ddim", "ddpm", "ddpm_large", "euler_ancestral", "dpmpp_2m"])
def test_a_sub_grid_of_a_table_is_the_re_spaced_table(name: str) -> None:
    """iDDPM's re-spacing: betas made of the kept alphas_cumprod, on their own full grid."""
    table = PROCESSES["table"]
    kept = [19, 149, 379, 601, 999]
    cumprod = torch.tensor(table.alphas_cumprod, dtype=torch.float64)[kept]
    betas = 1 - cumprod / torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])
    respaced = VP.from_betas(betas)
    sub = compiled(name, table, [float(t) for t in kept[::-1]] + [-1.0])
    own = compiled(name, respaced, [4.0, 3.0, 2.0, 1.0, 0.0, -1.0])
    x = start_states(sub)
    assert gap(run(own, x), run(sub, x)) < 1e-11
