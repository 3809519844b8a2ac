"""A plan as a value: equality, cost, differences, print, immutability, and use from many threads."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from tiny_plans import END, FLOW, MIDDLE, NOISY, START, X, call, plan

import urn
from urn.compiler import kept_plans
from urn.plan import Apply, Array, Combine, Evaluate, Law, Node, Noise
from urn.processes import VP


def test_equal_plans_are_equal_and_hash_alike():
    one = urn.compile_plan("ddim", VP.linear(), 5, eta=0.5)
    kept_plans.cache_clear()
    other = urn.compile_plan("ddim", VP.linear(), 5, eta=0.5)
    assert one is not other
    assert one == other
    assert (
        len({one, other, copy.deepcopy(one), pickle.loads(pickle.dumps(one)), urn.Plan.from_json(one.to_json())}) == 1
    )


def test_a_pickled_plan_carries_its_fields_alone():
    """Its hash is of strings, which Python hashes otherwise in another process; programs are made again."""
    one = urn.compile_plan("ddim", VP.linear(), 5)
    urn.sample(urn.Model(lambda x, t: x, VP.linear()), one, (2, 3))
    hash(one)
    copied = pickle.loads(pickle.dumps(one))
    assert "_hash" in vars(one)
    assert vars(copied).keys() == {f.name for f in dataclasses.fields(one)}
    assert copied == one


@pytest.mark.parametrize(
    "change",
    [
        {"method": "by another hand"},
        {"options": (("eta", 0.5),)},
        {"order": 2},
        {"exact_for": ()},
        {"process": urn.Flow(2.0), "exact_for": ()},
        {"times": (1.0, 0.25, 0.0)},
        {"rows": (*NOISY.rows[:1], replace(NOISY.rows[1], stream=1), *NOISY.rows[2:])},
        {"rows": (*NOISY.rows[:1], replace(NOISY.rows[1], interval=(1.0, 0.25)), *NOISY.rows[2:])},
        {"rows": (*NOISY.rows[:3], replace(NOISY.rows[3], t=np.nextafter(0.5, 1)), NOISY.rows[4])},
        {"rows": (*NOISY.rows[:3], replace(NOISY.rows[3], model="weak"), NOISY.rows[4])},
        {"inputs": (("x", Law(START, 2.0)),)},
        {"outputs": (("x", "x1", MIDDLE),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_plan_that_differs_in_anything_is_not_equal(change):
    other = replace(NOISY, **change)
    assert other != NOISY
    assert len({other, NOISY}) == 2


def test_arrays_are_compared_by_value():
    assert Array([1.0, 2.0]) == Array(torch.tensor([1.0, 2.0]))
    assert hash(Array([1.0, 2.0])) == hash(Array(np.array([1, 2])))
    assert Array([1.0, 2.0]) != Array([[1.0, 2.0]])
    assert Array([1.0, 2.0]) != Array([1.0, 2.0000000001])
    assert Array([1.0]) != 1.0
    assert repr(Array([[0.25, -1.0]])) == "[-1..0.25]1x2"


def test_costs_of_a_chain():
    # alive: x | d1 eps1 x -> 3 | d1 eps1 z1 -> 3 | + x1 -> 4 | x1 d2 -> 2 | d2 x2 -> 2
    assert (NOISY.nfe, NOISY.rounds, NOISY.registers, NOISY.steps) == (2, 2, 4, 2)
    assert NOISY.stochastic


def test_independent_evaluations_are_one_round():
    side_by_side = plan(
        call("d1", "x"),
        call("d2", "x", MIDDLE),
        Combine("x1", ((0.5, "d1"), (0.5, "d2")), END),
    )
    # alive: x d1 -> x d1 d2 -> d1 d2 x1
    assert (side_by_side.nfe, side_by_side.rounds, side_by_side.registers) == (2, 1, 3)
    assert not side_by_side.stochastic


def test_a_diamond_has_the_depth_of_its_longest_way():
    diamond = plan(
        call("d1", "x"),
        Combine("y1", ((0.5, "x"), (0.5, "d1")), MIDDLE),
        call("d2", "y1", MIDDLE),
        Apply("y2", "clip", ("d2",)),
        call("d3", "y2", MIDDLE),
        call("e1", "x", model="weak"),
        Noise("z", (1.0, 0.5), 0),
        call("e2", "z", model="weak"),
        Combine("x1", ((1.0, "d3"), (1.0, "e1"), (1.0, "e2")), END),
    )
    # d1 -> d2 -> d3 are three rounds; e1 and e2 run beside them
    assert (diamond.nfe, diamond.rounds) == (5, 3)
    # the most at e2: z e2, and d3 e1 that wait for the sum; x ends with e1. And at x1: d3 e1 e2 x1.
    assert diamond.registers == 4


def test_rounds_count_what_the_output_needs():
    unused = plan(
        call("d1", "x"), Combine("x1", ((1.0, "d1"),), MIDDLE), call("d2", "x1", MIDDLE), outputs=(("x", "x1", MIDDLE),)
    )
    assert (unused.nfe, unused.rounds) == (2, 1)


def test_outputs_and_unread_inputs_stay_alive():
    # the mask is given for the whole run; x1 is handed out beside x2
    two = plan(
        call("d1", "x"),
        Combine("x1", ((1.0, "d1"),), MIDDLE),
        call("d2", "x1", MIDDLE),
        Combine("x2", ((1.0, "d2"),), END),
        inputs=(X, ("mask", Law(None))),
        outputs=(("x", "x2", END), ("middle", "x1", MIDDLE)),
    )
    # mask x d1 | mask d1 x1 | mask x1 d2 | mask x1 d2 x2
    assert two.registers == 4


def test_costs_do_not_recurse():
    """A plan of thousands of rows is no deeper a call than one of ten."""
    long = urn.compile_plan("ddim", VP.linear(), 1500, "uniform")
    assert (long.nfe, long.rounds, long.registers, long.steps) == (1500, 1500, 3, 1500)


def test_a_plan_does_not_differ_from_itself():
    assert NOISY.diff(NOISY) == ""
    assert NOISY.diff(copy.deepcopy(NOISY)) == ""
    assert NOISY.diff(replace(NOISY, method="renamed", options=(("eta", 1.0),), order=None)) == ""  # does the same


def moved(position, **fields):
    return replace(
        NOISY,
        rows=(*NOISY.rows[:position], replace(NOISY.rows[position], **fields), *NOISY.rows[position + 1 :]),
        exact_for=(),
    )


@pytest.mark.parametrize(
    ("other", "lines"),
    [
        (
            moved(2, weights=((0.5, "d1"), (0.3, "eps1"), (0.41, "z1"))),
            ["-   2  x1 = 0.5 d1 + 0.3 eps1 + 0.4 z1", "+   2  x1 = 0.5 d1 + 0.3 eps1 + 0.41 z1"],
        ),
        (moved(2, weights=((0.3, "eps1"), (0.4, "z1"), (0.5, "d1"))), []),  # the order of terms is not what it does
        (moved(3, t=0.5625), ["-   3  d2 = x0(x1; t = 0.5)", "+   3  d2 = x0(x1; t = 0.5625)"]),
        (moved(3, model="weak"), ["-   3  d2 = x0(x1; t = 0.5)", "+   3  weak: d2 = x0(x1; t = 0.5)"]),
        (moved(1, stream=1), ["-   1  z1 = noise(1 to 0.5, stream 0)", "+   1  z1 = noise(1 to 0.5, stream 1)"]),
        (
            replace(NOISY, inputs=(("x", Law(START, 2.0)),)),
            ["-      input x ~ N(0, 1^2) at t = 1", "+      input x ~ N(0, 2^2) at t = 1"],
        ),
        (replace(NOISY, outputs=(("x", "x1", MIDDLE),)), ["output x: x2 at t = 0.0 | x1 at t = 0.5"]),
        (replace(NOISY, outputs=(*NOISY.outputs, ("m", "x1", MIDDLE))), ["output m: None at t = None | x1 at t = 0.5"]),
        (
            replace(NOISY, rows=(*NOISY.rows, Combine("x3", ((-0.5, "x2"),), END)), exact_for=()),
            ["+   5  x3 = -0.5 x2"],
        ),
        (replace(NOISY, process=urn.Flow(2.0), exact_for=()), ["process: Flow(shift=1.0) | Flow(shift=2.0)"]),
    ],
)
def test_a_difference_names_the_rows(other, lines):
    assert NOISY.diff(other).splitlines() == lines


def test_a_difference_below_the_tolerance_is_none():
    near = moved(2, weights=((0.5, "d1"), (0.3, "eps1"), (0.4 + 1e-6, "z1")))
    assert NOISY.diff(near) != ""
    assert NOISY.diff(near, tolerance=1e-7) != ""
    assert NOISY.diff(near, tolerance=3e-6) == ""  # of the row's largest weight, 0.5
    gone = moved(2, weights=((0.5, "d1"), (0.3, "eps1")))
    assert "x1 = 0.5 d1 + 0.3 eps1 + 0.4 z1" in NOISY.diff(gone, tolerance=1e-3)


# By hand. Three registers are the most: x d1 eps1 | d1 eps1 z1 (+ x1 = 4), so four. Node of x1: t, alpha and sigma 1/2, and
# lambda log 1 = 0. Node of x2: alpha 1, sigma 0, lambda inf. The widest row, the first, has 33 characters.
GOLDEN = """\
by hand, eta=0.8 on Flow(shift=1.0): order 1, stochastic, 2 steps, 2 evaluations in 2 rounds, 4 registers
input x ~ N(0, 1^2) at t = 1
input mask
step  row                                         t     alpha     sigma   lambda
   0  d1 = x0, eps1 = epsilon(x; t = 1)
      z1 = noise(1 to 0.5, stream 0)
      x1 = 0.5 d1 - 0.3 eps1 + 0.4 z1           0.5  0.500000  0.500000   0.0000
   1  weak: d2 = x0(x1; t = 0.5)
      c1 = clip(d2, high=1, low=-1)
      x2 = -1 c1 + 0.333333 mask                  0  1.000000  0.000000      inf
 end  x = x2                                      0  1.000000  0.000000      inf"""


def test_the_printed_table():
    printed = plan(
        Evaluate((("d1", "x0"), ("eps1", "epsilon")), ("x",), 1.0, START),
        Noise("z1", (1.0, 0.5), 0),
        Combine("x1", ((0.5, "d1"), (-0.3, "eps1"), (0.4, "z1")), MIDDLE),
        call("d2", "x1", MIDDLE, model="weak", step=1),
        Apply("c1", "clip", ("d2",), (("high", 1.0), ("low", -1.0)), step=1),
        Combine("x2", ((-1.0, "c1"), (1 / 3, "mask")), END, 1),
        inputs=(X, ("mask", Law(None))),
        options=(("eta", 0.8),),
        order=1,
    )
    # the mask is alive all the time: one register more than the comment above counts
    assert str(printed).splitlines() == GOLDEN.replace("4 registers", "5 registers").splitlines()


def test_the_printed_table_of_arrays_and_of_a_mean():
    node = Node(Array([0.25, 0.5]), Array([0.75, 0.5]), Array([0.25, 0.5]))
    text = str(
        plan(
            call("d1", "x"),
            Combine("x1", ((Array([0.75, 0.5]), "d1"), (-2.0, "x")), node),
            inputs=(("x", Law(START, 0.5, ((0.25, "y"),))), ("y", Law(None))),
            outputs=(("x", "x1", node),),
        )
    ).splitlines()
    assert text[1] == "input x ~ N(0.25 y, 0.5^2) at t = 1"
    assert text[5].split("  ")[-1].split() == ["[0.25..0.5]2", "[0.5..0.75]2", "[0.25..0.5]2"]
    assert "x1 = [0.5..0.75]2 d1 - 2 x" in text[5]


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (NOISY, "rows"),
        (NOISY, "times"),
        (NOISY.rows[0], "t"),
        (NOISY.rows[2], "weights"),
        (MIDDLE, "alpha"),
        (X[1], "std"),
    ],
)
def test_plans_cannot_be_changed(thing, name):
    with pytest.raises(FrozenInstanceError):
        setattr(thing, name, ())
    with pytest.raises(FrozenInstanceError):
        delattr(thing, name)


def test_arrays_cannot_be_changed():
    given = np.array([1.0, 2.0])
    array = Array(given)
    given[0] = 9.0
    assert array == Array([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        array.values[0] = 9.0


def test_one_plan_serves_many_threads():
    """Eight threads share one plan and one model; each draws what it would draw alone."""

    def net(x, t):
        return torch.tanh(x) * t[:, None]

    shared = urn.compile_plan("ddim", FLOW, 12, eta=0.7)
    model = urn.Model(net, FLOW, predicts="v", shape=(5,))

    def draw(seed):
        return [urn.sample(model, shared, seed=seed, shape=(3, 5)) for _ in range(4)]

    urn.sample(model, shared)  # the network is looked at once, here
    alone = [draw(seed) for seed in range(8)]
    fresh = urn.Plan.from_json(shared.to_json())
    assert fresh == shared
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(draw, range(8)))
    for seed in range(8):
        assert all(torch.equal(a, b) for a, b in zip(alone[seed], together[seed], strict=True))
    assert shared == fresh
