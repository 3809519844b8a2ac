"""Any method with other times shown to the network than those of its states: tuned labels.

With a ratio r_i for each step, the call at node i shows tau_i = r_i t_i, while all coefficients stay at t_i:

    epsilon_i = epsilon(x_i, tau_i),        x_{i+1} = the method's own combination.

An Euler step leaves along the direction at its start; a label nearer to the step's middle can give a better one. Ratios 1 are
the method itself. The network's output is read as the prediction that it names, with alpha and sigma of t_i.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from urn.method import Method, Steps, rewritten
from urn.nodes import Nodes, one_for_all
from urn.plan import Evaluate, Read, Register, Row


def relabelled(method: Method | str, ratios: Sequence[float] | Tensor) -> Method:
    """The method that shows the network r_i t_i instead of t_i, for a method that calls it at points of the grid only.

    Args:
        method: a name or Method; all its calls at one node show the same label.
        ratios: one for each step of the grid, positive; they may carry gradients. What a method calls at the grid's last node,
            and the jump of `final="x0"`, show their own time.

    Returns:
        A `Method` whose plans record `ratios` among their options.

    Raises:
        ValueError: ratios that are not positive finite numbers, an unknown method; when it compiles, another number of ratios
            than steps, a label outside the process's times, or a call between the grid's points.

    Source: Xia, Shen, Lei, Zhou, Yi, Zhao, Wang, Liu 2023, Towards More Accurate Diffusion Model Acceleration with A Timestep
    Aligner, arXiv 2310.09469.

    Example:
        >>> plan = compile_plan(relabelled("ddim", (0.97, 0.98, 0.98, 1.0)), VP.linear(), 4)
    """
    from urn.methods import find_method

    chosen = find_method(method, ("x",))
    if "ratios" in chosen.defaults:
        raise ValueError(f"method={chosen.name!r} has an option `ratios` of its own")
    _positive(ratios)

    def function(nodes: Nodes, x: Register, ratios: Any = ratios, **options: Any) -> Steps:
        one_for_all(chosen.name, nodes)
        given = _positive(ratios)
        if len(given) != len(nodes) - 1:
            raise ValueError(f"ratios: {len(given)} of them; the grid has {len(nodes) - 1} steps")

        def rewrite(request: Row | Read) -> Generator[Any, Any, Any]:
            if isinstance(request, Evaluate):
                request = _shown(request, given, nodes)
            return (yield request)

        return (yield from rewritten(chosen.function(nodes, x, **options), rewrite))

    of_method = list(chosen.signature.parameters.values())
    parameter = inspect.Parameter("ratios", inspect.Parameter.KEYWORD_ONLY, default=None)
    function.__doc__ = chosen.function.__doc__
    function.__signature__ = chosen.signature.replace(parameters=[*of_method, parameter])  # type: ignore[attr-defined]
    same = not isinstance(ratios, Tensor) and all(float(ratio) == 1 for ratio in ratios)
    changed = replace(
        chosen, function=function, name=f"{chosen.name} relabelled", options={**chosen.options, "ratios": ratios}
    )
    return changed if same else replace(changed, order=None, exact_for=(), facts=None)


def _shown(request: Evaluate, ratios: Tensor, nodes: Nodes) -> Evaluate:
    index = request.node.index
    if index is None:
        raise ValueError(
            f"a call at t={float(request.node.t):.6g} lies between the grid's points: ratios are for methods that call the "
            "model at these alone"
        )
    if index >= len(ratios) or (float(ratios[index].detach()) == 1 and not ratios.requires_grad):
        return request
    label, ratio = ratios[index] * request.t, float(ratios[index].detach())
    low, high = nodes.process.domain
    if not low <= float(label.detach()) <= high:
        raise ValueError(
            f"ratios[{index}]={ratio:.6g} shows t={float(label.detach()):.6g}; {nodes.process} has times from {low:g} "
            f"to {high:g}"
        )
    return replace(request, t=label)


def _positive(ratios: Any) -> Tensor:
    try:
        numbers = () if isinstance(ratios, str) else ratios
        given = ratios if isinstance(ratios, Tensor) else torch.tensor([float(r) for r in numbers], dtype=torch.float64)
    except (TypeError, ValueError):
        given = torch.zeros(())
    if given.ndim != 1 or len(given) == 0 or not bool((given > 0).all()) or not bool(torch.isfinite(given).all()):
        raise ValueError(f"ratios={ratios!r} must be positive finite numbers, one for each step of the grid")
    return given.to("cpu", torch.float64)
