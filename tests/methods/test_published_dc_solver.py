"""Dynamic compensation, improved integration approximation and tuned labels against their formulas, and what they equal."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from methods_cases import assert_does_the_same, assert_same_rows, bent, compiled, geometric, order_of
from methods_equalities import on_every_process
from methods_published import CONTINUOUS, Array, assert_close, exact, numbers, start, urns
from test_published_unipc import unipc_update

import urn
from urn.compiler import compile_plan
from urn.methods.adams import adams_pc
from urn.plan import Evaluate
from urn.processes import VP
from urn.schemes.relabelled import relabelled

RATIOS = (1.0, 0.8, 1.15, 0.9, 1.3, 1.0, 0.7)
TABLE = (
    (1.02, 0.0, 0.0),
    (0.97, 0.4, 0.0),
    (1.0, 0.7, -0.2),
    (1.05, 0.3, 0.1),
    (0.9, 0.5, 0.25),
    (1.1, -0.3, 0.2),
    (0.95, 0.6, 0.1),
)


@on_every_process
def test_ratios_of_one_are_unipc_dpmpp_and_adams(process: Any) -> None:
    times = bent(process, 6)
    ones = (1.0,) * 6
    for order in (1, 2, 3):
        for given in ({}, {"ratios": ones}):
            for prediction in ("x0", "epsilon"):
                for name, same in (("dc_unipc", "unipc"), ("dc_adams_pc", adams_pc)):
                    options = {"order": order, "prediction": prediction}
                    assert_same_rows(
                        compiled(name, process, times, **options, **given),
                        compiled(same, process, times, **options),
                    )
    assert_same_rows(compiled("dc_dpmpp", process, times, ratios=ones), compiled("dpmpp_2m", process, times))
    assert_same_rows(compiled("dc_dpmpp", process, times, order=3), compiled("dpmpp_3m_published", process, times))


def compensated(made: list[Array], times: list[float], i: int) -> Array:
    """The newest entry of the buffer, read off the polynomial in t through the last three at t'."""
    if i == 0:
        return made[0]
    t = RATIOS[i] * times[i] + (1 - RATIOS[i]) * times[i - 1]
    places = range(max(0, i - 2), i + 1)
    return sum(made[j] * np.prod([(t - times[k]) / (times[j] - times[k]) for k in places if k != j]) for j in places)


@CONTINUOUS
@pytest.mark.parametrize("corrected", [True, False])
def test_dynamic_compensation_by_its_formula(process: Any, corrected: bool) -> None:
    """The replaced entry is used by the predictor, by the corrector at the step's end, and by all later steps."""
    lambda_, predict, times = numbers(process)[2], exact(process, "x0"), geometric(process, 7).tolist()
    x, made = start(process, times), [predict(start(process, times), times[0])]
    for i in range(7):
        s, t = times[i], times[i + 1]
        made[i] = compensated(made, times, i)
        h = lambda_(t) - lambda_(s)
        others = [((lambda_(times[i - m]) - lambda_(s)) / h, made[i - m]) for m in range(1, min(2, i + 1))]
        predicted = unipc_update(x, s, t, made[i], others, process, True, "bh2")
        if i == 6:
            x = predicted
            break
        made.append(predict(predicted, t))
        x = (
            unipc_update(x, s, t, made[i], [*others, (1.0, made[i + 1])], process, True, "bh2")
            if corrected
            else predicted
        )
    name = "dc_unipc" if corrected else "dc_dpmpp"
    assert_close(urns(name, process, times, order=2, ratios=RATIOS), x, 1e-9)


@CONTINUOUS
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("name", ["dc_adams_pc", "dc_unipc", "dc_dpmpp"])
def test_the_last_step_s_ratio_moves_its_newest_prediction_alone(process: Any, name: str, order: int) -> None:
    """So the sample moves by that prediction's weight times its change, which is the polynomial's of the newest three."""
    times, seen = bent(process, 4), []
    plain, moved = (compiled(name, process, times, order=order, ratios=(1.0, 1.0, 1.0, r)) for r in (1.0, 0.8))

    def watch(row: Any, registers: Any) -> None:
        if isinstance(row, Evaluate):
            seen.append((float(row.node.t), registers[{kind: out for out, kind in row.outs}["x0"]], row))

    model = urn.conformance.targets.MIXTURE.model(process, "v")
    x = torch.from_numpy(start(process, times))
    before = urn.execute(plain, model, {"x": x}, watch=watch)["x"]
    (t0, d0, _), (t1, d1, _), (t2, d2, last) = seen[-3:]
    name_of = {kind: out for out, kind in last.outs}["x0"]
    (weight,) = (weight for weight, register in plain.rows[-1].weights if register == name_of)
    t = 0.8 * t2 + 0.2 * t1
    change = (
        d0 * ((t - t1) * (t - t2) / ((t0 - t1) * (t0 - t2)))
        + d1 * ((t - t0) * (t - t2) / ((t1 - t0) * (t1 - t2)))
        + d2 * ((t - t0) * (t - t1) / ((t2 - t0) * (t2 - t1)) - 1)
    )
    found = urn.execute(moved, model, {"x": x})["x"] - before
    assert float(found.abs().max()) > 1e-5
    torch.testing.assert_close(found, float(weight) * change, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "order", "ratios", "which"),
    [
        ("dc_unipc", 3, (0.9, 1.0, 1.0, 1.0), "the first of them 1"),
        ("dc_dpmpp", 2, (1.0, 0.9, 1.0), "4 finite numbers.* the first of them 1"),
        ("dc_unipc", 2, (1.0, 0.9, float("nan"), 1.0), "4 finite numbers"),
        ("dc_unipc", 2, 1.0, "4 finite numbers"),
        ("dc_adams_pc", 3, (1.0, 0.9, 1.0, 1.0), "the first 2 of them 1"),
        ("dc_adams_pc", 2, (0.9, 1.0, 1.0, 1.0), "the first of them 1"),
        ("dc_adams_pc", 1, (0.9, 1.0, 1.0, 1.0), "the first of them 1"),
    ],
)
def test_ratios_where_there_is_nothing_to_interpolate_are_refused(
    name: str, order: int, ratios: Any, which: str
) -> None:
    with pytest.raises(ValueError, match=f"ratios=.* must be .*{which}"):
        compiled(name, VP.linear(), bent(VP.linear(), 4), order=order, ratios=ratios)


def test_a_ratio_carries_its_gradient() -> None:
    ratios = torch.tensor(RATIOS, dtype=torch.float64, requires_grad=True)
    times = geometric(VP.linear(), 7)
    draft = compile_plan("dc_unipc", VP.linear(), grid=times, ratios=ratios)
    x = torch.from_numpy(start(VP.linear(), times.tolist()))
    model = urn.conformance.targets.MIXTURE.model(VP.linear(), "v")

    def total(plan: Any) -> torch.Tensor:
        return urn.execute(plan, model, {"x": x})["x"].square().sum()

    total(draft).backward()
    for step in range(1, 7):
        ends = [
            float(
                total(
                    compile_plan(
                        "dc_unipc",
                        VP.linear(),
                        grid=times,
                        ratios=(*RATIOS[:step], RATIOS[step] + d, *RATIOS[step + 1 :]),
                    )
                )
            )
            for d in (1e-5, -1e-5)
        ]
        assert float(ratios.grad[step]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-8)


@on_every_process
def test_published_coefficients_are_ddim_heun_and_dpmpp(process: Any) -> None:
    times = bent(process, 6)
    for name, same in (("iia_ddim", "ddim"), ("iia_heun", "heun"), ("iia_dpmpp", "dpmpp_2m")):
        for given in (None, ((1.0, 0.0, 0.0),) * 6, ((1.0,),) * 6):
            assert_does_the_same(compiled(name, process, times, coefficients=given), compiled(same, process, times))


@CONTINUOUS
@pytest.mark.parametrize("name", ["iia_ddim", "iia_dpmpp", "iia_heun"])
def test_improved_integration_approximation_by_its_formula(process: Any, name: str) -> None:
    alpha, sigma, lambda_, _ = numbers(process)
    times = geometric(process, 7).tolist()
    data = name == "iia_dpmpp"
    predict = exact(process, "x0" if data else "epsilon")
    x, made, before = start(process, times), [], None
    for (s, t), (g0, g1, g2) in zip(pairwise(times), TABLE, strict=True):
        made.insert(0, predict(x, s))
        h = lambda_(t) - lambda_(s)
        if data:
            carried, total = sigma(t) / sigma(s) * x, alpha(t) * -np.expm1(-h)
        else:
            carried, total = alpha(t) / alpha(s) * x, alpha(t) * (sigma(t) / alpha(t) - sigma(s) / alpha(s))
        slope = made[0]
        if name == "iia_heun":
            second = predict(carried + total * made[0], t)
            back = 0 if before is None else g2 * (made[0] - before)
            x = carried + total * (g0 * (made[0] + second) / 2 + g1 * (second - made[0]) + back)
            before = second
            continue
        if data and len(made) > 1:
            r = (lambda_(s) - lambda_(times[times.index(s) - 1])) / h
            slope = made[0] + (made[0] - made[1]) / (2 * r)
        differences = [a - b for a, b in pairwise(made)]
        x = carried + total * (g0 * slope + sum(g * d for g, d in zip((g1, g2), differences, strict=False)))
    assert_close(urns(name, process, times, coefficients=TABLE), x, 1e-9)


@pytest.mark.parametrize("process", [VP.linear(), urn.Flow()], ids=str)
def test_the_last_step_to_clean_data_has_no_second_evaluation(process: Any) -> None:
    """Heun's is with g_0 and g_2 alone there, of epsilon where rho ends at 0."""
    alpha, sigma, _, _ = numbers(process)
    times, predict = torch.tensor([0.8, 0.5, 0.0], dtype=torch.float64), exact(process, "epsilon")
    x = start(process, times)
    rho, rho_next = sigma(0.8) / alpha(0.8), sigma(0.5) / alpha(0.5)
    carried, total, first = alpha(0.5) / alpha(0.8) * x, alpha(0.5) * (rho_next - rho), predict(x, 0.8)
    second = predict(carried + total * first, 0.5)
    x = carried + total * (1.02 * (first + second) / 2 + 0.4 * (second - first))
    here = predict(x, 0.5)
    x = alpha(0.0) / alpha(0.5) * x - alpha(0.0) * rho_next * (0.9 * here + 0.25 * (here - second))
    made = urns("iia_heun", process, times, coefficients=((1.02, 0.4, 0.3), (0.9, 0.5, 0.25)))
    assert_close(made, x, 1e-9)


def test_orders_with_numbers_kept_while_the_grid_is_refined() -> None:
    """As the facts say: one with a ratio, or with a difference beside g_0 = 1."""
    process = VP.linear()

    def with_ratios(steps: int) -> dict[str, Any]:
        return {"ratios": (1.0, 1.0, *[0.8] * (steps - 2))}

    for name in ("dc_unipc", "dc_adams_pc", "dc_dpmpp"):
        assert urn.METHODS[name].with_options(**with_ratios(8)).order == 1
        errors = [order_of_pair(name, process, n, with_ratios) for n in (32, 64)]
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    for name in ("iia_ddim", "iia_heun", "iia_dpmpp"):
        assert urn.METHODS[name].with_options(coefficients=((1.0, 0.3),) * 8).order == 1
        errors = [order_of_pair(name, process, n, lambda n: {"coefficients": ((1.0, 0.3),) * n}) for n in (32, 64)]
        assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)
        assert urn.METHODS[name].with_options(coefficients=((0.9, 0.3),) * 8).order is None
    assert order_of("dc_unipc", process) > 2.75


def order_of_pair(name: str, process: Any, steps: int, options: Any) -> float:
    from methods_cases import exact_states, rms, run

    times = bent(process, steps)
    x, end = exact_states(process, float(times[0]), float(times[-1]))
    return rms(run(compiled(name, process, times, **options(steps)), x) - end)


@on_every_process
def test_labels_of_ratio_one_are_the_method_itself(process: Any) -> None:
    times = bent(process, 5)
    for name in ("ddim", "dpmpp_2m", "unipc_3", "adams_pc_2"):
        assert_same_rows(compiled(relabelled(name, (1.0,) * 5), process, times), compiled(name, process, times))


@CONTINUOUS
def test_labels_are_shown_to_the_network_alone(process: Any) -> None:
    """DDIM with epsilon(x, r t) and all coefficients at t; NumPy."""
    alpha, sigma, _, _ = numbers(process)
    ratios, times = (0.9, 1.04, 0.93, 0.97), bent(process, 4).tolist()
    predict = exact(process, "epsilon")
    x = start(process, times)
    for s, t, ratio in zip(times, times[1:], ratios, strict=False):
        epsilon = predict(x, ratio * s)
        x = alpha(t) * (x - sigma(s) * epsilon) / alpha(s) + sigma(t) * epsilon
    assert_close(urns(relabelled("ddim", ratios), process, times, predicts="epsilon"), x)


def test_a_label_carries_its_gradient() -> None:
    process, times = VP.linear(), bent(VP.linear(), 4)
    given = (0.9, 1.05, 0.93, 0.97)
    model = urn.conformance.targets.MIXTURE.model(process, "epsilon")
    x = torch.from_numpy(start(process, times.tolist()))

    def total(ratios: Any) -> torch.Tensor:
        plan = compile_plan(relabelled("ddim", ratios), process, grid=times)
        return urn.execute(plan, model, {"x": x})["x"].square().sum()

    ratios = torch.tensor(given, dtype=torch.float64, requires_grad=True)
    total(ratios).backward()
    for step in range(4):
        ends = [float(total((*given[:step], given[step] + d, *given[step + 1 :]))) for d in (1e-5, -1e-5)]
        assert float(ratios.grad[step]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_wrong_labels_are_refused() -> None:
    times = bent(VP.linear(), 4)
    for bad in ("1", 1.0, (1.0, 0.0, 1.0, 1.0), (1.0, float("nan"), 1.0, 1.0), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="ratios="):
            relabelled("ddim", bad)
    with pytest.raises(ValueError, match="ratios: 3 of them; the grid has 4 steps"):
        compile_plan(relabelled("ddim", (1.0,) * 3), VP.linear(), grid=times)
    with pytest.raises(ValueError, match=r"ratios\[0\]=40 shows t="):
        compile_plan(relabelled("ddim", (40.0, 1.0, 1.0, 1.0)), VP.linear(), grid=times)
    with pytest.raises(ValueError, match="lies between the grid's points"):
        compile_plan(relabelled("dpm_solver_2", (0.9,) * 4), VP.linear(), grid=times)
    with pytest.raises(ValueError, match="option `ratios` of its own"):
        relabelled("dc_unipc", (1.0,) * 4)
