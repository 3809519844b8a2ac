"""Methods on stretches of a grid: one after the other, mixed, or with an option that changes from step to step.

A stretch is a grid of its own to the method that runs on it: a multistep method starts anew there, and a step that ends the
stretch is its last. Only where its rows stand in the whole plan is translated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from urn.method import Method, Steps, rewritten
from urn.nodes import Nodes
from urn.plan import Apply, Combine, Read, Register, Row

Part = Method | str | tuple[Method | str, int | None]


def on_stretch(method: Method, nodes: Nodes, x: Register, times: Tensor, places: Sequence[int | None]) -> Steps:
    """A method on times of their own; `places` are the indices of its points in the whole grid, None for none."""

    def rewrite(request: Row | Read) -> Generator[Any, Any, Any]:
        if isinstance(request, (Combine, Apply)) and request.node is not None and request.node.index is not None:
            request = replace(request, node=replace(request.node, index=places[request.node.index]))
        return (yield request)

    return (yield from rewritten(method(Nodes(nodes.process, times), x), rewrite))


def mixed(*parts: Part) -> Method:
    """A method that hands over from one method to the next along the grid.

    Any part may be stochastic, so a window of noise in an otherwise deterministic sampler is three parts, and a solver that
    is switched midway two. Each part starts from the state alone: a multistep method has no history there.

    Args:
        parts: methods or their names, each with the number of steps of the grid that it takes: (method, steps). The last
            one takes what is left; it needs no number. Options go with a method: `urn.METHODS["cps"].with_options(eta=0.3)`.

    Returns:
        A `Method`, of the lowest order among the parts, stochastic if one of them is.

    Raises:
        ValueError: no part, an unknown method, or a number of steps that is none. Compiled on a grid with fewer steps than
            the parts take, it raises too.

    Sources: Li et al. 2025, MixGRPO, arXiv 2507.21802, section 3.2.

    Example:
        >>> plan = compile_plan(mixed(("ddim", 2), ("flow_grpo", 4), "dpmpp_2m"), Flow(), 12)
    """
    if not parts:
        raise ValueError("parts=() must have at least one method")
    chosen = [_part(part, last=place == len(parts) - 1) for place, part in enumerate(parts)]

    def run(nodes: Nodes, x: Register) -> Steps:
        total, first = len(nodes) - 1, 0
        asked = sum(count or 0 for _, count in chosen)
        if asked > total or (chosen[-1][1] is not None and asked < total):
            raise ValueError(f"parts={parts!r} must take the grid's {total} steps, not {asked}")
        for method, count in chosen:
            end = total if count is None else first + count
            if end > first:
                times = nodes.times[first : end + 1]
                x = yield from on_stretch(method, nodes, x, times, range(first, end + 1))
            first = end
        return x

    methods = [method for method, _ in chosen]
    orders = [method.order for method in methods]
    name = "mixed(" + ", ".join(_words(method, count) for method, count in chosen) + ")"
    return Method(
        run,
        name,
        None if None in orders else min(order for order in orders if order is not None),
        "; ".join(dict.fromkeys(method.source for method in methods)),
        any(method.stochastic for method in methods),
        tuple(what for what in methods[0].exact_for if all(what in method.exact_for for method in methods)),
        "that of its parts",
    )


def varied(method: Method | str, **options: Sequence[float]) -> Method:
    """A one-step method with options that change from step to step, each a sequence with one value per step of the grid.

    Example:
        >>> plan = compile_plan(varied("cps", eta=noise_shares("decaying", 8, 2.0)), Flow(), 8)
    """
    from urn.methods import find_method

    chosen = find_method(method, ("x",))
    if not options:
        raise ValueError("options: none given; each is a sequence with one value per step")
    counts = {name: len(values) for name, values in options.items()}
    steps = next(iter(counts.values()))
    if set(counts.values()) != {steps}:
        raise ValueError(f"options: {counts} values; each must have one per step")
    each = [chosen.with_options(**{name: values[i] for name, values in options.items()}) for i in range(steps)]
    whole = mixed(*((one, 1) for one in each))
    return replace(whole, name=f"{chosen.name} with {', '.join(options)} varied")


SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "constant": torch.ones_like,
    "decaying": lambda u: 1 - u,
    "late": lambda u: u,
}


def noise_shares(shape: str, steps: int, total: float) -> tuple[float, ...]:
    """CPS's eta of every step but the last, for a total amount of fresh noise that is the same whatever the shape.

    A step keeps the share cos(eta pi/2) of the noise there was. The amount is minus the log of all shares kept; it is spread
    over the steps evenly ("constant"), falling linearly to nothing ("decaying") or rising from it ("late"). The last step,
    which goes to the data and has no noise, has 0.

    Raises:
        ValueError: an unknown shape, fewer than 2 steps, or a negative total.
    """
    if shape not in SHAPES:
        raise ValueError(f"shape={shape!r} must be one of {', '.join(SHAPES)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps={steps!r} must be an integer of at least 2")
    if not (isinstance(total, (int, float)) and 0 <= total < math.inf):
        raise ValueError(f"total={total!r} must be a number of at least 0")
    amounts = SHAPES[shape]((torch.arange(steps - 1, dtype=torch.float64) + 0.5) / (steps - 1))
    kept = torch.exp(-total * amounts / amounts.sum())
    return (*(torch.acos(kept) * 2 / math.pi).tolist(), 0.0)


def _part(part: Part, last: bool) -> tuple[Method, int | None]:
    method, steps = part if isinstance(part, tuple) else (part, None)
    if steps is None and not last:
        raise ValueError(f"parts: {part!r} must be (method, steps); only the last takes what is left")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 0):
        raise ValueError(f"parts: steps={steps!r} must be an integer of at least 0")
    from urn.methods import find_method

    return find_method(method, ("x",)), steps


def _words(method: Method, count: int | None) -> str:
    options = "".join(f", {name}={value}" for name, value in method.options.items())
    return f"{method.name}{options}" + ("" if count is None else f" x {count}")
