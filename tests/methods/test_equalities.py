"""Every "equals" and "is" of a docstring of methods, schemes, coefficients and processes, as a test of that name."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from methods_cases import (
    GAUSSIAN,
    GRIDS,
    MIXTURE,
    PROCESSES,
    assert_does_the_same,
    assert_same_rows,
    bent,
    compiled,
    exact_states,
    fitted,
    gap,
    law,
    law_order_of,
    order_of,
    rms,
    run,
    start_states,
)
from scipy.integrate import quad
from torch import Tensor

import urn
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
from urn.exact import Gaussian
from urn.exact.affine import moments
from urn.method import apply, combine, evaluate, noise
from urn.methods import ALIASES, METHODS
from urn.methods.dpm_solver import fast_orders
from urn.methods.dpmpp import published_weights
from urn.methods.unipc import bh1
from urn.nodes import Nodes, noise_share
from urn.noise import SeededNoise
from urn.plan import PlanError
from urn.processes import VE, VP, Flow, SubVP, Tabulated, cosine_betas, linear_betas, scaled_linear_betas
from urn.schemes.multistep import lifted, multistep, predictions, step_row

on_every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
on_every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def nodes_of(process: Any, times: Tensor) -> Nodes:
    return Nodes(process, times)


# --- first order: one step under many names -------------------------------------------------------------------------


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_the_same_function(alias: str) -> None:
    assert METHODS[alias] is METHODS[ALIASES[alias]]


@on_every_grid
@on_every_process
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unip", {"order": 1}),
        ("unip", {"order": 1, "prediction": "epsilon", "size": "bh1"}),
        ("deis_3", {"order": 1}),
        ("deis_3_ramped", {"order": 1}),
        ("deis_rho_3", {"order": 1}),
        ("dpmpp_1_sde", {"eta": 0.0}),
        ("sde_dpm_solver_1", {"eta": 0.0}),
    ],
)
def test_first_order_methods_are_ddim(name: str, options: dict[str, Any], process: Any, grid: Any) -> None:
    times = grid(process, 6)
    assert_does_the_same(compiled(name, process, times, **options), compiled("ddim", process, times))


@on_every_process
def test_ddim_is_dpm_solver_1_in_both_predictions(process: Any) -> None:
    def dpm_solver_1(nodes, x):
        for cur, next in nodes.steps():
            epsilon = yield evaluate(x, cur, "epsilon")
            h = next.lambda_ - cur.lambda_
            x = yield combine(next, (next.alpha / cur.alpha, x), (-next.sigma * torch.expm1(h), epsilon))
        return x

    def dpmpp_1(nodes, x):
        for cur, next in nodes.steps():
            x0 = yield evaluate(x, cur, "x0")
            h = next.lambda_ - cur.lambda_
            x = yield combine(next, (next.sigma / cur.sigma, x), (-next.alpha * torch.expm1(-h), x0))
        return x

    times = bent(process, 6)
    for written in (dpm_solver_1, dpmpp_1):
        assert_does_the_same(compiled(written, process, times), compiled("ddim", process, times))


@on_every_process
def test_ddim_is_euler_in_sigma_over_alpha(process: Any) -> None:
    def k_euler(nodes, x):
        for cur, next in nodes.steps():
            x0 = yield evaluate(x, cur, "x0")
            rho, rho_next = cur.sigma / cur.alpha, next.sigma / next.alpha
            # y = x/alpha, d = (y - x0)/rho, y_next = y + (rho_next - rho) d
            share = (rho_next - rho) / rho
            x = yield combine(next, (next.alpha / cur.alpha * (1 + share), x), (-next.alpha * share, x0))
        return x

    times = bent(process, 6)
    assert_does_the_same(compiled(k_euler, process, times), compiled("ddim", process, times))


@on_every_grid
@on_every_process
def test_ddim_with_eta_1_is_ddpm_and_dpmpp_1_sde_and_euler_ancestral(process: Any, grid: Any) -> None:
    times = grid(process, 6)
    ddpm = compiled("ddpm", process, times)
    for plan in (
        compiled("ddim", process, times, eta=1.0),
        compiled("euler_ancestral", process, times),
        compiled("dpmpp_1_sde", process, times, eta=1.0),
        compiled("ddpm_interpolated", process, times, fraction=0.0),
    ):
        assert_does_the_same(plan, ddpm)


def k_diffusion_ancestral(eta: float):
    """k-diffusion's euler_ancestral: down to sigma_down by Euler in sigma, up again by noise; on x/alpha."""

    def method(nodes, x):
        for cur, next in nodes.steps():
            x0, epsilon = yield evaluate(x, cur, "x0", "epsilon")
            z = yield noise(cur, next)
            rho, rho_next = cur.sigma / cur.alpha, next.sigma / next.alpha
            up = eta * torch.sqrt(rho_next**2 * (rho**2 - rho_next**2) / rho**2)
            down = torch.sqrt(rho_next**2 - up**2)
            x = yield combine(next, (next.alpha, x0), (next.alpha * down, epsilon), (next.alpha * up, z))
        return x

    return method


@on_every_process
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_eta_is_k_diffusions_ancestral_step(process: Any, eta: float) -> None:
    times = bent(process, 6)
    plan = compiled(k_diffusion_ancestral(eta), process, times)
    assert_does_the_same(plan, compiled("ddim", process, times, eta=eta))


# --- DDPM -----------------------------------------------------------------------------------------------------------


@on_every_process
def test_ddpm_interpolated_with_fraction_1_is_ddpm_large(process: Any) -> None:
    times = bent(process, 6)
    plan = compiled("ddpm_interpolated", process, times, fraction=1.0)
    assert_same_rows(plan, compiled("ddpm_large", process, times))


@on_every_process
def test_ddpm_large_is_ddims_sigma_hat(process: Any) -> None:
    """DDIM, section 5: the coefficient of epsilon stays that of eta = 1, and the noise has sqrt(1 - alpha_t/alpha_t-1)."""

    def sigma_hat(nodes, x):
        for cur, next in nodes.steps():
            x0, epsilon = yield evaluate(x, cur, "x0", "epsilon")
            z = yield noise(cur, next)
            a = cur.alpha / next.alpha
            variance = cur.sigma**2 - (a * next.sigma) ** 2
            kept = torch.sqrt(next.sigma**2 - next.sigma**2 / cur.sigma**2 * variance)
            x = yield combine(next, (next.alpha, x0), (kept, epsilon), (torch.sqrt(variance), z))
        return x

    times = bent(process, 6)
    assert_does_the_same(compiled(sigma_hat, process, times), compiled("ddpm_large", process, times))


@pytest.mark.parametrize("v", [-1.0, -0.4, 0.0, 1.0])
@pytest.mark.parametrize("process", ["vp", "ve", "flow", "table"])
def test_iddpm_with_a_constant_variance_is_ddpm_interpolated(process: str, v: float) -> None:
    forward = PROCESSES[process]
    times = bent(forward, 6)
    x = start_states(compiled("ddpm", forward, times))

    def net(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return MIXTURE.prediction(x, forward, t, "v"), torch.full_like(x, v)

    learned = urn.Model(net, forward, ("v", "variance"))
    seeds = list(range(len(x)))
    y = urn.execute(compiled("iddpm", forward, times), learned, {"x": x}, SeededNoise(seeds))["x"]
    fixed = compiled("ddpm_interpolated", forward, times, fraction=(v + 1) / 2)
    expected = urn.execute(fixed, MIXTURE.model(forward), {"x": x}, SeededNoise(seeds))["x"]
    assert gap(y, expected) < 1e-12


@pytest.mark.parametrize("process", ["vp", "vp cosine", "table"])
def test_the_large_variance_is_right_for_standard_normal_data(process: str) -> None:
    forward = PROCESSES[process]
    standard = Gaussian([0.0, 0.0], 1.0)
    mean, covariance = moments(compiled("ddpm_large", forward, bent(forward, 4)), standard)
    assert float(mean.abs().max()) < 1e-14
    assert gap(covariance, torch.eye(2, dtype=torch.float64)) < 1e-12
    small = moments(compiled("ddpm", forward, bent(forward, 4)), standard)[1]
    assert float((small - torch.eye(2)).abs().max()) > 0.05


@on_every_process
def test_the_small_variance_is_right_for_a_point(process: Any) -> None:
    point = Gaussian([1.3, -2.1], 0.0)
    times = bent(process, 4)
    alpha, sigma = process.alpha(times[-1]), process.sigma(times[-1])
    mean, covariance = moments(compiled("ddpm", process, times), point)
    assert gap(mean, alpha * point.mean) < 1e-12
    assert gap(covariance, sigma**2 * torch.eye(2, dtype=torch.float64)) < 1e-11
    large = moments(compiled("ddpm_large", process, times), point)[1]
    assert float(large[0, 0] / sigma**2) > 1.2


@pytest.mark.parametrize("name", ["ddim", "ddpm", "ddpm_large", "euler_ancestral", "dpmpp_2m"])
def test_a_sub_grid_of_a_table_is_the_re_spaced_table(name: str) -> None:
    """iDDPM's re-spacing: betas made of the kept alphas_cumprod, on their own full grid."""
    table = PROCESSES["table"]
    kept = [19, 149, 379, 601, 999]
    cumprod = torch.tensor(table.alphas_cumprod, dtype=torch.float64)[kept]
    betas = 1 - cumprod / torch.cat([torch.ones(1, dtype=torch.float64), cumprod[:-1]])
    respaced = VP.from_betas(betas)
    sub = compiled(name, table, [float(t) for t in kept[::-1]] + [-1.0])
    own = compiled(name, respaced, [4.0, 3.0, 2.0, 1.0, 0.0, -1.0])
    x = start_states(sub)
    assert gap(run(own, x), run(sub, x)) < 1e-11


# --- DPM-Solver++, UniPC --------------------------------------------------------------------------------------------


@on_every_grid
@on_every_process
def test_unip_2_is_dpmpp_2m(process: Any, grid: Any) -> None:
    times = grid(process, 7)
    assert_same_rows(compiled("unip_2", process, times), compiled("dpmpp_2m", process, times))


@on_every_grid
@on_every_process
@pytest.mark.parametrize(
    ("name", "same"),
    [("dpmpp_2m_sde", "dpmpp_2m"), ("dpmpp_3m_sde_published", None), ("sde_dpm_solver_2m", "unip_2_epsilon")],
)
def test_an_sde_multistep_method_with_eta_0_is_its_ode_method(process: Any, grid: Any, name: str, same: Any) -> None:
    def three_published_from_exact_two(nodes, x):
        return (yield from multistep(nodes, x, X0, 3, published_third))

    times = grid(process, 7)
    other = compiled(same or three_published_from_exact_two, process, times)
    assert_same_rows(compiled(name, process, times, eta=0.0), other)


@on_every_process
def test_dpmpp_3m_sde_with_eta_0_is_a_ramped_dpmpp_3m(process: Any) -> None:
    def dpmpp_3m_ramped(nodes, x):
        return (yield from multistep(nodes, x, X0, 3, integral_weights))

    times = bent(process, 7)
    ramped = compiled(dpmpp_3m_ramped, process, times)
    assert_same_rows(compiled("dpmpp_3m_sde", process, times, eta=0.0), ramped)
    # from the third step on the rule is that of dpmpp_3m: the same weights in the same rows
    rule, lifted_rule = (plan.rows[-1].weights for plan in (ramped, compiled("dpmpp_3m", process, times)))
    assert [w for w, _ in rule] == pytest.approx([w for w, _ in lifted_rule], rel=1e-12)


def test_dpmpp_3m_sde_with_eta_0_loses_to_dpmpp_3m_only_its_start() -> None:
    orders = [order_of(name, VP.linear(), **options) for name, options in ODE_3M]
    assert orders[0] < 2.4
    assert orders[1] > 2.75


ODE_3M: list[tuple[str, dict[str, Any]]] = [("dpmpp_3m_sde", {"eta": 0.0}), ("dpmpp_3m", {})]


@on_every_process
def test_dpmpp_2m_sde_heun_with_eta_0_is_the_exact_integral_of_the_line(process: Any) -> None:
    def exact_2m(nodes, x):
        return (yield from multistep(nodes, x, X0, 2, integral_weights))

    times = bent(process, 7)
    assert_same_rows(compiled("dpmpp_2m_sde_heun", process, times, eta=0.0), compiled(exact_2m, process, times))


@on_every_grid
@on_every_process
@pytest.mark.parametrize("r", [0.3, 0.5, 0.8])
def test_dpmpp_sde_with_eta_0_is_dpmpp_2s_for_every_r(process: Any, grid: Any, r: float) -> None:
    """Without noise sigma_down is sigma, so its stage is 2S's, and 1 - 1/(2r), 1/(2r) are 2S's weights.

    (It also weighs the noise of the step with 0; such rows are dropped.)
    """
    times = grid(process, 5)
    plan = compiled("dpmpp_sde", process, times, eta=0.0, r=r)
    assert_does_the_same(plan, compiled("dpmpp_2s", process, times, r=r))
    assert not plan.stochastic


@on_every_grid
@on_every_process
def test_dpmpp_2s_ancestral_with_eta_0_is_dpmpp_2s(process: Any, grid: Any) -> None:
    times = grid(process, 5)
    plan = compiled("dpmpp_2s_ancestral", process, times, eta=0.0)
    assert_does_the_same(plan, compiled("dpmpp_2s", process, times))
    assert not plan.stochastic


def test_dpmpp_2m_starts_with_one_ddim_step() -> None:
    times = bent(Flow(), 5)
    first_two = run(compiled("dpmpp_2m", Flow(), times[:2]))
    assert gap(first_two, run(compiled("ddim", Flow(), times[:2]))) < 1e-14
    assert gap(run(compiled("dpmpp_2m", Flow(), times[:3])), run(compiled("ddim", Flow(), times[:3]))) > 1e-3


@on_every_process
@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
def test_unipc_1_is_the_exponential_trapezoidal_rule(process: Any, prediction: str) -> None:
    """Predicted by DDIM, corrected with half of the step's weight on either end, the prediction at the end kept as it is."""
    form = {"x0": X0, "epsilon": EPSILON}[prediction]

    def trapezoidal(nodes, x):
        before = yield evaluate(x, nodes[0], prediction)
        for cur, next in nodes.steps():
            carry, total = form.carry(cur, next), form.total(cur, next)
            predicted = yield combine(next, (carry, x), (total, before))
            if next.index == len(nodes) - 1:
                return predicted
            here = yield evaluate(predicted, next, prediction)
            x = yield combine(next, (carry, x), (total / 2, before), (total / 2, here))
            before = here
        return x

    times = bent(process, 6)
    assert_same_rows(compiled("unipc_1", process, times, prediction=prediction), compiled(trapezoidal, process, times))


@on_every_process
@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
def test_bh1_and_bh2_differ_only_in_steps_with_one_extra_point(process: Any, prediction: str) -> None:
    times = bent(process, 6)
    for name, differing in (("unip_2", {2, 3, 4, 5, 6}), ("unipc", None)):
        options: dict[str, Any] = {"prediction": prediction}
        if name == "unipc":
            options["order"] = 3
        one, two = (compiled(name, process, times, size=size, **options) for size in ("bh1", "bh2"))
        states = [
            [row for row in plan.rows if getattr(row, "node", None) and row.kind == "combine"] for plan in (one, two)
        ]
        changed = {
            (a.node.index, len(a.weights))
            for a, b in zip(*states, strict=True)
            if any(abs(v - w) > 1e-9 for (v, _), (w, _) in zip(a.weights, b.weights, strict=True))
        }
        # a state from two predictions (three weights) differs, one from one or from three and four does not
        assert {weights for _, weights in changed} == {3}
        if differing is not None:
            assert {index for index, _ in changed} == differing
        else:  # UniPC-3: the corrector of the first step, and the predictor of the second
            assert {index for index, _ in changed} == {1, 2}


@on_every_process
@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
def test_with_two_extra_points_unipcs_weights_are_the_interpolating_polynomials(process: Any, prediction: str) -> None:
    form = {"x0": X0, "epsilon": EPSILON}[prediction]
    nodes = Nodes(process, bent(process, 5))
    cur, next, points = nodes[3], nodes[4], [nodes[3], nodes[2], nodes[1]]
    for size in (None, bh1):
        assert halved_weights(form, cur, next, points, size=size) == integral_weights(form, cur, next, points)


@pytest.mark.parametrize("p", [2, 3, 4])
def test_unip_from_a_ramped_start_has_order_at_most_two(p: int) -> None:
    def ramped(nodes, x):
        return (yield from multistep(nodes, x, X0, p, halved_weights))

    assert 1.75 < order_of(ramped, VP.linear(), (48, 96, 192), from_zero) < 2.4


def from_zero(process: Any, steps: int) -> Tensor:
    """Even in lambda, from the middle on, where the error of a start is not forgotten."""
    return process.t_of_lambda(torch.linspace(0.0, 2.5, steps + 1, dtype=torch.float64))


@pytest.mark.parametrize(("p", "expected"), [(1, 2), (2, 3), (3, 3), (4, 3)])
def test_unipc_from_a_ramped_start_has_order_min_p_plus_1_and_three(p: int, expected: int) -> None:
    def ramped(nodes, x):
        return (yield from multistep(nodes, x, X0, p, halved_weights, correct=halved_weights))

    found = order_of(ramped, VP.linear(), (64, 128, 256), from_zero)
    assert expected - 0.25 < found < expected + 0.6


def test_unipc_is_the_published_ramp_up_to_order_3_and_lifted_above() -> None:
    for p in (1, 2, 3, 4):
        start = lifted if p > 3 else None

        def written(nodes, x, p=p, start=start):
            return (yield from multistep(nodes, x, X0, p, halved_weights, correct=halved_weights, start=start))

        times = bent(Flow(), 8)
        assert_same_rows(compiled("unipc", Flow(), times, order=p), compiled(written, Flow(), times))


# --- DEIS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [2, 3, 4])
@on_every_grid
def test_deis_in_t_is_deis_in_rho_on_ve(p: int, grid: Any) -> None:
    times = grid(VE(), 7)
    assert_same_rows(
        compiled("deis_3_ramped", VE(), times, order=p), compiled("deis_rho_3_ramped", VE(), times, order=p)
    )
    lift = compiled("deis_3", VE(), times, order=p), compiled("deis_rho_3", VE(), times, order=p)
    assert_same_rows(*lift, tolerance=1e-11)


def test_deis_in_t_is_not_deis_in_rho_elsewhere() -> None:
    times = bent(VP.linear(), 7)
    plans = compiled("deis_3", VP.linear(), times), compiled("deis_rho_3", VP.linear(), times)
    assert gap(run(plans[0]), run(plans[1])) > 1e-4


@on_every_process
def test_deis_rho_heun_is_heun(process: Any) -> None:
    def rho_heun(nodes, x):  # d(x/alpha)/d rho = epsilon
        for cur, next in nodes.steps():
            step = next.sigma / next.alpha - cur.sigma / cur.alpha
            one = yield evaluate(x, cur, "epsilon")
            y = yield combine(next, (next.alpha / cur.alpha, x), (next.alpha * step, one))
            two = yield evaluate(y, next, "epsilon")
            half = next.alpha * step / 2
            x = yield combine(next, (next.alpha / cur.alpha, x), (half, one), (half, two))
        return x

    times = bent(process, 6)
    assert_same_rows(compiled("heun", process, times), compiled(rho_heun, process, times))


@on_every_process
@pytest.mark.parametrize("p", [2, 3, 4])
def test_adams_is_deis_and_dpmpp_and_unip(process: Any, p: int) -> None:
    times = bent(process, 7)

    def adams(prediction: str, variable: str) -> Any:
        return compiled("adams_3", process, times, order=p, prediction=prediction, variable=variable)

    assert_same_rows(adams("epsilon", "t"), compiled("deis_3", process, times, order=p))
    assert_same_rows(adams("epsilon", "ratio"), compiled("deis_rho_3", process, times, order=p))
    if p > 2:  # there UniP takes its shortcut, and does not start with a block
        assert_same_rows(adams("x0", "lambda"), compiled("unip_3", process, times, order=p))
    if p == 3:
        assert_same_rows(adams("x0", "lambda"), compiled("dpmpp_3m", process, times))


@pytest.mark.parametrize("name", ["adams_3", "adams_pc_3"])
def test_on_a_flow_share_is_t(name: str) -> None:
    plans = [compiled(name, Flow(), bent(Flow(), 7), variable=variable) for variable in ("share", "t")]
    assert_same_rows(*plans)


@on_every_process
def test_adams_with_a_corrector_in_lambda_is_unipc_4(process: Any) -> None:
    times = bent(process, 8)
    pair = compiled("adams_pc_4", process, times, prediction="x0", variable="lambda")
    assert_same_rows(pair, compiled("unipc_4", process, times))


# --- the lifted start -----------------------------------------------------------------------------------------------


@on_every_process
@pytest.mark.parametrize("form", [X0, EPSILON], ids=["x0", "epsilon"])
def test_the_lifted_start_of_order_3_is_correctors_on_the_first_steps_and_then_the_ramp(
    process: Any, form: Form
) -> None:
    """Its block is integrated from the first node, which is the same as correcting every step of it in turn."""
    share = partial(integral_weights, variable=by_share)

    def by_lift(nodes, x):
        return (yield from multistep(nodes, x, form, 3, integral_weights, start=lifted))

    def by_correctors(nodes, x):
        a, b, c = nodes[0], nodes[1], nodes[2]
        p_a = yield from predictions(a, x)
        first = yield step_row(form, share, a, b, x, [p_a])
        p_b = yield from predictions(b, first)
        corrected = yield step_row(form, share, a, b, x, [p_b, p_a])
        second = yield step_row(form, share, b, c, corrected, [p_b, p_a])
        p_c = yield from predictions(c, second)
        corrected = yield step_row(form, share, a, b, x, [p_c, p_b, p_a])
        x = yield step_row(form, share, b, c, corrected, [p_c, p_b, p_a])
        history = [p_c, p_b, p_a]
        for cur, next in list(nodes.steps())[2:]:
            x = yield step_row(form, integral_weights, cur, next, x, history[:3])
            if next.index < len(nodes) - 1:
                history.insert(0, (yield from predictions(next, x)))
        return x

    times = bent(process, 6)
    assert_does_the_same(compiled(by_lift, process, times), compiled(by_correctors, process, times), 1e-11)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 6])
def test_a_lifted_start_costs_nothing_up_to_order_3_and_then_the_stated_evaluations(p: int) -> None:
    plan = compiled("deis_rho_3", VP.linear(), bent(VP.linear(), 9), order=p)
    assert plan.nfe == 9 + (0 if p <= 3 else (p - 2) * (p - 3) // 2)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ALIASES])
def test_evaluations_per_step_are_as_declared(name: str) -> None:
    method, process = METHODS[name], VP.linear()
    if not isinstance(method.nfe, int):
        return
    steps = 9
    p = 1 if "ramped" in name else {**method.defaults, **method.fixed}.get("order", 1)
    again = (p - 2) * (p - 3) // 2 if p > 3 else 0  # what a lifted start evaluates again
    assert compiled(name, process, bent(process, steps)).nfe == method.nfe * steps + again


# --- Score-SDE, EDM -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [VE(), Flow()], ids=repr)
@on_every_grid
def test_probability_flow_is_ddim_on_ve_and_on_the_straight_flow(process: Any, grid: Any) -> None:
    times = grid(process, 6)
    assert_does_the_same(compiled("probability_flow", process, times), compiled("ddim", process, times))


def test_probability_flow_is_not_ddim_on_a_shifted_flow() -> None:
    """There dx/dt = s'(t) (epsilon - x0), and a step of Euler's moves s by dt s'(t), not to s(t + dt)."""
    process = Flow(shift=3.0)
    times = bent(process, 6)
    assert gap(run(compiled("probability_flow", process, times)), run(compiled("ddim", process, times))) > 1e-2


@on_every_grid
def test_probability_flow_heun_is_heun_on_ve(grid: Any) -> None:
    times = grid(VE(), 6)
    assert_does_the_same(compiled("probability_flow_heun", VE(), times), compiled("heun", VE(), times))


def test_probability_flow_rk4_is_deis_rho_rk4_on_ve() -> None:
    times = bent(VE(), 6)
    assert_does_the_same(compiled("probability_flow_rk4", VE(), times), compiled("deis_rho_rk4", VE(), times))


@on_every_grid
@on_every_process
def test_edm_without_churn_is_heun(process: Any, grid: Any) -> None:
    times = grid(process, 6)
    assert_same_rows(compiled("edm", process, times, s_churn=0.0), compiled("heun", process, times))
    # nor where the churned range holds no node
    assert_same_rows(compiled("edm", process, times, s_min=90.0, s_max=91.0), compiled("heun", process, times))


def test_edm_does_not_churn_beyond_the_noisiest_time() -> None:
    process = VP.linear()
    plan = compiled("edm", process, bent(process, 4, start=float(process.lambda_(1.0))), s_max=1e9)
    assert max(row.t for row in plan.rows if row.kind == "evaluate") <= 1.0


@pytest.mark.parametrize("process", ["vp", "vp cosine", "table"])
def test_ddpm_large_is_songs_ancestral_sampling_on_vp(process: str) -> None:
    def ancestral(nodes, x):
        for cur, next in nodes.steps():
            beta = 1 - (cur.alpha / next.alpha) ** 2
            score = yield evaluate(x, cur, "score")
            z = yield noise(cur, next)
            kept = torch.sqrt(1 - beta)
            x = yield combine(next, (1 / kept, x), (beta / kept, score), (torch.sqrt(beta), z))
        return x

    times = bent(PROCESSES[process], 6)
    assert_does_the_same(
        compiled("ddpm_large", PROCESSES[process], times), compiled(ancestral, PROCESSES[process], times)
    )


def test_ddpm_is_songs_ancestral_sampling_on_ve() -> None:
    def ancestral(nodes, x):
        for cur, next in nodes.steps():
            score = yield evaluate(x, cur, "score")
            z = yield noise(cur, next)
            b = cur.sigma**2 - next.sigma**2
            x = yield combine(next, (1.0, x), (b, score), (torch.sqrt(next.sigma**2 * b / cur.sigma**2), z))
        return x

    times = bent(VE(), 6)
    assert_does_the_same(compiled("ddpm", VE(), times), compiled(ancestral, VE(), times))


@pytest.mark.parametrize("process", ["vp", "vp cosine", "table"])
def test_on_vp_reverse_diffusion_is_in_beta(process: str) -> None:
    def by_beta(nodes, x):
        for cur, next in nodes.steps():
            beta = 1 - (cur.alpha / next.alpha) ** 2
            score = yield evaluate(x, cur, "score")
            z = yield noise(cur, next)
            x = yield combine(next, (2 - torch.sqrt(1 - beta), x), (beta, score), (torch.sqrt(beta), z))
        return x

    times = bent(PROCESSES[process], 6)
    plan = compiled("reverse_diffusion", PROCESSES[process], times)
    assert_does_the_same(plan, compiled(by_beta, PROCESSES[process], times))


@pytest.mark.parametrize("process", ["vp", "vp cosine", "ve", "flow", "table"])
def test_reverse_diffusion_is_euler_maruyama_to_first_order(process: str) -> None:
    """In one step of length d their means differ by O(d^2) and their noises by O(d^1.5)."""
    forward = PROCESSES[process]
    start = float(bent(forward, 2)[1])
    if process == "table":
        start = math.floor(start) + 0.95  # a table's clock has kinks at the integers: stay between two
    unit = start / 40 if process != "table" else 0.9
    gaps = []
    for shrink in (1, 2, 4):
        times = torch.tensor([start, start - unit / shrink], dtype=torch.float64)
        one, other = (law(compiled(name, forward, times)) for name in ("reverse_diffusion", "euler_maruyama"))
        gaps.append([float((a - b).norm()) for a, b in zip(one, other, strict=True)])
    for part, exponent in zip(range(3), (2, 2, 1.5), strict=True):
        rates = [math.log2(gaps[i][part] / gaps[i + 1][part]) for i in range(2)] if gaps[0][part] > 1e-13 else []
        assert all(rate > exponent - 0.1 for rate in rates), (part, rates)


# --- the same on another process ------------------------------------------------------------------------------------

# fmt: off
IN_LAMBDA = [
    "ddim", "euler_ancestral", "ddpm", "heun", "edm", "annealed_langevin", "dpm_solver_2", "dpm_solver_3",
    "dpm_solver_fast", "dpmpp_2s", "dpmpp_3s", "dpmpp_2m", "dpmpp_3m", "dpmpp_3m_published", "dpmpp_1_sde",
    "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "dpmpp_3m_sde_published", "dpmpp_sde", "dpmpp_2s_ancestral",
    "sde_dpm_solver_1", "sde_dpm_solver_2m", "deis_rho_2", "deis_rho_4", "deis_rho_4_ramped", "deis_rho_kutta_3",
    "deis_rho_rk4", "unip_3", "unipc_1", "unipc_3", "unipc_5", "unipc_3_bh1", "unipc_3_epsilon",
]
# fmt: on


@pytest.mark.parametrize("name", IN_LAMBDA)
@pytest.mark.parametrize("process", ["vp", "flow shifted", "table"])
def test_methods_in_lambda_do_the_same_on_a_process_and_on_its_ve_image(name: str, process: str) -> None:
    """(x/alpha, sigma/alpha) of any process is VE, and such methods see lambda and ratios of alphas and sigmas alone."""
    forward = PROCESSES[process]
    times = bent(forward, 6)
    image = torch.exp(-forward.lambda_(times))
    options = {"repeats": 2} if name == "annealed_langevin" else {}
    plan, on_ve = compiled(name, forward, times, **options), compiled(name, VE(), image, **options)
    x = start_states(plan)
    y, y_ve = run(plan, x), run(on_ve, x / forward.alpha(times[0]))
    assert gap(y / forward.alpha(times[-1]), y_ve) < 1e-9


@pytest.mark.parametrize(
    "name", ["deis_3", "probability_flow_heun", "reverse_diffusion", "predictor_corrector", "ddpm_large"]
)
def test_methods_in_the_clock_or_with_the_forward_variance_do_not(name: str) -> None:
    """DDPM's large variance is that of the forward step, and a step of VP is not one of VE: beta is not their difference."""
    process = VP.linear()
    times = bent(process, 6)
    image = torch.exp(-process.lambda_(times))
    plan, on_ve = compiled(name, process, times), compiled(name, VE(), image)
    x = start_states(plan)
    y, y_ve = run(plan, x), run(on_ve, x / process.alpha(times[0]))
    assert gap(y / process.alpha(times[-1]), y_ve) > 1e-5


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m", "dpmpp_3m", "unipc_3", "probability_flow_heun"])
def test_an_even_grid_on_a_shifted_flow_is_the_shifted_grid_on_the_straight_one(name: str) -> None:
    times = torch.linspace(0.97, 0.05, 9, dtype=torch.float64)
    shifted = compiled(name, Flow(shift=3.0), times)
    straight = compiled(name, Flow(), 3 * times / (1 + 2 * times))
    x = start_states(shifted)
    difference = gap(run(shifted, x), run(straight, x))
    # in lambda they are one; the ODE in t is another one
    assert difference > 1e-4 if name.startswith("probability_flow") else difference < 1e-12
    uniform = urn.grids.uniform(Flow(), 8)
    assert gap(3 * uniform / (1 + 2 * uniform), urn.grids.shifted(3.0)(Flow(), 8)) < 1e-15


# --- grids in reverse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "least", "most"), [("ddim", 1, 1.3), ("heun", 2, 3.4), ("dpmpp_2m", 2, 3.4)])
@pytest.mark.parametrize("process", ["vp", "flow", "ve"])
def test_a_method_on_the_reversed_grid_inverts_it(name: str, least: int, most: float, process: str) -> None:
    """Encode and decode again. A method's leading error is odd in its steps where its order is even, and then cancels."""
    forward = PROCESSES[process]
    errors, counts = [], (24, 48, 96)
    for steps in counts:
        times = bent(forward, steps, end=2.0)
        x = start_states(compiled(name, forward, times.flip(0)))
        noisy = run(compiled(name, forward, times.flip(0)), x)
        errors.append(rms(run(compiled(name, forward, times), noisy) - x))
    assert least - 0.25 < fitted(errors, counts) < most


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m", "unipc_3", "deis_rho_3"])
def test_the_reversed_grid_leads_to_the_exact_noise(name: str) -> None:
    process, errors, counts = VP.linear(), [], (24, 48, 96)
    ends = bent(process, 1, end=2.0).flip(0)
    x, noise_end = exact_states(process, float(ends[0]), float(ends[-1]))
    for steps in counts:
        times = bent(process, steps, end=2.0).flip(0)
        errors.append(rms(run(compiled(name, process, times), x) - noise_end))
    assert fitted(errors, counts) > METHODS[name].order - 0.3


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].stochastic and name not in ALIASES])
def test_a_stochastic_method_refuses_the_reversed_grid(name: str) -> None:
    with pytest.raises(ValueError, match="needs decreasing times"):
        compiled(name, VP.linear(), bent(VP.linear(), 4).flip(0))


# --- coefficients ---------------------------------------------------------------------------------------------------

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


# --- processes ------------------------------------------------------------------------------------------------------


def test_sub_vp_has_vps_alpha_and_one_minus_its_square() -> None:
    t = torch.linspace(0, 1, 23, dtype=torch.float64)
    vp, sub = VP.linear(), SubVP()
    assert torch.equal(sub.alpha(t), vp.alpha(t))
    assert gap(sub.sigma(t), 1 - vp.alpha(t) ** 2) < 1e-14


def test_scaled_linear_is_stable_diffusions_table_in_continuous_time() -> None:
    table, process = VP.from_betas(scaled_linear_betas(1000)), VP.scaled_linear()
    t = torch.arange(1000, dtype=torch.float64)
    # B(t) is the integral of what the table sums, and -log(1 - beta) is beta + beta^2/2: both are O(1/1000) of it
    assert float((table.lambda_(t) - process.lambda_((t + 1) / 1000)).abs().max()) < 0.05


def test_the_linear_process_is_ddpms_table_in_continuous_time() -> None:
    table, process = VP.from_betas(linear_betas(1000)), VP.linear()
    t = torch.arange(1000, dtype=torch.float64)
    assert float((table.lambda_(t) - process.lambda_((t + 1) / 1000)).abs().max()) < 0.06


def test_the_cosine_tables_alphas_are_the_cosine_processs_up_to_the_clip() -> None:
    table, process = VP.from_betas(cosine_betas(1000)), VP.cosine()
    t = torch.arange(999, dtype=torch.float64)
    assert gap(table.alpha(t), process.alpha((t + 1) / 1000)) < 1e-12
    assert float(process.alpha(1.0)) == 0.0
    assert float(table.alpha(999.0)) > 0.0


def test_a_tables_lambda_is_linear_between_integers() -> None:
    table = Tabulated.from_betas(scaled_linear_betas(100))
    ends = table.lambda_(torch.tensor([41.0, 42.0], dtype=torch.float64))
    assert float(table.lambda_(41.3)) == pytest.approx(float(ends[0] + 0.3 * (ends[1] - ends[0])), rel=1e-13)


def test_the_velocity_of_the_straight_flow_is_epsilon_minus_x0() -> None:
    assert [w.tolist() for w in Flow().velocity_weights(torch.tensor([0.1, 0.8], dtype=torch.float64))] == [
        [-1.0, -1.0],
        [1.0, 1.0],
    ]


# --- what has no plan, or another -----------------------------------------------------------------------------------


def test_annealed_langevin_needs_an_inside() -> None:
    for times in ([1.0, 0.5], [0.5, 0.0]):
        with pytest.raises(PlanError, match="at every node"):
            compiled("annealed_langevin", Flow(), times)


def test_annealed_langevins_default_is_the_papers_step() -> None:
    assert METHODS["annealed_langevin"].defaults == {"step_ratio": pytest.approx(2e-5 / 0.01**2), "repeats": 100}


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "dpmpp_2s_ancestral"])
def test_the_law_of_second_order_sde_methods_is_of_order_two_from_another_grid(name: str) -> None:
    def even(process: Any, steps: int) -> Tensor:
        return process.t_of_lambda(torch.linspace(-1.0, 1.5, steps + 1, dtype=torch.float64))

    assert law_order_of(name, Flow(), (24, 48, 96), even) > 1.75


def test_a_stage_with_noise_of_its_own_leaves_dpmpp_sde_at_order_one() -> None:
    assert law_order_of("dpmpp_sde", VP.linear(), (24, 48, 96)) == pytest.approx(1, abs=0.2)


def test_apply_rows_keep_their_law_out_of_moments() -> None:
    """predictor_corrector and iddpm have nonlinear rows, so no exact moments: they say so."""

    def written(nodes, x):
        cur, next = nodes[0], nodes[1]
        x0 = yield evaluate(x, cur, "x0")
        x0 = yield apply("clip", x0)
        return (yield combine(next, (next.alpha, x0)))

    with pytest.raises(PlanError, match="clip is not linear"):
        moments(compiled(written, Flow(), [0.5, 0.2]), GAUSSIAN)
