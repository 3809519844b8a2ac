"""Any method with its noise predictions remade from the last ones: DualFast, and Levenberg-Marquardt-Langevin.

Both sit between the model call and the method: with e' in place of epsilon the method sees x0 = (x - sigma e')/alpha and the
other predictions that go with it. Where alpha is 0, and at a method's first call, the prediction is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

from urn.method import Method, Steps, apply, combine, number, one_of
from urn.nodes import Nodes
from urn.plan import Evaluate, Node, Register

Remake = Callable[[Nodes, Node, Register, list[Register]], Generator[Any, Any, Register]]
PREDICTIONS = ("x0", "epsilon", "v", "velocity", "score")
REFERENCES = ("first", "previous")


def dualfast(method: Method | str, share: float = 0.25, reference: str = "previous") -> Method:
    """The method on a mix of each noise prediction with an earlier one, whose error of the network is smaller.

        e' = (1 - c) epsilon_cur + c epsilon_ref,   c = share (place of the step)/(steps), place counted down to the data

    The paper observes that the network errs less at more noise, and gives up a little of the integrator's accuracy for it.
    With an exact model nothing can be gained. How c falls in time is not settled by what is published; here it is linear.

    Args:
        method: a name or Method.
        share: c at the first step, at least 0 and below 1.
        reference: "previous" for the last call's prediction, "first" for that of the first call.

    Raises:
        ValueError: share or reference is not allowed, or the method is unknown.

    Source: Yu, Luo, Wang, Zhao 2025, DualFast: Dual-Speedup Framework for Fast Sampling, arXiv 2506.13058.
    """
    number("share", share, 0, 1)
    one_of("reference", reference, REFERENCES)

    def remake(nodes: Nodes, node: Node, epsilon: Register, made: list[Register]) -> Generator[Any, Any, Register]:
        left = 1 - (nodes.times[0] - node.t) / (nodes.times[0] - nodes.times[-1])
        earlier = made[0] if reference == "first" else made[-1]
        return str((yield combine(None, (1 - share * left, epsilon), (share * left, earlier))))

    chosen = _resolved(method)
    name = f"{chosen.name} with dualfast(share={share:g}, reference={reference})"
    return _remade(chosen, remake, replace(chosen, name=name, order=None, exact_for=chosen.exact_for))


def levenberg_marquardt(method: Method | str, damping: float = 1e-3, memory: float = 0.0) -> Method:
    """The method on noise predictions turned by a damped rank-one inverse of the Hessian, LML.

        m = k e_prev + (1 - k) e,   h = e - m <m, e>/(damping + |m|^2),   e' = h |e|/|h|,   k = memory

    norms and products taken over each sample. This is what the released code computes. At its default k = 0, m is e and h
    is e scaled, so that e' = e and only rounding remains: the method does nothing. With k > 0 it changes direction.

    Args:
        method: a name or Method.
        damping: lambda, above 0.
        memory: k, the share of the last prediction in m, from 0 to 1.

    Raises:
        ValueError: an option is out of its range, or the method is unknown.

    Source: Wang et al. 2025, Unleashing High-Quality Image Generation in Diffusion Sampling Using Second-Order
    Levenberg-Marquardt-Langevin, arXiv 2505.24222.
    """
    number("damping", damping, 0, ends=False)
    number("memory", memory, 0, 1)

    def remake(nodes: Nodes, node: Node, epsilon: Register, made: list[Register]) -> Generator[Any, Any, Register]:
        return str((yield apply("rank_one_turn", epsilon, made[-1], damping=damping, memory=memory)))

    chosen = _resolved(method)
    name = f"{chosen.name} with levenberg_marquardt(damping={damping:g}, memory={memory:g})"
    return _remade(chosen, remake, replace(chosen, name=name, order=None, exact_for=()))


def _resolved(method: Method | str) -> Method:
    from urn.methods import find_method

    return find_method(method) if isinstance(method, str) else method


def _remade(chosen: Method, remake: Remake, facts: Method) -> Method:
    def remade(nodes: Nodes, x: Register, **options: Any) -> Steps:
        steps, answer, made = chosen.function(nodes, x, **options), None, list[Register]()
        while True:
            try:
                request = steps.send(answer)
            except StopIteration as end:
                return str(end.value)
            if isinstance(request, Evaluate) and not bool((request.node.alpha == 0).any()):
                answer = yield from _evaluated(nodes, request, remake, made)
            else:
                answer = yield request

    remade.__doc__ = chosen.function.__doc__
    remade.__signature__ = chosen.signature  # type: ignore[attr-defined]
    return replace(facts, function=remade)


def _evaluated(nodes: Nodes, request: Evaluate, remake: Remake, made: list[Register]) -> Generator[Any, Any, Any]:
    """The call with epsilon remade, and every wanted prediction made of it; outputs that are none pass through."""
    wanted = [prediction for _, prediction in request.outs]
    others = [name for name in wanted if name not in PREDICTIONS]
    got = yield replace(request, outs=(("", "epsilon"), *(("", name) for name in others)))
    epsilon, *rest = (got,) if isinstance(got, str) else got
    changed = (yield from remake(nodes, request.node, epsilon, made)) if made else epsilon
    made.append(epsilon)
    answers = dict(zip(others, rest, strict=True))
    for prediction in wanted:
        if prediction == "epsilon":
            answers[prediction] = changed
        elif prediction not in answers:
            terms = _terms(nodes, request.node, prediction, request.inputs[0], changed)
            answers[prediction] = yield combine(None, *terms)
    found = tuple(answers[prediction] for prediction in wanted)
    return found[0] if len(found) == 1 else found


def _terms(
    nodes: Nodes, node: Node, prediction: str, x: Register, epsilon: Register
) -> tuple[tuple[Any, Register], ...]:
    """A prediction p x0 + q epsilon, with x0 = (x - sigma epsilon)/alpha, on (x, epsilon)."""
    if prediction == "velocity":
        p, q = nodes.velocity_weights(node)
    else:
        p, q = {"x0": (1.0, 0.0), "v": (-node.sigma, node.alpha), "score": (0.0, -1 / node.sigma)}[prediction]
    return (p / node.alpha, x), (q - p * node.sigma / node.alpha, epsilon)
