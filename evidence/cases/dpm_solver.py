"""DPM-Solver: its orders, its first order, a constant noise prediction, and ten to twenty evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.findings import Reason, best_of_grids, contest, no_reason, orders, ratios_below_one, same_ends
from evidence.measure import TIMES, WHOLE, Course, course, digits_course, lambda_times, normals, plane_course, rms
from urn.coefficients.tableaus import DORMAND_PRINCE, MIDPOINT, Tableau
from urn.conformance.targets import MIXTURE
from urn.exact import Empirical, GaussianMixture
from urn.method import Steps, combine, evaluate
from urn.methods.dpm_solver import dpm_solver_fast, fast_orders
from urn.nets.data import digits
from urn.nodes import Nodes
from urn.plan import Register
from urn.processes import VP
from urn.schemes.runge_kutta import time_step

# its last stage is the next step's first, so a step costs six
SIX_STAGES = Tableau("dormand_prince", 5, DORMAND_PRINCE.a[:6], DORMAND_PRINCE.b[:6], DORMAND_PRINCE.c[:6])
BUDGETS = {"DPM-Solver-2": (10, 16, 20), "DPM-Solver-3": (12, 15, 18), "DPM-Solver-fast": (10, 12, 15, 20)}
TOLERANCES = (0.5, 0.2, 0.1, 0.05, 0.02, 5e-3, 1e-3)


@case(
    "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps",
    "Lu, Zhou, Bao, Chen, Li & Zhu 2022, DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in "
    "Around 10 Steps, arXiv 2206.00927",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3; errors against the exact end of the same trajectory. DPM-Solvers take
    steps even in log-SNR, Runge-Kutta methods in t, both as in the paper; DDIM also the best of three grids."""
    solvers = {"DPM-Solver-1": ("ddim", 1), "DPM-Solver-2": ("dpm_solver_2", 2), "DPM-Solver-3": ("dpm_solver_3", 3)}
    size = 256 if full else 32
    courses = {
        "2-D mixture": (plane_course(1024 if full else 256), partial(narrow_plane, 8 * size)),
        "digits mixture": (digits_course(size), partial(digits_as_points, size)),
    }
    return [
        orders("DPM-Solver-1, -2 and -3 converge with orders 1, 2 and 3", solvers, "log-SNR", full),
        same_ends("DPM-Solver-1, by its own formula in the noise prediction and log-SNR, is DDIM", first_order, "ddim"),
        _constant_prediction(),
        *(finding for where, given in courses.items() for finding in _few_evaluations(where, *given)),
    ]


def first_order(nodes: Nodes, x: Register) -> Steps:
    """x_next = (alpha_next/alpha_cur) x - sigma_next (e^h - 1) epsilon."""
    for cur, next in nodes.steps():
        epsilon = yield evaluate(x, cur, "epsilon")
        h = next.lambda_ - cur.lambda_
        x = yield combine(next, (next.alpha / cur.alpha, x), (-next.sigma * torch.expm1(h), epsilon))
    return x


def rk2(nodes: Nodes, x: Register) -> Steps:
    """The explicit midpoint rule in t."""
    for cur, next in nodes.steps():
        x = yield from time_step(nodes, MIDPOINT, cur, next, x)
    return x


def rk45(nodes: Nodes, x: Register) -> Steps:
    """The rule of order five of Dormand and Prince's pair in t."""
    for cur, next in nodes.steps():
        x = yield from time_step(nodes, SIX_STAGES, cur, next, x)
    return x


def fast_times(evaluations: int) -> Tensor:
    """DPM-Solver-fast's grid: its steps, of whatever order, are all equally long in log-SNR."""
    process = VP.linear()
    steps = [order for _, order in fast_orders(evaluations)]
    shares = torch.cat([(i + torch.arange(order).double() / order) / len(steps) for i, order in enumerate(steps)])
    lambdas = torch.lerp(process.lambda_(WHOLE[0]), process.lambda_(WHOLE[1]), torch.cat([shares, torch.ones(1)]))
    times = process.t_of_lambda(lambdas)
    times[0], times[-1] = WHOLE
    return times


def solver_errors(data: Course, name: str, evaluations: int, grid: str = "log-SNR") -> Tensor:
    """The errors of one of `BUDGETS`, with as many evaluations."""
    if name == "DPM-Solver-fast":
        times = fast_times(evaluations) if grid == "log-SNR" else TIMES[grid](evaluations)
        return data.errors(dpm_solver_fast, times)
    order = int(name[-1])
    return data.errors(f"dpm_solver_{order}", TIMES[grid](evaluations // order))


def _constant_prediction() -> Finding:
    """d(x/alpha)/d(sigma/alpha) = epsilon, so the exact end is linear in it."""
    process, constant, x = VP.linear(), torch.tensor([1.3, -0.4], dtype=torch.float64), normals(4, 16, 2)
    model = urn.Model(lambda x, t: constant.expand_as(x), process, predicts="epsilon")
    (alpha, sigma), (alpha_end, sigma_end) = ((process.alpha(t), process.sigma(t)) for t in WHOLE)
    exact = alpha_end * (x / alpha + (sigma_end / alpha_end - sigma / alpha) * constant)
    errors = []
    for method in ("ddim", "dpm_solver_2", "dpm_solver_3"):
        end = urn.execute(urn.compile_plan(method, process, grid=WHOLE), model, {"x": x})["x"]
        errors.append(float((end - exact).abs().max() / exact.abs().max()))
    return Finding(
        "A constant noise prediction is integrated exactly in one step",
        "relative error of orders 1, 2 and 3 below 1e-12 in one step from t = 1 to 1e-3",
        ", ".join(f"{error:.1e}" for error in errors),
        max(errors) < 1e-12,
    )


def _few_evaluations(where: str, data: Course, narrow: Callable[[], tuple[str, Course]]) -> Iterable[Finding]:
    ours = {(name, nfe): solver_errors(data, name, nfe) for name, budgets in BUDGETS.items() for nfe in budgets}
    counts = sorted({nfe for budgets in BUDGETS.values() for nfe in budgets})
    ddims = {
        "DDIM on the log-SNR grid": {nfe: data.errors("ddim", lambda_times(nfe)) for nfe in counts},
        "DDIM on the best of three grids": {nfe: best_of_grids(data, "ddim", nfe) for nfe in counts},
    }

    def against(name: str, rival: str, rivals: Mapping[int, Tensor], reason: Reason) -> Finding:
        budgets = ", ".join(map(str, rivals))
        return contest(
            f"{name} is better than {rival} at {budgets} evaluations: {where}",
            rival,
            {f"{nfe}:": (ours[name, nfe], errors) for nfe, errors in rivals.items()},
            reason=reason,
        )

    for name, budgets in BUDGETS.items():
        quadratic = cache(partial(_quadratic, data, name))
        for rival, errors in ddims.items():
            yield against(name, rival, {nfe: errors[nfe] for nfe in budgets}, quadratic)
    midpoint, dormand_prince = ({nfe: _in_t(data, *rule, nfe) for nfe in at} for rule, at in RUNGE_KUTTA)
    yield against("DPM-Solver-2", "RK2 in t", midpoint, lambda: _width(*narrow()))
    yield against("DPM-Solver-3", "RK45 in t", dormand_prince, no_reason)
    yield _adaptive(where, data, {nfe: rms(ours["DPM-Solver-3", nfe]) for nfe in BUDGETS["DPM-Solver-3"]})


RUNGE_KUTTA = (((rk2, 2), (10, 16, 20)), ((rk45, 6), (12, 18)))  # (method, calls a step), evaluations


def _in_t(data: Course, method: Any, calls: int, evaluations: int) -> Tensor:
    return data.errors(method, TIMES["uniform"](evaluations // calls))


def _quadratic(data: Course, name: str) -> str:
    return ratios_below_one(
        "with both on the quadratic grid it holds, the ratios are",
        {
            f"{nfe}:": (solver_errors(data, name, nfe, "quadratic"), data.errors("ddim", TIMES["quadratic"](nfe)))
            for nfe in BUDGETS[name]
        },
    )


def _width(what: str, data: Course) -> str:
    return ratios_below_one(
        f"RK2 in t is exact on N(0, I), DPM-Solver on one point, and this mixture is wide; on {what} the ratios of the "
        "medians are",
        {f"{nfe}:": (solver_errors(data, "DPM-Solver-2", nfe), _in_t(data, rk2, 2, nfe)) for nfe in (10, 16, 20)},
        "median",
    )


def narrow_plane(count: int) -> tuple[str, Course]:
    """The mixture in two dimensions with stds ten times smaller."""
    narrow = GaussianMixture(MIXTURE.weights, MIXTURE.means, MIXTURE.covariances / 100)
    return "the same with a hundredth of its covariances", course(
        narrow.model, normals(1, count, 2), VP.linear(), *WHOLE, 1e-7
    )


def digits_as_points(count: int) -> tuple[str, Course]:
    """scikit-learn's digits themselves."""
    exact = Empirical(digits("train")[0].double()).model
    return "the digits themselves, as points,", course(exact, normals(2, count, 1, 8, 8), VP.linear(), *WHOLE, 1e-6)


def _adaptive(where: str, data: Course, targets: dict[int, float]) -> Finding:
    """What the pair with step-size control needs for the same error. Its repeated first stage is not counted."""
    runs = []
    for tolerance in TOLERANCES:
        for first_step in (0.05, 0.2):
            found = urn.sample_adaptive(
                data.model, "dormand_prince", data.starts, rtol=tolerance, atol=tolerance, first_step=first_step
            )
            error = rms((found.x - data.ends).square().flatten(1).mean(1).sqrt())
            runs.append((error, float(found.nfe.double().mean()) * 6 / 7 + 1))
    needed = {nfe: min(calls for error, calls in runs if error <= target) for nfe, target in targets.items()}
    return Finding(
        f"Adaptive RK45 in t needs more evaluations than DPM-Solver-3 for the same error: {where}",
        "its fewest, over tolerances from 0.5 to 1e-3 and two first steps, above DPM-Solver-3's "
        + ", ".join(map(str, targets)),
        "; ".join(f"error {targets[nfe]:.2g}: {calls:.0f} against {nfe}" for nfe, calls in needed.items()),
        all(calls > nfe for nfe, calls in needed.items()),
    )
