"""PNDM, momentum, gradient estimation, accelerated DDIM and k-diffusion's classics, by their papers' and authors' formulas."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from methods_cases import bent, normals
from methods_published import CONTINUOUS, Array, assert_close, exact, numbers, start, urns

from urn.processes import VE, VP

SIGMAS = [4.0, 2.6, 1.5, 0.8, 0.35, 0.1]
ADAMS = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
LAST = pytest.mark.parametrize("last", [[], [0.0]])


def newest_first(weights: list[float], made: list[Array]) -> Array:
    return sum(w * e for w, e in zip(weights, reversed(made), strict=False))


# --- PNDM -----------------------------------------------------------------------------------------------------------


def transfer(process: object, x: Array, e: Array, t: float, t_next: float) -> Array:
    """PNDM's phi, equation 11: in alpha-bar, DDIM's step with any e."""
    alpha = numbers(process)[0]
    a, b = alpha(t) ** 2, alpha(t_next) ** 2
    factor = (b - a) / (math.sqrt(a) * (math.sqrt((1 - b) * a) + math.sqrt((1 - a) * b)))
    return math.sqrt(b / a) * x - factor * e


def test_f_pndm() -> None:
    """Equations 12 and 13: three pseudo Runge-Kutta steps, then linear multistep."""
    process = VP.linear()
    epsilon, times = exact(process, "epsilon"), bent(process, 7).tolist()
    x, made = start(process, times), []
    for i, (t, t_next) in enumerate(pairwise(times)):
        e1 = epsilon(x, t)
        made.append(e1)
        if i < 3:
            middle = (t + t_next) / 2
            e2 = epsilon(transfer(process, x, e1, t, middle), middle)
            e3 = epsilon(transfer(process, x, e2, t, middle), middle)
            e4 = epsilon(transfer(process, x, e3, t, t_next), t_next)
            e = (e1 + 2 * e2 + 2 * e3 + e4) / 6
        else:
            e = newest_first(ADAMS[4], made)
        x = transfer(process, x, e, t, t_next)
    assert_close(urns("pndm", process, times), x)


@LAST
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm(order: int, last: list[float]) -> None:
    epsilon, sigmas = exact(VE(), "epsilon"), [*SIGMAS, *last]
    x, made = start(VE(), sigmas), []
    for cur, next in pairwise(sigmas):
        made.append(epsilon(x, cur))
        x = x + (next - cur) * newest_first(ADAMS[min(order, len(made))], made)
    assert_close(urns("ipndm", VE(), sigmas, order=order), x)


def test_lms_is_k_diffusions() -> None:
    """Integrals in sigma of the Lagrange polynomials through the last four slopes, as sample_lms has them."""
    epsilon = exact(VE(), "epsilon")
    x, made = start(VE(), SIGMAS), []
    for i, (cur, next) in enumerate(pairwise(SIGMAS)):
        made.append(epsilon(x, cur))
        order = min(i + 1, 4)
        for j in range(order):
            others = [SIGMAS[i - k] for k in range(order) if k != j]
            one = np.poly1d(np.poly(others)) / np.prod([SIGMAS[i - j] - other for other in others])
            whole = np.polyint(one)
            x = x + (whole(next) - whole(cur)) * made[i - j]
    assert_close(urns("lms", VE(), SIGMAS), x)


# --- k-diffusion ----------------------------------------------------------------------------------------------------


@LAST
def test_k_diffusions_dpm_2(last: list[float]) -> None:
    epsilon, sigmas = exact(VE(), "epsilon"), [*SIGMAS, *last]
    x = start(VE(), sigmas)
    for cur, next in pairwise(sigmas):
        d = epsilon(x, cur)
        if next > 0:
            middle = math.exp((math.log(cur) + math.log(next)) / 2)
            d = epsilon(x + (middle - cur) * d, middle)
        x = x + (next - cur) * d
    assert_close(urns("dpm_2", VE(), sigmas), x)


@LAST
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_k_diffusions_dpm_2_ancestral(eta: float, last: list[float]) -> None:
    epsilon, z, sigmas = exact(VE(), "epsilon"), normals(6).numpy(), [*SIGMAS, *last]
    x = start(VE(), sigmas)
    for i, (cur, next) in enumerate(pairwise(sigmas)):
        up = min(next, eta * math.sqrt(next**2 * (cur**2 - next**2) / cur**2))
        down = math.sqrt(next**2 - up**2)
        d = epsilon(x, cur)
        if down > 0:
            middle = math.exp((math.log(cur) + math.log(down)) / 2)
            d = epsilon(x + (middle - cur) * d, middle)
        x = x + (down - cur) * d + (up * z[i] if next > 0 else 0)
    assert_close(urns("dpm_2_ancestral", VE(), sigmas, z, eta=eta), x)


@LAST
def test_comfyuis_heunpp2(last: list[float]) -> None:
    epsilon, s = exact(VE(), "epsilon"), [*SIGMAS, *last]
    x = start(VE(), s)
    for i in range(len(s) - 1):
        d = epsilon(x, s[i])
        if i + 1 == len(s) - 1:
            x = x + d * (s[i + 1] - s[i])
            continue
        two = x + d * (s[i + 1] - s[i])
        d2 = epsilon(two, s[i + 1])
        if i + 2 == len(s) - 1:
            w2 = s[i + 1] / (2 * s[0])
            slope = (1 - w2) * d + w2 * d2
        else:
            d3 = epsilon(two + d2 * (s[i + 2] - s[i + 1]), s[i + 2])
            w2, w3 = s[i + 1] / (3 * s[0]), s[i + 2] / (3 * s[0])
            slope = (1 - w2 - w3) * d + w2 * d2 + w3 * d3
        x = x + slope * (s[i + 1] - s[i])
    assert_close(urns("heunpp2", VE(), s), x)


# --- gradient estimation, momentum ------------------------------------------------------------------------------------


@LAST
@pytest.mark.parametrize("gamma", [1.0, 1.4, 2.0])
def test_gradient_estimation(gamma: float, last: list[float]) -> None:
    """Permenter & Yuan, algorithm 2: x + (s_next - s) (gamma e + (1 - gamma) e_prev)."""
    epsilon, sigmas = exact(VE(), "epsilon"), [*SIGMAS, *last]
    x, before = start(VE(), sigmas), None
    for cur, next in pairwise(sigmas):
        e = epsilon(x, cur)
        x = x + (next - cur) * (e if before is None else gamma * e + (1 - gamma) * before)
        before = e
    assert_close(urns("gradient_estimation", VE(), sigmas, gamma=gamma), x)


GHVB = {
    1: lambda b: [1],
    2: lambda b: [(2 + b) / (2 * b), -(2 - b) / (2 * b)],
    3: lambda b: [(18 + 5 * b) / (12 * b), -(24 - 8 * b) / (12 * b), (6 - b) / (12 * b)],
    4: lambda b: [
        (46 + 9 * b) / (24 * b),
        -(78 - 19 * b) / (24 * b),
        (42 - 5 * b) / (24 * b),
        -(10 - b) / (24 * b),
    ],
}


@pytest.mark.parametrize("beta", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ghvb(order: int, beta: float) -> None:
    """Wizadwongsa et al., equations 12 and 13 with the coefficients of their table."""
    epsilon = exact(VE(), "epsilon")
    x, velocities = start(VE(), SIGMAS), []
    for cur, next in pairwise(SIGMAS):
        e = epsilon(x, cur)
        velocities.append(e if not velocities else (1 - beta) * velocities[-1] + beta * e)
        x = x + (next - cur) * newest_first(GHVB[min(order, len(velocities))](beta), velocities)
    assert_close(urns("ghvb_2", VE(), SIGMAS, order=order, beta=beta), x)


@pytest.mark.parametrize("beta", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_hb(order: int, beta: float) -> None:
    """The same, section 3.2: v = (1 - beta) v + beta (the method's slope), v the first slope at first."""
    epsilon = exact(VE(), "epsilon")
    x, made, v = start(VE(), SIGMAS), [], None
    for cur, next in pairwise(SIGMAS):
        made.append(epsilon(x, cur))
        slope = newest_first(ADAMS[min(order, len(made))], made)
        v = slope if v is None else (1 - beta) * v + beta * slope
        x = x + (next - cur) * v
    assert_close(urns("hb", VE(), SIGMAS, order=order, beta=beta), x)


# --- accelerated DDIM and DDPM ----------------------------------------------------------------------------------------


def in_vp(process: object, t: float) -> tuple[float, float]:
    """sqrt(alpha-bar) and the norm that makes a state one of a variance-preserving process."""
    alpha, sigma, *_ = numbers(process)
    n = math.hypot(alpha(t), sigma(t))
    return alpha(t) / n, n


@CONTINUOUS
def test_accelerated_ddim(process: object) -> None:
    """Li et al., equations 11: in Y and its score."""
    epsilon, times = exact(process, "epsilon"), bent(process, 6).tolist()

    def score(y: Array, t: float) -> Array:
        root, n = in_vp(process, t)
        return -epsilon(n * y, t) / math.sqrt(1 - root**2)

    y = start(process, times) / in_vp(process, times[0])[1]
    for i, (t, t_next) in enumerate(pairwise(times)):
        a = (in_vp(process, t)[0] / in_vp(process, t_next)[0]) ** 2
        s = score(y, t)
        new = y + (1 - a) / 2 * s
        if i:
            a_before = (in_vp(process, times[i - 1])[0] / in_vp(process, t)[0]) ** 2
            back = math.sqrt(a_before) * (y - (1 - a_before) / 2 * s)
            bracket = s - math.sqrt(a_before) * score(back, times[i - 1])
            new = new + (1 - a) ** 2 / (4 * (1 - a_before)) * bracket
        y = new / math.sqrt(a)
    assert_close(urns("accelerated_ddim", process, times), y * in_vp(process, times[-1])[1])


@CONTINUOUS
def test_accelerated_ddpm(process: object) -> None:
    """Li et al., equations 14."""
    epsilon, times, z = exact(process, "epsilon"), bent(process, 4).tolist(), normals(8).numpy()
    y = start(process, times) / in_vp(process, times[0])[1]
    for i, (t, t_next) in enumerate(pairwise(times)):
        root, n = in_vp(process, t)
        a = (root / in_vp(process, t_next)[0]) ** 2
        plus = y + math.sqrt((1 - a) / 2) * z[2 * i]
        s = -epsilon(n * plus, t) / math.sqrt(1 - root**2)
        y = (plus + (1 - a) * s + math.sqrt((1 - a) / 2) * z[2 * i + 1]) / math.sqrt(a)
    assert_close(urns("accelerated_ddpm", process, times, z), y * in_vp(process, times[-1])[1])
