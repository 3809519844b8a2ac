"""DC-Solver: multistep solvers whose newest prediction is moved in time before the predictor uses it.

A predictor-corrector evaluates at the predicted state and keeps that prediction beside a corrected state. Dynamic compensation
replaces the newest entry of the buffer, at cur = t_i, by the polynomial in t through the newest three entries, taken at

    t' = rho_i t_i + (1 - rho_i) t_{i-1},          Q(t_i) <- sum_j prod_{k != j} (t' - t_k)/(t_j - t_k) Q(t_j),

and the predictor of the step, the corrector at its end and all later steps use what stands there then. rho = 1 changes nothing,
so with all ratios 1 `dc_unipc` is `unipc`, and `dc_dpmpp` is `dpmpp_2m` or, at order 3, `dpmpp_3m_published`: both from the
ramped start of their papers. `dc_adams_pc` is the same on `adams_pc`, whose first order - 1 steps are one block. With two entries
the polynomial is a line; with one, and inside the block, there is nothing to move, so that these ratios must be 1. The authors'
code leaves the second step alone too; there a ratio of 1 says so.

rho != 1 reads a prediction at a time that is off by (1 - rho)(t_{i-1} - t_i), so that a solver with fixed ratios is of order one;
ratios are fitted for one grid, by the tuner `dc_solver`.

Source: Zhao, Wang, Zhou, Lu 2024, DC-Solver, arXiv 2409.03755, section 3, with the authors' code.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import X0, halved_weights, integral_weights
from urn.method import Steps, at_least_one, combine, method, one_of
from urn.methods.adams import FORMS, VARIABLES
from urn.methods.dpmpp import published_weights
from urn.methods.unipc import SIZES
from urn.nodes import Nodes
from urn.plan import Register
from urn.schemes.multistep import History, Newest, lifted, multistep

SOURCE = (
    "Zhao, Wang, Zhou, Lu 2024, DC-Solver: Improving Predictor-Corrector Diffusion Sampler via Dynamic Compensation, "
    "arXiv 2409.03755"
)
POINTS = 3  # of the polynomial


def _pair_facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    order = at_least_one("order", options["order"], 3)
    return {"order": min(order + 1, 3) if _unmoved(options["ratios"]) else 1}


def _predictor_facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    order = at_least_one("order", options["order"], 3)
    return {"order": min(order, 2) if _unmoved(options["ratios"]) else 1}


@method(order=3, exact_for=("point",), source=SOURCE, facts=_pair_facts)
def dc_unipc(
    nodes: Nodes,
    x: Register,
    order: int = 3,
    prediction: str = "x0",
    size: str = "bh2",
    ratios: Sequence[float] | Tensor | None = None,
) -> Steps:
    """UniPC of order 1 to 3 with dynamic compensation; ratios, one a step, are 1 where None, which is UniPC."""
    at_least_one("order", order, 3)
    one_of("prediction", prediction, FORMS)
    weights = partial(halved_weights, size=SIZES[one_of("size", size, SIZES)])
    moved = _moved(nodes, ratios)
    return (yield from multistep(nodes, x, FORMS[prediction], order, weights, correct=weights, newest=moved))


@method(order=3, exact_for=("point",), source=SOURCE, facts=_pair_facts)
def dc_adams_pc(
    nodes: Nodes,
    x: Register,
    order: int = 3,
    prediction: str = "x0",
    variable: str = "t",
    ratios: Sequence[float] | Tensor | None = None,
) -> Steps:
    """Exponential Adams-Bashforth-Moulton of order 1 to 3 with dynamic compensation: `adams_pc` where all ratios are 1."""
    at_least_one("order", order, 3)
    form = FORMS[one_of("prediction", prediction, FORMS)]
    chosen = VARIABLES[one_of("variable", variable, VARIABLES)] or nodes.process.t_of_lambda
    weights = partial(integral_weights, variable=chosen)
    moved = _moved(nodes, ratios, first=max(order - 1, 1))
    return (yield from multistep(nodes, x, form, order, weights, correct=weights, start=lifted, newest=moved))


@method(order=2, exact_for=("point",), source=SOURCE, facts=_predictor_facts)
def dc_dpmpp(nodes: Nodes, x: Register, order: int = 2, ratios: Sequence[float] | Tensor | None = None) -> Steps:
    """DPM-Solver++ multistep of order 1 to 3, as published, with dynamic compensation and no corrector."""
    at_least_one("order", order, 3)
    return (yield from multistep(nodes, x, X0, order, published_weights, newest=_moved(nodes, ratios)))


def _unmoved(ratios: Any) -> bool:
    given = None if ratios is None else _numbers(ratios)
    return given is None or bool((given == 1).all())  # what is none of these is refused when it compiles


def _moved(nodes: Nodes, ratios: Any, first: int = 1) -> Newest | None:
    """The rule of the buffer's newest entry, None where it stays; the ratios of the steps before `first` must be 1."""
    if ratios is None:
        return None
    steps = len(nodes) - 1
    given = _numbers(ratios)
    fits = given is not None and given.shape == (steps,) and bool(torch.isfinite(given).all())
    if given is None or not fits or not bool((given[:first] == 1).all()):
        which = "the first of them 1" if first == 1 else f"the first {first} of them 1"
        raise ValueError(
            f"ratios={ratios!r} must be {steps} finite numbers, one for each step of the grid, and {which}: there is nothing "
            "yet to interpolate"
        )

    def newest(history: History) -> Generator[Any, Any, History]:
        here, before = history[0][0], [node for node, _ in history[:POINTS]]
        ratio = given[here.index or 0]
        if len(history) < 2 or (float(ratio.detach()) == 1 and not ratio.requires_grad):
            return history
        t = before[1].t + ratio * (here.t - before[1].t)
        weights = [
            torch.stack([(t - other.t) / (one.t - other.t) for other in before if other is not one]).prod(0)
            for one in before
        ]
        made = {}
        for name in history[0][1]:
            terms = [(w, entry[name]) for w, (_, entry) in zip(weights, history, strict=False)]
            made[name] = str((yield combine(None, *terms)))
        return [(here, made), *history[1:]]

    return newest


def _numbers(ratios: Any) -> Tensor | None:
    if isinstance(ratios, Tensor):
        return ratios.to("cpu", torch.float64)
    try:
        return torch.tensor([float(ratio) for ratio in ratios], dtype=torch.float64)
    except (TypeError, ValueError):
        return None
