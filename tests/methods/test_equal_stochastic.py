"""Every "equals" of SA-Solver, ER-SDE, SEEDS, SiT, Flow-GRPO, CPS, Restart and mixed plans."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from methods_cases import assert_does_the_same, assert_same_rows, bent, compiled, law_order_of, order_of
from methods_equalities import on_every_process

import urn
from urn.coefficients.exponential import X0, Form, by_ratio, integral_weights
from urn.methods.er_sde import SCALES
from urn.nodes import Nodes
from urn.processes import VE, VP, Flow
from urn.schemes.multistep import multistep


@on_every_process
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_sa_solver_without_noise_is_adams_in_lambda(process: Any, order: int) -> None:
    times = bent(process, 8)
    adams = {"order": order, "prediction": "x0", "variable": "lambda"}
    assert_same_rows(
        compiled("sa_solver", process, times, order=order, tau=0.0), compiled("adams_pc_3", process, times, **adams)
    )
    alone = compiled("sa_solver", process, times, order=order, corrector=0, tau=0.0)
    assert_same_rows(alone, compiled("adams_3", process, times, **adams))
    if order == 3:
        assert_same_rows(alone, compiled("dpmpp_3m", process, times))


@on_every_process
@pytest.mark.parametrize(("order", "name"), [(1, "dpmpp_1_sde"), (2, "dpmpp_2m_sde_heun"), (3, "dpmpp_3m_sde")])
@pytest.mark.parametrize("eta", [1.0, 0.49])
def test_sa_solver_of_constant_tau_is_the_sde_form(process: Any, order: int, name: str, eta: float) -> None:
    times = bent(process, 7)
    one = compiled("sa_solver", process, times, order=order, corrector=0, tau=eta**0.5)
    assert_same_rows(one, compiled(name, process, times, eta=eta))


@on_every_process
@pytest.mark.parametrize("name", ["sa_solver", "sa_solver_pece"])
def test_a_function_that_is_constant_is_the_number(process: Any, name: str) -> None:
    times = bent(process, 7)
    one, other = (compiled(name, process, times, tau=tau) for tau in (0.8, lambda l: 0.8))
    assert_same_rows(one, other)
    whole = compiled(name, process, times, tau=(0.8, 0.0, float("inf")))
    assert_same_rows(one, whole)


def test_the_corrector_shares_the_predictors_noise() -> None:
    plan = compiled("sa_solver", Flow(), bent(Flow(), 5))
    drawn = [row.out for row in plan.rows if row.kind == "noise"]
    assert len(drawn) == 5
    reads = {z: sum(z in row.reads for row in plan.rows) for z in drawn}
    assert [reads[z] for z in drawn] == [2, 2, 2, 2, 1]
    assert (plan.nfe, compiled("sa_solver_pece", Flow(), bent(Flow(), 5)).nfe) == (5, 9)


@pytest.mark.parametrize(("corrector", "order"), [(0, 3), (1, 1), (2, 2), (4, 3)])
def test_the_orders_of_correctors_without_noise(corrector: int, order: int) -> None:
    method = urn.METHODS["sa_solver"].with_options(order=3, corrector=corrector, tau=0)
    assert (method.order, method.stochastic) == (order, False)
    assert order_of(method, VP.linear()) > order - 0.25


def test_the_published_predictor_at_other_orders_is_exact() -> None:
    times = bent(Flow(), 6)
    published = compiled("sa_solver_published", Flow(), times, order=1, corrector=1)
    assert_same_rows(published, compiled("sa_solver", Flow(), times, order=1, corrector=1))


@on_every_process
def test_er_sde_of_order_one(process: Any) -> None:
    times = bent(process, 6)
    assert_does_the_same(compiled("er_sde_1", process, times, phi="ode"), compiled("ddim", process, times))
    assert_same_rows(compiled("er_sde_1", process, times, phi="sde"), compiled("dpmpp_1_sde", process, times))
    assert_does_the_same(compiled("er_sde_1", process, times, phi="sde"), compiled("ddpm", process, times), 1e-11)


@on_every_process
@pytest.mark.parametrize("order", [2, 3])
def test_er_sde_without_noise_is_a_multistep_rule_in_the_ratio(process: Any, order: int) -> None:
    def written(nodes, x):
        return (yield from multistep(nodes, x, X0, order, partial(integral_weights, variable=by_ratio)))

    times = bent(process, 7)
    assert_same_rows(compiled(f"er_sde_{order}", process, times, phi="ode"), compiled(written, process, times))


def test_a_noise_scale_is_a_tau() -> None:
    times = bent(VE(), 6)
    for name in ("er_sde_1", "er_sde_4", "er_sde_5"):
        scale = SCALES[name]
        assert not isinstance(scale, Form)
        tau = {"tau": lambda l, scale=scale: scale(l) ** 0.5, "order": 1, "corrector": 0}
        assert_same_rows(compiled("er_sde_1", VE(), times, phi=name), compiled("sa_solver", VE(), times, **tau), 1e-11)


@on_every_process
@pytest.mark.parametrize(
    ("name", "prediction", "same"),
    [
        ("seeds_2", "x0", "dpmpp_2s"),
        ("seeds_3", "x0", "dpmpp_3s"),
        ("seeds_2", "epsilon", "dpm_solver_2"),
        ("seeds_3", "epsilon", "dpm_solver_3"),
    ],
)
def test_seeds_without_noise_are_the_singlestep_solvers(process: Any, name: str, prediction: str, same: str) -> None:
    times = bent(process, 5)
    assert_same_rows(compiled(name, process, times, eta=0.0, prediction=prediction), compiled(same, process, times))


@on_every_process
def test_sit_with_the_reverse_sdes_diffusion_is_euler_maruyama(process: Any) -> None:
    times = bent(process, 6)
    assert_does_the_same(compiled("sit_sde", process, times, w="kl"), compiled("euler_maruyama", process, times), 1e-11)
    assert_same_rows(compiled("sit_sde", process, times, scale=0.0), compiled("probability_flow", process, times))


@on_every_process
def test_flow_grpo_is_sits_sde_with_half_eta_squared_of_the_reverse_sdes(process: Any) -> None:
    times = bent(process, 6)

    def w(t: torch.Tensor) -> torch.Tensor:
        node = Nodes(process, times).at(t)
        d_alpha, d_sigma = process.velocity_weights(t)
        return 0.7**2 * node.sigma * (d_sigma - node.sigma * d_alpha / node.alpha)

    assert_does_the_same(compiled("flow_grpo", process, times), compiled("sit_sde", process, times, w=w), 1e-11)


@on_every_process
def test_cps_without_noise_is_ddim_and_with_all_of_it_draws_afresh(process: Any) -> None:
    times = bent(process, 6)
    for name in ("cps", "cps_vanishing"):
        assert_same_rows(compiled(name, process, times, eta=0.0), compiled("ddim", process, times))
    plan = compiled("cps", process, times, eta=1.0)
    for row in plan.rows:
        if row.kind == "combine":
            assert [register[0] for register in row.reads] == ["d", "z"]


@on_every_process
@pytest.mark.parametrize("inner", ["heun", "dpmpp_2m", "adams_pc_3"])
def test_restart_without_intervals_is_the_inner_method(process: Any, inner: str) -> None:
    times = bent(process, 6)
    assert_same_rows(compiled("restart", process, times, inner=inner, intervals=()), compiled(inner, process, times))


# --- mixed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ddim", "dpmpp_3m", "euler_ancestral", "sa_solver", "dpm_solver_fast", "predictor_corrector"]
)
def test_a_mixture_of_one_is_the_method(name: str) -> None:
    times = bent(Flow(), 6)
    assert_same_rows(compiled(urn.mixed(name), Flow(), times), compiled(name, Flow(), times))


def test_parts_of_a_one_step_method_are_the_method() -> None:
    times = bent(VP.linear(), 7)
    for name in ("heun", "ddpm", "dpmpp_2s", "flow_grpo"):
        parts = urn.mixed((name, 2), (name, 0), (name, 4), name)
        assert_same_rows(compiled(parts, VP.linear(), times), compiled(name, VP.linear(), times))


def test_a_window_of_noise() -> None:
    """MixGRPO: SDE in steps 2, 3, 4 of 8, ODE in the others; and a solver switched midway after it."""
    times = bent(Flow(), 8)
    plan = compiled(urn.mixed(("ddim", 2), ("flow_grpo", 3), "dpmpp_2m"), Flow(), times)
    assert [row.step for row in plan.rows if row.kind == "noise"] == [2, 3, 4]
    assert (plan.nfe, plan.stochastic, plan.order) == (8, True, 1)
    ddim, grpo, two_m = (compiled(name, Flow(), times) for name in ("ddim", "flow_grpo", "dpmpp_2m"))
    of_step = lambda plan, step: [row for row in plan.rows if row.step == step and row.kind == "combine"]  # noqa: E731
    for step, other in ((0, ddim), (1, ddim), (2, grpo), (4, grpo)):
        assert of_step(plan, step)[0].weights[0][0] == of_step(other, step)[0].weights[0][0]
    assert len(of_step(plan, 5)[0].weights) == 2  # a multistep method starts anew
    assert of_step(plan, 7)[0].weights == tuple(
        (w, r) for (w, _), (_, r) in zip(of_step(two_m, 7)[0].weights, of_step(plan, 7)[0].weights, strict=True)
    )


def test_the_law_of_a_mixture_is_of_the_lowest_order() -> None:
    half = urn.METHODS["dpmpp_2m_sde"].with_options(eta=0.5)

    def method(nodes, x):
        third = (len(nodes) - 1) // 3
        parts = urn.mixed(("dpmpp_2m", third), (half, third), "dpmpp_3m")
        return (yield from parts(nodes, x))

    assert urn.mixed(("dpmpp_2m", 1), (half, 1), "dpmpp_3m").order == 2
    assert law_order_of(method, VP.linear(), (24, 48, 96)) > 1.75


def test_options_that_vary() -> None:
    etas = (0.9, 0.5, 0.0, 0.2)
    times = bent(Flow(), 4)
    plan = compiled(urn.varied("ddim", eta=etas), Flow(), times)
    for step, eta in enumerate(etas):
        rows = [row for row in plan.rows if row.step == step and row.kind == "combine"]
        same = [
            row for row in compiled("ddim", Flow(), times, eta=eta).rows if row.step == step and row.kind == "combine"
        ]
        assert [w for w, _ in rows[0].weights] == [w for w, _ in same[0].weights]


@pytest.mark.parametrize("total", [0.5, 2.0])
def test_schedules_of_equal_noise_keep_as_much_of_the_start(total: float) -> None:
    """Data of one point: the end's noise holds sigma e^-total of the start's, however the fresh noise is spread."""
    from urn.exact import Gaussian
    from urn.exact.affine import output_law

    times, point, first = bent(Flow(), 9), Gaussian([1.3, -2.1], 0.0), []
    for shape in ("constant", "decaying", "late"):
        etas = urn.noise_shares(shape, 9, total)
        assert etas[-1] == 0.0
        plan = compiled(urn.varied("cps", eta=etas), Flow(), times)
        from_start = output_law(plan, point).parts["x"]
        assert float(from_start.abs().max()) == pytest.approx(float(Flow().sigma(times[-1])) * math.exp(-total))
        first.append(etas[0])
    assert first[1] > first[0] > first[2]


def test_bad_mixtures_are_refused() -> None:
    times = bent(Flow(), 4)
    with pytest.raises(ValueError, match="at least one method"):
        urn.mixed()
    with pytest.raises(ValueError, match="only the last"):
        urn.mixed("ddim", "heun")
    with pytest.raises(ValueError, match="steps=-1"):
        urn.mixed(("ddim", -1), "heun")
    with pytest.raises(ValueError, match="unknown"):
        urn.mixed("dddim")
    with pytest.raises(ValueError, match="must take the grid's 4 steps, not 5"):
        compiled(urn.mixed(("ddim", 5), "heun"), Flow(), times)
    with pytest.raises(ValueError, match="must take the grid's 4 steps, not 3"):
        compiled(urn.mixed(("ddim", 3)), Flow(), times)
    with pytest.raises(ValueError, match="each must have one per step"):
        urn.varied("edm", s_churn=[1.0], s_min=[0.1, 0.2])
    for bad in ({"shape": "early"}, {"steps": 1}, {"total": -1.0}):
        with pytest.raises(ValueError, match=rf"{next(iter(bad))}="):
            urn.noise_shares(**{"shape": "late", "steps": 4, "total": 1.0, **bad})
