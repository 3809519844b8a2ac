"""S4S, AMED and EPD against their formulas, written out; what they equal; what they refuse."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from methods_cases import assert_same_rows, bent, compiled, gap, run, start_states
from torch import Tensor

from urn.conformance.targets import MIXTURE
from urn.nodes import Nodes
from urn.plan import Evaluate, Node
from urn.processes import VE, VP, Flow
from urn.tuning.tuners.s4s import coefficients_of

PROCESSES = {"vp": VP.linear(), "ve": VE(), "flow": Flow()}
COEFFICIENTS = ((0.98,), (1.4, -0.41), (1.6, -0.7, 0.12), (1.5, -0.6, 0.07))
SHARES, SCALES, SHOWN = (0.4, 0.55, 0.6, 0.5), (1.01, 0.98, 1.0, 0.99), (1.02, 0.97, 1.0, 1.05)


def predicted(process: Any, wanted: str, x: Tensor, node: Any, shown: Tensor | None = None) -> Tensor:
    """What a v network's output at another time makes of a state at a node."""
    label = node.t if shown is None else shown
    v = MIXTURE.model(process, "v")(x, t=float(label))[0]
    scale = node.alpha**2 + node.sigma**2  # v = alpha epsilon - sigma x0
    return ((node.alpha * x - node.sigma * v) if wanted == "x0" else (node.sigma * x + node.alpha * v)) / scale


def nodes_of(process: Any, times: Tensor) -> Any:
    return list(Nodes(process, times))


@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_s4s_is_a_linear_multistep_method(process: Any, prediction: str) -> None:
    times = bent(process, 4)
    plan = compiled("s4s", process, times, coefficients=COEFFICIENTS, history=3, prediction=prediction)
    x, made = start_states(plan), []
    expected = x
    for (cur, next), row in zip(pairwise(nodes_of(process, times)), COEFFICIENTS, strict=True):
        made.insert(0, predicted(process, prediction, expected, cur))
        if prediction == "x0":
            kept, whole = next.sigma / cur.sigma, next.alpha - next.sigma * cur.alpha / cur.sigma
        else:
            kept, whole = next.alpha / cur.alpha, next.sigma - next.alpha * cur.sigma / cur.alpha
        expected = kept * expected + whole * sum(c * one for c, one in zip(row, made, strict=False))
    assert gap(run(plan, x), expected) < 1e-12


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_amed_is_the_paper_s_step(process: Any) -> None:
    times = bent(process, 4)
    plan = compiled("amed", process, times, share=SHARES, scale=SCALES, time_scale=SHOWN)
    x = start_states(plan)
    expected = epd_run(process, times, x, [[r] for r in SHARES], [[c] for c in SCALES], [[a] for a in SHOWN])
    assert gap(run(plan, x), expected) < 1e-12
    assert plan.nfe == 8
    assert plan.rounds == 8


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_epd_is_the_paper_s_step_with_parallel_calls(process: Any) -> None:
    times = bent(process, 4)
    shares = tuple((r / 2, r) for r in SHARES)
    weights, shown = tuple((c / 3, c / 1.5) for c in SCALES), tuple((a, 1.0) for a in SHOWN)
    plan = compiled("epd", process, times, shares=shares, weights=weights, time_scales=shown)
    x = start_states(plan)
    assert gap(run(plan, x), epd_run(process, times, x, shares, weights, shown)) < 1e-12
    assert plan.nfe == 12
    assert plan.rounds == 8


def epd_run(process: Any, times: Tensor, x: Tensor, shares: Any, weights: Any, shown: Any) -> Tensor:
    for i, (cur, next) in enumerate(pairwise(nodes_of(process, times))):
        rho, rho_next = cur.sigma / cur.alpha, next.sigma / next.alpha
        slope = predicted(process, "epsilon", x, cur)
        end = x / cur.alpha
        for r, w, a in zip(shares[i], weights[i], shown[i], strict=True):
            inside = rho_next**r * rho ** (1 - r)
            t = process.t_of_lambda(-torch.log(inside))
            node = Node(t, process.alpha(t), process.sigma(t))
            state = node.alpha * (x / cur.alpha + (inside - rho) * slope)
            at = process.t_of_lambda(-torch.log(a * inside))
            end = end + w * (rho_next - rho) * predicted(process, "epsilon", state, node, at)
        x = next.alpha * end
    return x


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_by_default_amed_and_epd_are_dpm_solver_2(process: Any) -> None:
    times = bent(process, 5)
    for name in ("amed", "epd"):
        made, other = compiled(name, process, times), compiled("dpm_solver_2", process, times)
        x = start_states(made)
        assert gap(run(made, x), run(other, x)) < 1e-12


def test_epd_with_one_point_is_amed() -> None:
    times = bent(VP.linear(), 4)
    one = compiled("amed", VP.linear(), times, share=SHARES, scale=SCALES, time_scale=SHOWN)
    rows = [tuple((value,) for value in values) for values in (SHARES, SCALES, SHOWN)]
    other = compiled("epd", VP.linear(), times, shares=rows[0], weights=rows[1], time_scales=rows[2])
    assert_same_rows(one, other)


def test_s4s_by_default() -> None:
    for process in PROCESSES.values():
        times = bent(process, 6)
        deis = compiled("deis_log_rho_ramped", process, times, order=3)
        assert_same_rows(compiled("s4s", process, times, prediction="epsilon"), deis)
        assert gap(run(compiled("s4s", process, times, history=1)), run(compiled("ddim", process, times))) < 1e-12
        for prediction in ("x0", "epsilon"):
            given = coefficients_of(process, times, 3, prediction)
            free = compiled("s4s", process, times, coefficients=given, prediction=prediction)
            assert_same_rows(compiled("s4s", process, times, prediction=prediction), free)
            assert all(sum(row) == pytest.approx(1, abs=1e-12) for row in given)


@pytest.mark.parametrize("share", ["lambda", "t"])
def test_coefficients_of_a_polynomial_in_another_variable(share: str) -> None:
    """Started with lower orders, in the epsilon form: DEIS in t is tAB."""
    times = bent(VP.linear(), 5)
    name = {"lambda": "deis_log_rho_ramped", "t": "deis_3_ramped"}[share]
    given = coefficients_of(VP.linear(), times, 3, "epsilon", share)
    made = compiled("s4s", VP.linear(), times, coefficients=given, prediction="epsilon")
    assert_same_rows(made, compiled(name, VP.linear(), times, **({"order": 3} if share == "lambda" else {})))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "s4s",
            {"coefficients": ((1.0,), (1.0,))},
            r"coefficients=.* must be 2 rows of \[1, 2\] finite numbers for 2 steps",
        ),
        ("s4s", {"coefficients": ((1.0,), (1.0, float("nan")))}, r"coefficients=.*nan.* must be 2 rows"),
        ("s4s", {"coefficients": 3}, "coefficients=3 must be 2 rows"),
        ("s4s", {"prediction": "v"}, "prediction='v' must be one of x0, epsilon"),
        ("s4s", {"history": 0}, "history=0"),
        ("amed", {"share": 1.0}, "share=1.0 must be"),
        ("amed", {"share": (0.5, 0.5, 0.5)}, "share: numbers for 3 steps; the grid has 2"),
        ("amed", {"time_scale": 0.0}, "time_scale=0.0"),
        ("amed", {"scale": float("inf")}, "scale=inf"),
        ("epd", {"shares": ((0.5,), (0.5, 0.6))}, r"weights: \[1, 1\] numbers in the steps; there must be \[1, 2\]"),
        ("epd", {"shares": ()}, r"shares: \[0, 0\] numbers"),
    ],
)
def test_wrong_options_are_refused(name: str, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compiled(name, VP.linear(), bent(VP.linear(), 2), **options)


def test_scaled_times_stop_at_the_noisiest() -> None:
    plan = compiled("amed", VP.linear(), torch.tensor([1.0, 0.9], dtype=torch.float64), time_scale=5.0)
    assert [row.t for row in plan.rows if isinstance(row, Evaluate)] == pytest.approx([1.0, 1.0], abs=1e-14)
