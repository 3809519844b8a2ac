"""DPM-Solver++: its order, its first order, and a guided score at fifteen evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch

import urn
from evidence.book import Finding, case
from evidence.findings import Pairs, contest, orders, ratios_below_one, same_ends, step_counts
from evidence.measure import TIMES, WHOLE, Course, course, lambda_times, normals, slope
from urn.conformance.targets import GAUSSIAN, MIXTURE
from urn.exact import GaussianMixture, digits_mixture, moments
from urn.method import Steps, combine, evaluate
from urn.nodes import Nodes
from urn.plan import Register
from urn.processes import VP, Process


@case(
    "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    "Lu, Zhou, Bao, Chen, Li & Zhu 2022, DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models, "
    "arXiv 2211.01095",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3, guided as c + (scale - 1)(c - u) by the mixtures' classes; errors
    against the exact end of the same guided trajectory. The paper's guided runs have steps even in t."""
    order_two = {"2M": ("dpmpp_2m", 2), "2S": ("dpmpp_2s", 2)}
    scales = (7.5, 15.0) if full else (7.5,)
    courses = {
        "2-D mixture": {scale: guided_plane(1024 if full else 256, scale) for scale in scales},
        "digits mixture": {scale: guided_digits(256 if full else 32, scale) for scale in scales},
    }
    return [
        orders("2M and 2S converge with order 2", order_two, "log-SNR", full),
        _order_of_the_law(full),
        same_ends("At order 1, by its own formula in the data prediction and log-SNR, it is DDIM", first_order, "ddim"),
        *(
            finding
            for where, guided in courses.items()
            for grid in ("uniform", "log-SNR")
            for finding in _guided(where, guided, grid)
        ),
    ]


def first_order(nodes: Nodes, x: Register) -> Steps:
    """x_next = (sigma_next/sigma_cur) x - alpha_next (e^(-h) - 1) x0."""
    for cur, next in nodes.steps():
        x0 = yield evaluate(x, cur, "x0")
        h = next.lambda_ - cur.lambda_
        x = yield combine(next, (next.sigma / cur.sigma, x), (-next.alpha * torch.expm1(-h), x0))
    return x


def _order_of_the_law(full: bool) -> Finding:
    process, counts = VP.linear(), step_counts(full)
    mean, covariance = GAUSSIAN.moments(process, WHOLE[1])
    errors = []
    for steps in counts:
        found = moments(urn.compile_plan("dpmpp_2m_sde", process, grid=lambda_times(steps)), GAUSSIAN)
        errors.append(float((found[0] - mean).norm() + (found[1] - covariance).norm()))
    fitted = slope(errors, counts)
    return Finding(
        "SDE-DPM-Solver++(2M) converges with order 2 in law: log-SNR grid",
        f"slope of the exact error in mean and covariance at least 1.75, between {counts[0]} and {counts[-1]} steps, "
        "Gaussian data",
        f"{fitted:.2f}",
        fitted >= 1.75,
    )


def _guided(where: str, guided: Mapping[float, Course], grid: str) -> Iterable[Finding]:
    def pairs(method: str, calls: int, budgets: Sequence[int], grid: str = grid) -> Pairs:
        """Against DDIM with the budgets of evaluations; at 15 the method may have one more."""
        return {
            f"scale {scale:g}, {nfe} evaluations:": (
                data.errors(method, TIMES[grid](round(nfe / calls))),
                data.errors("ddim", TIMES[grid](nfe)),
            )
            for scale, data in guided.items()
            for nfe in budgets
        }

    for order, evaluations in ((2, 16), (3, 15)):
        yield contest(
            f"Guided, DPM-Solver-{order} in the noise prediction ({evaluations} evaluations) is worse than DDIM at 15: "
            f"{where}, {grid} grid",
            "DDIM",
            pairs(f"dpm_solver_{order}", order, (15,)),
            above=True,
        )
    yield contest(
        f"Guided, 2M is better than DDIM at 15 and 20 evaluations: {where}, {grid} grid",
        "DDIM",
        pairs("dpmpp_2m", 1, (15, 20)),
        reason=lambda: ratios_below_one(
            "with both on the quadratic grid it holds, the ratios are",
            pairs("dpmpp_2m", 1, (15, 20), "quadratic"),
        ),
    )


def guided_course(mixture: GaussianMixture, starts: torch.Tensor, label: torch.Tensor, scale: float) -> Course:
    """A course on a labelled mixture whose score is guided towards each start's class, from all classes."""

    def exact(process: Process, predicts: str) -> urn.Model:
        everything = {"label": torch.tensor(-1)}
        return urn.classifier_free_guidance(mixture.model(process, predicts), scale, everything)

    return course(exact, starts, VP.linear(), *WHOLE, 1e-8, label=label)


@lru_cache(maxsize=4)
def guided_plane(count: int, scale: float) -> Course:
    """On the mixture in two dimensions, one class a component."""
    labelled = GaussianMixture(MIXTURE.weights, MIXTURE.means, MIXTURE.covariances, labels=[0, 1])
    return guided_course(labelled, normals(5, count, 2), torch.arange(count) % 2, scale)


@lru_cache(maxsize=4)
def guided_digits(count: int, scale: float) -> Course:
    """On the digits mixture, two components a class."""
    return guided_course(digits_mixture(), normals(6, count, 1, 8, 8), torch.arange(count) % 10, scale)
