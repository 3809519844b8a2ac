"""compile_plan: names of registers, dead rows, zero weights, noise streams, options, and methods that do wrong."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from core_cases import CASES

import urn
from urn import Method, PlanError, compile_plan
from urn.method import apply, combine, evaluate, noise
from urn.plan import Apply, Array, Combine, Evaluate, Node, Noise, Read
from urn.processes import VE, VP, Flow, linear_betas

VP_LINEAR = VP.linear()
GRID = [1.0, 0.6, 0.3, 0.1]


def compiled(method, grid=GRID, process=VP_LINEAR, **options):
    return compile_plan(method, process, grid=grid, **options)


def names(plan):
    return [register for row in plan.rows for register in row.defines]


def heun(nodes, x):
    """Two evaluations a step, and one more at the end, which nothing uses."""
    slope = yield evaluate(x, nodes[0], "velocity")
    for cur, next in nodes.steps():
        h = next.t - cur.t
        trial = yield combine(next, (1.0, x), (h, slope))
        other = yield evaluate(trial, next, "velocity")
        x = yield combine(next, (1.0, x), (h / 2, slope), (h / 2, other))
        slope = yield evaluate(x, next, "velocity")
    return x


def test_registers_are_named_by_what_they_are():
    def every(nodes, x):
        cur, next = nodes[0], nodes[1]
        x0, epsilon, score, v, velocity = yield evaluate(x, cur, "x0", "epsilon", "score", "v", "velocity")
        z = yield noise(cur, next)
        plain = yield combine(None, (0.5, x0), (0.5, z))
        clipped = yield apply("clip", plain)
        between = yield combine(nodes.between(cur, next, 0.5), (1.0, clipped), (1.0, epsilon), (1.0, score))
        other = yield evaluate(between, cur, "variance")
        first = yield combine(next, (1.0, between), (1.0, v), (1.0, velocity), (1.0, other))
        second = yield combine(next, (1.0, first), (0.25, z))
        return (yield apply("clip", second, node=nodes[2]))

    plan = compiled(every)
    expected = ["d1", "eps1", "s1", "v1", "u1", "z1", "c1", "c2", "y1", "variance2", "x1", "x1'", "x2"]
    assert names(plan) == expected
    assert plan.outputs[0][:2] == ("x", "x2")
    # a row belongs to the step that it is computed in: that of the last state on the grid
    assert [row.step for row in plan.rows] == [0] * 7 + [1, 1]


def test_rows_that_nothing_uses_are_not_in_the_plan():
    plan = compiled(heun)
    assert plan.nfe == 6  # 3 steps of two; the evaluation at the very end is dropped
    assert isinstance(plan.rows[-1], Combine)

    def wasteful(nodes, x):
        wanted, _ = yield evaluate(x, nodes[0], "x0", "epsilon")
        unused = yield evaluate(x, nodes[1], "epsilon")
        yield combine(nodes[1], (1.0, unused))
        yield noise(nodes[0], nodes[1])
        yield apply("clip", wanted)
        return (yield combine(nodes[-1], (1.0, wanted)))

    small = compiled(wasteful)
    assert names(small) == ["d1", "x3"]
    assert small.rows[0].outs == (("d1", "x0"),)
    assert not small.stochastic


def test_zero_weights_are_dropped_and_repeats_are_added():
    def repeats(nodes, x):
        d = yield evaluate(x, nodes[0], "x0")
        return (yield combine(nodes[-1], (0.25, d), (0.0, x), (0.5, d), (torch.tensor(0.0), x), (2, d), (-0.0, d)))

    assert compiled(repeats).rows[-1].weights == ((2.75, "d1"),)

    def nothing(nodes, x):
        d = yield evaluate(x, nodes[0], "x0")
        return (yield combine(nodes[-1], (0.0, x), (0.0, d)))

    assert compiled(nothing).rows[-1].weights == ((0.0, "d1"),)  # a sum of nothing would have no shape

    def arrays(nodes, x):
        d = yield evaluate(x, nodes[0], "x0")
        half, none = torch.tensor([0.0, 0.5], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        return (yield combine(nodes[-1], (half, d), (none, x)))

    assert compiled(arrays).rows[-1].weights == ((Array([0.0, 0.5]), "d1"),)


def streams_of(intervals, grid=GRID):
    """Streams of one noise for each (start, end[, stream]) of grid indices."""

    def noisy(nodes, x):
        terms = []
        for start, end, *stream in intervals:
            terms.append((1.0, (yield noise(nodes[start], nodes[end], *stream))))
        return (yield combine(nodes[-1], (1.0, x), *terms))

    rows = [row for row in compiled(noisy, grid).rows if isinstance(row, Noise)]
    assert [row.interval for row in rows] == [(grid[start], grid[end]) for start, end, *_ in intervals]
    identities = [(row.interval, row.stream) for row in rows]
    return [row.stream for row in rows], len(set(identities)) == len(identities)


@pytest.mark.parametrize(
    ("intervals", "streams"),
    [
        ([(0, 1), (1, 2), (2, 3)], [0, 0, 0]),  # the walk
        ([(2, 3), (0, 1), (1, 2)], [0, 0, 0]),  # in any order
        ([(0, 1), (0, 1), (0, 1)], [0, 1, 2]),  # repeated
        ([(0, 2), (0, 1), (1, 2), (2, 3)], [0, 1, 1, 0]),  # parts of what was walked
        ([(0, 1), (0, 2), (1, 2)], [0, 1, 0]),  # overlapping
        ([(1, 1), (1, 1)], [1, 2]),  # zero length: churn
        ([(1, 0), (1, 0), (0, 1)], [1, 2, 0]),  # forward: restart
        ([(0, 1), (1, 0), (0, 1)], [0, 1, 1]),
        ([(0, 1, 1), (0, 1), (0, 1)], [1, 0, 2]),  # a given stream is not given again
        ([(0, 1, 2), (0, 1, 1), (0, 1), (0, 1)], [2, 1, 0, 3]),
        ([(0, 1, 0), (0, 1), (1, 2)], [0, 1, 0]),
        ([(0, 2, 0), (1, 2), (2, 3)], [0, 1, 0]),
    ],
)
def test_streams_of_noise(intervals, streams):
    found, distinct = streams_of(intervals)
    assert found == streams
    assert distinct


def test_a_stream_named_twice_is_one_noise():
    assert streams_of([(0, 1, 3), (0, 1, 3)]) == ([3, 3], False)


def test_options_are_refused_by_name():
    with pytest.raises(ValueError, match=r"method 'ddim' has no option etaa=0\.5; its options: eta"):
        compiled("ddim", etaa=0.5)
    with pytest.raises(ValueError, match=r"eta=1\.5 must be between 0 and 1"):
        compiled("ddim", eta=1.5)
    with pytest.raises(ValueError, match="method 'heun' has no option order=3; its options: none"):
        compiled(heun, order=3)


def test_methods_are_found_by_name_or_given():
    with pytest.raises(ValueError, match=r"method='dimm' is unknown; did you mean .*ddim"):
        compiled("dimm")
    for wrong in (lambda nodes, x: x, 3, None, VP_LINEAR):
        with pytest.raises(ValueError, match=r"must be a name in urn.METHODS, a Method, or a generator function"):
            compiled(wrong)
    assert compiled(urn.METHODS["ddim"]) == compiled("ddim")


def test_generator_functions_of_users_are_methods():
    def scaled(nodes, x, scale=1.0, levels=(1, 2), name="a", kind=None):
        return (yield combine(nodes[-1], (scale, x)))

    plan = compiled(scaled, scale=0.5)
    assert (plan.method, plan.order, plan.exact_for) == ("scaled", None, ())
    assert plan.options == (("scale", 0.5),)
    assert plan.rows[0].weights == ((0.5, "x"),)
    assert compiled(functools.partial(scaled, scale=0.25)).rows[0].weights == ((0.25, "x"),)
    facts = Method(scaled, "half", 2, "nobody", options={"scale": 0.5})
    assert (compiled(facts).method, compiled(facts).order) == ("half", 2)
    given = {"levels": [1, np.float64(2.5), np.int64(3)], "name": "b", "kind": np.arange(3.0)}
    # written as plain values, so that the plan can be hashed and goes through JSON
    assert compiled(scaled, **given).options == (("kind", (0.0, 1.0, 2.0)), ("levels", (1, 2.5, 3)), ("name", "b"))
    kept = compiled(scaled, kind=torch.tensor([1.0, 2.0]), scale=torch.tensor(0.5))
    assert kept.options == (("kind", (1.0, 2.0)), ("scale", 0.5))
    assert urn.Plan.from_json(kept.to_json()) == kept


def wrong(kind):
    def method(nodes, x):
        d = yield evaluate(x, nodes[0], "x0")
        x = yield combine(nodes[1], (1.0, d))
        if kind == "row":
            yield "x2"
        if kind == "none":
            yield None
        if kind == "reads":
            yield combine(nodes[2], (1.0, "x7"))
        if kind == "evaluates":
            yield evaluate("d9", nodes[2], "x0")
        if kind == "pair":
            pair = yield evaluate(x, nodes[1], "x0", "epsilon")
            yield combine(nodes[2], (1.0, pair))
        if kind == "read":
            yield Read(x)
        return {"nothing": None, "unknown": "x7", "list": [x], "prediction": d, "row object": nodes[0]}.get(kind, x)

    return method


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("row", "step 1: the method yielded 'x2', which is not a row"),
        ("none", "step 1: the method yielded None, which is not a row"),
        ("reads", "'x7' is not a register that a yield handed back"),
        ("evaluates", "step 1: 'd9' is not a register that a yield handed back"),
        ("pair", r"\('d2', 'eps2'\) is not a register that a yield handed back"),
        ("nothing", "step 1: None is not a register that a yield handed back"),
        ("unknown", "step 1: 'x7' is not a register that a yield handed back"),
        ("list", r"\['x1'\] is not a register that a yield handed back"),
        ("row object", r"Node\(.*\) is not a register that a yield handed back"),
        ("prediction", "the method returned 'd1', which is not a state: give its row a node"),
        ("read", "the method reads the state, so it has no plan: run it with urn.loops.adaptive"),
    ],
)
def test_a_method_that_does_wrong_is_told(kind, message):
    with pytest.raises(PlanError, match=rf"^method on VP\.linear\(0\.1, 20\.0\).*{message}"):
        compiled(wrong(kind))


def test_apply_options_become_plain_values():
    def thresholded(nodes, x):
        high = nodes[0].sigma
        d = yield apply("clip", x, low=-high, high=np.float64(2.0))
        d = yield apply("clip", d, low=[0.5, 1])
        return (yield combine(nodes[-1], (1.0, d)))

    plan = compiled(thresholded)
    first, second = (row for row in plan.rows if isinstance(row, Apply))
    assert dict(first.options) == {"low": -float(VP_LINEAR.sigma(1.0)), "high": 2.0}
    assert all(type(value) is float for _, value in first.options)
    assert dict(second.options) == {"low": (0.5, 1)}
    assert urn.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("name", CASES)
def test_final_adds_the_jump_to_the_clean_prediction(name):
    process = CASES[name].process
    plain = compile_plan("ddim", process, 2, "lambda")
    final = compile_plan("ddim", process, 2, "lambda", final="x0")
    assert final.rows[: len(plain.rows)] == plain.rows
    call, jump = final.rows[len(plain.rows) :]
    assert isinstance(call, Evaluate)
    assert call.outs == ((call.outs[0][0], "x0"),)
    assert call.t == process.t_finite[1]
    assert jump.weights == ((1.0, call.outs[0][0]),)
    clean = final.outputs[0][2]
    assert (clean.alpha, clean.sigma) == (1.0, 0.0) == (process.alpha(clean.t), process.sigma(clean.t))
    with pytest.raises(ValueError, match="final='x1' must be None or 'x0'"):
        compile_plan("ddim", process, 2, final="x1")


def test_final_is_refused_where_the_grid_is_clean_already():
    for process, grid in ((VP_LINEAR, "uniform"), (Flow(), "uniform"), (VE(), [80.0, 1.0, 0.0])):
        with pytest.raises(ValueError, match="final='x0' on a grid that ends at sigma = 0"):
            compile_plan("ddim", process, 2 if grid == "uniform" else None, grid, final="x0")


def test_nodes_are_the_processs():
    table = VP.from_betas(linear_betas(100))
    for process, grid in ((VP_LINEAR, GRID), (table, [99.0, 50.5, 3.0]), (VE(), [80.0, 3.0, 0.5])):
        plan = compile_plan("ddim", process, grid=grid)
        assert plan.times == tuple(grid)
        start = plan.inputs[0][1]
        assert start.node == Node(grid[0], float(process.alpha(grid[0])), float(process.sigma(grid[0])), 0)
        assert start.std == float(process.prior_std(grid[0]))
        for index, row in enumerate(row for row in plan.rows if isinstance(row, Combine)):
            t = grid[index + 1]
            assert row.node == Node(t, float(process.alpha(t)), float(process.sigma(t)), index + 1)
            assert row.node.lambda_ == pytest.approx(float(process.lambda_(t)), rel=1e-13)


def test_a_plan_asked_for_again_is_the_same_one():
    process = VP.linear()
    one = compile_plan("unipc_3", process, 5)
    assert compile_plan("unipc_3", VP.linear(), 5) is one
    assert compile_plan("unipc_3", process, grid=one.times) is one
    others = [
        compile_plan("unipc_3", process, 6),
        compile_plan("unipc_3", VP.linear(0.2), 5),
        compile_plan("unipc_3", process, 5, "lambda"),
        compile_plan("unipc_3", process, 5, "lambda", final="x0"),
        compile_plan("unipc_2", process, 5),
    ]
    assert all(other is not one and other != one for other in others)
    unclaimed = replace(urn.METHODS["dpmpp_2m"], order=None)
    assert compile_plan("dpmpp_2m", process, 5).order == 2
    assert compile_plan(unclaimed, process, 5).order is None
    assert compile_plan("ddim", process, 5, eta=1) is not compile_plan("ddim", process, 5, eta=1.0)


def test_what_may_change_is_compiled_anew():
    @dataclass
    class Changing:
        inner: Any

        def __getattr__(self, name):
            return getattr(self.inner, name)

    process = Changing(VP.linear())
    times = [0.9, 0.5, 0.1]
    one = compile_plan("ddim", process, grid=times)
    process.inner = Flow()
    assert compile_plan("ddim", process, grid=times).rows != one.rows
    drafts = [compile_plan("ddim", VP.linear(), grid=torch.tensor(times, requires_grad=True)) for _ in range(2)]
    assert drafts[0] is not drafts[1]
