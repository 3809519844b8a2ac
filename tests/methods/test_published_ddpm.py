"""DDIM, DDPM and iDDPM against their papers' formulas in alphas_cumprod."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from methods_cases import MIXTURE, Listed, compiled, normals
from methods_published import TABLE, Array, assert_close, exact, start, urns

import urn
from urn.processes import linear_betas


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_equation_12(eta: float) -> None:
    """Song, Meng, Ermon 2021, equations 12 and 16 on a sub-sequence tau; their alpha_t is alphas_cumprod, alpha_0 = 1."""
    tau = [39, 31, 24, 14, 6, 0]
    a = {t: TABLE.alphas_cumprod[t] for t in tau} | {-1: 1.0}
    epsilon, z = exact(TABLE, "epsilon"), normals(6).numpy()
    x = start(TABLE, [*tau, -1])
    for i, (t, s) in enumerate(zip(tau, [*tau[1:], -1], strict=True)):
        e = epsilon(x, t)
        sigma = eta * math.sqrt((1 - a[s]) / (1 - a[t])) * math.sqrt(1 - a[t] / a[s])
        x0 = (x - math.sqrt(1 - a[t]) * e) / math.sqrt(a[t])
        x = math.sqrt(a[s]) * x0 + math.sqrt(1 - a[s] - sigma**2) * e + sigma * z[i]
    assert_close(urns("ddim", TABLE, [*tau, -1], z, eta=eta), x)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("by_mean", [False, True])
def test_ddpm_algorithm_2_and_equations_6_and_7(large: bool, by_mean: bool) -> None:
    """Ho, Jain, Abbeel 2020 over all steps of their table: by mu_theta (equation 11) and by mu_tilde (7) at equation 15."""
    beta = linear_betas(40, 1e-3, 0.25).numpy()
    alpha, bar = 1 - beta, np.cumprod(1 - beta)
    epsilon, z = exact(TABLE, "epsilon"), normals(40).numpy()
    x = start(TABLE, [*range(39, -2, -1)])
    for i, t in enumerate(range(39, -1, -1)):
        e, before = epsilon(x, t), bar[t - 1] if t else 1.0
        if by_mean:
            x0 = (x - math.sqrt(1 - bar[t]) * e) / math.sqrt(bar[t])
            mean = math.sqrt(before) * beta[t] / (1 - bar[t]) * x0
            mean = mean + math.sqrt(alpha[t]) * (1 - before) / (1 - bar[t]) * x
        else:
            mean = (x - beta[t] / math.sqrt(1 - bar[t]) * e) / math.sqrt(alpha[t])
        variance = beta[t] if large else (1 - before) / (1 - bar[t]) * beta[t]
        x = mean + (math.sqrt(variance) * z[i] if t else 0)  # "z = 0 if t = 1"
    name = "ddpm_large" if large else "ddpm"
    assert_close(urns(name, TABLE, [*range(39, -2, -1)], z), x)


def test_iddpm_equation_15_on_re_spaced_steps() -> None:
    """Nichol & Dhariwal 2021: sigma = exp((v log beta + (1 - v) log beta_tilde)/2), v per element."""
    tau = [39, 30, 20, 11, 4]
    bar = np.array([TABLE.alphas_cumprod[t] for t in tau] + [1.0])
    epsilon, z = exact(TABLE, "epsilon"), normals(5).numpy()

    def variance(x: Array, t: float) -> Array:
        return np.tanh(0.7 * x + 0.01 * t)  # any output in [-1, 1]

    x = start(TABLE, [*tau, -1])
    for i, t in enumerate(tau):
        e, v = epsilon(x, t), (variance(x, t) + 1) / 2
        beta = 1 - bar[i] / bar[i + 1]
        tilde = (1 - bar[i + 1]) / (1 - bar[i]) * beta
        mean = (x - beta / math.sqrt(1 - bar[i]) * e) / math.sqrt(1 - beta)
        log = v * math.log(beta) + (1 - v) * math.log(tilde) if i < 4 else None
        x = mean if log is None else mean + np.exp(log / 2) * z[i]

    def net(y: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at = float(t[0])
        return MIXTURE.prediction(y, TABLE, at, "epsilon"), torch.from_numpy(variance(y.numpy(), at))

    plan = compiled("iddpm", TABLE, [*tau, -1])
    model = urn.Model(net, TABLE, ("epsilon", "variance"))
    begin = torch.from_numpy(start(TABLE, [*tau, -1]))
    found = urn.execute(plan, model, {"x": begin}, Listed(list(torch.from_numpy(z))))["x"]
    assert_close(found.numpy(), x)
