"""DDIM: its ends at eta = 0 and 1, the marginals it keeps, what eta costs in few steps, and encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.findings import fitted_order, step_counts
from evidence.line_law import wasserstein_on_line
from evidence.measure import TIMES, distances, mean_interval, normals, power_times, ratio, rms, shown
from urn.conformance.targets import MIXTURE, POINT
from urn.exact import GaussianMixture, digits_mixture, moments
from urn.metrics import frechet_distance
from urn.nets.data import digits
from urn.nets.denoiser import NULL_CLASS
from urn.nets.digits_network import load_digits
from urn.noise import FastNoise
from urn.plan import Combine, Evaluate, Noise, Plan
from urn.processes import VP, linear_betas

ETAS = (0.0, 0.2, 0.5, 1.0)  # the paper's
LINE = GaussianMixture(MIXTURE.weights, MIXTURE.means[:, :1], MIXTURE.covariances[:, :1, :1])


@case(
    "Denoising Diffusion Implicit Models",
    "Song, Meng & Ermon 2021, Denoising Diffusion Implicit Models, arXiv 2010.02502",
)
def run(full: bool) -> list[Finding]:
    """Exact scores; DDPM's table for the coefficients, VP.linear() for the rest, to clean data where W2 is measured, and as
    ODE between t = 1 and 1e-3. Uniform and quadratic, the paper's sub-sequences, are even in t and sqrt t."""
    grids = ("uniform", "quadratic") if full else ("uniform",)
    return [
        _ddpm(),
        _marginals(),
        _order(full),
        *(_eta_on_line(grid, full) for grid in grids),
        _eta_on_digits("uniform", full),
        *_round_trips(full),
    ]


def _ddpm() -> Finding:
    betas = linear_betas(1000)
    plan = urn.compile_plan("ddim", VP.from_betas(betas), grid=torch.arange(999, -2, -1), eta=1.0)
    gap = np.abs(coefficients(plan) - posterior_coefficients(betas.numpy())).max()
    return Finding(
        "With eta = 1 on the full grid DDIM is DDPM",
        "coefficients of x, x0 and noise equal to those of DDPM's posterior to 1e-12, in all 1000 steps of its table",
        f"largest difference {gap:.1e}",
        bool(gap < 1e-12),
    )


def coefficients(plan: Plan) -> np.ndarray[Any, Any]:
    """(steps, 3): what each step multiplies x, x0 and its noise by; epsilon is (x - alpha x0)/sigma."""
    found, kinds = [], {}
    for row in plan.rows:
        if isinstance(row, Evaluate):
            kinds, node = dict(row.outs), row.node
        elif isinstance(row, Noise):
            kinds[row.out] = "noise"
        elif isinstance(row, Combine):
            weights = {kinds[register]: weight for weight, register in row.weights}
            of_x = weights.get("epsilon", 0.0) / float(node.sigma)
            of_x0 = weights["x0"] - float(node.alpha) * of_x
            found.append((of_x, of_x0, weights.get("noise", 0.0)))
    return np.array(found)


def posterior_coefficients(betas: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same by equations 6 and 7 of Ho et al. 2020, with alpha_t = 1 - beta_t."""
    kept = np.cumprod(1 - betas)
    before = np.concatenate([[1.0], kept[:-1]])
    of_x = np.sqrt(1 - betas) * (1 - before) / (1 - kept)
    of_x0 = np.sqrt(before) * betas / (1 - kept)
    return np.stack([of_x, of_x0, np.sqrt((1 - before) / (1 - kept) * betas)], 1)[::-1]


def _marginals() -> Finding:
    process, gaps = VP.linear(), []
    for eta in (0.0, 0.25, 0.5, 0.75, 1.0):
        for times in (make(10) for make in TIMES.values()):
            for steps in range(1, 11):
                plan = urn.compile_plan("ddim", process, grid=times[: steps + 1], eta=eta)
                pairs = zip(moments(plan, POINT), POINT.moments(process, plan.times[-1]), strict=True)
                gaps.extend(float((found - exact).abs().max()) for found, exact in pairs)
    return Finding(
        "Every eta has the same marginals",
        "exact mean and covariance on one-point data equal to the forward process's to 1e-12, after each of 10 steps, on "
        "three grids, eta 0, 0.25, 0.5, 0.75, 1",
        f"largest difference {max(gaps):.1e}",
        max(gaps) < 1e-12,
    )


def _order(full: bool) -> Finding:
    steps = step_counts(full)
    fits = {grid: fitted_order("ddim", grid, steps)[0] for grid in ("quadratic", "log-SNR")}
    return Finding(
        "With eta = 0 it is of order 1",
        f"slope within 0.25 of 1, between {steps[0]} and {steps[-1]} steps, 2-D mixture",
        ", ".join(f"{grid} grid: {fitted:.2f}" for grid, fitted in fits.items()),
        all(abs(fitted - 1) < 0.25 for fitted in fits.values()),
    )


def _eta_on_line(grid: str, full: bool) -> Finding:
    states, counts = (800, (10, 20, 50)) if full else (400, (10, 20))
    found = {
        steps: [
            wasserstein_on_line(urn.compile_plan("ddim", VP.linear(), steps, grid, eta=eta), LINE, states)
            for eta in ETAS
        ]
        for steps in counts
    }
    return Finding(
        f"At {', '.join(map(str, counts))} steps the error grows with eta: 1-D mixture, {grid} grid",
        "W2 to the data, computed from the laws themselves, rises over eta 0, 0.2, 0.5, 1",
        "; ".join(f"{steps} steps: {', '.join(f'{w:.4g}' for w in row)}" for steps, row in found.items()),
        all(low < high for row in found.values() for low, high in pairwise(row)),
    )


def _eta_on_digits(grid: str, full: bool) -> Finding:
    batches, count = (8, 768) if full else (4, 256)
    chosen = (10, 20, 50) if full else (10,)
    rises, shown_rows = [], []
    for steps in chosen:
        plans = [urn.compile_plan("ddim", VP.linear(), steps, grid, eta=eta) for eta in ETAS]
        found = np.array([[_gaussian_w2(plan, count, seed) for plan in plans] for seed in range(batches)])
        here = [mean_interval(list(column)) for column in np.diff(found, axis=1).T]
        means = ", ".join(f"{w:.3g}" for w in found.mean(0))
        shown_rows.append(f"{steps} steps: {means}, rises {', '.join(shown(rise, 2) for rise in here)}")
        rises += here
    holds = all(rise.low > 0 for rise in rises)
    undecided = "the rises that these samples do not show have intervals about 0: undecided, not reversed"
    return Finding(
        f"At {', '.join(map(str, chosen))} steps the error grows with eta: digits mixture, {grid} grid",
        "W2 between the Gaussians with the samples' and the data's mean and covariance rises over eta 0, 0.2, 0.5, 1, by "
        f"95 % intervals over {batches} batches of {count}",
        "; ".join(shown_rows),
        holds,
        undecided if not holds and all(rise.high > 0 for rise in rises) else "",
    )


def _gaussian_w2(plan: Plan, count: int, seed: int) -> float:
    target, process = digits_mixture(), plan.process
    x0, first = target.sample(count, seed), plan.times[0]
    start = process.alpha(first) * x0 + process.sigma(first) * normals(1000 + seed, *x0.shape)
    found = urn.execute(plan, target.model(process), {"x": start}, FastNoise(2000 + seed))["x"]
    return sqrt(frechet_distance(found, points_with_moments_of(target)))


def points_with_moments_of(target: GaussianMixture) -> Tensor:
    """2 d points whose mean and covariance are exactly the mixture's."""
    weights, means = target.weights[:, None], target.means
    mean = (weights * means).sum(0)
    covariance = (
        (weights[:, :, None] * target.covariances).sum(0) + (weights * means).T @ means - torch.outer(mean, mean)
    )
    values, vectors = torch.linalg.eigh(covariance)
    away = (vectors * values.clamp(min=0).sqrt()).T * sqrt((2 * len(mean) - 1) / 2)
    return torch.cat([mean + away, mean - away]).reshape(-1, *target.shape)


def _round_trips(full: bool) -> Iterable[Finding]:
    mixture, process = digits_mixture(), VP.linear()
    steps = (10, 20, 50, 100, 200, 500, 1000) if full else (10, 20, 50)
    count = 128 if full else 32
    images = digits("test")[0][:count]
    label = torch.full((count,), NULL_CLASS)
    yield _round_trip(
        "digits mixture", mixture.sample(count, 7), lambda plan, x: _run(plan, mixture.model(process), x), steps
    )
    network = load_digits()
    yield _round_trip(
        "held-out digits, Urn's digits network", images, lambda plan, x: _run(plan, network, x, label=label), steps
    )


def _run(plan: Plan, model: urn.Model, x: Tensor, **conditioning: Tensor) -> Tensor:
    found: Tensor = urn.execute(plan, model, {"x": x}, conditioning=conditioning)["x"]
    return found


def _round_trip(where: str, x: Tensor, run: Callable[[Plan, Tensor], Tensor], counts: tuple[int, ...]) -> Finding:
    errors = {}
    for steps in counts:
        times = power_times(steps, 1)
        encode, decode = (urn.compile_plan("ddim", VP.linear(), grid=way) for way in (times.flip(0), times))
        errors[steps] = distances(run(decode, run(encode, x)), x).double()
    falls = [ratio(errors[more], errors[fewer]) for fewer, more in pairwise(counts)]
    return Finding(
        f"Encoding and decoding come back closer with more steps: {where}",
        f"squared error over {len(x)} images falls from each of {', '.join(map(str, counts))} steps each way to the next, "
        "by 95 % intervals, uniform grid",
        f"mean square on [0, 1]: {', '.join(f'{rms(errors[steps]) ** 2 / 4:.2g}' for steps in counts)}",
        all(fall.high < 1 for fall in falls),
    )
