"""Exponential tableaus: consistency, their Runge-Kutta methods at z = 0, and the stiff orders of the docstrings."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import urn.coefficients.exponential_tableaus as tableaus
from urn.coefficients.exponential_lawson import generalized_lawson, lawson, predictor_corrector
from urn.coefficients.exponential_tableaus import ExponentialTableau, Phi
from urn.coefficients.phi import phi
from urn.coefficients.tableaus import HEUN, HEUN_3, MIDPOINT, RALSTON_2, RK4, Tableau

Array = np.ndarray[Any, Any]
Rule = Callable[[Phi], ExponentialTableau]


def layers(nodes: Any) -> Rule:
    return lambda p: tableaus.layered(p, *nodes)


# rule: classical order, stiff order, and the one with b(0) in the last conditions, where that is more
ORDERS: dict[str, tuple[Rule, int, int, int | None]] = {
    "etd2": (partial(tableaus.etd2, c2=0.5), 2, 2, None),
    "etd2 to the end": (partial(tableaus.etd2, c2=1.0), 2, 2, None),
    "etd2_halved": (partial(tableaus.etd2_halved, c2=1.0), 2, 1, 2),
    "etd3": (partial(tableaus.etd3, c2=0.5, c3=1.0), 3, 2, 3),
    "etd3 back": (partial(tableaus.etd3, c2=1.0, c3=0.5), 3, 2, 3),
    "etd3 without b_2": (partial(tableaus.etd3, c2=4 / 9, c3=2 / 3), 3, 2, 3),
    "cox_matthews_3": (tableaus.cox_matthews_3, 3, 2, None),
    "fu_shen_yang_3": (tableaus.fu_shen_yang_3, 3, 2, 3),
    "strehmel_weiner_3": (partial(tableaus.strehmel_weiner_3, c2=0.5), 2, 2, None),
    "celledoni_3": (tableaus.celledoni_3, 3, 2, 3),
    "cox_matthews_4": (tableaus.cox_matthews_4, 4, 2, None),
    "krogstad_4": (tableaus.krogstad_4, 4, 3, None),
    "strehmel_weiner_4": (tableaus.strehmel_weiner_4, 4, 3, None),
    "friedli_4": (tableaus.friedli_4, 4, 3, None),
    "minchev_4": (tableaus.minchev_4, 4, 2, None),
    "munthe_kaas_4": (tableaus.munthe_kaas_4, 4, 1, 2),
    "commutator_free_4": (tableaus.commutator_free_4, 4, 1, 2),
    "hochbruck_ostermann_4": (tableaus.hochbruck_ostermann_4, 4, 3, 4),
    "luan_ostermann_5": (tableaus.luan_ostermann_5, 5, 4, 5),
    "luan_4": (layers(tableaus.LUAN_4), 4, 3, 4),
    "luan_5": (layers(tableaus.LUAN_5), 5, 4, 5),
    "luan_alhsmy_6_15s": (layers(tableaus.LUAN_ALHSMY_6_15), 6, 5, 6),
    "luan_alhsmy_6": (layers(tableaus.LUAN_ALHSMY_6), 6, 6, None),
    "lawson_2a": (partial(lawson, tableau=MIDPOINT), 2, 0, 1),
    "lawson_2b": (partial(lawson, tableau=HEUN), 2, 0, 1),
    "lawson_4": (partial(lawson, tableau=RK4), 4, 0, 1),
}
CONSISTENT = [name for name in ORDERS if not name.startswith("lawson")]


def numbers(rule: Rule, z: float) -> tuple[Array, Array, Array]:
    """a as a square, b, c."""
    found = rule(Phi(torch.tensor(z, dtype=torch.float64)))
    a = np.zeros((len(found.c), len(found.c)))
    for i, row in enumerate(found.a):
        assert len(row) == i
        a[i, :i] = [float(w) for w in row]
    return a, np.array([float(w) for w in found.b]), np.array(found.c, float)


def phi_at(k: int, z: float) -> float:
    return float(phi(k, torch.tensor(z, dtype=torch.float64)))


def conditions(rule: Rule, zs: tuple[float, ...]) -> dict[int, list[float]]:
    """What each stiff order condition is missed by; Luan & Ostermann 2014, table 1, to order five, of six only the first.

    Between the functions stand operators that commute with none of them, so every function has a z of its own.
    """
    (b, c), (a1, a2, a3) = numbers(rule, zs[0])[1:], (numbers(rule, z)[0] for z in zs[1:])
    zb, z1, z2, z3 = zs

    def psi(k: int, a: Array, z: float) -> Array:
        exact = [at**k * phi_at(k, at * z) for at in c]
        return a @ c ** (k - 1) / math.factorial(k - 1) - np.array(exact)

    def first(k: int) -> float:
        return float(b @ c ** (k - 1)) / math.factorial(k - 1) - phi_at(k, zb)

    values = {
        3: [psi(2, a1, z1)],
        4: [psi(3, a1, z1), a1 @ psi(2, a2, z2), c * psi(2, a1, z1)],
        5: [
            psi(4, a1, z1),
            a1 @ psi(3, a2, z2),
            a1 @ a2 @ psi(2, a3, z3),
            a1 @ (c * psi(2, a2, z2)),
            c * psi(3, a1, z1),
            c * (a1 @ psi(2, a2, z2)),
            psi(2, a1, z1) * psi(2, a2, z2),
            c**2 * psi(2, a1, z1),
        ],
    }
    return {order: [first(order), *(float(b @ value) for value in values.get(order, []))] for order in range(1, 7)}


def reached(rule: Rule, zs: tuple[float, ...]) -> int:
    missed = conditions(rule, zs)
    return next((p - 1 for p in range(1, 7) if max(map(abs, missed[p])) > 1e-12), 6)


@pytest.mark.parametrize("name", ORDERS)
def test_the_orders_of_the_docstrings(name: str) -> None:
    rule, classical, stiff, weakened = ORDERS[name]
    assert reached(rule, (0.0, 0.0, 0.0, 0.0)) >= classical
    zs = (-0.9, -1.7, 0.6, 1.1)
    assert reached(rule, zs) == stiff
    last = max(map(abs, conditions(rule, (0.0, *zs[1:]))[min(stiff + 1, 6)]))
    assert (last < 1e-12) == (weakened is not None or stiff == 6)
    if weakened is not None:
        assert weakened == stiff + 1


@pytest.mark.parametrize("z", [-3.0, -0.2, 0.0, 1e-9, 2.5])
@pytest.mark.parametrize("name", CONSISTENT)
def test_a_constant_is_integrated_exactly(name: str, z: float) -> None:
    a, b, c = numbers(ORDERS[name][0], z)
    assert np.abs(a.sum(1) - [at * phi_at(1, at * z) for at in c]).max() < 1e-13
    assert abs(b.sum() - phi_at(1, z)) < 1e-13


CLASSICAL = {  # the Runge-Kutta methods that they are at z = 0
    "etd2 to the end": HEUN,
    "etd2": MIDPOINT,
    "etd2_halved": HEUN,
    "cox_matthews_4": RK4,
    "munthe_kaas_4": RK4,
    "commutator_free_4": RK4,
    "lawson_2a": MIDPOINT,
    "lawson_2b": HEUN,
    "lawson_4": RK4,
}


@pytest.mark.parametrize("name", CLASSICAL)
def test_at_zero_they_are_classical(name: str) -> None:
    (a, b, c), expected = numbers(ORDERS[name][0], 0.0), CLASSICAL[name]
    assert np.abs(b - np.array(expected.b, float)).max() < 1e-14
    assert np.abs(c - np.array(expected.c, float)).max() < 1e-14
    for found, row in zip(a, expected.a, strict=True):
        assert np.abs(found[: len(row)] - np.array(row, float)).sum() < 1e-14


@pytest.mark.parametrize("name", ORDERS)
def test_at_zero_they_satisfy_the_classical_conditions(name: str) -> None:
    a, b, c = numbers(ORDERS[name][0], 0.0)
    exactly = [[Fraction(float(w)).limit_denominator(10**6) for w in row] for row in (*a, b)]
    rows = tuple(tuple(row[:i]) for i, row in enumerate(exactly[:-1]))
    shares = tuple(sum(row, Fraction(0)) for row in rows)
    assert np.abs(np.array(shares, float) - c).max() < 1e-5
    found = Tableau(name, 0, rows, tuple(exactly[-1]), shares)
    assert all(abs(missed) < 1e-4 for order, missed in found.residuals() if order <= ORDERS[name][1])


@pytest.mark.parametrize("z", [-0.7, 0.4])
def test_layers_are_known_methods(z: float) -> None:
    for found, expected in (
        (layers([(0.37,)]), partial(tableaus.etd2, c2=0.37)),
        (layers([(0.4,), (2 / 3,)]), partial(tableaus.etd3, c2=0.4, c3=2 / 3)),
        (layers([(0.4,), (1,)]), partial(tableaus.strehmel_weiner_3, c2=0.4)),
    ):
        for one, other in zip(numbers(found, z), numbers(expected, z), strict=True):
            assert np.abs(one - other).max() < 1e-14


def test_nodes_of_the_last_layers_are_such_that_they_gain_an_order() -> None:
    for nodes in (tableaus.LUAN_4, tableaus.LUAN_5, tableaus.LUAN_ALHSMY_6_15):
        integral = np.polynomial.Polynomial.fromroots([0, *nodes[-1]]).integ()
        assert abs(integral(1.0) - integral(0.0)) < 1e-15


@pytest.mark.parametrize("z", [-0.8, 0.5])
def test_expints_general_linear_methods_on_even_steps(z: float) -> None:
    """GenLawson43, ModGenLawson43, PEC423 as EXPINT has them; columns N_(n-1), N_(n-2), N_n, N_2, ..."""
    p = Phi(torch.tensor(z, dtype=torch.float64))
    past, one, half = [-1.0, -2.0], p(0), p(0, 0.5)
    h1, h2, h3 = p(1, 0.5), p(2, 0.5), p(3, 0.5)
    found = generalized_lawson(p, past, RK4)
    back, here = -1 / 2 * h2 - 1 / 4 * h3, 1 / 2 * h1 + 3 / 8 * h2 + 1 / 8 * h3
    back2 = 1 / 8 * h2 + 1 / 8 * h3
    assert_row(found.a[1], [back, back2, here])
    assert_row(found.a[2], [back + 5 / 8, back2 - 3 / 16, here - 15 / 16, 1 / 2])
    third = [-2 * p(2) - 2 * p(3), 1 / 2 * p(2) + p(3), p(1) + 3 / 2 * p(2) + p(3)]
    assert_row(found.a[3], [third[0] + 5 / 4 * half, third[1] - 3 / 8 * half, third[2] - 15 / 8 * half, 0, half])
    last = [third[0] + 5 / 6 * half + 1 / 2, third[1] - half / 4 - 1 / 6, third[2] - 5 / 4 * half - 1 / 2]
    assert_row(found.b, [*last, half / 3, half / 3, 1 / 6])
    fourth = [-p(2) + p(3) + 3 * p(4), 1 / 6 * p(2) - p(4), p(1) + 1 / 2 * p(2) - 2 * p(3) - 3 * p(4)]
    end = 1 / 3 * p(2) + p(3) + p(4)
    modified = generalized_lawson(p, past, RK4, modified=True)
    last = [fourth[0] + 5 / 24 * half, fourth[1] - half / 24, fourth[2] - 5 / 8 * half]
    assert_row(modified.b, [*last, half / 3, half / 3, end - 5 / 24 * half])
    pair = predictor_corrector(p, past, 2)
    assert_row(pair.a[1], third)
    assert_row(pair.a[2], [*fourth, end])
    assert_row(pair.b, [*fourth, 0, end])
    assert_row(predictor_corrector(p, past).b, [*fourth, end])
    assert float(one) > 0


def assert_row(found: Any, expected: Any) -> None:
    assert max(abs(float(w) - float(v)) for w, v in zip(found, expected, strict=True)) < 1e-13


def test_lawson_takes_any_tableau() -> None:
    for tableau in (RALSTON_2, HEUN_3):
        a, b, c = numbers(partial(lawson, tableau=tableau), -0.6)
        for i, row in enumerate(tableau.a):
            expected = [float(w) * math.exp(-0.6 * (c[i] - c[j])) for j, w in enumerate(row)]
            assert np.abs(a[i, :i] - expected).sum() < 1e-14
        assert (
            np.abs(b - [float(w) * math.exp(-0.6 * (1 - at)) for w, at in zip(tableau.b, c, strict=True)]).max() < 1e-14
        )
