"""Every "equals" of coefficients and schemes."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from methods_cases import (
    PROCESSES,
    bent,
)
from methods_equalities import on_every_process
from scipy.integrate import quad
from torch import Tensor

from urn.coefficients import tableaus
from urn.coefficients.exponential import (
    EPSILON,
    X0,
    Form,
    by_lambda,
    by_ratio,
    by_share,
    decay,
    halved_weights,
    integral_weights,
    published_third,
)
from urn.coefficients.phi import gauss_legendre, phi
from urn.methods.dpm_solver import fast_orders
from urn.methods.dpmpp import published_weights
from urn.nodes import Nodes, noise_share
from urn.processes import VP, Flow

FORMS = [Form(prediction, rate) for prediction in ("x0", "epsilon") for rate in (1.0, 1.4, 2.0)]


VARIABLES = {"lambda": by_lambda, "ratio": by_ratio, "share": by_share}


@on_every_process
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_integral_weights_are_the_integrals_of_lagrange_polynomials(process: Any, form: Form) -> None:
    nodes = Nodes(process, bent(process, 5))
    cur, next = nodes[3], nodes[4]
    rate = form.rate

    def kernel(l: float) -> float:
        if form.prediction == "x0":
            return float(next.alpha) * rate * math.exp(-rate * (float(next.lambda_) - l))
        return -float(next.alpha) * rate * math.exp(-l)  # alpha_next d rho, rho = e^-lambda

    for variable in VARIABLES.values():
        for count in (1, 2, 3, 4):
            points = [nodes[3 - j] for j in range(count)]
            places = [float(variable(p.lambda_)) for p in points]

            def lagrange(l: float, j: int, places: list[float] = places, variable: Any = variable) -> float:
                u = float(variable(torch.tensor(l, dtype=torch.float64)))
                return math.prod((u - q) / (places[j] - q) for k, q in enumerate(places) if k != j)

            expected = [
                quad(lambda l, j=j: kernel(l) * lagrange(l, j), float(cur.lambda_), float(next.lambda_), epsabs=1e-13)[
                    0
                ]
                for j in range(count)
            ]
            found = integral_weights(form, cur, next, points, variable)
            assert [float(w) for w in found] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_weights_of_a_step_sum_to_its_total(form: Form) -> None:
    for process in PROCESSES.values():
        nodes = Nodes(process, bent(process, 5))
        points = [nodes[3], nodes[2], nodes[1]]
        total = form.total(nodes[3], nodes[4])
        for weights in (
            integral_weights,
            halved_weights,
            published_third,
            partial(integral_weights, variable=by_ratio),
        ):
            for count in (1, 2, 3):
                assert float(sum(weights(form, nodes[3], nodes[4], points[:count])) / total) == pytest.approx(
                    1, rel=1e-12
                )


@on_every_process
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_carry_total_and_noise_are_those_of_the_sde(process: Any, eta: float) -> None:
    """The two formulas in `Form`'s docstring, with h and k = 1 + eta written out."""
    nodes = Nodes(process, bent(process, 5))
    cur, next, k = nodes[2], nodes[3], 1 + eta
    h = float(next.lambda_ - cur.lambda_)
    x0, epsilon = Form("x0", k), Form("epsilon", k)
    assert float(x0.carry(cur, next)) == pytest.approx(float(next.sigma / cur.sigma) * math.exp(-eta * h), rel=1e-13)
    assert float(x0.total(cur, next)) == pytest.approx(float(next.alpha) * (1 - math.exp(-k * h)), rel=1e-12)
    expected = float(next.sigma) * math.sqrt(1 - math.exp(-2 * eta * h))
    assert float(x0.noise_std(cur, next)) == pytest.approx(expected, rel=1e-12)
    assert float(epsilon.carry(cur, next)) == pytest.approx(float(next.alpha / cur.alpha), rel=1e-13)
    assert float(epsilon.total(cur, next)) == pytest.approx(-k * float(next.sigma) * math.expm1(h), rel=1e-12)
    expected = float(next.sigma) * math.sqrt(eta * math.expm1(2 * h))
    assert float(epsilon.noise_std(cur, next)) == pytest.approx(expected, rel=1e-12)
    assert float(decay(cur, next)) == pytest.approx(math.exp(-h), rel=1e-12)


@on_every_process
@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
def test_halved_weights_are_total_over_2_r(process: Any, prediction: str) -> None:
    form = Form(prediction)
    nodes = Nodes(process, bent(process, 5))
    prev, cur, next = nodes[1], nodes[2], nodes[3]
    h, h_prev = next.lambda_ - cur.lambda_, cur.lambda_ - prev.lambda_
    total = form.total(cur, next)
    # the paper: total [D_cur + (D_cur - D_prev)/(2 r)], r = h_prev/h
    expected = [float(total * (1 + h / (2 * h_prev))), float(-total * h / (2 * h_prev))]
    assert [float(w) for w in halved_weights(form, cur, next, [cur, prev])] == pytest.approx(expected, rel=1e-12)
    # a point ahead, and the order of the points
    ahead = [float(w) for w in halved_weights(form, cur, next, [next, cur])]
    assert ahead == pytest.approx([float(total / 2), float(total / 2)], rel=1e-12)


@pytest.mark.parametrize(("process", "start", "end"), [(Flow(), 1.0, 0.7), (Flow(), 0.2, 0.0), (VP.linear(), 0.1, 0.0)])
def test_halved_weights_beside_an_end_are_the_integral(process: Any, start: float, end: float) -> None:
    nodes = Nodes(
        process,
        torch.tensor([start + 0.0 if start == 1.0 else start + 0.1, start, end], dtype=torch.float64)[
            (1 if start == 1.0 else 0) :
        ],
    )
    cur, next = nodes[len(nodes) - 2], nodes[len(nodes) - 1]
    points = [next, cur] if start == 1.0 else [cur, nodes[0]]
    form = X0
    assert halved_weights(form, cur, next, points) == integral_weights(form, cur, next, points)


@on_every_process
@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_published_third_is_the_integral_less_half_of_the_second_difference(process: Any, rate: float) -> None:
    """Against the published formula: phi_2 D1 - phi_3 D2 with phi_3 = phi_2/h - 1/2, where the integral has twice that."""
    form = Form("x0", rate)
    nodes = Nodes(process, bent(process, 6))
    cur, next, points = nodes[3], nodes[4], [nodes[3], nodes[2], nodes[1]]
    h = float(next.lambda_ - cur.lambda_)
    k = rate * h
    phi_2 = math.expm1(-k) / k + 1
    phi_3 = phi_2 / k - 0.5
    values = torch.eye(3, dtype=torch.float64)  # the weight of each prediction: let it be 1 and the others 0
    r_0, r_1 = (float(points[i].lambda_ - points[i + 1].lambda_) / h for i in (0, 1))

    def published(d: Tensor, factor: float) -> float:
        d_0, d_1 = (d[0] - d[1]) / r_0, (d[1] - d[2]) / r_1
        slope, bend = d_0 + (d_0 - d_1) * r_0 / (r_0 + r_1), (d_0 - d_1) / (r_0 + r_1)
        return float(next.alpha * (-math.expm1(-k) * d[0] + phi_2 * slope - factor * phi_3 * bend))

    found = [float(w) for w in published_third(form, cur, next, points)]
    assert found == pytest.approx([published(d, 1) for d in values], rel=1e-10)
    exact = [float(w) for w in integral_weights(form, cur, next, points)]
    assert exact == pytest.approx([published(d, 2) for d in values], rel=1e-10)
    two = [
        published_third(form, cur, next, points[:n]) == integral_weights(form, cur, next, points[:n]) for n in (1, 2)
    ]
    assert all(two)
    one = [
        published_weights(form, cur, next, points[:n]) == halved_weights(form, cur, next, points[:n]) for n in (1, 2)
    ]
    assert all(one)


@pytest.mark.parametrize("process", [Flow(), VP.cosine(), VP.linear()], ids=repr)
def test_a_step_to_sigma_0_is_the_polynomials_value_there(process: Any) -> None:
    nodes = Nodes(process, torch.tensor([0.5, 0.3, 0.15, 0.0], dtype=torch.float64))
    shares = [float(noise_share(node)) for node in nodes]
    points = [nodes[2], nodes[1], nodes[0]]
    places = shares[2::-1]
    expected = [math.prod((0 - q) / (p - q) for q in places if q != p) for p in places]
    found = [float(w) for w in integral_weights(X0, nodes[2], nodes[3], points)]
    assert found == pytest.approx(expected, rel=1e-12)
    assert float(X0.carry(nodes[2], nodes[3])) == 0.0


def test_noise_share_is_t_on_a_flow() -> None:
    for t in (0.0, 0.2, 0.9, 1.0):
        assert float(noise_share(Nodes(Flow(), torch.tensor([t, 0.5], dtype=torch.float64))[0])) == pytest.approx(t)


def test_a_form_changes_at_the_ends() -> None:
    nodes = Nodes(Flow(), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    assert EPSILON.at(nodes[0]) == X0
    assert X0.at(nodes[2]) == EPSILON
    assert [form.at(nodes[1]) for form in (X0, EPSILON)] == [X0, EPSILON]


@pytest.mark.parametrize("z", [-30.0, -1.0, -1e-3, -1e-9, 0.0, 1e-6, 0.5, 20.0])
def test_phi_is_the_recurrence_of_exponential_integrators(z: float) -> None:
    """phi_k(z) = sum_j z^j/(j + k)!, and (phi_k(z) - 1/k!)/z = phi_(k+1)(z) where that keeps its digits."""
    at = torch.tensor(z, dtype=torch.float64)
    for k in range(5):
        if abs(z) <= 1:
            series = math.fsum(z**j / math.factorial(j + k) for j in range(30))
            assert float(phi(k, at)) == pytest.approx(series, rel=1e-13)
        if abs(z) >= 1:
            following = (float(phi(k, at)) - 1 / math.factorial(k)) / z
            assert float(phi(k + 1, at)) == pytest.approx(following, rel=1e-9)
    assert float(phi(0, at)) == pytest.approx(math.exp(z), rel=1e-14)


def test_the_quadrature_integrates_exponentials_to_rounding() -> None:
    u, weights = gauss_legendre()
    for z in (-80.0, -20.0, -1.0, 3.0, 40.0, 80.0):
        exact = math.expm1(z) / z
        assert float((weights * torch.exp(z * u)).sum()) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("tableau", ["EULER", "MIDPOINT", "HEUN", "KUTTA_3", "RK4"])
def test_a_tableau_is_of_its_order_and_no_higher(tableau: str) -> None:
    found = getattr(tableaus, tableau)
    missed = [order for order, residual in found.residuals() if residual]
    assert min(missed, default=5) == found.order + 1


def test_a_wrong_tableau_is_refused() -> None:
    with pytest.raises(ValueError, match="a condition of order 2 is missed by -1/4"):
        tableaus.tableau("wrong", 2, "1/2", "1/2 1/2")
    with pytest.raises(ValueError, match="sums to"):
        tableaus.Tableau("wrong", 1, ((), (tableaus.Fraction(1),)), tableaus.HEUN.b, (tableaus.Fraction(0),) * 2)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [(1, [1]), (2, [2]), (3, [2, 1]), (4, [3, 1]), (5, [3, 2]), (6, [3, 2, 1]), (9, [3, 3, 2, 1]), (10, [3, 3, 3, 1])],
)
def test_dpm_solver_fast_ends_with_lower_orders(intervals: int, expected: list[int]) -> None:
    found = fast_orders(intervals)
    assert [order for _, order in found] == expected
    assert [first for first, _ in found] == [sum(expected[:i]) for i in range(len(expected))]
