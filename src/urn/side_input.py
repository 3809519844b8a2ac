"""Any method on a process with a side input: it sees x - beta y, an ordinary process, and its rows are written on x.

With u = x - beta y the method's rows hold for registers of u. Each register r of the plan is the method's own and some
weight of y: beta of its node for a state, beta' for a velocity, 0 for x0, epsilon, v, a score and noise. So

    u_next = sum_i w_i u_i    is    x_next = sum_i w_i r_i + (beta_next - sum_i w_i b_i) y,

b_i the weight of y in r_i: the same row with one more term. A model call reads y as its last input.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from urn.method import Steps, combine, rewritten
from urn.nodes import Nodes
from urn.plan import Apply, Combine, Evaluate, Node, PlanError, Read, Register, Row
from urn.processes import with_side_input

NAME: Register = "y"


def carrying(nodes: Nodes, steps: Steps) -> Steps:
    """The rows of a method on x - beta y as rows on x and y.

    Raises:
        PlanError: a map is applied to a register that carries y and makes no state of it.
    """
    side = with_side_input(nodes.process)
    if side is None:
        raise PlanError(f"{nodes.process} has no side input")
    held: dict[Register, Tensor] = {"x": side.beta(nodes[0].t)}  # the weight of y in a register, where that is not 0
    none = torch.zeros((), dtype=torch.float64)

    def rewrite(request: Row | Read) -> Generator[Any, Any, Any]:
        answer: Any
        if isinstance(request, Evaluate):
            state, *others = request.inputs
            short = side.beta(request.node.t) - held.get(state, none)
            if bool((short != 0).any()):
                node = Node(request.node.t, request.node.alpha, request.node.sigma)
                state = yield combine(node, (1.0, state), (short, NAME))
            answer = yield replace(request, inputs=(state, *others, NAME))
            for register, (_, wanted) in zip(_listed(answer), request.outs, strict=True):
                if wanted == "velocity":
                    held[register] = side.beta_slope(request.node.t)
        elif isinstance(request, Combine):
            brought = sum((weight * held[register] for weight, register in request.weights if register in held), none)
            weights, carried = request.weights, brought
            if request.node is not None:
                carried = side.beta(request.node.t)
                weights = (*weights, (carried - brought, NAME))
            answer = yield replace(request, weights=weights)
            held[answer] = carried
        elif isinstance(request, Apply):
            if request.node is None and any(bool((held.get(r, none) != 0).any()) for r in request.inputs):
                raise PlanError(f"{request.function} of {', '.join(request.inputs)}: one carries the side input y")
            answer = yield request
            if request.node is not None:
                held[answer] = side.beta(request.node.t)
        else:
            answer = yield request
        return answer

    return (yield from rewritten(steps, rewrite))


def _listed(answer: Any) -> tuple[Register, ...]:
    return (answer,) if isinstance(answer, str) else tuple(answer)
