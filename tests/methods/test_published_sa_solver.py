"""SA-Solver against its paper's equations, its integrals by SciPy."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from methods_cases import geometric, normals
from methods_published import CONTINUOUS, Array, assert_close, exact, numbers, start, urns
from scipy.integrate import quad

from urn.processes import VP


def adams(squared_tau: Any, place: Any, s: float, t: float, points: list[float]) -> tuple[float, list[float], float]:
    """e^(-I) sigma_t/sigma_s, the b_j of equations 14 and 17, and the noise's std, between times s and t."""
    _, sigma, lambda_, _ = place
    end = lambda_(t)

    def left(l: float) -> float:
        return quad(squared_tau, l, end, epsabs=1e-14, epsrel=1e-13)[0]

    at = [lambda_(point) for point in points]

    def weight(j: int) -> float:
        def integrand(l: float) -> float:
            ell = math.prod((l - at[k]) / (at[j] - at[k]) for k in range(len(at)) if k != j)
            return math.exp(-left(l)) * (1 + squared_tau(l)) * math.exp(l) * ell

        return sigma(t) * quad(integrand, lambda_(s), end, epsabs=1e-13, epsrel=1e-12)[0]

    whole = left(lambda_(s))
    std = sigma(t) * math.sqrt(-math.expm1(-2 * whole))
    return sigma(t) / sigma(s) * math.exp(-whole), [weight(j) for j in range(len(at))], std


def sa_solver(
    process: Any, times: list[float], z: Array, squared_tau: Any, order: int, corrector: int, pece: bool
) -> Array:
    """Algorithm 1: predictor, evaluation, corrector with the same z, and in PECE another evaluation."""
    place, x0 = numbers(process), exact(process, "x0")
    x = start(process, torch.tensor(times, dtype=torch.float64))
    made, at = [x0(x, times[0])], [times[0]]
    for i in range(len(times) - 1):
        s, t = times[i], times[i + 1]
        carry, b, std = adams(squared_tau, place, s, t, at[:order])
        y = carry * x + sum(w * d for w, d in zip(b, made, strict=False)) + std * z[i]
        if i == len(times) - 2:
            return y
        here = x0(y, t)
        if corrector:
            points, values = [t, *at][:corrector], [here, *made]
            carry, b, std = adams(squared_tau, place, s, t, points)
            y = carry * x + sum(w * d for w, d in zip(b, values, strict=False)) + std * z[i]
            if pece:
                here = x0(y, t)
        x, made, at = y, [here, *made], [t, *at]
    return x


def running(l: float) -> float:
    return 1 / (1 + l * l)


@CONTINUOUS
@pytest.mark.parametrize(("order", "corrector"), [(1, 2), (2, 2), (3, 4), (3, 0)])
def test_pec_with_constant_tau(process: Any, order: int, corrector: int) -> None:
    times, z = geometric(process, 5), normals(5).numpy()
    expected = sa_solver(process, times.tolist(), z, lambda l: 0.64, order, corrector, False)
    assert_close(urns("sa_solver", process, times, z, order=order, corrector=corrector, tau=0.8), expected)


@CONTINUOUS
def test_pece_with_tau_that_runs_in_lambda(process: Any) -> None:
    times, z = geometric(process, 4), normals(4).numpy()
    expected = sa_solver(process, times.tolist(), z, running, 2, 3, True)
    given = {"order": 2, "tau": lambda l: (1 + l * l) ** -0.5}
    assert_close(urns("sa_solver_pece", process, times, z, **given), expected)


@CONTINUOUS
def test_a_window_is_of_steps_that_start_in_it(process: Any) -> None:
    """Each step with the tau of its start, sigma/alpha between 0.4 and 2."""
    times, z = geometric(process, 6), normals(6)
    alpha, sigma, lambda_, _ = numbers(process)
    x0, at = exact(process, "x0"), times.tolist()
    inside = [0.4 <= sigma(t) / alpha(t) <= 2 for t in at[:-1]]
    assert 1 < sum(inside) < 5
    x, made = start(process, times), []
    for i, (s, t) in enumerate(pairwise(at)):
        made.insert(0, x0(x, s))
        carry, b, std = adams(
            lambda l, i=i: 0.81 * inside[i], (alpha, sigma, lambda_, None), s, t, at[: i + 1][::-1][:2]
        )
        x = carry * x + sum(w * d for w, d in zip(b, made, strict=False)) + std * z[i].numpy()
    drawn = [noise for noise, noisy in zip(z, inside, strict=True) if noisy]
    found = urns("sa_solver", process, times, drawn, order=2, corrector=0, tau=(0.9, 0.4, 2.0))
    assert_close(found, x)


def test_the_published_weights_at_order_two() -> None:
    """Appendix D: b of the older point is alpha k h^2/2 / (l_prev - l_s), of the new one's alpha k h/2, k = 1 + tau^2."""
    process, tau = VP.linear(), 0.7
    times, z = geometric(process, 4), normals(4).numpy()
    alpha, sigma, lambda_, _ = numbers(process)
    x0, at, rate = exact(process, "x0"), times.tolist(), 1 + tau**2
    x = start(process, times)
    here, before = x0(x, at[0]), None
    for i in range(4):
        s, t = at[i], at[i + 1]
        h = lambda_(t) - lambda_(s)
        total = -alpha(t) * math.expm1(-rate * h)
        base = sigma(t) / sigma(s) * math.exp(-(tau**2) * h) * x
        base = base + sigma(t) * math.sqrt(-math.expm1(-2 * tau**2 * h)) * z[i]
        older = 0.0 if i == 0 else alpha(t) * rate * h**2 / 2 / (lambda_(at[i - 1]) - lambda_(s))
        y = base + (total - older) * here + (0.0 if i == 0 else older * before)
        if i < 3:
            there = x0(y, t)
            newer = alpha(t) * rate * h / 2
            x = base + newer * there + (total - newer) * here
            here, before = there, here
    assert_close(urns("sa_solver_published", process, times, z, tau=tau), y)
