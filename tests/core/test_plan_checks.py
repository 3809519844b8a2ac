"""What construction refuses: rows that are not well formed, numbers that are not finite, nodes that are not reached."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from core_cases import PROCESSES
from tiny_plans import END, FLOW, MIDDLE, NOISY, START, X, call, plan

from urn import PlanError, compile_plan
from urn.plan import Apply, Array, Combine, Evaluate, Law, Node, Noise, Plan
from urn.plan.checks import POINT_MASS_TOLERANCE

D1 = call("d1", "x")
LAST = Combine("x2", ((1.0, "d1"),), END, 1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((Combine("x2", ((1.0, "d1"),), END),), r"row 0 \(combine\): register 'd1' is read before it is defined"),
        ((call("d1", "x1"), LAST), r"row 0 \(evaluate\): register 'x1' is read before"),
        ((D1, Apply("d2", "clip", ("d9",)), LAST), r"row 1 \(apply\): register 'd9' is read before"),
        ((LAST, D1), r"step 1, row 0 \(combine\): register 'd1' is read before"),
        ((Combine("x2", ((1.0, "x2"),), END),), "register 'x2' is read before"),
        ((D1, D1, LAST), r"row 1 \(evaluate\): register 'd1' is written twice"),
        ((D1, Combine("x", ((1.0, "d1"),), END)), r"row 1 \(combine\): register 'x' is written twice"),
        ((D1, Noise("d1", (1.0, 0.5), 0), LAST), r"row 1 \(noise\): register 'd1' is written twice"),
        ((Evaluate((("d1", "x0"), ("d1", "v")), ("x",), 1.0, START), LAST), "register 'd1' is written twice"),
        ((D1, Combine("x2", (), END)), "a sum of nothing; 'x2' would have no shape"),
        ((Evaluate((), ("x",), 1.0, START), Combine("x2", ((1.0, "x"),), END)), r"a call of \('x',\) that gives \(\)"),
        ((Evaluate((("d1", "x0"),), (), 1.0, START), LAST), r"a call of \(\) that gives"),
        ((D1, Apply("x2", "no_such", ("d1",), node=END)), "function 'no_such' is not registered; known: .*clip"),
        ((D1, Combine("x2", ((math.nan, "d1"),), END)), r"row 1 \(combine\): the weight of d1 = nan is not finite"),
        ((D1, Combine("x2", ((1.0, "d1"), (-math.inf, "x")), END)), "the weight of x = -inf is not finite"),
        ((D1, Combine("x2", ((Array([1.0, math.nan]), "d1"),), END)), "the weight of d1 = .* is not finite"),
        ((replace(D1, t=math.inf), LAST), r"row 0 \(evaluate\): t = inf is not finite"),
        ((D1, Noise("z", (1.0, math.nan), 0), LAST), "the interval's end = nan is not finite"),
        ((D1, Apply("x2", "clip", ("d1",), (("low", math.nan),), END)), "option low = nan is not finite"),
        ((D1, replace(LAST, node=Node(0.0, math.nan, 0.0))), "the node's alpha = nan is not finite"),
        ((replace(D1, node=Node(1.0, 0.0, math.inf)), LAST), "the node's sigma = inf is not finite"),
        ((D1, Combine("x2", ((torch.tensor(1.0), "d1"),), END)), r"the weight of d1 = tensor\(1.\) is a Tensor, not"),
        ((D1, Combine("x2", ((np.ones(2), "d1"),), END)), "is a ndarray, not a float or an Array"),
        ((D1, Combine("x2", (("1.0", "d1"),), END)), "the weight of d1 = '1.0' is a str, not a float"),
    ],
)
def test_malformed_rows_are_refused_by_place(rows, message):
    with pytest.raises(PlanError, match=message) as error:
        plan(*rows, outputs=(("x", "x2", END),))
    assert str(error.value).startswith("by hand, step ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": (("x", "x9", END),)}, "by hand: output 'x' is register 'x9', which no row defines"),
        ({"outputs": ()}, "by hand: inputs x, 0 outputs; an input x and an output are needed"),
        ({"inputs": ()}, "by hand: inputs none, 1 outputs"),
        ({"inputs": (("y", Law(START)),)}, "by hand: inputs y, 1 outputs"),
        ({"inputs": (X, X)}, "by hand: inputs x, x, 1 outputs"),
    ],
)
def test_inputs_and_outputs_are_checked(changes, message):
    with pytest.raises(PlanError, match=message):
        plan(D1, LAST, **changes)


def test_a_method_without_a_limit_at_an_end_is_told_apart_by_step_and_row():
    def epsilon_form(nodes, x):
        from urn.method import combine, evaluate

        for cur, next in nodes.steps():
            epsilon = yield evaluate(x, cur, "epsilon")
            x = yield combine(next, (next.alpha / cur.alpha, x), (next.sigma - next.alpha / cur.alpha, epsilon))
        return x

    with pytest.raises(
        PlanError, match=r"epsilon_form, step 0, row 1 \(combine\): the weight of x = inf is not finite; .*"
    ):
        compile_plan(epsilon_form, FLOW, grid=[1.0, 0.5, 0.0])


def changed(one: Plan, position: int, term: int, by: float) -> tuple:
    """The rows with one weight moved by `by`, relative where it is above 1."""
    row = one.rows[position]
    weights = list(row.weights)
    weights[term] = (weights[term][0] + by * max(1.0, abs(weights[term][0])), weights[term][1])
    return (*one.rows[:position], replace(row, weights=tuple(weights)), *one.rows[position + 1 :])


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_every_coefficient_of_a_point_exact_plan_is_held_to_one_in_ten_thousand(name, eta):
    process = PROCESSES[name]
    steps = 2 if name == "table of three" else 12
    one = compile_plan("ddim", process, steps, "lambda", eta=eta)
    assert "point" in one.exact_for
    found = 0
    for position, row in enumerate(one.rows):
        for term in range(len(row.weights) if isinstance(row, Combine) else 0):
            bad = changed(one, position, term, 1e-4)
            with pytest.raises(
                PlanError, match=rf"ddim, step {row.step}, row {position}: {row.out} at t = .* a point mass"
            ):
                replace(one, rows=bad)
            replace(one, rows=bad, exact_for=())  # no promise, no check
            found += 1
    assert found == sum(len(row.weights) for row in one.rows if isinstance(row, Combine)) >= 2 * steps


def test_the_message_has_both_numbers():
    # x1 = 0.5001 x0 + ...: the point's weight is 0.5001, the node's alpha 0.5
    with pytest.raises(
        PlanError, match=r"by hand, step 0, row 2: x1 at t = 0\.5: a point mass reaches alpha = 0\.5001"
    ):
        replace(NOISY, rows=changed(NOISY, 2, 0, 1e-4))
    # 0.3 epsilon + 0.4004 z: sqrt(0.09 + 0.16032016) = 0.50032
    with pytest.raises(PlanError, match=r"reaches sigma = 0\.50032\d*, the node has 0\.5$"):
        replace(NOISY, rows=changed(NOISY, 2, 2, 4e-4))
    assert POINT_MASS_TOLERANCE < 1e-4


def test_the_wrong_node_of_an_evaluation_is_noticed():
    row = NOISY.rows[0]
    wrong = replace(row, node=Node(1.0, 0.0, 0.99, 0))
    with pytest.raises(PlanError, match="reaches sigma = "):
        replace(NOISY, rows=(wrong, *NOISY.rows[1:]))


@pytest.mark.parametrize("wanted", ["epsilon", "v", "velocity", "score"])
def test_predictions_of_a_point_are_exact(wanted):
    """A step written in any prediction keeps a point: x1 = x + (t1 - t) velocity and its like."""
    process = PROCESSES["vp linear"]
    cur, next = (Node(t, float(process.alpha(t)), float(process.sigma(t)), i) for i, t in enumerate((0.6, 0.3)))
    # with x = a c + s n and prediction p c + q n, the weights u, w solve u a + w p = a', u s + w q = s'
    slopes = [float(slope) for slope in process.velocity_weights(0.6)]
    p, q = {
        "epsilon": (0.0, 1.0),
        "v": (-cur.sigma, cur.alpha),
        "velocity": tuple(slopes),
        "score": (0.0, -1 / cur.sigma),
    }[wanted]
    u, w = np.linalg.solve([[cur.alpha, p], [cur.sigma, q]], [next.alpha, next.sigma]).tolist()

    def with_weights(u, w):
        return plan(
            call("p", "x", cur, wanted),
            Combine("x1", ((u, "x"), (w, "p")), next),
            inputs=(("x", Law(cur, 1.0)),),
            outputs=(("x", "x1", next),),
            process=process,
            exact_for=("point",),
        )

    with_weights(u, w)
    for bad in ((u * 1.0001, w), (u, w * 1.0001)):
        with pytest.raises(PlanError, match=r"x1 at t = 0\.3: a point mass reaches"):
            with_weights(*bad)


def test_one_noise_named_twice_adds_up_and_two_noises_do_not():
    def noisy(second, weights):
        return plan(
            D1,
            Noise("z1", (1.0, 0.5), 0),
            Noise("z2", *second),
            Combine("x1", ((0.5, "d1"), (weights[0], "z1"), (weights[1], "z2")), MIDDLE),
            exact_for=("point",),
        )

    noisy(((1.0, 0.5), 0), (0.2, 0.3))  # the same noise: 0.2 + 0.3
    noisy(((1.0, 0.5), 1), (0.3, 0.4))  # another: sqrt(0.09 + 0.16)
    with pytest.raises(PlanError, match=r"sigma = 0\.7"):
        noisy(((1.0, 0.5), 0), (0.3, 0.4))
    with pytest.raises(PlanError, match=r"sigma = 0\.36"):
        noisy(((1.0, 0.5), 1), (0.2, 0.3))


def test_arrays_are_checked_element_by_element():
    node = Node(Array([0.5, 0.25]), Array([0.5, 0.75]), Array([0.5, 0.25]), 1)

    def per_coordinate(weight):
        return plan(
            Evaluate((("d1", "x0"), ("e1", "epsilon")), ("x",), 1.0, START),
            Combine("x1", ((weight, "d1"), (Array([0.5, 0.25]), "e1")), node),
            outputs=(("x", "x1", node),),
            exact_for=("point",),
        )

    per_coordinate(Array([0.5, 0.75]))
    with pytest.raises(PlanError, match="a point mass reaches alpha"):
        per_coordinate(Array([0.5, 0.7501]))


def test_what_a_nonlinear_map_touches_is_not_followed():
    plan(D1, Apply("d2", "clip", ("d1",)), Combine("x2", ((7.0, "d2"),), END), exact_for=("point",))
