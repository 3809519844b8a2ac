"""DPM-Solver++: exponential integrators of the data prediction in lambda, singlestep and multistep.

With D the x0 predictions, h = lambda_next - lambda_cur and r = h_prev/h (the paper's r_i = h_{i-1}/h_i):

    x_next = (sigma_next/sigma_cur) x + alpha_next (1 - e^(-h)) [D_cur + (D_cur - D_prev)/(2 r)]      2M
    x_next = the same with D at a stage, (D_s - D_cur)/(2 r), s at the share r of the step            2S

`dpmpp_3m` integrates the quadratic through three predictions exactly. The weights in the authors' code, and after it in
k-diffusion and diffusers, halve the second difference; they fit order two, and are here as `dpmpp_3m_published`.

2M starts with one DDIM step, as published; that is enough for order two. 3M starts with a lifted block, at no cost. The
authors' code below 10 steps, and diffusers below 15, end with lower orders: those are the variants named `lower_final`.

Source: Lu et al. 2022, DPM-Solver++, arXiv 2211.01095, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from urn.coefficients.exponential import X0, Form, halved_weights, integral_weights, published_third
from urn.method import Steps, method, number
from urn.nodes import Nodes
from urn.plan import Node, Register
from urn.schemes.multistep import lifted, multistep
from urn.schemes.singlestep import second_order, singlestep, third_order

SOURCE = "Lu et al. 2022, DPM-Solver++: Fast Solver for Guided Sampling, arXiv 2211.01095"


@method(order=2, nfe=2, exact_for=("point",), source=SOURCE)
def dpmpp_2s(nodes: Nodes, x: Register, r: float = 0.5) -> Steps:
    """DPM-Solver++(2S): two evaluations a step, the second at the share r of it."""
    number("r", r, 0, 1, ends=False)
    return (yield from singlestep(nodes, x, X0, partial(second_order, r=r)))


@method(order=3, nfe=3, exact_for=("point",), source=SOURCE)
def dpmpp_3s(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver++ singlestep of order three: three evaluations a step, at 0, 1/3 and 2/3 of it."""
    return (yield from singlestep(nodes, x, X0, third_order))


@method(order=2, exact_for=("point",), source=SOURCE)
def dpmpp_2m(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver++(2M): two predictions of history, one evaluation a step."""
    return (yield from multistep(nodes, x, X0, 2, halved_weights))


@method(order=3, exact_for=("point",), source=SOURCE)
def dpmpp_3m(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver++ multistep of order three, with exact weights and a start of its own order."""
    return (yield from multistep(nodes, x, X0, 3, integral_weights, start=lifted))


@method(order=2, exact_for=("point",), source=SOURCE)
def dpmpp_3m_published(nodes: Nodes, x: Register) -> Steps:
    """The 3M of the authors' code, k-diffusion and diffusers: second difference halved, started 1M, 2M; of order two."""
    return (yield from multistep(nodes, x, X0, 3, published_weights))


@method(order=2, exact_for=("point",), source=SOURCE)
def dpmpp_2m_lower_final(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver++(2M) that ends with a first-order step: diffusers' DPMSolverMultistep below 15 steps."""
    return (yield from multistep(nodes, x, X0, 2, halved_weights, lower_final=True))


@method(order=2, exact_for=("point",), source=SOURCE)
def dpmpp_3m_published_lower_final(nodes: Nodes, x: Register) -> Steps:
    """The published 3M that ends with steps of orders two and one: diffusers' of order 3 below 15 steps."""
    return (yield from multistep(nodes, x, X0, 3, published_weights, lower_final=True))


def published_weights(form: Form, cur: Node, next: Node, points: Sequence[Node]) -> list[Tensor]:
    """The weights of the authors' code: 1M, 2M, and then the third order with its second difference halved."""
    return (published_third if len(points) == 3 else halved_weights)(form, cur, next, points)
