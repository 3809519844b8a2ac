"""Plans as JSON: bit for bit there and back, and refused when foreign, damaged, cut short or edited."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
from core_cases import PROCESSES
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_plans import END, NOISY, START, call, plan

from urn import Plan, PlanError, compile_plan
from urn.plan import Apply, Array, Combine, Evaluate, Law, Node, Noise

finite = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
arrays = st.lists(finite, min_size=1, max_size=6).flatmap(
    lambda values: st.sampled_from([Array(values), Array(np.reshape(values, (1, -1, 1)))])
)
number = st.one_of(finite, arrays)
node = st.builds(Node, finite, number, number, st.one_of(st.none(), st.integers(0, 99)))
option = st.one_of(finite, st.booleans(), st.integers(), st.text(max_size=9), st.none(), st.tuples(finite, finite))


def bits(value):
    """A value with every float as its eight bytes, so that -0.0 and 0.0 differ."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, Array):
        return value.values.shape, value.values.tobytes()
    if isinstance(value, tuple):
        return tuple(bits(item) for item in value)
    if hasattr(value, "__dataclass_fields__"):
        return type(value).__name__, tuple(bits(getattr(value, name)) for name in value.__dataclass_fields__)
    return type(value).__name__, value


@st.composite
def plans(draw):
    rows = [
        Evaluate((("d1", "x0"), ("s1", "score")), ("x",), draw(finite), draw(node), "main", draw(st.integers(0, 9))),
        Noise("z1", (draw(finite), draw(finite)), draw(st.integers(0, 9))),
        Apply("d2", "clip", ("d1",), (("high", draw(finite)), ("low", draw(option))), draw(st.none() | node), 3),
        Combine("x1", tuple((draw(number), register) for register in ("x", "d2", "s1", "z1")), draw(st.none() | node)),
    ]
    inputs = (("x", Law(draw(node), draw(number), ((draw(number), "y"),))), ("y", Law(None)))
    return plan(
        *rows,
        inputs=inputs,
        outputs=(("x", "x1", draw(node)),),
        times=tuple(draw(st.lists(finite, min_size=2, max_size=4))),
        options=tuple(draw(st.dictionaries(st.text(max_size=5), option | st.floats(allow_nan=False))).items()),
        order=draw(st.none() | st.integers(1, 9)),
        process=draw(st.sampled_from(list(PROCESSES.values()))),
    )


@settings(max_examples=80, deadline=None, database=None)
@given(plans())
def test_json_gives_back_the_same_bits(one):
    text = one.to_json()
    back = Plan.from_json(text)
    assert back == one
    assert hash(back) == hash(one)
    assert bits(back) == bits(one)
    assert back.to_json() == text


@pytest.mark.parametrize("name", PROCESSES)
def test_compiled_plans_go_through_json(name):
    one = compile_plan("ddim", PROCESSES[name], 2, "lambda", final="x0", eta=0.5)
    back = Plan.from_json(one.to_json())
    assert back == one
    assert bits(back) == bits(one)
    assert str(back) == str(one)


def test_infinite_options_go_through_json():
    one = replace(NOISY, options=(("churn_below", math.inf), ("churn_range", (-math.inf, 1.0))))
    assert Plan.from_json(one.to_json()) == one
    json.loads(one.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# Version 1 as it was first written. If this test fails, old files can no longer be read: raise VERSION, keep reading 1.
GOLDEN = """\
{"format": "urn-plan", "version": 1, "method": "by hand", "options": [], "order": 1, "exact_for": ["point"],
 "process": {"kind": "flow", "shift": 1.0}, "times": [1.0, 0.5, 0.0],
 "inputs": [["x", {"node": {"t": 1.0, "alpha": 0.0, "sigma": 1.0, "index": 0}, "std": 1.0, "mean": []}]],
 "rows": [
  {"kind": "evaluate", "outs": [["d1", "x0"], ["eps1", "epsilon"]], "inputs": ["x"], "t": 1.0,
   "node": {"t": 1.0, "alpha": 0.0, "sigma": 1.0, "index": 0}, "model": "main", "step": 0},
  {"kind": "noise", "out": "z1", "interval": [1.0, 0.5], "stream": 0, "step": 0},
  {"kind": "combine", "out": "x1", "weights": [[0.5, "d1"], [0.3, "eps1"], [0.4, "z1"]],
   "node": {"t": 0.5, "alpha": 0.5, "sigma": 0.5, "index": 1}, "step": 0},
  {"kind": "evaluate", "outs": [["d2", "x0"]], "inputs": ["x1"], "t": 0.5,
   "node": {"t": 0.5, "alpha": 0.5, "sigma": 0.5, "index": 1}, "model": "main", "step": 1},
  {"kind": "combine", "out": "x2", "weights": [[1.0, "d2"]],
   "node": {"t": 0.0, "alpha": 1.0, "sigma": 0.0, "index": 2}, "step": 1}],
 "outputs": [["x", "x2", {"t": 0.0, "alpha": 1.0, "sigma": 0.0, "index": 2}]]}
"""


def sealed(content: dict) -> str:
    """JSON with the checksum that its content has: the first 16 hex digits of the SHA-256 of it, sorted and compact."""
    content = {key: value for key, value in content.items() if key != "checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "checksum": hashlib.sha256(text.encode()).hexdigest()[:16]})


def test_a_file_of_version_one_is_read_for_ever():
    assert Plan.from_json(sealed(json.loads(GOLDEN))) == NOISY
    assert json.loads(NOISY.to_json()) == json.loads(sealed(json.loads(GOLDEN)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON, so not a plan"),
        ("plan", "not JSON, so not a plan"),
        (None, "not JSON, so not a plan"),
        ("3", "not an Urn plan: 'format' is 'int'"),
        ("[]", "not an Urn plan: 'format' is 'list'"),
        ("{}", "not an Urn plan: 'format' is None, not 'urn-plan'"),
        ('{"_class_name": "DDIMScheduler"}', "not an Urn plan: 'format' is None"),
        ('{"format": "urn-plan"}', "a plan of version None; this Urn reads version 1"),
        ('{"format": "urn-plan", "version": 2}', "a plan of version 2; this Urn reads version 1"),
        ('{"format": "urn-plan", "version": "1"}', "a plan of version '1'"),
        ('{"format": "urn-plan", "version": 1}', "the plan is damaged: its checksum is None"),
    ],
)
def test_foreign_text_is_refused(text, message):
    with pytest.raises(PlanError, match=message):
        Plan.from_json(text)


def test_every_truncation_is_refused():
    text = NOISY.to_json()
    for length in range(0, len(text) - 1, 7):
        with pytest.raises(PlanError, match="not JSON"):
            Plan.from_json(text[:length])


def test_no_changed_character_changes_a_plan_unnoticed():
    text = NOISY.to_json()
    refused = 0
    for i, character in enumerate(text):
        if character.isspace():
            continue
        other = str((int(character) + 1) % 10) if character.isdigit() else "#"
        try:
            assert Plan.from_json(text[:i] + other + text[i + 1 :]) == NOISY
        except PlanError:
            refused += 1
    assert refused == sum(not character.isspace() for character in text)


def edited(change):
    content = json.loads(NOISY.to_json())
    change(content)
    return sealed(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["rows"][2]["weights"].clear(), "a sum of nothing"),
        (
            lambda c: c["rows"][2].update(weights=[[0.6, "d1"], [0.3, "eps1"], [0.4, "z1"]]),
            "a point mass reaches alpha",
        ),
        (lambda c: c["rows"][0].update(kind="call"), "the plan cannot be read: KeyError: 'call'"),
        (lambda c: c["rows"][0].pop("outs"), "the plan cannot be read: TypeError: .*outs"),
        (lambda c: c["rows"][0].update(colour="red"), "the plan cannot be read: TypeError: .*colour"),
        (lambda c: c["rows"].insert(0, c["rows"][2]), "register 'd1' is read before it is defined"),
        (lambda c: c.pop("rows"), "the plan cannot be read: KeyError: 'rows'"),
        (
            lambda c: c.update(process={"kind": "flaw"}),
            "the plan cannot be read: ValueError: process kind 'flaw' is unknown",
        ),
        (lambda c: c["process"].update(shift=-1.0), r"shift=-1\.0 must be a positive finite number"),
        (lambda c: c["inputs"][0].__setitem__(1, "law"), "the plan cannot be read: TypeError"),
        (lambda c: c["rows"][2].update(node="here"), "the plan cannot be read: AttributeError"),
        (lambda c: c["rows"][2].update(node={"t": 0.5, "alpha": math.nan, "sigma": 0.5}), "the node's alpha = nan"),
        (lambda c: c["rows"][2]["weights"][0].__setitem__(0, "0.5"), "the weight of d1 = '0.5' is a str, not a float"),
        (
            lambda c: c["rows"][2]["weights"][0].__setitem__(0, {"array": {"shape": [3], "float64": "AAAA"}}),
            "the plan cannot be read: ValueError",
        ),
        (
            lambda c: c["rows"].insert(
                1, {"kind": "apply", "out": "q", "function": "rm", "inputs": ["x"], "options": [], "node": None}
            ),
            "function 'rm' is not registered",
        ),
    ],
)
def test_a_plan_edited_with_its_checksum_is_still_checked(change, message):
    with pytest.raises(PlanError, match=message):
        Plan.from_json(edited(change))


def test_an_edit_that_is_right_is_a_plan():
    def swap(content):
        content["rows"][2]["weights"] = [[0.5, "d1"], [0.4, "eps1"], [0.3, "z1"]]

    assert Plan.from_json(edited(swap)).rows[2].weights == ((0.5, "d1"), (0.4, "eps1"), (0.3, "z1"))


def test_arrays_are_kept_with_shape_and_bits():
    values = np.array([[5e-324, -0.0, math.pi]])
    weight = Array(values)
    one = plan(call("d1", "x"), Combine("x2", ((weight, "d1"),), END), inputs=(("x", Law(START, 1.0)),))
    back = Plan.from_json(one.to_json()).rows[1].weights[0][0]
    assert back.values.shape == (1, 3)
    assert back.values.tobytes() == values.tobytes()
