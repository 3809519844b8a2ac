"""Accelerated DDIM and DDPM: orders of the deterministic one, and what half of the noise beforehand does to the law."""

from __future__ import annotations

import numpy as np

import urn
from evidence.book import Finding, case
from evidence.findings import orders, step_counts
from evidence.measure import WHOLE, power_times, slope
from urn.conformance.targets import GAUSSIAN
from urn.exact import moments
from urn.processes import VP


@case(
    "Accelerating Convergence of Score-Based Diffusion Models, Provably",
    "Li, Huang, Efimov, Wei, Chi & Chen 2024, Accelerating Convergence of Score-Based Diffusion Models, Provably, "
    "arXiv 2403.03852",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3, quadratic grid. The deterministic sampler calls the model twice a step."""
    both = {"accelerated": ("accelerated_ddim", 2)}
    return [
        orders("The accelerated ODE sampler converges with order 2", both, "quadratic", full),
        orders("DDIM, with half of its evaluations, converges with order 1", {"DDIM": ("ddim", 1)}, "quadratic", full),
        *_laws(step_counts(full)),
    ]


def _laws(counts: tuple[int, ...]) -> list[Finding]:
    errors = {
        name: [_law_error(name, steps) for steps in counts] for name in ("ddpm", "ddpm_large", "accelerated_ddpm")
    }
    fits = {name: slope(found, counts) for name, found in errors.items()}
    ratios = np.array(errors["ddpm_large"]) / np.array(errors["accelerated_ddpm"])
    listed = ", ".join(f"{name}: {fit:.2f}" for name, fit in fits.items())
    return [
        Finding(
            "DDPM's law converges as 1/sqrt(T) or better, the accelerated one's as 1/T",
            f"slope of the error in mean and covariance at least 0.5 and 0.75, between {counts[0]} and {counts[-1]} steps, "
            "Gaussian data",
            listed,
            fits["ddpm_large"] >= 0.5 and fits["accelerated_ddpm"] >= 0.75,
        ),
        Finding(
            "At equal evaluations the accelerated DDPM's law is nearer the data's than DDPM's",
            "DDPM's error (variance beta) over the accelerated one's above 1 at every number of steps",
            f"ratios {', '.join(f'{r:.2f}' for r in ratios)} at {', '.join(map(str, counts))} steps",
            bool((ratios > 1).all()),
        ),
    ]


def _law_error(name: str, steps: int) -> float:
    process = VP.linear()
    found = moments(urn.compile_plan(name, process, grid=power_times(steps, 2)), GAUSSIAN)
    mean, covariance = GAUSSIAN.moments(process, WHOLE[1])
    return float((found[0] - mean).norm() + (found[1] - covariance).norm())
