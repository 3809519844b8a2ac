"""SEEDS against its formulas, in the data prediction as ComfyUI has it and in the paper's noise prediction."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from methods_cases import geometric, normals
from methods_published import CONTINUOUS, assert_close, exact, numbers, start, urns


@CONTINUOUS
@pytest.mark.parametrize(("eta", "r"), [(1.0, 0.5), (0.6, 0.3)])
def test_seeds_2_of_the_data_prediction(process: Any, eta: float, r: float) -> None:
    alpha, sigma, lambda_, t_of_lambda = numbers(process)
    x0, times, z = exact(process, "x0"), geometric(process, 4), normals(8).numpy()
    x = start(process, times)
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        h = lambda_(t) - lambda_(s)
        middle = t_of_lambda(lambda_(s) + r * h)
        d = x0(x, s)
        first = math.sqrt(-math.expm1(-2 * r * h * eta)) * z[2 * i]
        u = sigma(middle) / sigma(s) * math.exp(-r * h * eta) * x
        u = u - alpha(middle) * math.expm1(-r * h * (1 + eta)) * d + sigma(middle) * first
        mixed = d + (x0(u, middle) - d) / (2 * r)
        rest = (1 - r) * h * eta
        noise = math.exp(-rest) * first + math.sqrt(-math.expm1(-2 * rest)) * z[2 * i + 1]
        x = (
            sigma(t) / sigma(s) * math.exp(-h * eta) * x
            - alpha(t) * math.expm1(-h * (1 + eta)) * mixed
            + sigma(t) * noise
        )
    assert_close(urns("seeds_2", process, times, z, eta=eta, r=r), x)


@CONTINUOUS
def test_seeds_3_of_the_data_prediction(process: Any) -> None:
    alpha, sigma, lambda_, t_of_lambda = numbers(process)
    x0, times, z, eta = exact(process, "x0"), geometric(process, 4), normals(12).numpy(), 0.8

    def phi_2(y: float) -> float:
        return (math.expm1(y) - y) / y  # times y: ei_h_phi_2 of the code

    x = start(process, times)
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        h = lambda_(t) - lambda_(s)
        k = h * (1 + eta)
        one, two = t_of_lambda(lambda_(s) + h / 3), t_of_lambda(lambda_(s) + 2 * h / 3)
        d1, share = x0(x, s), eta * h / 3
        fresh, decay = math.sqrt(-math.expm1(-2 * share)), math.exp(-share)
        noise = fresh * z[3 * i]
        u = sigma(one) / sigma(s) * math.exp(-share) * x - alpha(one) * math.expm1(-k / 3) * d1 + sigma(one) * noise
        d2 = x0(u, one)
        noise = decay * noise + fresh * z[3 * i + 1]
        a2 = 2 * phi_2(-2 * k / 3)
        a1 = math.expm1(-2 * k / 3) - a2
        u = sigma(two) / sigma(s) * math.exp(-2 * share) * x - alpha(two) * (a1 * d1 + a2 * d2) + sigma(two) * noise
        d3 = x0(u, two)
        noise = decay * noise + fresh * z[3 * i + 2]
        b3 = phi_2(-k) * 3 / 2
        b1 = math.expm1(-k) - b3
        x = sigma(t) / sigma(s) * math.exp(-3 * share) * x - alpha(t) * (b1 * d1 + b3 * d3) + sigma(t) * noise
    assert_close(urns("seeds_3", process, times, z, eta=eta), x)


@CONTINUOUS
def test_seeds_2_of_the_noise_prediction_algorithm_2(process: Any) -> None:
    """x = (a_t/a_s) x - 2 sigma_t (e^h - 1) e(u) - sigma_t (sqrt(e^2h - e^h) z1 + sqrt(e^h - 1) z2) at r = 1/2."""
    alpha, sigma, lambda_, t_of_lambda = numbers(process)
    epsilon, times, z = exact(process, "epsilon"), geometric(process, 4), normals(8).numpy()
    x = start(process, times)
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        h = lambda_(t) - lambda_(s)
        middle = t_of_lambda(lambda_(s) + h / 2)
        u = alpha(middle) / alpha(s) * x - 2 * sigma(middle) * math.expm1(h / 2) * epsilon(x, s)
        u = u + sigma(middle) * math.sqrt(math.expm1(h)) * z[2 * i]
        x = alpha(t) / alpha(s) * x - 2 * sigma(t) * math.expm1(h) * epsilon(u, middle)
        x = x + sigma(t) * math.sqrt(math.exp(2 * h) - math.exp(h)) * z[2 * i]
        x = x + sigma(t) * math.sqrt(math.expm1(h)) * z[2 * i + 1]
    assert_close(urns("seeds_2", process, times, z, prediction="epsilon"), x)
