"""Nodes, phi functions and weights of exponential integrators, against mpmath and adaptive quadrature."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from core_cases import PROCESSES
from scipy.integrate import quad

from urn.coefficients.exponential import Form, by_lambda, by_ratio, by_share, decay, integral_weights
from urn.coefficients.phi import gauss_legendre, phi
from urn.nodes import Nodes, noise_share, touches_end
from urn.processes import Flow

INSIDE = {
    "vp linear": [0.9, 0.5, 0.2, 0.1],
    "ve": [9.0, 3.0, 1.0, 0.6],
    "flow": [0.9, 0.5, 0.2, 0.1],
    "sub-vp": [0.9, 0.5, 0.2, 0.1],
}


def nodes_of(name, times):
    return Nodes(PROCESSES[name], torch.tensor(times, dtype=torch.float64))


@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("z", [-80.0, -20.0, -1.0, -1e-3, -1e-9, 0.0, 1e-15, 1e-7, 0.5, 3.0, 30.0])
def test_phi_functions(order, z):
    """phi_k(z) = sum_n z^n / (n + k)! at any z, small ones too, where (phi_(k-1) - 1/(k-1)!)/z loses all digits."""
    with mpmath.workdps(120):
        terms = (mpmath.mpf(z) ** n / mpmath.factorial(n + order) for n in range(400))
        exact = float(mpmath.fsum(terms))
    assert float(phi(order, torch.tensor(z, dtype=torch.float64))) == pytest.approx(exact, rel=5e-15 * (1 + abs(z)))


def test_the_quadrature_rule_is_exact_for_polynomials():
    u, weights = gauss_legendre()
    for degree in (0, 1, 7, 79):
        assert float((weights * u**degree).sum()) == pytest.approx(1 / (degree + 1), rel=1e-13)


def step_integral(form, cur, next, prediction):
    """A step's integral by adaptive quadrature, from the equations of `urn.coefficients.exponential`."""
    alpha, sigma = float(next.alpha), float(next.sigma)
    start, end = float(cur.lambda_), float(next.lambda_)
    if form.prediction == "epsilon":  # rate alpha_next int epsilon drho, rho = e^-l, from rho_cur down to rho_next
        value, _ = quad(lambda l: -prediction(l) * math.exp(-l), start, end, epsabs=1e-14, epsrel=1e-13)
        return form.rate * alpha * value
    value, _ = quad(
        lambda l: form.rate * math.exp(-form.rate * (end - l)) * prediction(l), start, end, epsabs=1e-14, epsrel=1e-13
    )
    assert sigma > 0
    return alpha * value


FORMS = [Form("x0"), Form("epsilon"), Form("x0", 2.0), Form("x0", 1.5), Form("epsilon", 2.0)]


@pytest.mark.parametrize("form", FORMS, ids=repr)
@pytest.mark.parametrize("name", INSIDE)
def test_a_step_of_a_constant_prediction_is_exact(name, form):
    for cur, next in nodes_of(name, INSIDE[name]).steps():
        total = step_integral(form, cur, next, lambda l: 1.0)
        assert float(form.total(cur, next)) == pytest.approx(total, rel=1e-11)
        lambdas, weights = form.quadrature(cur, next)
        assert float(weights.sum()) == pytest.approx(total, rel=1e-11)
        smooth = step_integral(form, cur, next, math.sin)
        assert float((weights * torch.sin(lambdas)).sum()) == pytest.approx(smooth, rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("form", FORMS[:-1], ids=repr)  # the SDE with epsilon held constant is right to O(h^2) only
@pytest.mark.parametrize("name", INSIDE)
def test_a_point_mass_is_stepped_exactly(name, form):
    """x = alpha c + sigma n keeps its form: carry, total and noise bring alpha to alpha_next and sigma to sigma_next."""
    for cur, next in nodes_of(name, INSIDE[name]).steps():
        carry, total, noise = (float(f(cur, next)) for f in (form.carry, form.total, form.noise_std))
        if form.prediction == "x0":
            on_c, on_n = carry * cur.alpha + total, carry * cur.sigma
        else:  # epsilon = n
            on_c, on_n = carry * cur.alpha, carry * cur.sigma + total
        assert float(on_c) == pytest.approx(float(next.alpha), rel=1e-13)
        assert math.hypot(float(on_n), noise) == pytest.approx(float(next.sigma), rel=1e-12)


@pytest.mark.parametrize("variable", [by_lambda, by_ratio, by_share])
@pytest.mark.parametrize("form", FORMS, ids=repr)
@pytest.mark.parametrize("name", INSIDE)
def test_weights_are_exact_for_polynomials_of_their_degree(name, form, variable):
    nodes = nodes_of(name, INSIDE[name])
    cur, next = nodes[2], nodes[3]
    for points in (
        [nodes[2]],
        [nodes[2], nodes[1]],
        [nodes[3], nodes[2], nodes[0]],
        [nodes[3], nodes[2], nodes[1], nodes[0]],
    ):
        weights = integral_weights(form, cur, next, points, variable)
        for degree in range(len(points)):

            def monomial(l, degree=degree):
                return float(variable(torch.tensor(l, dtype=torch.float64))) ** degree

            exact = step_integral(form, cur, next, monomial)
            found = sum(float(w) * monomial(float(point.lambda_)) for w, point in zip(weights, points, strict=True))
            scale = sum(
                abs(float(w)) * abs(monomial(float(point.lambda_))) for w, point in zip(weights, points, strict=True)
            )
            assert found == pytest.approx(exact, rel=0, abs=1e-10 * scale)


@pytest.mark.parametrize("name", ["flow", "vp cosine", "table zero snr"])
def test_weights_at_the_ends_are_the_limits_of_those_beside_them(name):
    """A first step from alpha = 0 and a last one to sigma = 0 are what steps from and to 1e-7 beside them approach."""
    process = PROCESSES[name]
    low, high = process.t_end, process.t_start
    middle, other, near = (low + (high - low) * share for share in (0.5, 0.35, 1e-7))
    at_end = nodes_of(name, [high, middle, other, low])
    beside = nodes_of(name, [high - near + low, middle, other, near])
    for form in (Form("x0"), Form("x0", 2.0)):
        for i in (0, 2):
            for function in (form.carry, form.total, form.noise_std, decay):
                limit = function(at_end[i], at_end[i + 1])
                # sigma falls with the root of t on VP: 1e-7 beside an end it is 3e-4
                assert float(limit) == pytest.approx(float(function(beside[i], beside[i + 1])), abs=1e-3)
        for i, history in ((1, [1, 0]), (2, [2, 1]), (2, [2, 1, 0])):
            found = integral_weights(form, at_end[i], at_end[i + 1], [at_end[j] for j in history], by_share)
            near_by = integral_weights(form, beside[i], beside[i + 1], [beside[j] for j in history], by_share)
            np.testing.assert_allclose([float(w) for w in found], [float(w) for w in near_by], rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("name", PROCESSES)
def test_nodes_are_on_their_process(name):
    process = PROCESSES[name]
    times = torch.linspace(*process.t_finite, 4, dtype=torch.float64)
    nodes = Nodes(process, times)
    assert [node.index for node in nodes] == [0, 1, 2, 3]
    assert [(cur.index, next.index) for cur, next in nodes.steps()] == [(0, 1), (1, 2), (2, 3)]
    for node in nodes:
        assert float(node.lambda_) == float(process.lambda_(node.t))
        assert float(nodes.at(node.t).alpha) == float(node.alpha)
        assert float(nodes.at_lambda(node.lambda_).t) == pytest.approx(
            float(node.t), abs=1e-10 * max(1, abs(process.t_start))
        )
        assert float(noise_share(node)) == pytest.approx(1 / (1 + math.exp(float(node.lambda_))), rel=1e-12)
        assert [float(w) for w in nodes.velocity_weights(node)] == [float(w) for w in process.velocity_weights(node.t)]
    for fraction in (0.25, 0.5, 0.8):
        between = nodes.between(nodes[1], nodes[2], fraction)
        expected = (1 - fraction) * float(nodes[1].lambda_) + fraction * float(nodes[2].lambda_)
        assert between.index is None
        assert float(between.lambda_) == pytest.approx(expected, abs=1e-11)


def test_between_an_end_and_a_node_is_in_the_share_of_noise():
    nodes = Nodes(Flow(), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))  # on a flow the share of noise is t
    assert touches_end(nodes[0])
    assert not touches_end(nodes[1])
    for fraction in (0.1, 0.5, 0.9):
        assert float(nodes.between(nodes[0], nodes[1], fraction).t) == pytest.approx(1 - fraction / 2, abs=1e-14)
        assert float(nodes.between(nodes[1], nodes[2], fraction).t) == pytest.approx(0.5 - fraction / 2, abs=1e-14)
