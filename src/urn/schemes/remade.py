"""Any method with one of its predictions, x0 or epsilon, remade between the model call and the method.

The call gives the prediction alone, and every other that the method wants is made of what became of it, as if the network had
returned that. It is what maps of x0 (`x0_map`) and of epsilon (`epsilon_map`) are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from urn.method import Method, Steps, combine, rewritten
from urn.nodes import Nodes
from urn.plan import Evaluate, Node, Read, Register, Row
from urn.prediction import PREDICTIONS, conversion

Remake = Callable[[Node, Register], Generator[Any, Any, Register]]


def remade(method: Method, prediction: str, remake_of: Callable[[Nodes], Remake]) -> Method:
    """The method with `prediction` remade at every call.

    Args:
        method: a method; outputs of its calls that are no predictions pass through.
        prediction: "x0" or "epsilon"; where alpha is 0 an epsilon is left as it is, for there it gives no x0.
        remake_of: makes, for one compilation, the generator (node, register) that returns the register in its place.
    """

    def function(nodes: Nodes, x: Register, **options: Any) -> Steps:
        remake = remake_of(nodes)

        def rewrite(request: Row | Read) -> Generator[Any, Any, Any]:
            if not isinstance(request, Evaluate) or (prediction == "epsilon" and bool((request.node.alpha == 0).any())):
                return (yield request)
            return (yield from _evaluated(nodes, request, prediction, remake))

        return (yield from rewritten(method.function(nodes, x, **options), rewrite))

    function.__doc__ = method.function.__doc__
    function.__signature__ = method.signature  # type: ignore[attr-defined]
    return replace(method, function=function)


def _evaluated(nodes: Nodes, request: Evaluate, prediction: str, remake: Remake) -> Generator[Any, Any, Any]:
    wanted = [name for _, name in request.outs]
    others = [name for name in wanted if name not in PREDICTIONS]
    got = yield replace(request, outs=(("", prediction), *(("", name) for name in others)))
    register, *rest = (got,) if isinstance(got, str) else got
    made = {**dict(zip(others, rest, strict=True)), prediction: (yield from remake(request.node, register))}
    for name in wanted:
        if name not in made:
            on_x, on_made = conversion(prediction, name, request.node, nodes.process)
            made[name] = yield combine(None, (on_x, request.inputs[0]), (on_made, made[prediction]))
    answers = tuple(made[name] for name in wanted)
    return answers[0] if len(answers) == 1 else answers
