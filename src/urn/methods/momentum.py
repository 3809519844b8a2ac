"""Momentum inside multistep solvers: heavy ball (HB) and its generalisation to any order (GHVB).

The ODE is d(x/alpha)/d rho = epsilon, rho = sigma/alpha, and beta in (0, 1] the damping:

    HB      v <- (1 - beta) v + beta sum_k b_k epsilon_k,   x_next/alpha = x/alpha + (rho_next - rho_cur) v
    GHVB    v_cur = (1 - beta) v_prev + beta epsilon_cur,   x_next/alpha = x/alpha + (rho_next - rho_cur) sum_k c_k v_k

b are Adams-Bashforth's weights for even steps, c the coefficients of the same series times 1 + ((1 - beta)/beta) nabla, cut
off after `order` terms: (2 + beta)/(2 beta), -(2 - beta)/(2 beta) at two. Smaller beta enlarges the region of stability,
against the divergence that strong guidance causes in few steps. HB is of order one whatever its b, GHVB of the order of its
series on even steps, of two at most on others, as `ipndm`, which both are at beta = 1. A fractional order as the paper's 1.8
is order 2 with beta = 0.8. At first v is the first prediction; a first step from alpha = 0 is DDIM's.

Source: Wizadwongsa, Chinchuthakun, Khungurn, Raj, Suwajanakorn 2024, Diffusion Sampling with Momentum for Mitigating
Divergence Artifacts, arXiv 2307.11118, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from urn.coefficients.even_steps import SERIES, adams_bashforth, from_differences
from urn.coefficients.exponential import EPSILON
from urn.method import Steps, at_least_one, combine, evaluate, method, number
from urn.nodes import Nodes
from urn.plan import Register

SOURCE = (
    "Wizadwongsa et al. 2024, Diffusion Sampling with Momentum for Mitigating Divergence Artifacts, arXiv 2307.11118"
)


def _ghvb_facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"order": min(at_least_one("order", options["order"], 4), 2)}


@method(order=1, exact_for=("point",), source=SOURCE)
def hb(nodes: Nodes, x: Register, order: int = 4, beta: float = 0.8) -> Steps:
    """Heavy-ball momentum on the slope of an Adams-Bashforth method of `order` predictions."""
    at_least_one("order", order, 4)
    _damping(beta)
    steps = list(nodes.steps())
    history: list[Register] = []
    velocity: Register | None = None
    for cur, next in steps:
        form = EPSILON.at(cur)
        if form is not EPSILON:
            x = yield from _ddim(cur, next, x)
            continue
        history = [(yield evaluate(x, cur, "epsilon")), *history][:order]
        slope = list(zip(adams_bashforth(len(history)), history, strict=True))
        if velocity is not None:
            slope = [(1 - beta, velocity), *((beta * weight, made) for weight, made in slope)]
        velocity = yield combine(None, *slope)
        x = yield combine(next, (form.carry(cur, next), x), (form.total(cur, next), velocity))
    return x


@method(order=2, exact_for=("point",), source=SOURCE, facts=_ghvb_facts)
def ghvb(nodes: Nodes, x: Register, order: int = 4, beta: float = 0.8) -> Steps:
    """Generalised heavy ball: momentum first, then the Adams-Bashforth series that makes up for it."""
    at_least_one("order", order, 4)
    _damping(beta)
    history: list[Register] = []
    for cur, next in nodes.steps():
        form = EPSILON.at(cur)
        if form is not EPSILON:
            x = yield from _ddim(cur, next, x)
            continue
        epsilon = yield evaluate(x, cur, "epsilon")
        newest = (yield combine(None, (1 - beta, history[0]), (beta, epsilon))) if history else epsilon
        history = [newest, *history][:order]
        weights = generalised(len(history), beta)
        terms = [(form.total(cur, next) * weight, v) for weight, v in zip(weights, history, strict=True)]
        x = yield combine(next, (form.carry(cur, next), x), *terms)
    return x


def generalised(order: int, beta: float) -> tuple[float, ...]:
    """Weights, newest first, of A(nabla) (1 + ((1 - beta)/beta) nabla) cut off after `order` terms."""
    ratio = (1 - beta) / beta
    shifted: Sequence[float] = (0.0, *SERIES[: order - 1])
    return from_differences([a + ratio * b for a, b in zip(SERIES[:order], shifted, strict=True)])


def _damping(beta: float) -> None:
    number("beta", beta, 0, 1)
    if beta == 0:
        raise ValueError("beta=0 must be above 0 and at most 1: at 0 no prediction is ever used")


def _ddim(cur: Any, next: Any, x: Register) -> Steps:
    form = EPSILON.at(cur)
    made = yield evaluate(x, cur, form.prediction)
    return str((yield combine(next, (form.carry(cur, next), x), (form.total(cur, next), made))))
