"""Adaptive step sizes: a method that reads the state, and whose rows run as they come. Every sample has its own steps.

A pair of orders p - 1 and p makes a trial step; with their difference d the step is accepted where

    E = rms(d / max(atol, rtol max(|x_low|, |x|))) <= 1,   and the next one is h min(5, max(1/5, 0.9 E^(-1/p))).

Nodes hold one number per sample, of shape (B, 1, ...), and so do the weights of the rows; accepting is a row too, a sum with
weights 1 and 0. So a sample's steps do not depend on its batch; a batch ends with its slowest sample.

Sources: Lu et al. 2022, DPM-Solver, arXiv 2206.00927, appendix C.4 (the pairs 12 and 23, and the error measure); Dormand &
Prince 1980, A family of embedded Runge-Kutta formulae, as used by Song et al. 2021, arXiv 2011.13456, appendix D.4.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from urn.arithmetic import weighted_sum
from urn.coefficients.exponential import EPSILON, halved_weights, integral_weights
from urn.coefficients.tableaus import DORMAND_PRINCE, DORMAND_PRINCE_ERROR
from urn.method import combine, evaluate
from urn.model import Model
from urn.nodes import Nodes
from urn.plan import Combine, Evaluate, Node, PlanError, Read, Register
from urn.prediction import fold
from urn.processes import with_side_input
from urn.schemes.multistep import predictions, step_row

Rows = Generator[Any, Any, Any]
Tried = Generator[Any, Any, tuple[Register, Register, Register]]
Trial = Callable[[Nodes, Node, Node, Register], Tried]


@dataclass(frozen=True)
class AdaptiveResult:
    """What adaptive sampling gives.

    Attributes:
        x: the samples, (B, *S).
        nfe: model calls while each sample was under way, (B,).
        rejected: steps that each sample took back, (B,).
    """

    x: Tensor
    nfe: Tensor
    rejected: Tensor


@dataclass(frozen=True)
class Pair:
    """An embedded pair.

    `trial` yields a step's rows and gives the registers of the new state, of the one of lower order and of their difference;
    `order` is the higher order, `calls` the model calls, `in_lambda` the clock of its steps.
    """

    trial: Trial
    order: int
    calls: int
    in_lambda: bool


def dpm_solver_12(nodes: Nodes, cur: Node, next: Node, x: Register) -> Tried:
    """DPM-Solver-1 inside DPM-Solver-2."""
    here = yield from predictions(cur, x)
    low = yield step_row(EPSILON, integral_weights, cur, next, x, [here])
    middle = nodes.between(cur, next, 0.5)
    there = yield from predictions(middle, (yield step_row(EPSILON, integral_weights, cur, middle, x, [here])))
    high = yield step_row(EPSILON, halved_weights, cur, next, x, [here, there])
    return high, low, (yield combine(None, (1.0, high), (-1.0, low)))


def dpm_solver_23(nodes: Nodes, cur: Node, next: Node, x: Register) -> Tried:
    """DPM-Solver-2 with its stage at 1/3 inside DPM-Solver-3."""
    here = yield from predictions(cur, x)
    one, two = nodes.between(cur, next, 1 / 3), nodes.between(cur, next, 2 / 3)
    at_one = yield from predictions(one, (yield step_row(EPSILON, integral_weights, cur, one, x, [here])))
    low = yield step_row(EPSILON, halved_weights, cur, next, x, [here, at_one])
    u = yield step_row(EPSILON, integral_weights, cur, two, x, [here, at_one])
    at_two = yield from predictions(two, u)
    high = yield step_row(EPSILON, integral_weights, cur, next, x, [here, at_two])
    return high, low, (yield combine(None, (1.0, high), (-1.0, low)))


def dormand_prince(nodes: Nodes, cur: Node, next: Node, x: Register) -> Tried:
    """The probability-flow ODE in t by the pair 5(4); the velocity at the step's end, an error stage, is made again."""
    step = next.t - cur.t
    slopes: list[Register] = []
    here, y = cur, x
    shares = (*DORMAND_PRINCE.c[1:], None)
    for row, share in zip((*DORMAND_PRINCE.a[1:], DORMAND_PRINCE.b), shares, strict=True):
        slopes.append((yield evaluate(y, here, "velocity")))
        if share is None:
            break
        here = nodes.at(cur.t + step * float(share))
        y = yield combine(
            here, (1.0, x), *((step * float(a), slope) for a, slope in zip(row, slopes, strict=True) if a)
        )
    error = [(step * float(e), slope) for e, slope in zip(DORMAND_PRINCE_ERROR, slopes, strict=True) if e]
    return y, y, (yield combine(None, *error))


PAIRS = {
    "dpm_solver_12": Pair(dpm_solver_12, 2, 2, True),
    "dpm_solver_23": Pair(dpm_solver_23, 3, 3, True),
    "dormand_prince": Pair(dormand_prince, 5, 7, False),
}


def sample_adaptive(
    model: Model,
    pair: str,
    start: Tensor,
    *,
    rtol: float = 0.05,
    atol: float = 0.0078,
    t_from: float | None = None,
    t_to: float | None = None,
    first_step: float = 0.05,
    max_trials: int = 10_000,
    conditioning: Mapping[str, Any] | None = None,
) -> AdaptiveResult:
    """Follow the probability flow from `t_from` to `t_to`, in either direction, with steps sized by the error of a pair.

    Args:
        model: the model.
        pair: "dpm_solver_12" or "dpm_solver_23", with steps in lambda; "dormand_prince", with steps in t.
        start: states at t_from, (B, *S).
        rtol, atol: relative and absolute tolerance; the defaults are DPM-Solver's for data in [-1, 1], and loose.
        t_from, t_to: by default the ends of `process.t_finite`.
        first_step: the first trial, as a share of the whole way.
        max_trials: after so many trial steps an error is raised rather than going on.
        conditioning: keyword arguments for the network.

    Raises:
        ValueError: an unknown pair, or tolerances or times that cannot be used.
        PlanError: the steps became too many; the message says how far the slowest sample came.

    Example:
        >>> result = sample_adaptive(model, "dpm_solver_23", torch.randn(16, 1, 8, 8))
    """
    if pair not in PAIRS:
        raise ValueError(f"pair={pair!r} must be one of {', '.join(PAIRS)}")
    if not (rtol >= 0 and atol >= 0 and rtol + atol > 0 and 0 < first_step <= 1):
        raise ValueError(
            f"rtol={rtol}, atol={atol}, first_step={first_step}: tolerances >= 0, one above, 0 < first_step <= 1"
        )
    if with_side_input(model.process) is not None:
        raise ValueError(f"{model.process} has a side input, which adaptive sampling does not carry")
    ends = [end if given is None else given for given, end in zip((t_from, t_to), model.process.t_finite, strict=True)]
    chosen = PAIRS[pair]
    nodes = Nodes(model.process, torch.tensor(ends, dtype=torch.float64))
    if chosen.in_lambda and not all(bool(torch.isfinite(node.lambda_)) for node in nodes):
        raise ValueError(f"t_from={ends[0]}, t_to={ends[1]}: pair {pair!r} steps in lambda, which is infinite there")
    counts = torch.zeros((2, len(start)), dtype=torch.long)
    steps = _adaptive(nodes, Held("x", start), chosen, (rtol, atol, first_step, max_trials), counts)
    x = _run(steps, model, dict(conditioning or {}))
    return AdaptiveResult(x, counts[0], counts[1])


def _adaptive(nodes: Nodes, x: Register, pair: Pair, settings: tuple[float, float, float, int], counts: Tensor) -> Rows:
    rtol, atol, first_step, max_trials = settings
    value = yield Read(x)
    column = (len(value), *[1] * (value.ndim - 1))
    begin, end = (node.lambda_ if pair.in_lambda else node.t for node in (nodes[0], nodes[1]))
    way, place = end - begin, torch.zeros(column, dtype=torch.float64)  # place: the share of the way behind each sample
    step = torch.full(column, first_step, dtype=torch.float64)
    for _ in range(max_trials):
        running = place < 1
        if not bool(running.any()):
            return x
        step = torch.minimum(step, 1 - place)
        # a sample that has arrived takes a step back that is not kept: one of no length would divide by it
        reach = torch.where(place + step > 1 - 1e-12, torch.ones_like(place), place + step)
        reach = torch.where(running, reach, torch.full_like(place, 0.95))
        cur, next = (_node(nodes, pair, begin + way * share) for share in (place, reach))
        new, low, difference = yield from pair.trial(nodes, cur, next, x)
        error = _error((yield Read(difference)), (yield Read(low)), (yield Read(x)), rtol, atol)
        accepted = running & (error <= 1)
        kept = accepted.double()
        x = yield combine(next, (kept, new), (1 - kept, x))
        counts[0] += running.flatten() * pair.calls
        counts[1] += (running & ~accepted).flatten()
        place = torch.where(accepted, reach, place)
        step = step * (0.9 * error.clamp(min=1e-10) ** (-1 / pair.order)).clamp(0.2, 5)
    raise PlanError(
        f"{max_trials} trial steps did not suffice; the slowest sample came {float(place.min()):.1%} of the way"
    )


def _node(nodes: Nodes, pair: Pair, place: Tensor) -> Node:
    return nodes.at_lambda(place) if pair.in_lambda else nodes.at(place)


def _error(difference: Tensor, low: Tensor, x: Tensor, rtol: float, atol: float) -> Tensor:
    scale = torch.maximum(rtol * torch.maximum(low.abs(), x.abs()), torch.full_like(x, atol))
    squares = (difference / scale).double().square().flatten(1).mean(1).cpu()
    return squares.sqrt().nan_to_num(nan=torch.inf).reshape(-1, *[1] * (x.ndim - 1))


class Held(str):
    """A register of a live run that carries its own value, which is freed when the method lets go of it."""

    __slots__ = ("value",)
    value: Tensor

    def __new__(cls, name: str, value: Tensor) -> Held:
        made = super().__new__(cls, name)
        made.value = value
        return made


class _Values(dict[str, Any]):
    """Registers by name for `weighted_sum`: what a Held carries, else what is in the dictionary."""

    def __getitem__(self, name: str) -> Any:
        return name.value if isinstance(name, Held) else super().__getitem__(name)


def _run(steps: Rows, model: Model, conditioning: dict[str, Any]) -> Tensor:
    """Run rows as they come. The loop of `execute`, for rows that are not known beforehand."""
    answer: Any = None
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as end:
            final: Tensor = _Values()[end.value]
            return final
        if isinstance(request, Read):
            answer = _Values()[request.register]
        elif isinstance(request, Combine):
            answer = Held("state", weighted_sum(request.weights, _Values()))
        elif isinstance(request, Evaluate):
            inputs = [_Values()[name] for name in request.inputs]
            outputs = model(*inputs, t=request.t, **conditioning)
            values = _Values({f"output {place}": output for place, output in enumerate(outputs)})
            made = tuple(
                Held(wanted, weighted_sum(fold(wanted, request, model.process, model.outputs), values))
                for _, wanted in request.outs
            )
            answer = made[0] if len(made) == 1 else made
        else:
            raise PlanError(f"adaptive sampling is deterministic and linear; the method yielded {request.kind!r}")
