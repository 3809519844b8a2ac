"""Any method with its states kept in a cube: reflected at its faces, or projected onto it.

On data in the cube [low, high]^d the reflected diffusion dx = g dw + dL has the reflected heat kernels as its laws, and its
reverse keeps the reflection (Lou & Ermon 2023). One step of a method is then the step without faces followed by

    reflect(x): the point that x is folded to by mirrors at both faces      (symmetrised Euler; weak order 1)
    clip(x):    the nearest point of the cube                              (projected Euler; weak order 1/2)

The second is what thresholding does after each step: the paper's point is that it, too, discretises a reflected diffusion.

Source: Lou & Ermon 2023, Reflected Diffusion Models, arXiv 2304.04740; the orders: Bossy, Gobet & Talay 2004, A symmetrized
Euler scheme for an efficient approximation of reflected diffusions; Costantini, Pacchiarotti & Sartoretto 1998, Numerical
approximation for functionals of reflecting diffusion processes.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from urn.method import Method, Steps, apply, one_of, rewritten
from urn.nodes import Nodes
from urn.plan import Apply, Combine, PlanError, Read, Register, Row

MAPS = {"reflect": "reflect", "project": "clip"}


def reflected(method: Method | str, low: float = 0.0, high: float = 1.0, how: str = "reflect") -> Method:
    """The method with its start and every state that it makes kept in [low, high]^d.

    A state is a row with a node, on the grid or between its points: so the model is never shown a point outside. Sums without
    a node (slopes, differences of predictions) are left alone. The map stands in the plan as an `Apply` row after the sum.

    With "reflect" the start N(0, sigma^2 I) becomes the reflected heat kernel at 0; per coordinate, and with w = high - low,
    its density is 1/w up to a factor within 1 +- 2.1 exp(-pi^2 sigma^2 / (2 w^2)) once sigma > w: uniform. With "project"
    nearly all of that start would lie on the faces; there the start alone is reflected.

    Args:
        method: a name or Method.
        low, high: the faces, low < high, the same for all coordinates.
        how: "reflect" or "project".

    Raises:
        ValueError: an unknown method or `how`, or faces that are not so.
        PlanError: when compiled on a process with alpha != 1: its scaling moves the cube.

    `predictor_corrector` divides by the score, which at sigma well above w is 0 to rounding: start it near sigma = w.
    What `compile_plan(..., final="x0")` adds after the method is not reflected, and on reflected kernels
    x + sigma^2 score is not the mean of the data given x: end at a small sigma instead.

    Example:
        >>> plan = compile_plan(reflected("euler_maruyama"), VE(0.01, 5.0), 50, grid="exponential")
    """
    from urn.methods import find_method

    chosen = find_method(method, ("x",))
    if not low < high:
        raise ValueError(f"low={low!r} must lie below high={high!r}")
    name = MAPS[one_of("how", how, MAPS)]

    def function(nodes: Nodes, x: Register, **options: Any) -> Steps:
        if bool((nodes.process.alpha(nodes.times) != 1).any()):
            raise PlanError(f"reflection needs alpha = 1, as on VE; {nodes.process} scales the cube with time")

        def rewrite(request: Row | Read) -> Generator[Any, Any, Any]:
            if not isinstance(request, (Combine, Apply)) or request.node is None:
                return (yield request)
            made = yield replace(request, node=None)
            return (yield apply(name, made, node=request.node, low=low, high=high))

        start = yield apply("reflect", x, node=nodes[0], low=low, high=high)
        return (yield from rewritten(chosen.function(nodes, start, **options), rewrite))

    function.__doc__ = chosen.function.__doc__
    function.__signature__ = chosen.signature  # type: ignore[attr-defined]

    def facts(given: Mapping[str, Any]) -> dict[str, Any]:
        changed = {"order": chosen.order, **(chosen.facts(given) if chosen.facts is not None else {}), "exact_for": ()}
        if chosen.stochastic and changed["order"] is not None:
            changed["order"] = min(changed["order"], 1) if how == "reflect" else None
        return changed

    renamed = f"{chosen.name} {how}ed into [{low:g}, {high:g}]"
    return replace(
        chosen,
        function=function,
        name=renamed,
        facts=facts,
        **facts({**chosen.defaults, **chosen.fixed, **chosen.options}),
    )
