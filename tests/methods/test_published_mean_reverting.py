"""IR-SDE's posterior sampling, MRS's solvers, ResShift's and RDDM's chains in NumPy, in their own letters."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from methods_cases import Listed
from methods_published import Array, assert_close, numbers

import urn
from urn.conformance.targets import MIXTURE
from urn.exact import Conditional
from urn.processes import VP, MeanReverting, ResShift

TARGET = Conditional(MIXTURE, matrix=[[0.5, 0.2], [-0.1, 0.4]], offset=[0.3, -0.2])
GENERATOR = np.random.default_rng(4)
START, MU = GENERATOR.normal(size=(2, 7, 2))
NOISE = GENERATOR.normal(size=(9, 7, 2))
IR_SDE = MeanReverting.from_rates(np.linspace(0.1, 1.0, 12), noise=0.4)


def predicted(process: Any, kind: str, x: Array, t: float) -> Array:
    return TARGET.prediction(torch.from_numpy(x), torch.from_numpy(MU), process, float(t), kind).numpy()


def urns(method: str, process: Any, times: Any, **options: Any) -> Array:
    plan = urn.compile_plan(method, process, grid=times, **options)
    given = {"x": torch.from_numpy(START), "y": torch.from_numpy(MU)}
    source = Listed([torch.from_numpy(z) for z in NOISE])
    return urn.execute(plan, TARGET.model(process, "epsilon"), given, source)["x"].numpy()


def test_the_table_of_ir_sde():
    theta, delta, lambda_ = np.linspace(0.1, 1.0, 12), 0.005, 0.4
    dt = -np.log(delta) / theta.sum()
    bar = np.cumsum(theta) * dt
    t = torch.arange(12.0)
    np.testing.assert_allclose(IR_SDE.alpha(t), np.exp(-bar), rtol=1e-12)
    np.testing.assert_allclose(IR_SDE.beta(t), 1 - np.exp(-bar), rtol=1e-12)
    np.testing.assert_allclose(IR_SDE.sigma(t), lambda_ * np.sqrt(1 - np.exp(-2 * bar)), rtol=1e-12)


def test_the_posterior_of_ir_sde():
    theta, lambda_ = np.linspace(0.1, 1.0, 12), 0.4
    bar = np.cumsum(theta) * -np.log(0.005) / theta.sum()
    times, x = [11, 8, 5, 4, 1], START
    for i, j, z in zip(times[:-1], times[1:], NOISE, strict=False):
        step = bar[i] - bar[j]
        a = (1 - np.exp(-2 * bar[j])) / (1 - np.exp(-2 * bar[i])) * np.exp(-step)
        b = (1 - np.exp(-2 * step)) / (1 - np.exp(-2 * bar[i])) * np.exp(-bar[j])
        variance = lambda_**2 * (1 - np.exp(-2 * bar[j])) * (1 - np.exp(-2 * step)) / (1 - np.exp(-2 * bar[i]))
        x = a * (x - MU) + b * (predicted(IR_SDE, "x0", x, i) - MU) + MU + np.sqrt(variance) * z
    assert_close(urns("ddpm", IR_SDE, [float(t) for t in times]), x)


@pytest.mark.parametrize(("order", "method"), [(1, "ddim"), (2, "res_multistep")])
def test_the_data_ode_of_mrs(order, method):
    """`res_multistep` takes its last step by the first order."""
    process = MeanReverting(VP.linear(), noise=0.6)
    a, s, l, t_of_l = numbers(process)
    times, x, before = [t_of_l(v) for v in np.linspace(-1.0, 2.0, 6)], START, None
    for i, (t, u) in enumerate(itertools.pairwise(times)):
        h, x0 = l(u) - l(t), predicted(process, "x0", x, t)
        kept = s(u) / s(t)
        anchor = (1 - kept - a(u) + kept * a(t)) * MU
        data = a(u) * -np.expm1(-h) * x0
        if order == 2 and before is not None and i < len(times) - 2:
            data = data + a(u) * (h + np.expm1(-h)) * (x0 - before) / (l(t) - l(times[i - 1]))
        x, before = kept * x + anchor + data, x0
    assert_close(urns(method, process, times), x)


def test_the_data_sde_of_mrs():
    process = MeanReverting(VP.linear(), noise=0.6)
    a, s, l, t_of_l = numbers(process)
    times, x = [t_of_l(v) for v in np.linspace(-1.0, 2.0, 6)], START
    for t, u, z in zip(times[:-1], times[1:], NOISE, strict=False):
        h, x0 = l(u) - l(t), predicted(process, "x0", x, t)
        kept = s(u) / s(t) * np.exp(-h)
        anchor = (1 - kept - a(u) + kept * a(t)) * MU
        x = kept * x + anchor + a(u) * -np.expm1(-2 * h) * x0 + s(u) * np.sqrt(-np.expm1(-2 * h)) * z
    assert_close(urns("dpmpp_1_sde", process, times), x)
    assert_close(urns("ddpm", process, times), x)


def test_the_chain_of_resshift():
    kappa, p, steps, least, most = 1.5, 0.3, 15, 0.0007, 0.999
    process = ResShift(kappa, p, steps, least, most)
    beta = (np.arange(steps) / (steps - 1)) ** p * (steps - 1)
    root = np.sqrt(least) * np.exp(np.log(most / least) / (2 * (steps - 1))) ** beta
    eta = np.concatenate([[0.0], root**2])
    np.testing.assert_allclose(process.beta(torch.arange(steps + 1.0)), eta, rtol=1e-12)
    times, x = [15, 12, 7, 3, 1, 0], START
    for t, u, z in zip(times[:-1], times[1:], NOISE, strict=False):
        step = eta[t] - eta[u]
        mean = eta[u] / eta[t] * x + step / eta[t] * predicted(process, "x0", x, t)
        x = mean + np.sqrt(kappa**2 * eta[u] * step / eta[t]) * z
    assert_close(urns("resshift", process, [float(t) for t in times]), x)


@pytest.mark.parametrize("eta", [0.0, 0.36, 1.0])
def test_the_step_of_rddm(eta):
    process = MeanReverting(VP.linear(), noise=0.6)
    a, s, _, _ = numbers(process)
    times, x = [0.9, 0.6, 0.4, 0.2], START
    for t, u, z in zip(times[:-1], times[1:], NOISE, strict=False):
        residual, epsilon = MU - predicted(process, "x0", x, t), predicted(process, "epsilon", x, t)
        sigma = np.sqrt(eta * s(u) ** 2 * (s(t) ** 2 - s(u) ** 2) / s(t) ** 2)
        x = x - (a(u) - a(t)) * residual - (s(t) - np.sqrt(s(u) ** 2 - sigma**2)) * epsilon + sigma * z
    assert_close(urns("resshift", process, times, eta=float(np.sqrt(eta))), x)


def test_rddm_without_an_input_is_ddim():
    """With I_in = 0 the process is an ordinary one, and the deterministic chain DDIM's to rounding."""
    process, base = MeanReverting(VP.linear()), VP.linear()
    times = [0.9, 0.6, 0.4, 0.2]
    x, zero = torch.from_numpy(START), torch.zeros(7, 2, dtype=torch.float64)
    target = Conditional(MIXTURE, matrix=0.0)
    found = urn.execute(
        urn.compile_plan("resshift", process, grid=times, eta=0.0), target.model(process), {"x": x, "y": zero}
    )["x"]
    expected = urn.execute(urn.compile_plan("ddim", base, grid=times), MIXTURE.model(base), {"x": x})["x"]
    assert_close(found.numpy(), expected.numpy(), 1e-12)
