"""IIA, improved integration approximation: solvers with a few free numbers per step, fitted by least squares.

With m the prediction that a solver integrates (epsilon; x0 for DPM-Solver++, and from alpha = 0), A its published increment, and
H the weight that a constant prediction would have (alpha_next (rho_next - rho) for epsilon, alpha_next (1 - e^(-h)) for x0):

    x_next = carry x + g_0 A + H [g_1 (m_i - m_{i-1}) + g_2 (m_{i-1} - m_{i-2}) + ...]                 iia_ddim, iia_dpmpp
    x_next = carry x + g_0 A + H [g_1 (m'_i - m_i) + g_2 (m_i - m'_{i-1})]                             iia_heun

m'_i is Heun's second evaluation of step i, at its predicted end; in a last step to sigma = 0 there is none, and no g_1. A
difference that reaches back before the start counts for nothing. The paper's z is x. (1, 0, 0) in every step gives `ddim`,
`dpmpp_2m` and `heun`. Numbers are fitted for one grid, by the tuner `iia`: kept while the grid is refined, g_0 = 1 with other
differences is of order one, and another g_0 does not converge.

Source: Zhang, Niwa, Kleijn 2023, On Accelerating Diffusion-Based Sampling Process via Improved Integration Approximation,
arXiv 2304.11328, sections 3 and 4. The regressors are the ones of this page: the paper's differ a little from variant to variant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import EPSILON, X0, Form, Weights, halved_weights, integral_weights
from urn.method import Steps, combine, evaluate, method
from urn.nodes import Nodes, is_clean
from urn.plan import Node, Register
from urn.schemes.multistep import multistep

SOURCE = (
    "Zhang, Niwa, Kleijn 2023, On Accelerating Diffusion-Based Sampling Process via Improved Integration Approximation, "
    "arXiv 2304.11328"
)
Coefficients = Sequence[Sequence[float]] | Tensor | None


def _facts_of(published: int) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    def facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
        given = _numbers(options["coefficients"])
        if given is None or given.ndim != 2 or given.shape[1] == 0:
            return {"order": published}  # none; what is none of these is refused when it compiles
        carried = bool((given[:, 0] == 1).all())
        fixed = carried and not bool((given[:, 1:] != 0).any())
        return {"order": published if fixed else 1 if carried else None, "exact_for": ("point",) if carried else ()}

    return facts


@method(order=1, exact_for=("point",), source=SOURCE, facts=_facts_of(1))
def iia_ddim(nodes: Nodes, x: Register, coefficients: Coefficients = None) -> Steps:
    """IIA-DDIM: coefficients are one row (g_0, g_1, ...) for each step, all of a length; None is DDIM."""
    return (yield from _multistep(nodes, x, EPSILON, 1, integral_weights, coefficients))


@method(order=2, exact_for=("point",), source=SOURCE, facts=_facts_of(2))
def iia_dpmpp(nodes: Nodes, x: Register, coefficients: Coefficients = None) -> Steps:
    """IIA-DPM-Solver++: coefficients are one row (g_0, g_1, ...) for each step, all of a length; None is DPM-Solver++(2M)."""
    return (yield from _multistep(nodes, x, X0, 2, halved_weights, coefficients))


@method(order=2, nfe=2, exact_for=("point",), source=SOURCE, facts=_facts_of(2))
def iia_heun(nodes: Nodes, x: Register, coefficients: Coefficients = None) -> Steps:
    """IIA-EDM, of EDM's deterministic sampler: coefficients are one row (g_0, g_1, g_2) for each step; None is Heun's method."""
    table = _table(nodes, coefficients, most=3)
    before: tuple[str, Register] | None = None  # the last step's second evaluation, and its prediction
    for row, (cur, next) in zip(table, nodes.steps(), strict=True):
        form = EPSILON.at(cur)
        g = [*row, *torch.zeros(3 - len(row), dtype=torch.float64)]
        total, carry = form.total(cur, next), (form.carry(cur, next), x)
        first = yield evaluate(x, cur, form.prediction)
        back = (
            []
            if before is None or before[0] != form.prediction
            else [(total * g[2], first), (-total * g[2], before[1])]
        )
        if is_clean(next):
            x = yield combine(next, carry, (total * g[0], first), *back)
            continue
        predicted = yield combine(next, carry, (total, first))
        second = yield evaluate(predicted, next, form.prediction)
        half = total * g[0] / 2
        x = yield combine(next, carry, (half - total * g[1], first), (half + total * g[1], second), *back)
        before = (form.prediction, second)
    return x


def _multistep(
    nodes: Nodes, x: Register, form: Form, base: int, published: Weights, coefficients: Coefficients
) -> Steps:
    table = _table(nodes, coefficients)
    weights = partial(_weights, base=base, published=published, table=table)
    return (yield from multistep(nodes, x, form, max(base, table.shape[1]), weights))


def _weights(
    form: Form, cur: Node, next: Node, points: Sequence[Node], base: int, published: Weights, table: Tensor
) -> list[Tensor]:
    g_0, *differences = table[cur.index or 0]
    total = form.total(cur, next)
    made = [g_0 * w for w in published(form, cur, next, points[:base])]
    made += [torch.zeros_like(total)] * (len(points) - len(made))
    for k, g in enumerate(differences[: len(points) - 1]):
        made[k], made[k + 1] = made[k] + total * g, made[k + 1] - total * g
    return made


def _table(nodes: Nodes, coefficients: Coefficients, most: int | None = None) -> Tensor:
    """The coefficients, (steps, K), or the published ones."""
    steps = len(nodes) - 1
    if coefficients is None:
        return torch.ones(steps, 1, dtype=torch.float64)
    given = _numbers(coefficients)
    fits = given is not None and given.ndim == 2 and len(given) == steps and 1 <= given.shape[1] <= (most or steps)
    if not fits or not bool(torch.isfinite(given).all()):  # type: ignore[arg-type]
        raise ValueError(
            f"coefficients={coefficients!r} must be {steps} rows (g_0, g_1, ...) of finite numbers, one for each step of the "
            f"grid, all of a length from 1 to {most or steps}"
        )
    return given  # type: ignore[return-value]


def _numbers(coefficients: Any) -> Tensor | None:
    if isinstance(coefficients, Tensor):
        return coefficients.to("cpu", torch.float64)
    try:
        return torch.tensor([[float(g) for g in row] for row in coefficients], dtype=torch.float64)
    except (TypeError, ValueError):
        return None
