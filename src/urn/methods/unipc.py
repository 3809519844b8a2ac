"""UniPC: a predictor (UniP) and a corrector (UniC) of any order from one formula, in both predictions.

In the noise form, with r_m = (lambda_m - lambda_cur)/h and D_m = epsilon_m - epsilon_cur (the paper's t_{i-1}, t_i are cur,
next):

    x_next = (alpha_next/alpha_cur) x - sigma_next (e^h - 1) epsilon_cur - sigma_next B(h) sum_m (c_m/r_m) D_m

UniP-p takes p - 1 older predictions, UniC-p also the one at next (r = 1), which the next step needs anyway; c solves
R(h) c B(h) = phi(h). With two points or more B cancels, and the weights are those of the interpolating polynomial; with one
the paper takes c = 1/2, and B is B1 = h or B2 = e^h - 1. The data form has -h for h, alpha for sigma. So `unip` with order
2, B2 and x0 is DPM-Solver++(2M).

**Order.** UniP-p has order p, UniPC-p order p + 1 in its regular steps; from a ramped start (1, 2, ...), as published, the
whole has order min(p + 1, 3) with the corrector, min(p, 2) without. So `unip` starts with a lifted block, and `unipc` does
from p = 4 on; up to there it is the published one. The authors' code and diffusers end with orders ..., 2, 1, which leaves
order two: that is `unipc_lower_final`.

Source: Zhao et al. 2023, UniPC, arXiv 2302.04867, equations 3, 5, 9, appendix D.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import EPSILON, X0, Form, Size, halved_weights
from urn.method import Steps, at_least_one, method, one_of
from urn.nodes import Nodes
from urn.plan import Node, Register
from urn.schemes.multistep import lifted, multistep

SOURCE = "Zhao et al. 2023, UniPC: A Unified Predictor-Corrector Framework for Fast Sampling, arXiv 2302.04867"


def bh1(form: Form, cur: Node, next: Node) -> Tensor:
    """B1(h) = h, with its factor: alpha_next h or -sigma_next h."""
    h = next.lambda_ - cur.lambda_
    return torch.mul(next.alpha if form.prediction == "x0" else -next.sigma, h)


def bh2(form: Form, cur: Node, next: Node) -> Tensor:
    """B2(h) = e^h - 1 (1 - e^(-h) in the data form), with its factor: the step's total weight."""
    return form.total(cur, next)


SIZES: dict[str, Size] = {"bh1": bh1, "bh2": bh2}
FORMS = {"x0": X0, "epsilon": EPSILON}


def _predictor_order(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"order": at_least_one("order", options["order"])}


def _pair_order(options: Mapping[str, Any]) -> Mapping[str, Any]:
    p = at_least_one("order", options["order"])
    return {"order": min(p + 1, 3) if p <= 3 else p}


@method(order=3, exact_for=("point",), source=SOURCE, facts=_predictor_order)
def unip(nodes: Nodes, x: Register, order: int = 3, prediction: str = "x0", size: str = "bh2") -> Steps:
    """UniP, the predictor alone, of any order; prediction "x0" or "epsilon", size "bh1" or "bh2"."""
    form, weights = _chosen(order, prediction, size)
    return (yield from multistep(nodes, x, form, order, weights, start=lifted if order > 2 else None))


@method(order=3, exact_for=("point",), source=SOURCE, facts=_pair_order)
def unipc(nodes: Nodes, x: Register, order: int = 3, prediction: str = "x0", size: str = "bh2") -> Steps:
    """UniPC of any order: UniP, and UniC in every step but the last, at no extra evaluation."""
    form, weights = _chosen(order, prediction, size)
    return (yield from multistep(nodes, x, form, order, weights, correct=weights, start=lifted if order > 3 else None))


@method(order=2, exact_for=("point",), source=SOURCE)
def unipc_lower_final(nodes: Nodes, x: Register, order: int = 3, prediction: str = "x0", size: str = "bh2") -> Steps:
    """UniPC from a ramped start to lower orders at the end, as in the authors' code and diffusers; of order two."""
    form, weights = _chosen(order, prediction, size)
    return (yield from multistep(nodes, x, form, order, weights, correct=weights, lower_final=True))


def _chosen(order: int, prediction: str, size: str) -> tuple[Form, Any]:
    at_least_one("order", order)
    one_of("prediction", prediction, FORMS)
    one_of("size", size, SIZES)
    return FORMS[prediction], partial(halved_weights, size=SIZES[size])
