"""DEIS against its paper's integrals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from methods_cases import geometric
from methods_published import CONTINUOUS, Array, assert_close, exact, numbers, start, urns
from scipy.integrate import quad

from urn.processes import VP, Flow


def lagrange(u: float, places: Sequence[float], j: int) -> float:
    return math.prod((u - q) / (places[j] - q) for k, q in enumerate(places) if k != j)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_deis_t_ab_by_quadrature(order: int) -> None:
    """Zhang & Chen 2023, equations 14 and 15: C_ij = int 1/2 Psi(t_next, tau) G^2 L^-1 ell_j(tau) d tau, for the VP SDE with
    G^2 = beta, L = sigma, Psi(t, tau) = alpha_t/alpha_tau; while there are fewer predictions, of lower order."""
    process = VP.linear()
    alpha, sigma, *_ = numbers(process)
    epsilon, times = exact(process, "epsilon"), geometric(process, 6).tolist()
    x, made = start(process, times), []
    for i, (t, t_next) in enumerate(pairwise(times)):
        made.insert(0, epsilon(x, t))
        made = made[:order]
        places = times[i::-1][: len(made)]
        x = alpha(t_next) / alpha(t) * x
        for j, e in enumerate(made):

            def kernel(tau: float, j: int = j, t_next: float = t_next, places: list[float] = places) -> float:
                psi = alpha(t_next) / alpha(tau)
                return 0.5 * psi * (0.1 + 19.9 * tau) / sigma(tau) * lagrange(tau, places, j)

            x = x + quad(kernel, t, t_next, epsabs=1e-14, epsrel=1e-13)[0] * e
    assert_close(urns("deis_3_ramped", process, times, order=order), x, 1e-9)


@pytest.mark.parametrize("process", [VP.linear(), Flow()], ids=repr)
@pytest.mark.parametrize("order", [3, 4])
def test_deis_rho_ab_by_quadrature(process: Any, order: int) -> None:
    """Polynomials in rho = sigma/alpha: y = x/alpha, y_next = y + sum_j e_j int ell_j d rho, which are sums of powers."""
    alpha, sigma, *_ = numbers(process)
    epsilon, times = exact(process, "epsilon"), geometric(process, 6).tolist()
    rho = [sigma(t) / alpha(t) for t in times]
    x, made = start(process, times), []
    for i in range(6):
        made.insert(0, epsilon(x, times[i]))
        made = made[:order]
        places = rho[i::-1][: len(made)]
        y = x / alpha(times[i])
        for j, e in enumerate(made):
            ell = np.poly1d([q for k, q in enumerate(places) if k != j], r=True)
            whole = (ell / ell(places[j])).integ()
            y = y + (whole(rho[i + 1]) - whole(rho[i])) * e
        x = alpha(times[i + 1]) * y
    assert_close(urns(f"deis_rho_{order}_ramped", process, times), x)


TABLEAUS = {
    "heun": ([[1]], [1 / 2, 1 / 2]),
    "deis_rho_kutta_3": ([[1 / 2], [-1, 2]], [1 / 6, 2 / 3, 1 / 6]),
    "deis_rho_rk4": ([[1 / 2], [0, 1 / 2], [0, 0, 1]], [1 / 6, 1 / 3, 1 / 3, 1 / 6]),
}


@CONTINUOUS
@pytest.mark.parametrize("name", TABLEAUS)
def test_deis_rho_rk(process: Any, name: str) -> None:
    """Section 4: a Runge-Kutta method on dy/d rho = epsilon(alpha y, t(rho)), y = x/alpha."""
    rows, weights = TABLEAUS[name]
    alpha, sigma, _, t_of_lambda = numbers(process)
    epsilon, times = exact(process, "epsilon"), geometric(process, 5).tolist()

    def f(rho: float, y: Array) -> Array:
        t = t_of_lambda(-math.log(rho))
        return epsilon(alpha(t) * y, t)

    y = start(process, times) / alpha(times[0])
    for t, t_next in pairwise(times):
        rho, d = sigma(t) / alpha(t), sigma(t_next) / alpha(t_next) - sigma(t) / alpha(t)
        slopes = [f(rho, y)]
        for row in rows:
            stage = y + d * sum(a * k for a, k in zip(row, slopes, strict=True))
            slopes.append(f(rho + sum(row) * d, stage))
        y = y + d * sum(b * k for b, k in zip(weights, slopes, strict=True))
    assert_close(urns(name, process, times), alpha(times[-1]) * y)
