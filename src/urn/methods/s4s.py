"""S4S: a linear multistep method whose coefficients are free numbers, one for every step and prediction.

With c_i,j the coefficients (j = 0 is the newest prediction), k of them, and fewer in the first steps,

    x_next = (sigma_next/sigma_cur) x + alpha_next (1 - e^(-h)) sum_j c_i,j x0_(i-j)               prediction = "x0"
    x_next = (alpha_next/alpha_cur) x - sigma_next (e^h - 1) sum_j c_i,j epsilon_(i-j)             prediction = "epsilon"

The paper's b_j,i are the products with the factor before the sum, which is a step's whole weight on a constant prediction: if
every step's coefficients add up to 1, a point mass is reached exactly. They are found by distillation: the tuner `s4s`.

Without coefficients they are those of the polynomial through the predictions, in lambda: exponential Adams-Bashforth, started
with lower orders. With prediction = "epsilon" that is `deis_log_rho_ramped`; with k = 1 it is `ddim`.

Source: Frankel, Chen, Li, Koh, Ratliff, Oh 2025, S4S: Solving for a Diffusion Model Solver, arXiv 2502.17423, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import EPSILON, X0, Form, integral_weights
from urn.method import Steps, at_least_one, method, one_of
from urn.nodes import Nodes
from urn.plan import Node, Register
from urn.schemes.multistep import multistep

SOURCE = "Frankel, Chen, Li, Koh, Ratliff, Oh 2025, S4S: Solving for a Diffusion Model Solver, arXiv 2502.17423"
FORMS = {"x0": X0, "epsilon": EPSILON}


def _facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    if options["coefficients"] is not None:
        return {"order": None, "exact_for": ()}
    return {"order": min(at_least_one("history", options["history"]), 2)}


@method(order=2, exact_for=("point",), source=SOURCE, facts=_facts)
def s4s(
    nodes: Nodes,
    x: Register,
    coefficients: Sequence[Sequence[float] | Tensor] | None = None,
    history: int = 3,
    prediction: str = "x0",
) -> Steps:
    """A linear multistep method with free coefficients: for step i a sequence of min(i + 1, history) numbers, newest first."""
    at_least_one("history", history)
    form = FORMS[one_of("prediction", prediction, FORMS)]
    if coefficients is not None:
        _check(coefficients, len(nodes) - 1, history)

    def weights(form: Form, cur: Node, next: Node, points: Sequence[Node]) -> list[Tensor]:
        if coefficients is None:
            return integral_weights(form, cur, next, points)
        total, row = form.total(cur, next), coefficients[cur.index or 0]
        return [total * c for c in row]

    return (yield from multistep(nodes, x, form, history, weights))


def _check(coefficients: Any, steps: int, history: int) -> None:
    """Refuse what is not one row of finite numbers for each step."""
    counts = [min(i + 1, history) for i in range(steps)]
    try:
        rows = [[float(torch.as_tensor(c).detach()) for c in row] for row in coefficients]
    except (TypeError, ValueError, RuntimeError):
        rows = []
    if [len(row) for row in rows] != counts or not all(math.isfinite(c) for row in rows for c in row):
        raise ValueError(
            f"coefficients={coefficients!r} must be {steps} rows of {counts} finite numbers for {steps} steps with "
            f"history={history}"
        )
