"""Any method with its estimates of x0 passed through a map: clipping, dynamic thresholding, one of your own."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from urn.method import Method, apply
from urn.plan import FUNCTIONS, Node, Register
from urn.schemes.remade import remade


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

    chosen = find_method(method, ("x",))
    if function not in FUNCTIONS:
        raise ValueError(f"function={function!r} is not registered; known: {', '.join(FUNCTIONS)}")

    def remake(node: Node, x0: Register) -> Generator[Any, Any, Register]:
        return str((yield apply(function, x0, **options)))

    given = "".join(f", {name}={value}" for name, value in options.items())
    return remade(
        replace(chosen, name=f"{chosen.name} with {function}(x0{given})", exact_for=()), "x0", lambda nodes: remake
    )
