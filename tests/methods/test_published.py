"""Methods against their papers' own formulas, written here in NumPy in the papers' letters, on the exact mixture to 1e-10.

Nothing here uses Urn but the processes' numbers and the exact predictions: no plan, node, coefficient or quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from methods_cases import MIXTURE, Listed, bent, compiled, gap, geometric, normals, start_states
from scipy.integrate import quad

import urn
from urn.methods.dpm_solver import fast_orders
from urn.processes import VE, VP, Flow, linear_betas

Array = np.ndarray[Any, Any]
Predict = Callable[[Array, float], Array]
CLOSE = 1e-10
TABLE = VP.from_betas(linear_betas(40, 1e-3, 0.25))  # a DDPM of forty steps
CONTINUOUS = pytest.mark.parametrize("process", [VP.linear(), VP.cosine(), VE(), Flow()], ids=repr)


def exact(process: Any, kind: str) -> Predict:
    return lambda x, t: MIXTURE.prediction(torch.from_numpy(x), process, float(t), kind).numpy()


def numbers(process: Any) -> tuple[Callable[[float], float], ...]:
    """alpha, sigma, lambda and t_of_lambda as functions of floats."""
    named = process.alpha, process.sigma, process.lambda_, process.t_of_lambda
    return tuple(lambda t, f=f: float(f(float(t))) for f in named)


def start(process: Any, times: Any) -> Array:
    return start_states(compiled("ddim", process, times)).numpy()


def urns(method: str, process: Any, times: Any, z: Any = (), predicts: str = "v", **options: Any) -> Array:
    """What Urn's plan makes of the same start and the same noise."""
    plan = compiled(method, process, times, **options)
    x = torch.from_numpy(start(process, times))
    source = Listed([torch.as_tensor(row) for row in z])
    return urn.execute(plan, MIXTURE.model(process, predicts), {"x": x}, source)["x"].numpy()


def assert_close(found: Array, expected: Array, tolerance: float = CLOSE) -> None:
    assert gap(torch.from_numpy(found), torch.from_numpy(expected)) < tolerance


# --- DDIM, DDPM, iDDPM: in alphas_cumprod ---------------------------------------------------------------------------


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


# --- EDM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"s_churn": 0.0}, {"s_churn": 3.0}, {"s_churn": 30.0, "s_min": 0.2, "s_max": 2.0, "s_noise": 1.005}],
    ids=str,
)
def test_edm_algorithm_2(options: dict[str, float]) -> None:
    """Karras et al. 2022, algorithm 2, on their grid (equation 5, t_N = 0), with its own noise."""
    steps, rho, low, high = 8, 7, 0.02, 5.0
    i = np.arange(steps)
    t = [*(high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho, 0.0]
    every = {"s_min": 0.05, "s_max": 50.0, "s_noise": 1.0} | options
    churn, smallest, largest, inflate = (every[name] for name in ("s_churn", "s_min", "s_max", "s_noise"))
    denoised, z, drawn = exact(VE(), "x0"), normals(steps).numpy(), 0
    x = start(VE(), t)
    for i in range(steps):
        gamma = min(churn / steps, math.sqrt(2) - 1) if smallest <= t[i] <= largest else 0.0
        hat = t[i] + gamma * t[i]
        if gamma > 0:
            x = x + math.sqrt(hat**2 - t[i] ** 2) * inflate * z[drawn]
            drawn += 1
        d = (x - denoised(x, hat)) / hat
        x_next = x + (t[i + 1] - hat) * d
        if t[i + 1] != 0:
            d_next = (x_next - denoised(x_next, t[i + 1])) / t[i + 1]
            x_next = x + (t[i + 1] - hat) * (d + d_next) / 2
        x = x_next
    assert_close(urns("edm", VE(), t, z, predicts="x0", **options), x)


@pytest.mark.parametrize("process", [VP.linear(), Flow(), Flow(shift=3.0)], ids=repr)
def test_edm_algorithm_1(process: Any) -> None:
    """Deterministic Heun in t for any s(t), sigma(t): dx/dt = (sigma'/sigma + s'/s) x - sigma' s/sigma D(x/s; sigma)."""
    times = bent(process, 6)
    alpha, sigma, *_ = numbers(process)
    x0 = exact(process, "x0")

    def slope(x: Array, t: float) -> Array:
        step = 1e-4  # derivatives by differences of order four
        s, noise = alpha, lambda u: sigma(u) / alpha(u)

        def d(f: Callable[[float], float]) -> float:
            return (8 * (f(t + step) - f(t - step)) - (f(t + 2 * step) - f(t - 2 * step))) / (12 * step)

        return (d(noise) / noise(t) + d(s) / s(t)) * x - d(noise) * s(t) / noise(t) * x0(x, t)

    x = start(process, times)
    for t, t_next in pairwise(times.tolist()):
        d = slope(x, t)
        euler = x + (t_next - t) * d
        x = x + (t_next - t) * (d + slope(euler, t_next)) / 2
    assert_close(urns("probability_flow_heun", process, times), x, 1e-8)


# --- Score-SDE ------------------------------------------------------------------------------------------------------


def test_reverse_diffusion_of_ve() -> None:
    """Song et al. 2021, equation 46: x_i = x_(i+1) + (s_(i+1)^2 - s_i^2) score + sqrt(s_(i+1)^2 - s_i^2) z."""
    s = np.exp(np.linspace(math.log(3.0), math.log(0.05), 7))
    score, z = exact(VE(), "score"), normals(6).numpy()
    x = start(VE(), s)
    for i in range(6):
        b = s[i] ** 2 - s[i + 1] ** 2
        x = x + b * score(x, s[i]) + math.sqrt(b) * z[i]
    assert_close(urns("reverse_diffusion", VE(), s, z), x)


def test_reverse_diffusion_of_vp_and_its_predictor_corrector() -> None:
    """Appendix G, algorithms 3 and 5: x_i = (2 - sqrt(1 - beta)) x + beta score + sqrt(beta) z, then Langevin steps with
    epsilon = 2 alpha_i (r |z|/|g|)^2, alpha_i = 1 - beta_i that of x_i itself; the last predictor without noise."""
    beta = linear_betas(40, 1e-3, 0.25).numpy()
    score, z = exact(TABLE, "score"), normals(3 * 40).numpy()
    for r, corrections in ((None, 0), (0.16, 1), (0.1, 2)):
        x, drawn = start(TABLE, [*range(39, -2, -1)]), iter(z)
        for i in range(39, -1, -1):  # the predictor of the transition i, to x_(i-1)
            x = (2 - math.sqrt(1 - beta[i])) * x + beta[i] * score(x, i)
            if i == 0:
                break
            x = x + math.sqrt(beta[i]) * next(drawn)
            for _ in range(corrections):
                g, noise = score(x, i - 1), next(drawn)
                norms = np.linalg.norm(noise, axis=1) / np.linalg.norm(g, axis=1)  # per sample
                epsilon = (2 * (1 - beta[i - 1]) * (r * norms) ** 2)[:, None]
                x = x + epsilon * g + np.sqrt(2 * epsilon) * noise
        if corrections:
            found = urns("predictor_corrector", TABLE, [*range(39, -2, -1)], z, snr=r, corrections=corrections)
        else:
            found = urns("reverse_diffusion", TABLE, [*range(39, -2, -1)], z)
        assert_close(found, x)


def test_predictor_corrector_of_ve() -> None:
    """Algorithms 2 and 4: epsilon = 2 (r |z|/|g|)^2, also after the last predictor, which has noise."""
    s = np.exp(np.linspace(math.log(3.0), math.log(0.05), 7))
    score, z = exact(VE(), "score"), normals(12).numpy()
    x = start(VE(), s)
    for i in range(6):
        b = s[i] ** 2 - s[i + 1] ** 2
        x = x + b * score(x, s[i]) + math.sqrt(b) * z[2 * i]
        g, noise = score(x, s[i + 1]), z[2 * i + 1]
        epsilon = (2 * (0.2 * np.linalg.norm(noise, axis=1) / np.linalg.norm(g, axis=1)) ** 2)[:, None]
        x = x + epsilon * g + np.sqrt(2 * epsilon) * noise
    assert_close(urns("predictor_corrector", VE(), s, z, snr=0.2), x)


def test_euler_maruyama_of_vp() -> None:
    """dx = [-beta x/2 - beta score] dt + sqrt(beta) dw, backwards."""
    process, times = VP.linear(), bent(VP.linear(), 8)
    score, z = exact(process, "score"), normals(8).numpy()
    x = start(process, times)
    for i, (t, t_next) in enumerate(pairwise(times.tolist())):
        beta, dt = 0.1 + t * (20 - 0.1), t_next - t
        x = x + (-beta * x / 2 - beta * score(x, t)) * dt + math.sqrt(beta * -dt) * z[i]
    assert_close(urns("euler_maruyama", process, times, z), x)


@pytest.mark.parametrize("name", ["probability_flow", "probability_flow_rk4"])
def test_the_probability_flow_ode_of_vp(name: str) -> None:
    """dx/dt = -beta (x + score)/2, by Euler and by the classical Runge-Kutta method."""
    process, times = VP.linear(), bent(VP.linear(), 8)
    score = exact(process, "score")

    def f(x: Array, t: float) -> Array:
        return -(0.1 + t * (20 - 0.1)) * (x + score(x, t)) / 2

    x = start(process, times)
    for t, t_next in pairwise(times.tolist()):
        d = t_next - t
        k_1 = f(x, t)
        if name == "probability_flow":
            x = x + d * k_1
            continue
        k_2 = f(x + d / 2 * k_1, t + d / 2)
        k_3 = f(x + d / 2 * k_2, t + d / 2)
        k_4 = f(x + d * k_3, t + d)
        x = x + d * (k_1 + 2 * k_2 + 2 * k_3 + k_4) / 6
    assert_close(urns(name, process, times), x)


def test_annealed_langevin_algorithm_1() -> None:
    """Song & Ermon 2019: a_i = epsilon sigma_i^2/sigma_L^2; x + a_i/2 score + sqrt(a_i) z, T times at each level."""
    s, repeats, last = [2.0, 0.7, 0.25, 0.1], 5, 2e-3
    score, z = exact(VE(), "score"), normals(20).numpy()
    x = start(VE(), s)
    for i, level in enumerate(s):
        a = last * level**2 / s[-1] ** 2
        for k in range(repeats):
            x = x + a / 2 * score(x, level) + math.sqrt(a) * z[i * repeats + k]
    assert_close(urns("annealed_langevin", VE(), s, z, step_ratio=last / s[-1] ** 2, repeats=repeats), x)


# --- DPM-Solver -----------------------------------------------------------------------------------------------------


class DpmSolver:
    """Lu et al. 2022: algorithms 1 and 2 (DPM-Solver-2 and -3) and equation 3.7, from time s to time t."""

    def __init__(self, process: Any) -> None:
        self.alpha, self.sigma, self.lambda_, self.t_of_lambda = numbers(process)
        self.epsilon = exact(process, "epsilon")

    def linear(self, x: Array, s: float, t: float, e: Array) -> Array:
        h = self.lambda_(t) - self.lambda_(s)
        return self.alpha(t) / self.alpha(s) * x - self.sigma(t) * math.expm1(h) * e

    def step_1(self, x: Array, s: float, t: float) -> Array:
        return self.linear(x, s, t, self.epsilon(x, s))

    def step_2(self, x: Array, s: float, t: float, r: float = 0.5) -> Array:
        h = self.lambda_(t) - self.lambda_(s)
        middle = self.t_of_lambda(self.lambda_(s) + r * h)
        e = self.epsilon(x, s)
        u = self.linear(x, s, middle, e)
        d = self.epsilon(u, middle) - e
        return self.linear(x, s, t, e) - self.sigma(t) / (2 * r) * math.expm1(h) * d

    def step_3(self, x: Array, s: float, t: float) -> Array:
        r_1, r_2 = 1 / 3, 2 / 3
        h = self.lambda_(t) - self.lambda_(s)
        s_1, s_2 = (self.t_of_lambda(self.lambda_(s) + r * h) for r in (r_1, r_2))
        e = self.epsilon(x, s)
        u_1 = self.linear(x, s, s_1, e)
        d_1 = self.epsilon(u_1, s_1) - e
        bend = self.sigma(s_2) * r_2 / r_1 * (math.expm1(r_2 * h) / (r_2 * h) - 1)
        u_2 = self.linear(x, s, s_2, e) - bend * d_1
        d_2 = self.epsilon(u_2, s_2) - e
        return self.linear(x, s, t, e) - self.sigma(t) / r_2 * (math.expm1(h) / h - 1) * d_2


@CONTINUOUS
def test_dpm_solver_2_algorithm_1(process: Any) -> None:
    solver, times = DpmSolver(process), geometric(process, 5)
    for r in (0.5, 0.35):
        x = start(process, times)
        for s, t in pairwise(times.tolist()):
            x = solver.step_2(x, s, t, r)
        assert_close(urns("dpm_solver_2", process, times, r=r), x)


@CONTINUOUS
def test_dpm_solver_3_algorithm_2(process: Any) -> None:
    solver, times = DpmSolver(process), geometric(process, 5)
    x = start(process, times)
    for s, t in pairwise(times.tolist()):
        x = solver.step_3(x, s, t)
    assert_close(urns("dpm_solver_3", process, times), x)


@pytest.mark.parametrize("budget", [4, 5, 6, 9])
def test_dpm_solver_fast_over_its_outer_steps(budget: int) -> None:
    """Appendix C.3: steps of order three over the first outer points, ended by lower ones, the outer points the grid's."""
    process = VP.linear()
    solver, times = DpmSolver(process), bent(process, budget).tolist()
    x, place = start(process, times), 0
    orders = [3] * ((budget // 3 + 1) - (2 if budget % 3 == 0 else 1)) + {0: [2, 1], 1: [1], 2: [2]}[budget % 3]
    for order in orders:
        x = getattr(solver, f"step_{order}")(x, times[place], times[place + order])
        place += order
    plan = compiled("dpm_solver_fast", process, times)
    assert plan.nfe == budget
    assert_close(urns("dpm_solver_fast", process, times), x)


@pytest.mark.parametrize("budget", range(1, 31))
def test_dpm_solver_fast_spends_exactly_its_budget(budget: int) -> None:
    """K = N // 3 + 1 steps; N mod 3 = 0: K - 2 of order three, then 2, 1; 1: K - 1, then 1; 2: K - 1, then 2."""
    k = budget // 3 + 1
    expected = {0: [3] * (k - 2) + [2, 1], 1: [3] * (k - 1) + [1], 2: [3] * (k - 1) + [2]}[budget % 3]
    found = fast_orders(budget)
    assert [order for _, order in found] == expected
    assert [first for first, _ in found] == np.cumsum([0, *expected])[:-1].tolist()
    assert compiled("dpm_solver_fast", Flow(), bent(Flow(), budget)).nfe == budget == sum(expected)


# --- DPM-Solver++ ---------------------------------------------------------------------------------------------------


@CONTINUOUS
@pytest.mark.parametrize("r", [0.5, 0.3])
def test_dpm_solver_plus_plus_2s_algorithm_1(process: Any, r: float) -> None:
    """Lu et al. 2022b: D = (1 - 1/(2 r)) x(s) + x(u)/(2 r), x_next = (sigma/sigma_s) x - alpha (e^-h - 1) D."""
    alpha, sigma, lambda_, t_of_lambda = numbers(process)
    x0, times = exact(process, "x0"), geometric(process, 5)
    x = start(process, times)
    for s, t in pairwise(times.tolist()):
        h = lambda_(t) - lambda_(s)
        middle = t_of_lambda(lambda_(s) + r * h)
        d = x0(x, s)
        u = sigma(middle) / sigma(s) * x - alpha(middle) * math.expm1(-r * h) * d
        d = (1 - 1 / (2 * r)) * d + x0(u, middle) / (2 * r)
        x = sigma(t) / sigma(s) * x - alpha(t) * math.expm1(-h) * d
    assert_close(urns("dpmpp_2s", process, times, r=r), x)


@CONTINUOUS
def test_dpm_solver_plus_plus_2m_algorithm_2(process: Any) -> None:
    """D = (1 + 1/(2 r)) x(cur) - x(prev)/(2 r), r = h_prev/h; the first step has D = x(cur)."""
    alpha, sigma, lambda_, _ = numbers(process)
    x0, times = exact(process, "x0"), geometric(process, 7)
    x, before, h_before = start(process, times), None, None
    for s, t in pairwise(times.tolist()):
        h, d = lambda_(t) - lambda_(s), x0(x, s)
        mixed = d if before is None else d + (d - before) * h / (2 * h_before)
        x = sigma(t) / sigma(s) * x - alpha(t) * math.expm1(-h) * mixed
        before, h_before = d, h
    assert_close(urns("dpmpp_2m", process, times), x)


@CONTINUOUS
def test_dpm_solver_plus_plus_3m_of_the_authors_code(process: Any) -> None:
    """phi_2 D1 - phi_3 D2 with phi_3 = phi_2/h - 1/2, after one step of 1M and one of 2M."""
    alpha, sigma, lambda_, _ = numbers(process)
    x0, times = exact(process, "x0"), geometric(process, 7).tolist()
    x, made = start(process, times), []
    for i in range(7):
        made.append(x0(x, times[i]))
        h = lambda_(times[i + 1]) - lambda_(times[i])
        total = math.expm1(-h)
        x = sigma(times[i + 1]) / sigma(times[i]) * x - alpha(times[i + 1]) * total * made[i]
        if i > 0:
            r_0 = (lambda_(times[i]) - lambda_(times[i - 1])) / h
            d_0 = (made[i] - made[i - 1]) / r_0
        if i == 1:
            x = x - alpha(times[2]) * total / 2 * d_0
        if i > 1:
            r_1 = (lambda_(times[i - 1]) - lambda_(times[i - 2])) / h
            d_1 = (made[i - 1] - made[i - 2]) / r_1
            phi_2 = total / h + 1
            slope, bend = d_0 + r_0 / (r_0 + r_1) * (d_0 - d_1), (d_0 - d_1) / (r_0 + r_1)
            x = x + alpha(times[i + 1]) * (phi_2 * slope - (phi_2 / h - 0.5) * bend)
    assert_close(urns("dpmpp_3m_published", process, times), x)


@CONTINUOUS
@pytest.mark.parametrize("steps_of_history", [1, 2])
def test_sde_dpm_solver_plus_plus(process: Any, steps_of_history: int) -> None:
    """Lu et al. 2022b, section 5: (sigma/sigma_s) e^-h x + alpha (1 - e^-2h) D + sigma sqrt(1 - e^-2h) z, D as in 2M."""
    alpha, sigma, lambda_, _ = numbers(process)
    x0, times, z = exact(process, "x0"), geometric(process, 6), normals(6).numpy()
    x, before, h_before = start(process, times), None, None
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        h, d = lambda_(t) - lambda_(s), x0(x, s)
        mixed = d if before is None or steps_of_history == 1 else d + (d - before) * h / (2 * h_before)
        share = -math.expm1(-2 * h)
        x = sigma(t) / sigma(s) * math.exp(-h) * x + alpha(t) * share * mixed + sigma(t) * math.sqrt(share) * z[i]
        before, h_before = d, h
    assert_close(urns({1: "dpmpp_1_sde", 2: "dpmpp_2m_sde"}[steps_of_history], process, times, z), x)


@CONTINUOUS
@pytest.mark.parametrize("steps_of_history", [1, 2])
def test_sde_dpm_solver(process: Any, steps_of_history: int) -> None:
    """(alpha/alpha_s) x - 2 sigma (e^h - 1) [e + (e - e_prev)/(2 r)] + sigma sqrt(e^2h - 1) z."""
    alpha, sigma, lambda_, _ = numbers(process)
    epsilon, times, z = exact(process, "epsilon"), geometric(process, 6), normals(6).numpy()
    x, before, h_before = start(process, times), None, None
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        h, e = lambda_(t) - lambda_(s), epsilon(x, s)
        mixed = e if before is None or steps_of_history == 1 else e + (e - before) * h / (2 * h_before)
        x = alpha(t) / alpha(s) * x - 2 * sigma(t) * math.expm1(h) * mixed
        x = x + sigma(t) * math.sqrt(math.expm1(2 * h)) * z[i]
        before, h_before = e, h
    assert_close(urns({1: "sde_dpm_solver_1", 2: "sde_dpm_solver_2m"}[steps_of_history], process, times, z), x)


# --- k-diffusion, in its sigma --------------------------------------------------------------------------------------

SIGMAS = [4.0, 2.6, 1.5, 0.8, 0.35, 0.1]


def ancestral(cur: float, next: float, eta: float) -> tuple[float, float]:
    """The sigma to step down to and the std of the noise on top."""
    up = min(next, eta * math.sqrt(next**2 * (cur**2 - next**2) / cur**2))
    return math.sqrt(next**2 - up**2), up


def exponential(x: Array, cur: float, next: float, d: Array) -> Array:
    """x moved from cur to next with the estimate d: next/cur x + (1 - next/cur) d."""
    return next / cur * x + (1 - next / cur) * d


@pytest.mark.parametrize("eta", [0.4, 1.0])
@pytest.mark.parametrize("last", [[], [0.0]])
def test_k_diffusions_2s_ancestral(eta: float, last: list[float]) -> None:
    x0, z, sigmas = exact(VE(), "x0"), normals(6).numpy(), [*SIGMAS, *last]
    x = start(VE(), sigmas)
    for i, (cur, next) in enumerate(pairwise(sigmas)):
        d = x0(x, cur)
        down, up = ancestral(cur, next, eta)
        if next == 0:
            x = d
            continue
        middle = math.sqrt(cur * down)
        x = exponential(x, cur, down, x0(exponential(x, cur, middle, d), middle)) + up * z[i]
    assert_close(urns("dpmpp_2s_ancestral", VE(), sigmas, z, predicts="x0", eta=eta), x)


@pytest.mark.parametrize(("eta", "r"), [(0.4, 0.5), (1.0, 0.5), (1.0, 0.7)])
@pytest.mark.parametrize("last", [[], [0.0]])
def test_k_diffusions_dpmpp_sde(eta: float, r: float, last: list[float]) -> None:
    x0, z, sigmas = exact(VE(), "x0"), normals(12).numpy(), [*SIGMAS, *last]
    x = start(VE(), sigmas)
    for i, (cur, next) in enumerate(pairwise(sigmas)):
        d = x0(x, cur)
        if next == 0:
            x = d
            continue
        middle = cur ** (1 - r) * next**r
        down, up = ancestral(cur, middle, eta)
        d_middle = x0(exponential(x, cur, down, d) + up * z[2 * i + 1], middle)
        down, up = ancestral(cur, next, eta)
        x = exponential(x, cur, down, d + (d_middle - d) / (2 * r)) + up * z[2 * i]
    assert_close(urns("dpmpp_sde", VE(), sigmas, z, predicts="x0", eta=eta, r=r), x)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde_published"])
def test_k_diffusions_multistep_sde(name: str, eta: float) -> None:
    """2M (midpoint, heun) and 3M: x e^-k + (1 - e^-k) D + slopes, k = h (1 + eta), + sigma sqrt(1 - e^(-2 eta h)) z."""
    x0, z = exact(VE(), "x0"), normals(5).numpy()
    x, made = start(VE(), SIGMAS), []
    for i, (cur, next) in enumerate(pairwise(SIGMAS)):
        made.append(x0(x, cur))
        h = math.log(cur / next)
        k = h * (1 + eta)
        x = math.exp(-k) * x - math.expm1(-k) * made[i]
        phi_2 = math.expm1(-k) / k + 1
        slopes = [(made[j] - made[j - 1]) * h / math.log(SIGMAS[j - 1] / SIGMAS[j]) for j in range(1, i + 1)]
        if name == "dpmpp_3m_sde_published" and i > 1:
            r_0, r_1 = (math.log(SIGMAS[j - 1] / SIGMAS[j]) / h for j in (i, i - 1))
            bend = (slopes[-1] - slopes[-2]) / (r_0 + r_1)
            x = x + phi_2 * (slopes[-1] + r_0 * bend) - (phi_2 / k - 0.5) * bend
        elif i > 0:
            x = x + (-math.expm1(-k) / 2 if name == "dpmpp_2m_sde" else phi_2) * slopes[-1]
        x = x + next * math.sqrt(-math.expm1(-2 * eta * h)) * z[i]
    assert_close(urns(name, VE(), SIGMAS, z, eta=eta), x)


# --- DEIS -----------------------------------------------------------------------------------------------------------


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


# --- UniPC ----------------------------------------------------------------------------------------------------------


def moments_of_h(h: float, count: int, data: bool) -> list[float]:
    """n! h^n phi_(n+1)(h), n = 1 ... count, of the noise form; n! h^n psi_(n+1)(h) of the data form: sums of series."""
    sign = -1 if data else 1
    return [
        math.factorial(n) * h**n * math.fsum((sign * h) ** j / math.factorial(j + n + 1) for j in range(40))
        for n in range(1, count + 1)
    ]


def unipc_update(
    x: Array, s: float, t: float, base: Array, others: list[tuple[float, Array]], process: Any, data: bool, size: str
) -> Array:
    """Zhao et al. 2023, equations 3 and 9 with appendix A: B(h) sum_m (c_m/r_m) (prediction_m - base), R(h) c B(h) = phi(h).

    R_kl = (r_l h)^(k-1). With one point of the others c is 1/2, without any the sum is empty.
    """
    alpha, sigma, lambda_, _ = numbers(process)
    h = lambda_(t) - lambda_(s)
    if data:
        factor, carried = alpha(t), sigma(t) / sigma(s) * x - alpha(t) * math.expm1(-h) * base
        b = h if size == "bh1" else -math.expm1(-h)
    else:
        factor, carried = -sigma(t), alpha(t) / alpha(s) * x - sigma(t) * math.expm1(h) * base
        b = h if size == "bh1" else math.expm1(h)
    if not others:
        return carried
    r = np.array([place for place, _ in others])
    matrix = np.stack([(r * h) ** k for k in range(len(r))])
    c = np.linalg.solve(matrix, moments_of_h(h, len(r), data)) / b if len(r) > 1 else np.array([0.5])
    return carried + factor * b * sum(
        weight / place * (made - base) for weight, (place, made) in zip(c, others, strict=True)
    )


@pytest.mark.parametrize("process", [VP.linear(), Flow()], ids=repr)
@pytest.mark.parametrize("size", ["bh1", "bh2"])
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize(("order", "correct"), [(1, True), (2, False), (2, True), (3, True)])
def test_unipc_by_its_linear_system(process: Any, size: str, data: bool, order: int, correct: bool) -> None:
    """Algorithms 5 to 8 from a ramped start; the last step has no corrector."""
    lambda_ = numbers(process)[2]
    predict, times = exact(process, "x0" if data else "epsilon"), geometric(process, 7).tolist()
    x, made = start(process, times), [predict(start(process, times), times[0])]
    for i in range(7):
        s, t = times[i], times[i + 1]
        h = lambda_(t) - lambda_(s)
        p = min(order, i + 1)
        others = [((lambda_(times[i - m]) - lambda_(s)) / h, made[i - m]) for m in range(1, p)]
        predicted = unipc_update(x, s, t, made[i], others, process, data, size)
        if i == 6:
            x = predicted
            break
        made.append(predict(predicted, t))
        if correct:
            predicted = unipc_update(x, s, t, made[i], [*others, (1.0, made[i + 1])], process, data, size)
        x = predicted
    name, prediction = "unipc_3" if correct else "unip_2", "x0" if data else "epsilon"
    assert_close(urns(name, process, times, order=order, prediction=prediction, size=size), x, 1e-9)


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("points", [2, 3, 4])
def test_the_linear_system_of_any_order_gives_urns_weights(data: bool, points: int) -> None:
    """R(h) c B(h) = phi(h) solved for UniP of orders three to five, against a regular step's row."""
    process = VP.linear()
    times = geometric(process, 10).tolist()
    plan = compiled("unip_5", process, times, order=points + 1, prediction="x0" if data else "epsilon")
    weights = {register: weight for weight, register in plan.rows[-1].weights if not register.startswith("x")}
    lambda_ = numbers(process)[2]
    h = lambda_(times[-1]) - lambda_(times[-2])
    places = [(lambda_(times[-2 - m]) - lambda_(times[-2])) / h for m in range(1, points + 1)]
    one, zero = np.ones(1), np.zeros(1)

    def coefficient(which: int) -> float:  # 0 the newest, m the m-th older
        others = [(place, one if which == m + 1 else zero) for m, place in enumerate(places)]
        base = one if which == 0 else zero
        return float(unipc_update(zero, times[-2], times[-1], base, others, process, data, "bh2")[0])

    found = list(weights.values())
    assert found == pytest.approx([coefficient(which) for which in range(points + 1)], rel=1e-7)


def test_every_paper_is_cited_by_its_method() -> None:
    assert all(
        method.source and any(year in method.source for year in map(str, range(2000, 2030)))
        for method in urn.METHODS.values()
    )
