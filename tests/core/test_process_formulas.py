"""Every process against its paper's formula, and the promises that all processes make."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from core_cases import CASES, PROCESSES, interior
from scipy.integrate import quad

from urn.processes import VE, VP, Cosine, Flow, SubVP

FORMULAS = {
    # log alpha = -t^2 (b1 - b0)/4 - t b0/2: Song et al. 2021, appendix C
    "vp linear": (
        lambda t: np.exp(-0.25 * t**2 * 19.9 - 0.05 * t),
        lambda t: np.sqrt(1 - np.exp(-0.5 * t**2 * 19.9 - 0.1 * t)),
    ),
    "sub-vp": (
        lambda t: np.exp(-0.25 * t**2 * 19.9 - 0.05 * t),
        lambda t: 1 - np.exp(-0.5 * t**2 * 19.9 - 0.1 * t),
    ),
    # Nichol & Dhariwal 2021, equation 17
    "vp cosine": (
        lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2),
        lambda t: np.sqrt(1 - (np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2),
    ),
    "flow": (lambda t: 1 - t, lambda t: t),
    # Esser et al. 2024, equation 23: t_m = sqrt(m/n) t / (1 + (sqrt(m/n) - 1) t)
    "flow shifted": (lambda t: 1 - 3 * t / (1 + 2 * t), lambda t: 3 * t / (1 + 2 * t)),
    # Lipman et al. 2024, section 4.7, with t for 1 - t: powers, the circle (also SiT's GVP), linear VP
    "polynomial": (lambda t: (1 - t) ** 2.5, lambda t: 1 - (1 - t) ** 2.5),
    "trigonometric": (lambda t: np.cos(np.pi / 2 * t), lambda t: np.sin(np.pi / 2 * t)),
    "linear signal": (lambda t: 1 - t, lambda t: np.sqrt(1 - (1 - t) ** 2)),
    "ve": (np.ones_like, lambda t: t),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_alpha_and_sigma_are_the_papers(name):
    process = PROCESSES[name]
    t = interior(process)
    for ours, formula in zip((process.alpha, process.sigma), FORMULAS[name], strict=True):
        # the formulas above cancel near an end, ours does not: 1e-9 absolute is what they are good for
        np.testing.assert_allclose(ours(t).numpy(), formula(t.numpy()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("process", "rate"),
    [
        (VP.linear(0.1, 20.0), lambda t: 0.1 + 19.9 * t),
        (VP.linear(5.0, 0.5), lambda t: 5 - 4.5 * t),
        (VP.linear(3.0, 3.0), lambda t: 3.0),
        (VP.scaled_linear(0.85, 12.0), lambda t: (0.85**0.5 + t * (12**0.5 - 0.85**0.5)) ** 2),
        (VP.scaled_linear(4.0, 0.25), lambda t: (2 - 1.5 * t) ** 2),
        (SubVP(0.1, 20.0), lambda t: 0.1 + 19.9 * t),
        (Cosine(0.008), lambda t: math.pi / 1.008 * math.tan((t + 0.008) / 1.008 * math.pi / 2)),
    ],
    ids=lambda value: "rate" if callable(value) and not hasattr(value, "alpha") else repr(value),
)
def test_log_alpha_is_the_integral_of_the_noise_rate(process, rate):
    # the forward SDE dx = -beta x/2 dt + ... gives d log alpha/dt = -beta/2
    for t in (1e-3, 0.1, 0.4, 0.7, 0.95):
        integral, _ = quad(rate, 0.0, t, epsabs=1e-13, epsrel=1e-13)
        assert float(process.alpha(t).log()) == pytest.approx(-integral / 2, rel=1e-11)


@pytest.mark.parametrize("name", PROCESSES)
def test_lambda_is_the_log_of_alpha_over_sigma(name):
    process = PROCESSES[name]
    t = interior(process)
    expected = np.log(process.alpha(t).numpy() / process.sigma(t).numpy())
    np.testing.assert_allclose(process.lambda_(t).numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_lambda_rises_towards_the_data(name):
    lambdas = PROCESSES[name].lambda_(interior(PROCESSES[name], 1000))
    assert bool((lambdas[1:] > lambdas[:-1]).all())


INVERTED = {**PROCESSES, "vp to lambda -15": VP.linear(0.1, 60.0), "sub-vp to lambda -15": SubVP(0.1, 60.0)}


@pytest.mark.parametrize("name", INVERTED)
def test_t_of_lambda_is_the_inverse_of_lambda(name):
    process = INVERTED[name]
    t = interior(process)
    scale = max(abs(process.t_start), 1.0)
    np.testing.assert_allclose(process.t_of_lambda(process.lambda_(t)).numpy(), t.numpy(), rtol=0, atol=1e-12 * scale)
    first, last = process.t_finite
    lambdas = torch.linspace(float(process.lambda_(first)), float(process.lambda_(last)), 200, dtype=torch.float64)
    there_and_back = process.lambda_(process.t_of_lambda(lambdas))
    np.testing.assert_allclose(there_and_back.numpy(), lambdas.numpy(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_times_near_the_ends_are_inverted_too(name):
    case, process = CASES[name], CASES[name].process
    if case.zero_alpha:
        near = process.t_start - (process.t_start - process.t_end) * 1e-7
        assert float(process.t_of_lambda(process.lambda_(near))) == pytest.approx(near, abs=1e-10)
        assert float(process.t_of_lambda(-math.inf)) == pytest.approx(process.t_start, abs=1e-15)
    if case.zero_sigma:
        near = process.t_end + (process.t_start - process.t_end) * 1e-7
        assert float(process.t_of_lambda(process.lambda_(near))) == pytest.approx(near, abs=1e-10)
        assert float(process.t_of_lambda(math.inf)) == pytest.approx(process.t_end, abs=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_ends_are_exact(name):
    case, process = CASES[name], CASES[name].process
    assert (float(process.alpha(process.t_start)) == 0.0) is case.zero_alpha
    assert (float(process.sigma(process.t_end)) == 0.0) is case.zero_sigma
    assert float(process.alpha(process.t_end)) == 1.0
    assert math.isinf(float(process.lambda_(process.t_start))) is case.zero_alpha
    assert math.isinf(float(process.lambda_(process.t_end))) is case.zero_sigma
    if case.zero_alpha:
        assert float(process.sigma(process.t_start)) == 1.0
        assert float(process.lambda_(process.t_start)) < 0
    if case.zero_sigma:
        assert float(process.lambda_(process.t_end)) > 0
    low, high = process.domain
    assert (low, high) == (min(process.t_end, low), max(process.t_start, high))
    for t in process.t_finite:
        assert low <= t <= high
        assert math.isfinite(float(process.lambda_(t)))


def test_ve_reaches_clean_data_below_its_t_end():
    assert float(VE().sigma(0.0)) == 0.0
    assert float(VE().lambda_(0.0)) == math.inf


def slope(value, t):
    """d sum(value)/dt; zero where the value is a constant, as VE's alpha."""
    return torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)


@pytest.mark.parametrize("name", PROCESSES)
def test_velocity_weights_are_derivatives(name):
    process = PROCESSES[name]
    t = interior(process)[1:-1]
    t = (t.floor() + 0.4 if name.startswith("table") else t).requires_grad_()
    alpha, sigma = process.velocity_weights(t.detach())
    for weight, function in ((alpha, process.alpha), (sigma, process.sigma)):
        by_autograd = slope(function(t), t)
        np.testing.assert_allclose(weight.numpy(), by_autograd.numpy(), rtol=1e-9, atol=1e-14)
        # central differences of order 4; at 0.4 they stay within one interval of a table
        at, h = t.detach(), 1e-4 * min(process.t_start, 1.0)
        points = [function(at + k * h) for k in (-2, -1, 1, 2)]
        differences = (points[0] - 8 * points[1] + 8 * points[2] - points[3]) / (12 * h)
        scale = float(weight.abs().max()) + 1e-12
        np.testing.assert_allclose(weight.numpy() / scale, differences.numpy() / scale, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["flow", "flow shifted", "ve", "table linear", "table cosine", "table zero snr"])
def test_velocity_weights_are_finite_at_both_ends(name):
    process = PROCESSES[name]
    step = 1e-6 * (process.t_start - process.t_end)
    for end, inside in ((process.t_start, process.t_start - step), (process.t_end, process.t_end + step)):
        for at_end, beside in zip(process.velocity_weights(end), process.velocity_weights(inside), strict=True):
            assert float(at_end) == pytest.approx(float(beside), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", PROCESSES)
def test_gradients_of_a_whole_grid_are_finite_and_right_inside(name):
    process = PROCESSES[name]
    low = 0.0 if name == "ve" else process.t_end
    inner = interior(process, 9)[1:-1]
    ends = torch.tensor([process.t_start, low], dtype=torch.float64)
    grid = torch.cat([ends[:1], inner, ends[1:]]).requires_grad_()
    alone = inner.clone().requires_grad_()
    for function in (process.alpha, process.sigma, process.lambda_):
        values = function(grid)
        finite = torch.isfinite(values)
        assert bool(finite[1:-1].all())
        whole, inside = slope(values[finite], grid), slope(function(alone), alone)
        assert bool(torch.isfinite(whole).all()), whole
        assert torch.equal(whole[1:-1], inside)


@pytest.mark.parametrize("name", PROCESSES)
def test_t_of_lambda_carries_the_gradient_of_the_inverse(name):
    process = PROCESSES[name]
    t = interior(process, 9)[1:-1].requires_grad_()
    l = process.lambda_(t).detach().requires_grad_()
    product = slope(process.lambda_(t), t) * slope(process.t_of_lambda(l), l)
    np.testing.assert_allclose(product.numpy(), 1.0, rtol=1e-8)


@pytest.mark.parametrize("name", ["vp linear", "vp scaled linear", "vp cosine", "table linear", "table zero snr"])
def test_variance_is_preserved(name):
    process = PROCESSES[name]
    t = torch.cat([interior(process), torch.tensor([process.t_start, process.t_end])])
    np.testing.assert_allclose((process.alpha(t) ** 2 + process.sigma(t) ** 2).numpy(), 1.0, rtol=1e-14)


def test_sub_vp_is_below_vp():
    t = interior(VP.linear())
    assert torch.equal(SubVP().alpha(t), VP.linear().alpha(t))
    np.testing.assert_allclose(SubVP().sigma(t).numpy(), VP.linear().sigma(t).numpy() ** 2, rtol=1e-13)


def test_a_shifted_flow_is_a_flow_in_another_time():
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    s = 3 * t / (1 + 2 * t)
    np.testing.assert_allclose(Flow(3.0).sigma(t).numpy(), Flow().sigma(s).numpy(), rtol=1e-15)
    np.testing.assert_allclose(Flow(3.0).alpha(t).numpy(), Flow().alpha(s).numpy(), atol=1e-15)


@pytest.mark.parametrize("name", PROCESSES)
def test_floats_and_tensors_of_any_type_give_float64_of_their_shape(name):
    process = PROCESSES[name]
    t = sum(process.t_finite) / 2
    for function in (process.alpha, process.sigma, process.lambda_, process.prior_std):
        value = function(t)
        assert value.shape == ()
        assert value.dtype == torch.float64
        table = function(torch.full((2, 3), t, dtype=torch.float64))
        assert table.shape == (2, 3)
        assert bool((table == value).all())
        assert function(torch.tensor(t, dtype=torch.float32)).dtype == torch.float64


def test_prior_std_is_that_of_the_noise_at_the_start():
    for t in (80.0, 3.0):
        assert float(VE().prior_std(t)) == t
        assert float(VE().sigma(t)) == t
    assert float(Flow().prior_std(0.75)) == 0.75
    assert float(VP.linear().prior_std(1.0)) == 1.0
