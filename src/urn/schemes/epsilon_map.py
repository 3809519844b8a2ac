"""Any method with its noise predictions remade from the last ones: DualFast, and Levenberg-Marquardt-Langevin.

Both sit between the model call and the method: with e' in place of epsilon the method sees x0 = (x - sigma e')/alpha and the
other predictions that go with it. Where alpha is 0, and at a method's first call, the prediction is left alone.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from urn.method import Method, apply, combine, number, one_of
from urn.nodes import Nodes
from urn.plan import Node, Register
from urn.schemes.remade import Remake, remade

REFERENCES = ("first", "previous")


def dualfast(method: Method | str, share: float = 0.25, reference: str = "previous") -> Method:
    """The method on a mix of each noise prediction with an earlier one, whose error of the network is smaller.

        e' = (1 - c) epsilon_cur + c epsilon_ref,   c = share (t - t_last)/(t_first - t_last)

    The paper observes that the network errs less at more noise, and gives up a little of the integrator's accuracy for it.
    With an exact model nothing can be gained. How c falls in time is not settled by what is published; here it is linear.

    Args:
        method: a name or Method.
        share: c at the first time, from 0 to 1.
        reference: "previous" for the last call's prediction, "first" for that of the first call.

    Raises:
        ValueError: share or reference is not allowed, or the method is unknown.

    Source: Yu, Luo, Wang, Zhao 2025, DualFast: Dual-Speedup Framework for Fast Sampling, arXiv 2506.13058.
    """
    number("share", share, 0, 1)
    one_of("reference", reference, REFERENCES)

    def remake_of(nodes: Nodes) -> Remake:
        made: list[Register] = []

        def remake(node: Node, epsilon: Register) -> Generator[Any, Any, Register]:
            made.append(epsilon)
            if len(made) == 1:
                return epsilon
            left = 1 - (nodes.times[0] - node.t) / (nodes.times[0] - nodes.times[-1])
            earlier = made[0] if reference == "first" else made[-2]
            return str((yield combine(None, (1 - share * left, epsilon), (share * left, earlier))))

        return remake

    from urn.methods import find_method

    chosen = find_method(method, ("x",))
    name = f"{chosen.name} with dualfast(share={share:g}, reference={reference})"
    return remade(replace(chosen, name=name, order=None), "epsilon", remake_of)


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

    def remake_of(nodes: Nodes) -> Remake:
        made: list[Register] = []

        def remake(node: Node, epsilon: Register) -> Generator[Any, Any, Register]:
            made.append(epsilon)
            if len(made) == 1:
                return epsilon
            return str((yield apply("rank_one_turn", epsilon, made[-2], damping=damping, memory=memory)))

        return remake

    from urn.methods import find_method

    chosen = find_method(method, ("x",))
    name = f"{chosen.name} with levenberg_marquardt(damping={damping:g}, memory={memory:g})"
    return remade(replace(chosen, name=name, order=None, exact_for=()), "epsilon", remake_of)
