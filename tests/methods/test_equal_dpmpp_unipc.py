"""Every "equals" of DPM-Solver++ and UniPC."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods_cases import (
    assert_does_the_same,
    assert_same_rows,
    bent,
    compiled,
    gap,
    order_of,
    run,
)
from methods_equalities import on_every_grid, on_every_process
from torch import Tensor

from urn.coefficients.exponential import (
    EPSILON,
    X0,
    halved_weights,
    integral_weights,
    published_third,
)
from urn.method import combine, evaluate
from urn.methods.unipc import bh1
from urn.nodes import Nodes
from urn.processes import VP, Flow
from urn.schemes.multistep import lifted, multistep


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
