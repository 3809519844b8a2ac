"""DPM-Solver++ against its paper's algorithms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from methods_cases import geometric, normals
from methods_published import CONTINUOUS, assert_close, exact, numbers, start, urns


@CONTINUOUS
@pytest.mark.parametrize("r", [0.5, 0.3])
def test_dpm_solver_plus_plus_2s_algorithm_1(process: Any, r: float) -> None:
    """Lu et al. 2022b: D = (1 - 1/(2 r)) x(s) + x(u)/(2 r), x_next = (sigma/sigma_s) x - alpha (e^-h - 1) D."""
    alpha, sigma, lambda_, t_of_lambda = numbers(process)
    x0, times = exact(process, "x0"), geometric(process, 5)
    x = start(process, times)
    for s, t in pairwise(times.tolist()):
        h = lambda_(t) - lambda_(s)
        middle = t_of_lambda(lambda_(s) + r * h)
        d = x0(x, s)
        u = sigma(middle) / sigma(s) * x - alpha(middle) * math.expm1(-r * h) * d
        d = (1 - 1 / (2 * r)) * d + x0(u, middle) / (2 * r)
        x = sigma(t) / sigma(s) * x - alpha(t) * math.expm1(-h) * d
    assert_close(urns("dpmpp_2s", process, times, r=r), x)


@CONTINUOUS
def test_dpm_solver_plus_plus_2m_algorithm_2(process: Any) -> None:
    """D = (1 + 1/(2 r)) x(cur) - x(prev)/(2 r), r = h_prev/h; the first step has D = x(cur)."""
    alpha, sigma, lambda_, _ = numbers(process)
    x0, times = exact(process, "x0"), geometric(process, 7)
    x, before, h_before = start(process, times), None, None
    for s, t in pairwise(times.tolist()):
        h, d = lambda_(t) - lambda_(s), x0(x, s)
        mixed = d if before is None else d + (d - before) * h / (2 * h_before)
        x = sigma(t) / sigma(s) * x - alpha(t) * math.expm1(-h) * mixed
        before, h_before = d, h
    assert_close(urns("dpmpp_2m", process, times), x)


@CONTINUOUS
def test_dpm_solver_plus_plus_3m_of_the_authors_code(process: Any) -> None:
    """phi_2 D1 - phi_3 D2 with phi_3 = phi_2/h - 1/2, after one step of 1M and one of 2M."""
    alpha, sigma, lambda_, _ = numbers(process)
    x0, times = exact(process, "x0"), geometric(process, 7).tolist()
    x, made = start(process, times), []
    for i in range(7):
        made.append(x0(x, times[i]))
        h = lambda_(times[i + 1]) - lambda_(times[i])
        total = math.expm1(-h)
        x = sigma(times[i + 1]) / sigma(times[i]) * x - alpha(times[i + 1]) * total * made[i]
        if i > 0:
            r_0 = (lambda_(times[i]) - lambda_(times[i - 1])) / h
            d_0 = (made[i] - made[i - 1]) / r_0
        if i == 1:
            x = x - alpha(times[2]) * total / 2 * d_0
        if i > 1:
            r_1 = (lambda_(times[i - 1]) - lambda_(times[i - 2])) / h
            d_1 = (made[i - 1] - made[i - 2]) / r_1
            phi_2 = total / h + 1
            slope, bend = d_0 + r_0 / (r_0 + r_1) * (d_0 - d_1), (d_0 - d_1) / (r_0 + r_1)
            x = x + alpha(times[i + 1]) * (phi_2 * slope - (phi_2 / h - 0.5) * bend)
    assert_close(urns("dpmpp_3m_published", process, times), x)


@CONTINUOUS
@pytest.mark.parametrize("steps_of_history", [1, 2])
def test_sde_dpm_solver_plus_plus(process: Any, steps_of_history: int) -> None:
    """Lu et al. 2022b, section 5: (sigma/sigma_s) e^-h x + alpha (1 - e^-2h) D + sigma sqrt(1 - e^-2h) z, D as in 2M."""
    alpha, sigma, lambda_, _ = numbers(process)
    x0, times, z = exact(process, "x0"), geometric(process, 6), normals(6).numpy()
    x, before, h_before = start(process, times), None, None
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        h, d = lambda_(t) - lambda_(s), x0(x, s)
        mixed = d if before is None or steps_of_history == 1 else d + (d - before) * h / (2 * h_before)
        share = -math.expm1(-2 * h)
        x = sigma(t) / sigma(s) * math.exp(-h) * x + alpha(t) * share * mixed + sigma(t) * math.sqrt(share) * z[i]
        before, h_before = d, h
    assert_close(urns({1: "dpmpp_1_sde", 2: "dpmpp_2m_sde"}[steps_of_history], process, times, z), x)


@CONTINUOUS
@pytest.mark.parametrize("steps_of_history", [1, 2])
def test_sde_dpm_solver(process: Any, steps_of_history: int) -> None:
    """(alpha/alpha_s) x - 2 sigma (e^h - 1) [e + (e - e_prev)/(2 r)] + sigma sqrt(e^2h - 1) z."""
    alpha, sigma, lambda_, _ = numbers(process)
    epsilon, times, z = exact(process, "epsilon"), geometric(process, 6), normals(6).numpy()
    x, before, h_before = start(process, times), None, None
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        h, e = lambda_(t) - lambda_(s), epsilon(x, s)
        mixed = e if before is None or steps_of_history == 1 else e + (e - before) * h / (2 * h_before)
        x = alpha(t) / alpha(s) * x - 2 * sigma(t) * math.expm1(h) * mixed
        x = x + sigma(t) * math.sqrt(math.expm1(2 * h)) * z[i]
        before, h_before = e, h
    assert_close(urns({1: "sde_dpm_solver_1", 2: "sde_dpm_solver_2m"}[steps_of_history], process, times, z), x)
