"""Singlestep exponential schemes of orders two and three: DPM-Solver in the epsilon form, DPM-Solver++ in the x0 form."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from urn.coefficients.exponential import Form, halved_weights, integral_weights
from urn.nodes import Nodes
from urn.plan import Node, Register
from urn.schemes.multistep import predictions, step_row

SingleStep = Callable[[Form, Nodes, Node, Node, Register], Generator[Any, Any, Register]]


def first_order(form: Form, nodes: Nodes, cur: Node, next: Node, x: Register) -> Generator[Any, Any, Register]:
    """One evaluation: carry x plus the step's whole weight on the prediction at cur."""
    here = yield from predictions(cur, x)
    return str((yield step_row(form, integral_weights, cur, next, x, [here])))


def second_order(
    form: Form, nodes: Nodes, cur: Node, next: Node, x: Register, r: float = 0.5
) -> Generator[Any, Any, Register]:
    """Two evaluations, at cur and at the share r of the step in lambda, with `halved_weights`."""
    here = yield from predictions(cur, x)
    middle = nodes.between(cur, next, r)
    u = yield step_row(form, integral_weights, cur, middle, x, [here])
    there = yield from predictions(middle, u)
    return str((yield step_row(form, halved_weights, cur, next, x, [here, there])))


def third_order(
    form: Form, nodes: Nodes, cur: Node, next: Node, x: Register, r1: float = 1 / 3, r2: float = 2 / 3
) -> Generator[Any, Any, Register]:
    """Three evaluations, at cur and at the shares r1 and r2; the last sum uses cur and r2, a Radau pair for r2 = 2/3."""
    here = yield from predictions(cur, x)
    one, two = nodes.between(cur, next, r1), nodes.between(cur, next, r2)
    u = yield step_row(form, integral_weights, cur, one, x, [here])
    at_one = yield from predictions(one, u)
    u = yield step_row(form, integral_weights, cur, two, x, [here, at_one])
    at_two = yield from predictions(two, u)
    return str((yield step_row(form, integral_weights, cur, next, x, [here, at_two])))


ORDERS: dict[int, SingleStep] = {1: first_order, 2: second_order, 3: third_order}


def singlestep(nodes: Nodes, x: Register, form: Form, step: SingleStep) -> Generator[Any, Any, Register]:
    """The same step on every interval of the grid."""
    for cur, next in nodes.steps():
        x = yield from step(form, nodes, cur, next, x)
    return x


__all__ = ["ORDERS", "first_order", "second_order", "singlestep", "third_order"]
