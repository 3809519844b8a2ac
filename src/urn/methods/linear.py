"""The general linear method with one call a step: every state is a free weighted sum of the start and of all predictions so far.

With D_j the prediction of the j-th call, made at x_j and node j, and x_0 the start,

    x_(i+1) = A_i x_0 + sum_(j <= i) B_ij D_j

Every deterministic plan with one call a step has this form: its older states are such sums themselves, so that n calls
have n (n + 3)/2 weights and no more. Without `weights` they are those of DDIM, for x0: A_i = sigma_(i+1)/sigma_0 and
B_ij = (sigma_(i+1)/sigma_(j+1)) (alpha_(j+1) - alpha_j sigma_(j+1)/sigma_j). `urn.tuning.dense_weights` gives those of any
other plan, and the tuner `coefficients` fits them to a model.

The paper's u_j are the predictions D_j (its velocities), its a_i and b_ij our A_i and B_ij, its t_j the nodes.

Source: Shaul, Singer, Chen, Le, Thabet, Pumarola, Lipman 2024, Bespoke Non-Stationary Solvers for Fast Sampling of
Diffusion and Flow Models, arXiv 2403.01329, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from urn.method import Steps, combine, evaluate, method, one_of
from urn.nodes import Nodes
from urn.plan import Node, PlanError, Register
from urn.prediction import pair_weights

SOURCE = (
    "Shaul, Singer, Chen, Le, Thabet, Pumarola, Lipman 2024, Bespoke Non-Stationary Solvers for Fast Sampling of Diffusion "
    "and Flow Models, arXiv 2403.01329"
)
KINDS = ("x0", "epsilon", "v", "velocity")


def _facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    one_of("prediction", options["prediction"], KINDS)
    if options["weights"] is None and options["labels"] is None:
        return {}
    return {"order": None, "exact_for": ()}


@method(order=1, exact_for=("point",), source=SOURCE, facts=_facts)
def linear(nodes: Nodes, x: Register, weights: Any = None, prediction: str = "x0", labels: Any = None) -> Steps:
    """Free weights of the start and of all predictions so far: row i of `weights` is A_i, B_i0, ..., B_ii.

    `weights` are nested sequences or a (steps, steps + 1) tensor with nothing beyond B_ii, which may carry gradients; None
    for DDIM's. `labels` are the times that the network is shown, one a call; None for the nodes' own.
    """
    one_of("prediction", prediction, KINDS)
    steps = len(nodes) - 1
    rows = None if weights is None else _rows(weights, steps)
    shown = [None] * steps if labels is None else _numbers("labels", labels, steps)
    predictions: list[Register] = []
    carried = torch.ones_like(nodes[0].alpha)
    known: list[Tensor] = []
    state = x
    for i, (cur, next) in enumerate(nodes.steps()):
        predictions.append((yield evaluate(state, cur, prediction, shown=shown[i])))
        if rows is None:
            keep, add = _ddim(cur, next, prediction, nodes)
            carried, known = keep * carried, [*(keep * weight for weight in known), add]
            row: Sequence[Tensor] = (carried, *known)
        else:
            row = rows[i]
        state = yield combine(next, *zip(row, (x, *predictions), strict=True))
    return state


def _ddim(cur: Node, next: Node, prediction: str, nodes: Nodes) -> tuple[Tensor, Tensor]:
    """a and b of DDIM's step x_next = a x + b D: those for which data that are one point stay on their course."""
    p, q = pair_weights(prediction, cur, nodes.process)
    determinant = cur.alpha * q - cur.sigma * p
    found = (
        (next.alpha * q - next.sigma * p) / determinant,
        (cur.alpha * next.sigma - cur.sigma * next.alpha) / determinant,
    )
    if not all(bool(torch.isfinite(weight).all()) for weight in found):
        raise PlanError(
            f"linear, prediction={prediction!r}: no finite weights at t = {cur.t} (alpha = {cur.alpha}, sigma = {cur.sigma}): "
            "shorten the grid, or take another prediction"
        )
    return found


def _rows(weights: Any, steps: int) -> list[list[Tensor]]:
    """The rows A_i, B_i0, ..., B_ii, each of i + 2 scalar tensors."""
    wanted = f"{steps} rows for {steps} steps, row i of i + 2 numbers"
    if isinstance(weights, Tensor):
        if weights.shape != (steps, steps + 1):
            raise ValueError(
                f"weights of shape {tuple(weights.shape)} must be ({steps}, {steps + 1}) for {steps} steps"
            )
        beyond = torch.triu(weights.detach(), 2)
        if bool((beyond != 0).any()):
            raise ValueError("weights: a prediction has a weight before it is made; entries beyond B_ii must be 0")
        given: Any = [row[: i + 2] for i, row in enumerate(weights)]
    else:
        given = weights
    if not isinstance(given, (tuple, list)) or len(given) != steps:
        found = f"{len(given)} rows" if isinstance(given, (tuple, list)) else repr(given)
        raise ValueError(f"weights: {found}; must be {wanted}")
    return [_numbers(f"weights[{i}]", row, i + 2) for i, row in enumerate(given)]


def _numbers(name: str, values: Any, count: int) -> list[Tensor]:
    """`count` finite numbers as scalar float64 tensors, with their gradients."""
    try:
        made = values if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}={values!r} must be {count} numbers") from None
    if made.shape != (count,) or not all(map(math.isfinite, made.detach().tolist())):
        raise ValueError(f"{name}={values!r} must be {count} finite numbers")
    return list(made.to(torch.float64).unbind())
