"""AMED and EPD: a step goes from its beginning to one or several points inside it, and on by what is predicted there.

With rho = sigma/alpha, eps the prediction of epsilon, and in a step for each of K points k the share r_k of lambda that it lies
at (rho_k = rho_next^r_k rho_cur^(1 - r_k)), its weight w_k, and the scale a_k of the time that the network is shown there,

    x_k / alpha_k       = x / alpha_cur + (rho_k - rho_cur) eps(x, t_cur)
    x_next / alpha_next = x / alpha_cur + (rho_next - rho_cur) sum_k w_k eps_k,    eps_k = eps(x_k, t(a_k rho_k))

`amed` has one point, its r, c = w and a the paper's r_n, c_n and a_n: two calls a step. `epd` has K, whose calls do not need each
other: 1 + K calls in two rounds. Its weights are the paper's lambda_k (1 + o_k), its shares and time scales tau_k and delta_k
(authors' code: r, scale_time). In both papers and here the numbers are a step's own; AMED's come from a small network that
looks at the denoiser's inner features as well, so that they may differ between samples, which is left out.

With r = 1/2 and the other numbers 1, their defaults, both are `dpm_solver_2` in every step without an end of the process. In a
step from alpha = 0, x0 takes the place of epsilon and alpha/sigma that of rho; beside either end the points lie at the share r of
sigma/(alpha + sigma). Scaled times stop at the noisiest time of the process.

Sources: Zhou, Chen, Wang, Chen 2024, Fast ODE-based Sampling for Diffusion Models in Around 5 Steps, arXiv 2312.00094; Zhu, Wang,
Zhao, Zhang, Zhang 2025, Distilling Parallel Gradients for Fast ODE Solvers of Diffusion Models, arXiv 2507.14797.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import EPSILON
from urn.method import Steps, combine, evaluate, method, number
from urn.nodes import Nodes
from urn.plan import Node, Register

AMED = "Zhou, Chen, Wang, Chen 2024, Fast ODE-based Sampling for Diffusion Models in Around 5 Steps, arXiv 2312.00094"
EPD = (
    "Zhu, Wang, Zhao, Zhang, Zhang 2025, Distilling Parallel Gradients for Fast ODE Solvers of Diffusion Models, "
    "arXiv 2507.14797"
)
PerStep = float | Tensor | Sequence[Any]


def _amed_facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {} if _numbers(options) == [0.5, 1.0, 1.0] else {"order": None, "exact_for": ()}


def _epd_facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {} if _numbers(options) == [0.5, 1.0, None] else {"order": None, "exact_for": ()}


def _numbers(options: Mapping[str, Any]) -> list[float | None]:
    """The options as one list of numbers; empty where they carry gradients."""

    def flat(value: Any) -> list[float | None]:
        if isinstance(value, (Tensor, str)):
            return [math.nan]
        return [one for item in value for one in flat(item)] if isinstance(value, Sequence) else [value]

    return flat(list(options.values()))


@method(order=2, nfe=2, exact_for=("point",), source=AMED, facts=_amed_facts)
def amed(nodes: Nodes, x: Register, share: PerStep = 0.5, scale: PerStep = 1.0, time_scale: PerStep = 1.0) -> Steps:
    """AMED-Solver: two evaluations a step, the second at a free point and with a free weight. Each option is a number, or one
    for each step."""
    steps = len(nodes) - 1
    shares, scales, times = (
        one if isinstance(one, Sequence) or (isinstance(one, Tensor) and one.ndim) else [one] * steps
        for one in (share, scale, time_scale)
    )
    rows = [
        _checked(name, [[value] for value in values], steps)
        for name, values in (("share", shares), ("scale", scales), ("time_scale", times))
    ]
    return (yield from _ensemble(nodes, x, *rows))


@method(order=2, nfe="1 + number of points", exact_for=("point",), source=EPD, facts=_epd_facts)
def epd(
    nodes: Nodes,
    x: Register,
    shares: Sequence[Any] = (0.5,),
    weights: Sequence[Any] = (1.0,),
    time_scales: Sequence[Any] | None = None,
) -> Steps:
    """EPD-Solver: several points in a step, evaluated in parallel and weighted. Each option is a number for each point, or for
    each step such a sequence; without time scales the network is shown the points' own times."""
    steps = len(nodes) - 1
    chosen = _checked("shares", _for_steps(shares, steps), steps)
    points = [len(row) for row in chosen]
    ones = [[1.0] * count for count in points] if time_scales is None else _for_steps(time_scales, steps)
    others = [
        _checked(name, rows, steps, points)
        for name, rows in (("weights", _for_steps(weights, steps)), ("time_scales", ones))
    ]
    return (yield from _ensemble(nodes, x, chosen, *others))


def _ensemble(nodes: Nodes, x: Register, shares: list[Any], weights: list[Any], time_scales: list[Any]) -> Steps:
    noisiest = nodes.process.domain[1]
    for i, (cur, next) in enumerate(nodes.steps()):
        form = EPSILON.at(cur)
        here = yield evaluate(x, cur, form.prediction)
        total, terms = form.total(cur, next), []
        for r, w, a in zip(shares[i], weights[i], time_scales[i], strict=True):
            point = nodes.between(cur, next, r)
            u = yield combine(point, (form.carry(cur, point), x), (form.total(cur, point), here))
            shown = None if isinstance(a, float) and a == 1 else _scaled(nodes, point, a, noisiest)
            terms.append((total * w, (yield evaluate(u, point, form.prediction, shown=shown))))
        x = yield combine(next, (form.carry(cur, next), x), *terms)
    return x


def _scaled(nodes: Nodes, point: Node, scale: Any, noisiest: float) -> Tensor:
    """The time at which sigma/alpha is `scale` times the point's."""
    lambda_ = point.lambda_ - torch.log(torch.as_tensor(scale, dtype=torch.float64))
    if math.isfinite(noisiest):
        lambda_ = torch.maximum(lambda_, nodes.process.lambda_(torch.tensor(noisiest, dtype=torch.float64)))
    return nodes.process.t_of_lambda(lambda_)


def _for_steps(value: Any, steps: int) -> Any:
    """Rows for every step of an option that may be one row for all."""
    rows = isinstance(value, Sequence) and len(value) and isinstance(value[0], (Sequence, Tensor))
    return value if rows and not (isinstance(value[0], Tensor) and not value[0].ndim) else [value] * steps


def _checked(name: str, rows: Any, steps: int, points: list[int] | None = None) -> list[Any]:
    """The rows of one option, or a ValueError that names it."""
    if not isinstance(rows, (Sequence, Tensor)) or len(rows) != steps:
        raise ValueError(f"{name}: numbers for {len(rows)} steps; the grid has {steps}")
    counts = [len(row) for row in rows]
    if not all(counts) or (points is not None and counts != points):
        raise ValueError(f"{name}: {counts} numbers in the steps; there must be {points or 'at least one in each'}")
    for row in rows:
        for value in row:
            if name in ("share", "shares"):
                number(name, value, 0, 1, ends=False)
            elif name in ("time_scale", "time_scales"):
                number(name, value, 0, ends=False)
            else:
                number(name, value, -math.inf)
    return list(rows)
