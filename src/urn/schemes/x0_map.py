"""Any method with its estimates of x0 passed through a map: clipping, dynamic thresholding, one of your own."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from urn.method import Method, Steps, apply, combine
from urn.nodes import Nodes
from urn.plan import FUNCTIONS, Evaluate, Node, Register


def mapped_x0(method: Method | str, function: str, **options: Any) -> Method:
    """The method that sees f(x0) wherever the original sees x0, and the other predictions that go with it.

    With d = f(x0): epsilon = (x - alpha d)/sigma, and v, velocity and score as they follow from d and epsilon. The map
    stands in the plan as an `Apply` row after each model call.

    Args:
        method: a name or Method.
        function: a registered map of one register: "clip" (low, high), "dynamic_threshold" (quantile, floor, ceiling), or
            what `urn.register_function` has added.
        options: of the map.

    Raises:
        ValueError: the method or the map is unknown.

    Sources: clipping: Ho, Jain, Abbeel 2020, arXiv 2006.11239; dynamic thresholding: Saharia et al. 2022, arXiv 2205.11487.

    Example:
        >>> plan = compile_plan(mapped_x0("dpmpp_2m", "dynamic_threshold", quantile=0.995), VP.linear(), 10)
    """
    from urn.methods import find_method

    chosen = find_method(method) if isinstance(method, str) else method
    if function not in FUNCTIONS:
        raise ValueError(f"function={function!r} is not registered; known: {', '.join(FUNCTIONS)}")

    def mapped(nodes: Nodes, x: Register, **method_options: Any) -> Steps:
        steps = chosen.function(nodes, x, **method_options)
        answer: Any = None
        while True:
            try:
                request = steps.send(answer)
            except StopIteration as end:
                return str(end.value)
            if isinstance(request, Evaluate):
                answer = yield from _evaluated(nodes, request, function, options)
            else:
                answer = yield request

    mapped.__doc__ = chosen.function.__doc__
    mapped.__signature__ = chosen.signature  # type: ignore[attr-defined]
    given = "".join(f", {name}={value}" for name, value in options.items())
    return replace(chosen, function=mapped, name=f"{chosen.name} with {function}(x0{given})", exact_for=())


def _evaluated(nodes: Nodes, request: Evaluate, function: str, options: dict[str, Any]) -> Generator[Any, Any, Any]:
    """The call with x0 mapped, and every wanted prediction made of it; outputs that are none pass through."""
    wanted = [prediction for _, prediction in request.outs]
    others = [name for name in wanted if name not in ("x0", "epsilon", "v", "velocity", "score")]
    got = yield replace(request, outs=(("", "x0"), *(("", name) for name in others)))
    x0, *rest = (got,) if isinstance(got, str) else got
    mapped = yield apply(function, x0, **options)
    made = dict(zip(others, rest, strict=True))
    for prediction in wanted:
        if prediction == "x0":
            made[prediction] = mapped
        elif prediction not in made:
            made[prediction] = yield combine(None, *_terms(nodes, request.node, prediction, request.inputs[0], mapped))
    answers = tuple(made[prediction] for prediction in wanted)
    return answers[0] if len(answers) == 1 else answers


def _terms(nodes: Nodes, node: Node, prediction: str, x: Register, x0: Register) -> tuple[tuple[Any, Register], ...]:
    """A prediction p x0 + q epsilon, with epsilon = (x - alpha x0)/sigma, on (x, x0)."""
    if prediction == "velocity":
        p, q = nodes.velocity_weights(node)
    else:
        p, q = {"epsilon": (0.0, 1.0), "v": (-node.sigma, node.alpha), "score": (0.0, -1 / node.sigma)}[prediction]
    return (q / node.sigma, x), (p - q * node.alpha / node.sigma, x0)
