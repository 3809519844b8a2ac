"""Lawson's integrating factor methods, Krogstad's generalized ones, and exponential Adams pairs with their own evaluations.

A Runge-Kutta method (a, b, c) for e^(-l L) N, with z = h L as in `exponential_rk`:

    x0 form:  x_next = (sigma_next/sigma_cur) x + alpha_next h sum_i b_i e^(-(1 - c_i) h) x0_i

It does not reproduce a constant prediction, so not a point mass either: of stiff order zero, one weakened. Those of order two
claim no order here: they have it where steps in lambda are short, but beside an end of the process these are never short,
and what they miss there does not fall with the steps. Take the generalized ones. The generalized methods take the
polynomial through the current prediction and `known` - 1 earlier ones out of N first, and are exact for it; EXPINT's
GenLawson4q is `known` = q. They start as themselves with fewer predictions, which is of order four too. With five predictions
the order is five, in the modified methods with four: the error that is left is the derivative of what the polynomial misses.

PEC423 and PECEC433 predict with the current and two earlier predictions, evaluate, correct with all four, and evaluate again
for the next step, where `adams_pc` reuses the evaluation at the predicted state. Their first two steps are `krogstad_4`'s.

Sources: Lawson 1967, SIAM J. Numer. Anal. 4; Krogstad 2005, J. Comput. Phys. 203; Berland, Skaflestad, Wright 2007, EXPINT, ACM
Trans. Math. Softw. 33; Ostermann, Thalhammer, Wright 2006, BIT 46.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from urn.coefficients.exponential_lawson import generalized_lawson, lawson, predictor_corrector
from urn.coefficients.exponential_tableaus import krogstad_4
from urn.coefficients.tableaus import HEUN, MIDPOINT, RK4
from urn.method import Steps, at_least_one, method
from urn.nodes import Nodes
from urn.plan import Register
from urn.schemes.exponential_runge_kutta import exponential_runge_kutta, with_history

LAWSON = "Lawson 1967, Generalized Runge-Kutta Processes for Stable Systems, SIAM J. Numer. Anal. 4"
KROGSTAD = "Krogstad 2005, Generalized Integrating Factor Methods for Stiff PDEs, J. Comput. Phys. 203"
OSTERMANN = "Ostermann, Thalhammer, Wright 2006, A Class of Explicit Exponential General Linear Methods, BIT 46"


@method(order=None, nfe=2, source=LAWSON)
def lawson_2a(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """The midpoint rule behind an integrating factor."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 2, partial(lawson, tableau=MIDPOINT)))


@method(order=None, nfe=2, source=LAWSON)
def lawson_2b(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """Heun's method behind an integrating factor."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 2, partial(lawson, tableau=HEUN)))


@method(order=4, nfe=4, source=LAWSON)
def lawson_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """The classical fourth-order method behind an integrating factor."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, partial(lawson, tableau=RK4)))


def _order(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"order": 5 if at_least_one("known", options["known"]) >= 5 else 4}


def _modified_order(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"order": 5 if at_least_one("known", options["known"]) >= 4 else 4}


@method(order=4, nfe=4, exact_for=("point",), source=KROGSTAD, facts=_order)
def genlawson_4(nodes: Nodes, x: Register, prediction: str = "x0", known: int = 1) -> Steps:
    """Krogstad's generalized integrating factor with the classical method, `known` predictions in the polynomial."""
    history = at_least_one("known", known) - 1
    return (yield from with_history(nodes, x, prediction, 4, partial(generalized_lawson, tableau=RK4), history))


@method(order=4, nfe=4, exact_for=("point",), source=KROGSTAD, facts=_modified_order)
def modgenlawson_4(nodes: Nodes, x: Register, prediction: str = "x0", known: int = 1) -> Steps:
    """The same with the last stage's weight such that it is exact for polynomials through that stage too."""
    history, rule = at_least_one("known", known) - 1, partial(generalized_lawson, tableau=RK4, modified=True)
    return (yield from with_history(nodes, x, prediction, 4, rule, history))


@method(order=4, nfe="2; 4 in the first two steps", exact_for=("point",), source=OSTERMANN)
def pec_423(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """Exponential Adams-Bashforth of order 3, evaluated, corrected by Adams-Moulton of order 4, evaluated."""
    return (yield from with_history(nodes, x, prediction, 4, predictor_corrector, 2, start=krogstad_4))


@method(order=4, nfe="3; 4 in the first two steps", exact_for=("point",), source=OSTERMANN)
def pecec_433(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """The same with the correction evaluated and made again."""
    rule = partial(predictor_corrector, corrections=2)
    return (yield from with_history(nodes, x, prediction, 4, rule, 2, start=krogstad_4))
