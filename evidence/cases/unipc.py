"""UniPC: the orders of UniP and UniPC, UniP-2, and UniC after other solvers at five to ten evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.findings import Pairs, contest, orders, ratios_below_one, same_ends
from evidence.measure import (
    TIMES,
    WHOLE,
    Course,
    Exact,
    digits_course,
    distances,
    flow_ends,
    lambda_times,
    plane_course,
)
from urn.coefficients.exponential import X0, halved_weights
from urn.conformance.targets import MIXTURE
from urn.exact import digits_mixture
from urn.method import Steps, combine, evaluate
from urn.methods.dpmpp import published_weights
from urn.methods.unipc import bh2, unip, unipc, unipc_lower_final
from urn.nodes import Nodes
from urn.plan import Combine, Plan, Register, Row
from urn.processes import VP
from urn.schemes.multistep import lifted, multistep

WEIGHTS = partial(halved_weights, size=bh2)
BUDGETS = (5, 6, 8, 10)
RAMPED = (
    "the first step has order 1 (2 with UniC), and its local error stays; from a start of its own order the same rule has "
    "the slopes above"
)
UNEVEN = "not yet that of small steps: at 160 steps 3 of the 48 starts make up half of the squared error"


@case(
    "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
    "Zhao, Bai, Rao, Zhou & Lu 2023, UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models, "
    "arXiv 2302.04867",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3; errors against the exact end of the same trajectory. UniP and UniPC in
    the data prediction with B2. Lower final steps are the authors' code's below 10 steps, and diffusers' below 15."""
    courses = {
        "2-D mixture": (plane_course(1024 if full else 256), MIXTURE.model),
        "digits mixture": (digits_course(256 if full else 32), digits_mixture().model),
    }
    return [
        *(
            finding
            for grid in (("log-SNR", "quadratic") if full else ("quadratic",))
            for finding in _orders(grid, full)
        ),
        _evaluations(),
        same_ends(
            "UniP-2 with B2 is DPM-Solver++(2M), by the latter's own formula", unip.with_options(order=2), dpmpp_2m
        ),
        *(
            finding
            for where, (data, exact) in courses.items()
            for grid in (("log-SNR", "uniform") if full else ("log-SNR",))
            for finding in _corrected(where, data, exact, grid)
        ),
    ]


def published(order: int, correct: bool) -> Any:
    """UniP or UniPC started with orders 1, 2, ..., as in the paper."""

    def method(nodes: Nodes, x: Register) -> Steps:
        return (yield from multistep(nodes, x, X0, order, WEIGHTS, correct=WEIGHTS if correct else None))

    return method


def unipc_from_its_order(order: int) -> Any:
    """UniPC with a start of order + 1, a block of one step more than the predictor needs."""

    def start(nodes: Nodes, x: Register, form: Any, order: int) -> Any:
        return (yield from lifted(nodes, x, form, order + 1))

    def method(nodes: Nodes, x: Register) -> Steps:
        return (yield from multistep(nodes, x, X0, order, WEIGHTS, correct=WEIGHTS, start=start))

    return method


def dpmpp_2m(nodes: Nodes, x: Register) -> Steps:
    """Algorithm 2 of DPM-Solver++: D = (1 + 1/(2r)) x0_cur - 1/(2r) x0_prev, r = h_prev/h."""
    last = h_last = None
    for cur, next in nodes.steps():
        x0 = yield evaluate(x, cur, "x0")
        h = next.lambda_ - cur.lambda_
        terms = [(1.0, x0)]
        if last is not None:
            r = h_last / h
            terms = [(1 + 1 / (2 * r), x0), (-1 / (2 * r), last)]
        factor = -next.alpha * torch.expm1(-h)
        x = yield combine(next, (next.sigma / cur.sigma, x), *((factor * weight, made) for weight, made in terms))
        last, h_last = x0, h
    return x


def corrected_3m(nodes: Nodes, x: Register) -> Steps:
    """The authors' DPM-Solver++(3M) with lower final steps, and UniC after each of its steps but the last."""
    return (yield from multistep(nodes, x, X0, 3, published_weights, correct=WEIGHTS, lower_final=True))


SOLVERS: dict[str, tuple[Any, Any]] = {
    "DDIM": ("ddim", unipc.with_options(order=1)),
    "DPM-Solver++(2M)": ("dpmpp_2m", unipc.with_options(order=2)),
    "DPM-Solver++(2M) with a lower final step": ("dpmpp_2m_lower_final", unipc_lower_final.with_options(order=2)),
    "DPM-Solver++(3M) with lower final steps": ("dpmpp_3m_published_lower_final", corrected_3m),
}


def _orders(grid: str, full: bool) -> Iterable[Finding]:
    of_unip, of_unipc = (1, 2, 3, 4), (1, 2, 3)
    own, papers = "from a start of its own order", "from the paper's start of lower orders"
    uneven, ramped = (UNEVEN, UNEVEN) if grid == "log-SNR" else ("", RAMPED)
    unips = {f"p = {p}": (unip.with_options(order=p), p) for p in of_unip}
    yield orders(f"UniP-p converges with order p, {own}", unips, grid, full, uneven)
    unips = {f"p = {p}": (published(p, False), p) for p in of_unip if p > 2}  # up to 2 the two are one
    yield orders(f"UniP-p converges with order p, {papers}", unips, grid, full, ramped)
    unipcs = {f"p = {p}": (unipc_from_its_order(p), p + 1) for p in of_unipc}
    yield orders(f"UniPC-p converges with order p + 1, {own}", unipcs, grid, full, uneven)
    unipcs = {f"p = {p}": (published(p, True), p + 1) for p in of_unipc}
    yield orders(f"UniPC-p converges with order p + 1, {papers}", unipcs, grid, full, ramped)


def _evaluations() -> Finding:
    counts = [
        [urn.compile_plan(published(p, correct), VP.linear(), grid=lambda_times(10)).nfe for correct in (False, True)]
        for p in (1, 2, 3)
    ]
    return Finding(
        "UniC costs no evaluation",
        "as many evaluations in 10 steps of UniPC-p as of UniP-p, p = 1, 2, 3",
        ", ".join(f"{with_it} and {without}" for without, with_it in counts),
        all(with_it == without for without, with_it in counts),
    )


def _corrected(where: str, data: Course, exact: Exact, grid: str) -> Iterable[Finding]:
    times = {nfe: TIMES[grid](nfe) for nfe in BUDGETS}

    @cache
    def ends(nfe: int) -> Tensor:
        """Exact states at the last point but one."""
        return flow_ends(exact, VP.linear(), data.starts, WHOLE[0], float(times[nfe][-2]), 1e-5)

    def before_the_last_step(method: Any, nfe: int) -> Tensor:
        return distances(last_state_at(-2, urn.compile_plan(method, VP.linear(), grid=times[nfe]), data), ends(nfe))

    for solver, methods in SOLVERS.items():

        def pairs(errors: Callable[[Any, int], Tensor], methods: tuple[Any, Any] = methods) -> Pairs:
            plain, corrected = methods
            return {f"{nfe}:": (errors(corrected, nfe), errors(plain, nfe)) for nfe in BUDGETS}

        yield contest(
            f"UniC lowers the error of {solver} at 5 to 10 evaluations: {where}, {grid} grid",
            solver,
            pairs(lambda method, nfe: data.errors(method, times[nfe])),
            reason=lambda pairs=pairs: ratios_below_one(
                "the last step has no corrector; before it the claim holds, the ratios are", pairs(before_the_last_step)
            ),
        )


def last_state_at(point: int, plan: Plan, data: Course) -> Tensor:
    """The last state that a plan makes at a point of its grid, by its place in it; a corrector makes two."""
    found, index = [], range(plan.steps + 1)[point]

    def watch(row: Row, registers: Mapping[str, Any]) -> None:
        if isinstance(row, Combine) and row.node is not None and row.node.index == index:
            found.append(registers[row.out].clone())

    urn.execute(plan, data.model, {"x": data.starts}, watch=watch)
    return found[-1]
