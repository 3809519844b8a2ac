"""DEIS: exponential integrators of the noise prediction, interpolated in t or in rho = sigma/alpha.

The paper's Psi(t, s) is alpha_t/alpha_s, and its C_ij the integrals of Lagrange polynomials through the last predictions:

    x_next = (alpha_next/alpha_cur) x + alpha_next sum_j epsilon_j int ell_j d rho

with ell_j a polynomial in t (tAB) or in rho (rhoAB). The paper counts the polynomial's degree, tAB3 being order four here
`deis_4`; on VE, where rho is t, the two are one. rhoRK is a Runge-Kutta method for d(x/alpha)/d rho = epsilon.
Order one is `ddim`. A lifted block gives the start its order; the paper's own start, lower orders first, is in the
variants named `ramped`. diffusers' DEIS has polynomials in log rho, which is -lambda; with a lifted start that is `adams`
with prediction="epsilon", variable="lambda".

Source: Zhang & Chen 2023, Fast Sampling of Diffusion Models with Exponential Integrator, arXiv 2204.13902, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from urn.coefficients.exponential import EPSILON, by_lambda, by_ratio, integral_weights
from urn.coefficients.tableaus import KUTTA_3, RK4, Tableau
from urn.method import Steps, at_least_one, method
from urn.nodes import Nodes
from urn.plan import Register
from urn.schemes.multistep import lifted, multistep
from urn.schemes.runge_kutta import ratio_step

SOURCE = "Zhang & Chen 2023, Fast Sampling of Diffusion Models with Exponential Integrator, arXiv 2204.13902"


def _order(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"order": at_least_one("order", options["order"])}


def _ramped_order(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"order": min(at_least_one("order", options["order"]), 2)}


@method(order=3, exact_for=("point",), source=SOURCE, facts=_order)
def deis(nodes: Nodes, x: Register, order: int = 3) -> Steps:
    """DEIS-tAB of any order: polynomial in t through the last `order` noise predictions."""
    weights = partial(integral_weights, variable=nodes.process.t_of_lambda)
    return (yield from multistep(nodes, x, EPSILON, at_least_one("order", order), weights, start=lifted))


@method(order=2, exact_for=("point",), source=SOURCE, facts=_ramped_order)
def deis_ramped(nodes: Nodes, x: Register, order: int = 3) -> Steps:
    """DEIS-tAB as published, started with lower orders: of order two at most."""
    weights = partial(integral_weights, variable=nodes.process.t_of_lambda)
    return (yield from multistep(nodes, x, EPSILON, at_least_one("order", order), weights))


@method(order=3, exact_for=("point",), source=SOURCE, facts=_order)
def deis_rho(nodes: Nodes, x: Register, order: int = 3) -> Steps:
    """DEIS-rhoAB of any order: polynomial in sigma/alpha through the last `order` noise predictions."""
    weights = partial(integral_weights, variable=by_ratio)
    return (yield from multistep(nodes, x, EPSILON, at_least_one("order", order), weights, start=lifted))


@method(order=2, exact_for=("point",), source=SOURCE, facts=_ramped_order)
def deis_rho_ramped(nodes: Nodes, x: Register, order: int = 3) -> Steps:
    """DEIS-rhoAB as published, started with lower orders: of order two at most."""
    weights = partial(integral_weights, variable=by_ratio)
    return (yield from multistep(nodes, x, EPSILON, at_least_one("order", order), weights))


@method(order=2, exact_for=("point",), source=SOURCE, facts=_ramped_order)
def deis_log_rho_ramped(nodes: Nodes, x: Register, order: int = 3) -> Steps:
    """DEIS in log(sigma/alpha), started with lower orders: diffusers' DEISMultistep from 15 steps on."""
    weights = partial(integral_weights, variable=by_lambda)
    return (yield from multistep(nodes, x, EPSILON, at_least_one("order", order), weights))


@method(order=2, exact_for=("point",), source=SOURCE, facts=_ramped_order)
def deis_log_rho_lower_final(nodes: Nodes, x: Register, order: int = 3) -> Steps:
    """DEIS in log(sigma/alpha), started and ended with lower orders: diffusers' DEISMultistep below 15 steps."""
    weights = partial(integral_weights, variable=by_lambda)
    return (yield from multistep(nodes, x, EPSILON, at_least_one("order", order), weights, lower_final=True))


def _runge_kutta(nodes: Nodes, x: Register, tableau: Tableau) -> Steps:
    for cur, next in nodes.steps():
        x = yield from ratio_step(nodes, tableau, cur, next, x)
    return x


@method(order=3, nfe=3, exact_for=("point",), source=SOURCE)
def deis_rho_kutta_3(nodes: Nodes, x: Register) -> Steps:
    """DEIS-rhoRK with Kutta's third-order tableau."""
    return (yield from _runge_kutta(nodes, x, KUTTA_3))


@method(order=4, nfe=4, exact_for=("point",), source=SOURCE)
def deis_rho_rk4(nodes: Nodes, x: Register) -> Steps:
    """DEIS-rhoRK with the classical fourth-order tableau."""
    return (yield from _runge_kutta(nodes, x, RK4))
