"""Where RES4LYF's exponential tableaus differ from the published ones: the orders of both, fitted without Urn.

RES4LYF cites a thesis that writes phi_(l, j) for c_j^l phi_l(c_j z), and reads it as phi_l(c_j z); other tableaus have a sign,
a power or an entry wrong. As of its commit 022c873 of 2026-07-17, each compared there to rounding with what its code returns.
Its `res_8s_alt` is not here, for it raises an UnboundLocalError.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from methods_cases import fitted
from methods_exponential import (
    KUTTA,
    PUBLISHED,
    Tableau,
    filled,
    hochbruck_ostermann_5s,
    luan_alhsmy_6,
    minchev_4,
    phi,
    shares,
    simpson,
    without_second,
)
from methods_published import Array

from urn.methods import METHODS


def res4lyf_non_monotonic(z: float) -> Tableau:
    """gamma with c3^3 for c3^2, which is right at c3 = 1 alone."""
    p, c2, c3 = shares(z), 1.0, 0.5
    gamma = (3 * c3**3 - 2 * c3) / (c2 * (2 - 3 * c2))
    rows = [[], [gamma * c2 * p(2, c2) + c3**2 / c2 * p(2, c3)]]
    return filled(z, [0, c2, c3], rows, [gamma / (gamma * c2 + c3) * p(2), p(2) / (gamma * c2 + c3)])


def res4lyf_sunstar(z: float) -> Tableau:
    """a_32 = 8/9 phi_2 is 4/(9 c2) phi_2 of c2 = 1/2, with c2 = 1/3."""
    p = shares(z)
    return filled(z, [0, 1 / 3, 2 / 3], [[], [8 / 9 * p(2, 2 / 3)]], [0, 3 / 2 * p(2)])


def res4lyf_etdrk4(z: float) -> Tableau:
    """phi_(1, 2) twice as large."""
    p = shares(z)
    return filled(z, KUTTA, [[], [p(1, 0.5)], [0, 2 * p(1, 0.5)]], simpson(z)[1:])


def res4lyf_etdrk4_alt(z: float) -> Tableau:
    """The same with b_1 left out."""
    p = shares(z)
    a = [[], [p(1, 0.5)], [0, p(1, 0.5)], [p(1) - 2 * p(1, 0.5), 0, 2 * p(1, 0.5)]]
    return KUTTA, a, [0, *simpson(z)[1:]]


def res4lyf_krogstad_alt(z: float) -> Tableau:
    """phi_(2, 2) four times as large; without "alt" it is right."""
    p = shares(z)
    return filled(z, KUTTA, [[], [4 * p(2, 0.5)], [0, 2 * p(2)]], simpson(z)[1:])


def res4lyf_strehmel_weiner_alt(z: float) -> Tableau:
    p = shares(z)
    return filled(z, KUTTA, [[], [2 * p(2, 0.5)], [-2 * p(2), 4 * p(2)]], without_second(z)[1:])


def res4lyf_friedli(z: float) -> Tableau:
    p = shares(z)
    fourth = [-26 / 25 * p(1) + 2 / 25 * p(2), 26 / 25 * p(1) + 48 / 25 * p(2)]
    return filled(z, KUTTA, [[], [2 * p(2, 0.5)], fourth], without_second(z)[1:])


def res4lyf_minchev(z: float) -> Tableau:
    """The same, and a_42 computed and left out."""
    p = shares(z)
    rows = [[], [4 / 25 * p(1, 0.5) + 24 / 25 * p(2, 0.5)], [0, p(1) / 20 - 33 / 10 * p(2) + 123 / 5 * p(3)]]
    return filled(z, KUTTA, rows, minchev_4(z)[2][1:])


def res4lyf_munthe_kaas(z: float) -> Tableau:
    """h where z = -h belongs."""
    p = shares(z)
    a = [[], [p(1, 0.5) / 2], [-z / 8 * p(1, 0.5), (1 + z / 4) * p(1, 0.5) / 2], [0, 0, p(1)]]
    return KUTTA, a, [p(1) / 6 * (1 - z / 2), p(1) / 3, p(1) / 3, p(1) / 6 * (1 + z / 2)]


def res4lyf_hochbruck_ostermann(z: float) -> Tableau:
    """phi_(l, 2) 2^l times as large; its res_5s is right."""
    p = shares(z)
    a52 = p(2) / 4 - p(3) + 2 * p(2, 0.5) - 4 * p(3, 0.5)
    rows = [[], [4 * p(2, 0.5)], [p(2), p(2)], [a52, a52, p(2, 0.5) - a52]]
    return filled(z, [*KUTTA, 0.5], rows, [0, 0, *hochbruck_ostermann_5s(z)[2][3:]])


def res4lyf_16s(z: float) -> Tableau:
    """b negated, and a bracket closed too late in its denominators."""
    c, a, b = luan_alhsmy_6(z)
    weights = list(b[1:])
    for i in range(11, 16):
        j, d, k, m = [other for other in range(15, 10, -1) if other != i]  # the last of the permutations stays
        right = math.prod(c[i] - c[other] for other in (j, d, k, m))
        wrong = (c[i] - c[k]) * (c[i] - c[j] * (c[i] - c[d]) * (c[i] - c[m]))
        weights[i - 1] *= -right / wrong
    return c, a, [phi(1, z) - sum(weights), *weights]


# name: what RES4LYF has, its order, ours and the published order
DIFFERENT: dict[str, tuple[Callable[[float], Tableau], float, str, int]] = {
    "res_3s_non-monotonic": (res4lyf_non_monotonic, 2, "res_3s_non_monotonic", 3),
    "res_3s_sunstar": (res4lyf_sunstar, 2, "res_3s_sunstar", 3),
    "etdrk4_4s": (res4lyf_etdrk4, 2, "etdrk4", 4),
    "etdrk4_4s_alt": (res4lyf_etdrk4_alt, 0, "etdrk4", 4),
    "res_4s_krogstad_alt": (res4lyf_krogstad_alt, 2, "krogstad_4", 4),
    "res_4s_strehmel_weiner_alt": (res4lyf_strehmel_weiner_alt, 2, "strehmel_weiner_4", 4),
    "res_4s_friedli": (res4lyf_friedli, 2, "friedli_4", 4),
    "res_4s_minchev": (res4lyf_minchev, 2, "minchev_4", 4),
    "res_4s_munthe-kaas": (res4lyf_munthe_kaas, 2, "munthe_kaas_4", 4),
    "res_5s_hochbruck-ostermann": (res4lyf_hochbruck_ostermann, 2, "hochbruck_ostermann_5s", 4),
    "res_16s": (res4lyf_16s, 1, "luan_alhsmy_6", 6),
}


def pendulum_order(tableau: Callable[[float], Tableau], steps: tuple[int, ...] = (16, 32, 64)) -> float:
    """Fitted on y' = -y + N(l, y) of two coupled variables, where no two order conditions coincide; no diffusion in it."""

    def nonlinear(l: float, y: Array) -> Array:
        return np.array([np.sin(1.3 * y[1] + l) + 0.4 * y[0] ** 2, np.cos(0.8 * y[0] - 0.5 * l) * y[1] + 0.3])

    def run(count: int, rule: Callable[[float], Tableau]) -> Array:
        y, h = np.array([0.4, -0.3]), 1.5 / count
        c, a, b = rule(-h)
        for k in range(count):
            n: list[Array] = []
            for row, share in zip([*a, b], [*c, 1.0], strict=True):
                stage = math.exp(-share * h) * y + h * sum((w * m for w, m in zip(row, n, strict=True)), 0 * y)
                if len(n) < len(c):
                    n.append(nonlinear((k + share) * h, stage))
            y = stage
        return y

    true = run(160, luan_alhsmy_6)
    return fitted([float(np.abs(run(n, tableau) - true).max()) for n in steps], steps, floor=1e-14)


@pytest.mark.parametrize("name", DIFFERENT)
def test_res4lyfs_tableau_misses_the_order_that_the_published_one_has(name: str) -> None:
    theirs, their_order, ours, published = DIFFERENT[name]
    steps = (6, 9, 14) if published > 5 else (16, 32, 64)
    assert abs(pendulum_order(theirs) - their_order) < 0.35
    assert pendulum_order(PUBLISHED[ours], steps) > published - 0.25


@pytest.mark.parametrize("name", sorted({*PUBLISHED} - {ours for _, _, ours, _ in DIFFERENT.values()}))
def test_the_orders_of_the_others(name: str) -> None:
    assert pendulum_order(PUBLISHED[name], (8, 16, 32)) > (METHODS[name].order or 2) - 0.25


def test_res4lyfs_3m_has_the_same_gamma_on_its_older_predictions() -> None:
    """b_2, b_3 of res_3s at c2 = -1, c3 = -2: sum b_i c_i^2 must be 1/3, and is with c3^2; RES4LYF's 3m is of order two."""
    c2, c3 = -1.0, -2.0
    for power, expected in ((2, 1 / 3), (3, None)):
        gamma = (3 * c3**power - 2 * c3) / (c2 * (2 - 3 * c2))
        found = (gamma * c2**2 + c3**2) / (gamma * c2 + c3) / 2
        assert (abs(found - 1 / 3) < 1e-12) == (expected is not None)
