"""Tableaus of exponential Runge-Kutta methods as their papers write them, first columns and all. Nothing of Urn."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Tableau = tuple[list[float], list[list[float]], list[float]]  # c, a, b


def phi(k: int, z: float) -> float:
    """sum_n z^n/(n + k)!"""
    return sum(z**n / math.factorial(n + k) for n in range(40))


def shares(z: float) -> Callable[..., float]:
    return lambda k, c=1.0: phi(k, c * z)


def filled(z: float, c: list[float], rows: list[list[float]], weights: list[float]) -> Tableau:
    """The first column as sum_j a_ij = c_i phi_1(c_i z): for the methods whose papers define it so."""
    p = shares(z)
    a = [[], *([at * p(1, at) - sum(row), *row] for at, row in zip(c[1:], rows, strict=True))]
    return c, a, [p(1) - sum(weights), *weights]


def res_2s(z: float, c2: float = 0.5) -> Tableau:
    p = shares(z)
    return [0, c2], [[], [c2 * p(1, c2)]], [p(1) - p(2) / c2, p(2) / c2]


def rkmk_2e(z: float) -> Tableau:
    p = shares(z)
    return [0, 1], [[], [p(1)]], [p(1) / 2, p(1) / 2]


def res_3s(z: float, c2: float = 0.5, c3: float = 1.0) -> Tableau:
    """Hochbruck and Ostermann: 2 (gamma c2 + c3) = 3 (gamma c2^2 + c3^2)."""
    p = shares(z)
    gamma = (3 * c3**2 - 2 * c3) / (2 * c2 - 3 * c2**2)
    a32 = gamma * c2 * p(2, c2) + c3**2 / c2 * p(2, c3)
    b2, b3 = gamma / (gamma * c2 + c3) * p(2), 1 / (gamma * c2 + c3) * p(2)
    a = [[], [c2 * p(1, c2)], [c3 * p(1, c3) - a32, a32]]
    return [0, c2, c3], a, [p(1) - b2 - b3, b2, b3]


def etdrk3(z: float) -> Tableau:
    p = shares(z)
    a = [[], [p(1, 0.5) / 2], [-p(1), 2 * p(1)]]
    return [0, 0.5, 1], a, [p(1) - 3 * p(2) + 4 * p(3), 4 * p(2) - 8 * p(3), -p(2) + 4 * p(3)]


def etdrk3_a(z: float) -> Tableau:
    p = shares(z)
    a = [[], [p(1)], [2 / 3 * p(1, 2 / 3) - 4 / 9 * p(2, 2 / 3), 4 / 9 * p(2, 2 / 3)]]
    return [0, 1, 2 / 3], a, [3 / 4 * p(1) - p(2), p(2) - p(1) / 2, 3 / 4 * p(1)]


def etdrk3_b(z: float) -> Tableau:
    p = shares(z)
    a = [[], [4 / 9 * p(1, 4 / 9)], [2 / 3 * p(1, 2 / 3) - p(2, 2 / 3), p(2, 2 / 3)]]
    return [0, 4 / 9, 2 / 3], a, [p(1) - 3 / 2 * p(2), 0, 3 / 2 * p(2)]


def res_3s_lie(z: float) -> Tableau:
    p = shares(z)
    a = [[], [p(1, 1 / 3) / 3], [2 / 3 * p(1, 2 / 3) - 4 / 3 * p(2, 2 / 3), 4 / 3 * p(2, 2 / 3)]]
    b = [p(1) - 9 / 2 * p(2) + 9 * p(3), 6 * p(2) - 18 * p(3), -3 / 2 * p(2) + 9 * p(3)]
    return [0, 1 / 3, 2 / 3], a, b


def res_3s_strehmel_weiner(z: float, c2: float = 0.5) -> Tableau:
    p = shares(z)
    return [0, c2, 1], [[], [c2 * p(1, c2)], [p(1) - p(2) / c2, p(2) / c2]], [p(1) - p(2), 0, p(2)]


KUTTA = [0, 0.5, 0.5, 1]


def simpson(z: float) -> list[float]:
    p = shares(z)
    return [p(1) - 3 * p(2) + 4 * p(3), 2 * p(2) - 4 * p(3), 2 * p(2) - 4 * p(3), -p(2) + 4 * p(3)]


def without_second(z: float) -> list[float]:
    p = shares(z)
    return [p(1) - 3 * p(2) + 4 * p(3), 0, 4 * p(2) - 8 * p(3), -p(2) + 4 * p(3)]


def etdrk4(z: float) -> Tableau:
    p = shares(z)
    half = p(1, 0.5)
    return KUTTA, [[], [half / 2], [0, half / 2], [half * (math.exp(z / 2) - 1) / 2, 0, half]], simpson(z)


def krogstad_4(z: float) -> Tableau:
    p = shares(z)
    a = [[], [p(1, 0.5) / 2], [p(1, 0.5) / 2 - p(2, 0.5), p(2, 0.5)], [p(1) - 2 * p(2), 0, 2 * p(2)]]
    return KUTTA, a, simpson(z)


def strehmel_weiner_4(z: float) -> Tableau:
    p = shares(z)
    third = [p(1, 0.5) / 2 - p(2, 0.5) / 2, p(2, 0.5) / 2]
    return KUTTA, [[], [p(1, 0.5) / 2], third, [p(1) - 2 * p(2), -2 * p(2), 4 * p(2)]], without_second(z)


def friedli_4(z: float) -> Tableau:
    p = shares(z)
    third = [p(1, 0.5) / 2 - p(2, 0.5) / 2, p(2, 0.5) / 2]
    fourth = [p(1) - 2 * p(2), -26 / 25 * p(1) + 2 / 25 * p(2), 26 / 25 * p(1) + 48 / 25 * p(2)]
    return KUTTA, [[], [p(1, 0.5) / 2], third, fourth], without_second(z)


def minchev_4(z: float) -> Tableau:
    p = shares(z)
    rows = [
        [],
        [1 / 2 * (4 / 25 * p(1, 0.5)) + 1 / 4 * (24 / 25 * p(2, 0.5))],
        [21 / 5 * p(2) - 108 / 5 * p(3), 1 / 20 * p(1) - 33 / 10 * p(2) + 123 / 5 * p(3)],
    ]
    b2 = -1 / 10 * p(1) + 1 / 5 * p(2) - 4 * p(3) + 12 * p(4)
    b3 = 1 / 30 * p(1) + 23 / 5 * p(2) - 8 * p(3) - 4 * p(4)
    b4 = 1 / 30 * p(1) - 7 / 5 * p(2) + 6 * p(3) - 4 * p(4)
    return filled(z, KUTTA, rows, [b2, b3, b4])


def munthe_kaas_4(z: float) -> Tableau:
    p = shares(z)
    a = [[], [p(1, 0.5) / 2], [z / 8 * p(1, 0.5), 1 / 2 * (1 - z / 4) * p(1, 0.5)], [0, 0, p(1)]]
    return KUTTA, a, [p(1) / 6 * (1 + z / 2), p(1) / 3, p(1) / 3, p(1) / 6 * (1 - z / 2)]


def cfree_4(z: float) -> Tableau:
    p = shares(z)
    b = [p(1) / 2 - p(1, 0.5) / 3, p(1) / 3, p(1) / 3, -p(1) / 6 + p(1, 0.5) / 3]
    return KUTTA, etdrk4(z)[1], b


def hochbruck_ostermann_5s(z: float) -> Tableau:
    p = shares(z)
    a52 = p(2, 0.5) / 2 - p(3) + p(2) / 4 - p(3, 0.5) / 2
    a54 = p(2, 0.5) / 4 - a52
    a = [
        [],
        [p(1, 0.5) / 2],
        [p(1, 0.5) / 2 - p(2, 0.5), p(2, 0.5)],
        [p(1) - 2 * p(2), p(2), p(2)],
        [p(1, 0.5) / 2 - 2 * a52 - a54, a52, a52, a54],
    ]
    return [*KUTTA, 0.5], a, [p(1) - 3 * p(2) + 4 * p(3), 0, 0, -p(2) + 4 * p(3), 4 * p(2) - 8 * p(3)]


def luan_ostermann_5(z: float) -> Tableau:
    p = shares(z)
    c2, c3, c4, c5, c6, c7, c8 = c = [1 / 2, 1 / 2, 1 / 4, 1 / 2, 1 / 5, 2 / 3, 1]
    a64 = 8 / 25 * p(2, c6) - 32 / 125 * p(3, c6)
    big = 5 / 32 * a64 - 1 / 28 * p(2, c6) + 36 / 175 * p(2, c7) - 48 / 25 * p(3, c7)
    big += 6 / 175 * p(4, c6) + 192 / 35 * p(4, c7) + 6 * p(4, c8)
    rows = [
        [],
        [p(2, c3) / 2],
        [0, p(2, c4) / 8],
        [0, -p(2, c5) / 2 + 2 * p(3, c5), 2 * p(2, c5) - 4 * p(3, c5)],
        [0, 0, a64, 2 / 25 * p(2, c6) - a64 / 2],
        [
            *(0, 0, -125 / 162 * a64),
            125 / 1944 * a64 - 16 / 27 * p(2, c7) + 320 / 81 * p(3, c7),
            3125 / 3888 * a64 + 100 / 27 * p(2, c7) - 800 / 81 * p(3, c7),
        ],
        [
            *(0, 0, 0, 208 / 3 * p(3, c8) - 16 / 3 * p(2, c8) - 40 * big),
            -250 / 3 * p(3, c8) + 250 / 21 * p(2, c8) + 250 / 7 * big,
            -27 * p(3, c8) + 27 / 14 * p(2, c8) + 135 / 7 * big,
        ],
    ]
    b6 = 125 / 14 * p(2) - 625 / 14 * p(3) + 1125 / 14 * p(4)
    b7 = -27 / 14 * p(2) + 162 / 7 * p(3) - 405 / 7 * p(4)
    b8 = 1 / 2 * p(2) - 13 / 2 * p(3) + 45 / 2 * p(4)
    assert c2 == 1 / 2
    return filled(z, [0, *c], rows, [0, 0, 0, 0, b6, b7, b8])


def luan(*layers: list[float]) -> Callable[[float], Tableau]:
    """Luan 2021, Luan and Alhsmy 2023: a_ij = (-c_i^2 c_k phi_2,i + 2 c_i^3 phi_3,i)/(c_j (c_j - c_k)), and so on.

    With e_m the elementary symmetric polynomials of the s - 1 other nodes of the layer before, the general term is
    (-1)^(s - 1 - m) e_(s - 1 - m) (m + 1)! c_i^(m + 2) phi_(m + 2),i, over c_j prod (c_j - c_k).
    """

    def weights(z: float, before: list[float], at: float) -> list[float]:
        found = []
        for j, node in enumerate(before):
            others = [*before[:j], *before[j + 1 :]]
            signed = np.poly(others)[::-1] if others else np.ones(1)  # of u^m
            terms = [signed[m] * math.factorial(m + 1) * at ** (m + 2) * phi(m + 2, at * z) for m in range(len(before))]
            found.append(sum(terms) / (node * math.prod(node - other for other in others)))
        return found

    def tableau(z: float) -> Tableau:
        c, rows, before = [0.0], [], []
        for layer in layers:
            unused = [0.0] * (len(c) - 1 - len(before))
            rows += [[*unused, *weights(z, before, at), *[0.0] * i] for i, at in enumerate(layer)]
            c, before = [*c, *layer], layer
        return filled(z, c, rows, [*[0.0] * (len(c) - 1 - len(before)), *weights(z, before, 1.0)])

    return tableau


def luan_4(z: float) -> Tableau:
    """Luan 2021, expRK4s6, in its own letters; c5 and c6 change places."""
    p = shares(z)
    c2, c3, c4, c5, c6 = 1 / 2, 1 / 2, 1 / 3, 1 / 3, 5 / 6

    def a(ci: float, j: float, k: float) -> float:
        return (-(ci**2) * k * p(2, ci) + 2 * ci**3 * p(3, ci)) / (j * (j - k))

    rows = [
        [],
        [c3**2 / c2 * p(2, c3)],
        [c4**2 / c2 * p(2, c4), 0],
        [0, a(c5, c3, c4), a(c5, c4, c3)],
        [0, a(c6, c3, c4), a(c6, c4, c3), 0],
    ]
    b5, b6 = (-c6 * p(2) + 2 * p(3)) / (c5 * (c5 - c6)), (-c5 * p(2) + 2 * p(3)) / (c6 * (c6 - c5))
    return filled(z, [0, c2, c3, c4, c5, c6], rows, [0, 0, 0, b5, b6])


LAST = [18 / 25, 1 / 3, 3 / 10, 1 / 6], [90 / 103, 1 / 3, 3 / 10, 1 / 5]
luan_5 = luan([1 / 2], [1 / 2, 1 / 3], [1 / 2, 1 / 3, 1 / 4], [3 / 10, 3 / 4, 1])
luan_alhsmy_6_15s = luan([1 / 2], [1 / 2, 1 / 3], [1 / 2, 1 / 5, 1 / 4], *LAST)
FIFTHS = [1 / 2, 1 / 5, 1 / 4]
luan_alhsmy_6 = luan([1 / 2], [1 / 2, 1 / 3], FIFTHS, [*FIFTHS, 1 / 3], [*FIFTHS, 1 / 3, 1])


def lawson_2a(z: float) -> Tableau:
    return [0, 0.5], [[], [math.exp(z / 2) / 2]], [0, math.exp(z / 2)]


def lawson_2b(z: float) -> Tableau:
    return [0, 1], [[], [math.exp(z)]], [math.exp(z) / 2, 0.5]


def lawson_4(z: float) -> Tableau:
    e, half = math.exp(z), math.exp(z / 2)
    return KUTTA, [[], [half / 2], [0, 0.5], [0, 0, half]], [e / 6, half / 3, half / 3, 1 / 6]


def genlawson_4(z: float) -> Tableau:
    """EXPINT's GenLawson41."""
    p, half = shares(z), math.exp(z / 2)
    a = [[], [p(1, 0.5) / 2], [p(1, 0.5) / 2 - 0.5, 0.5], [p(1) - half, 0, half]]
    return KUTTA, a, [p(1) - 2 / 3 * half - 1 / 6, half / 3, half / 3, 1 / 6]


def modgenlawson_4(z: float) -> Tableau:
    p, half = shares(z), math.exp(z / 2)
    return KUTTA, genlawson_4(z)[1], [p(1) - p(2) - half / 3, half / 3, half / 3, p(2) - half / 3]


PUBLISHED: dict[str, Callable[..., Tableau]] = {
    "res_2s": res_2s,
    "etdrk2": lambda z: res_2s(z, 1.0),
    "rkmk_2e": rkmk_2e,
    "res_3s": res_3s,
    "res_3s_non_monotonic": lambda z: res_3s(z, 1.0, 0.5),
    "res_3s_sunstar": lambda z: res_3s(z, 0.5, 2 / 3),
    "etdrk3": etdrk3,
    "etdrk3_a": etdrk3_a,
    "etdrk3_b": etdrk3_b,
    "res_3s_lie": res_3s_lie,
    "res_3s_strehmel_weiner": res_3s_strehmel_weiner,
    "etdrk4": etdrk4,
    "krogstad_4": krogstad_4,
    "strehmel_weiner_4": strehmel_weiner_4,
    "friedli_4": friedli_4,
    "minchev_4": minchev_4,
    "munthe_kaas_4": munthe_kaas_4,
    "cfree_4": cfree_4,
    "hochbruck_ostermann_5s": hochbruck_ostermann_5s,
    "luan_ostermann_5": luan_ostermann_5,
    "luan_4": luan_4,
    "luan_5": luan_5,
    "luan_alhsmy_6_15s": luan_alhsmy_6_15s,
    "luan_alhsmy_6": luan_alhsmy_6,
    "lawson_2a": lawson_2a,
    "lawson_2b": lawson_2b,
    "lawson_4": lawson_4,
    "genlawson_4": genlawson_4,
    "modgenlawson_4": modgenlawson_4,
}
