"""Plans made by hand, small enough to be checked by eye."""

from __future__ import annotations

from typing import Any

from urn.plan import Combine, Evaluate, Law, Node, Noise, Plan
from urn.processes import Flow

FLOW = Flow()
START, MIDDLE, END = Node(1.0, 0.0, 1.0, 0), Node(0.5, 0.5, 0.5, 1), Node(0.0, 1.0, 0.0, 2)
X = ("x", Law(START, 1.0))


def plan(*rows: Any, inputs: Any = (X,), outputs: Any = None, **facts: Any) -> Plan:
    """A plan of these rows on Flow; by default its output is what the last row defines, at t = 0."""
    if outputs is None:
        outputs = (("x", rows[-1].defines[0], END),)
    return Plan(inputs, rows, outputs, **{"method": "by hand", "process": FLOW, "times": (1.0, 0.5, 0.0), **facts})


def call(out: str, x: str, node: Node = START, wanted: str = "x0", **fields: Any) -> Evaluate:
    """One model call that gives one prediction."""
    return Evaluate(((out, wanted),), (x,), node.t, node, **fields)


# DDIM with fresh noise at the middle: x1 = 0.5 x0 + 0.3 epsilon + 0.4 z has sigma sqrt(0.3^2 + 0.4^2) = 0.5.
NOISY = plan(
    Evaluate((("d1", "x0"), ("eps1", "epsilon")), ("x",), 1.0, START),
    Noise("z1", (1.0, 0.5), 0),
    Combine("x1", ((0.5, "d1"), (0.3, "eps1"), (0.4, "z1")), MIDDLE),
    call("d2", "x1", MIDDLE, step=1),
    Combine("x2", ((1.0, "d2"),), END, 1),
    order=1,
    exact_for=("point",),
)
