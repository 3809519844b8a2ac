"""k-diffusion's samplers in its own sigma."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from methods_cases import normals
from methods_published import Array, assert_close, exact, start, urns

from urn.processes import VE

SIGMAS = [4.0, 2.6, 1.5, 0.8, 0.35, 0.1]


def ancestral(cur: float, next: float, eta: float) -> tuple[float, float]:
    """The sigma to step down to and the std of the noise on top."""
    up = min(next, eta * math.sqrt(next**2 * (cur**2 - next**2) / cur**2))
    return math.sqrt(next**2 - up**2), up


def exponential(x: Array, cur: float, next: float, d: Array) -> Array:
    """x moved from cur to next with the estimate d: next/cur x + (1 - next/cur) d."""
    return next / cur * x + (1 - next / cur) * d


@pytest.mark.parametrize("eta", [0.4, 1.0])
@pytest.mark.parametrize("last", [[], [0.0]])
def test_k_diffusions_2s_ancestral(eta: float, last: list[float]) -> None:
    x0, z, sigmas = exact(VE(), "x0"), normals(6).numpy(), [*SIGMAS, *last]
    x = start(VE(), sigmas)
    for i, (cur, next) in enumerate(pairwise(sigmas)):
        d = x0(x, cur)
        down, up = ancestral(cur, next, eta)
        if next == 0:
            x = d
            continue
        middle = math.sqrt(cur * down)
        x = exponential(x, cur, down, x0(exponential(x, cur, middle, d), middle)) + up * z[i]
    assert_close(urns("dpmpp_2s_ancestral", VE(), sigmas, z, predicts="x0", eta=eta), x)


@pytest.mark.parametrize(("eta", "r"), [(0.4, 0.5), (1.0, 0.5), (1.0, 0.7)])
@pytest.mark.parametrize("last", [[], [0.0]])
def test_k_diffusions_dpmpp_sde(eta: float, r: float, last: list[float]) -> None:
    x0, z, sigmas = exact(VE(), "x0"), normals(12).numpy(), [*SIGMAS, *last]
    x = start(VE(), sigmas)
    for i, (cur, next) in enumerate(pairwise(sigmas)):
        d = x0(x, cur)
        if next == 0:
            x = d
            continue
        middle = cur ** (1 - r) * next**r
        down, up = ancestral(cur, middle, eta)
        d_middle = x0(exponential(x, cur, down, d) + up * z[2 * i + 1], middle)
        down, up = ancestral(cur, next, eta)
        x = exponential(x, cur, down, d + (d_middle - d) / (2 * r)) + up * z[2 * i]
    assert_close(urns("dpmpp_sde", VE(), sigmas, z, predicts="x0", eta=eta, r=r), x)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde_published"])
def test_k_diffusions_multistep_sde(name: str, eta: float) -> None:
    """2M (midpoint, heun) and 3M: x e^-k + (1 - e^-k) D + slopes, k = h (1 + eta), + sigma sqrt(1 - e^(-2 eta h)) z."""
    x0, z = exact(VE(), "x0"), normals(5).numpy()
    x, made = start(VE(), SIGMAS), []
    for i, (cur, next) in enumerate(pairwise(SIGMAS)):
        made.append(x0(x, cur))
        h = math.log(cur / next)
        k = h * (1 + eta)
        x = math.exp(-k) * x - math.expm1(-k) * made[i]
        phi_2 = math.expm1(-k) / k + 1
        slopes = [(made[j] - made[j - 1]) * h / math.log(SIGMAS[j - 1] / SIGMAS[j]) for j in range(1, i + 1)]
        if name == "dpmpp_3m_sde_published" and i > 1:
            r_0, r_1 = (math.log(SIGMAS[j - 1] / SIGMAS[j]) / h for j in (i, i - 1))
            bend = (slopes[-1] - slopes[-2]) / (r_0 + r_1)
            x = x + phi_2 * (slopes[-1] + r_0 * bend) - (phi_2 / k - 0.5) * bend
        elif i > 0:
            x = x + (-math.expm1(-k) / 2 if name == "dpmpp_2m_sde" else phi_2) * slopes[-1]
        x = x + next * math.sqrt(-math.expm1(-2 * eta * h)) * z[i]
    assert_close(urns(name, VE(), SIGMAS, z, eta=eta), x)
