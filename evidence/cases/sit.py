"""SiT: conversions between predictions, the marginals of its SDE for every w, Heun's order, and w against model error."""

from __future__ import annotations

import torch

import urn
from evidence.book import Finding, case
from evidence.findings import step_counts
from evidence.line_samples import floor, perturbed, w2
from evidence.measure import normals, shown, slope
from urn.conformance.targets import GAUSSIAN, MIXTURE
from urn.exact import moments
from urn.methods.sit import SHAPES
from urn.processes import VP, Flow

ENDS = (0.95, 0.05)
INTERPOLANTS = {"linear": Flow(), "VP": VP.linear(), "cosine": VP.cosine()}


@case(
    "SiT: Exploring Flow and Diffusion-based Generative Models with Scalable Interpolant Transformers",
    "Ma, Goldstein, Albergo, Boffi, Vanden-Eijnden & Xie 2024, SiT: Exploring Flow and Diffusion-based Generative Models "
    "with Scalable Interpolant Transformers, arXiv 2401.08740",
)
def run(full: bool) -> list[Finding]:
    """Exact models of mixtures and Gaussians, t even between 0.95 and 0.05; W2 on a line from t = 1 to 0 on the linear
    interpolant, 250 steps as in the paper, with a model that errs in place of the paper's networks."""
    return [
        _conversions(),
        *_orders(full),
        _diffusions(40_000 if full else 2000, 250 if full else 100),
    ]


def even(steps: int, first: float = ENDS[0], last: float = ENDS[1]) -> torch.Tensor:
    return torch.linspace(first, last, steps + 1, dtype=torch.float64)


def _conversions() -> Finding:
    gaps = {}
    for name, process in INTERPOLANTS.items():
        plan = urn.compile_plan("probability_flow_heun", process, grid=even(20))
        x = normals(1, 64, 2)
        ends = [
            urn.execute(plan, MIXTURE.model(process, kind), {"x": x})["x"]
            for kind in ("velocity", "score", "epsilon", "x0")
        ]
        gaps[name] = max(float((end - ends[0]).abs().max()) for end in ends[1:])
    return Finding(
        "A velocity and a score model are one model: each is converted into the other",
        "ends of 20 Heun steps with velocity, score, epsilon and x0 models equal to 1e-10, on three interpolants",
        ", ".join(f"{name} {gap:.1e}" for name, gap in gaps.items()),
        all(gap < 1e-10 for gap in gaps.values()),
    )


def _orders(full: bool) -> list[Finding]:
    counts = step_counts(full)

    def fit(name: str, counts: tuple[int, ...] = counts, **options: str) -> float:
        mean, covariance = GAUSSIAN.moments(Flow(), ENDS[1])
        errors = []
        for steps in counts:
            found = moments(urn.compile_plan(name, Flow(), grid=even(steps), **options), GAUSSIAN)
            errors.append(float((found[0] - mean).norm() + (found[1] - covariance).norm()))
        return slope(errors, counts)

    fits = {w: fit("sit_sde", w=w) for w in SHAPES}
    heun = fit("probability_flow_heun")
    where = f"between {counts[0]} and {counts[-1]} steps, Gaussian data"
    return [
        Finding(
            "Every w_t gives the same marginals, by Euler-Maruyama of order 1",
            f"the exact error in mean and covariance falls with slope at least 0.75 {where}",
            ", ".join(f"{w} {one:.2f}" for w, one in fits.items()),
            all(one >= 0.75 for one in fits.values()),
            f"kl is infinite at t = 1, and a first step from 0.95 is long beside it: between 640 and 1280 steps its slope is "
            f"{fit('sit_sde', (640, 1280), w='kl'):.2f}"
            if full and fits["kl"] < 0.75
            else "",
        ),
        Finding("Heun's method on the ODE has order 2", f"slope at least 1.75 {where}", f"{heun:.2f}", heun >= 1.75),
    ]


def _diffusions(size: int, steps: int) -> Finding:
    times = even(steps, 0.999, 0.0)
    found = {"ODE": w2(urn.compile_plan("probability_flow_heun", Flow(), grid=times), perturbed, size=size)}
    for w in SHAPES:
        found[w] = w2(urn.compile_plan("sit_sde", Flow(), grid=times, w=w), perturbed, size=size)
    best = min(SHAPES, key=lambda w: found[w].estimate)
    return Finding(
        "With a model that errs, quality depends on w_t, and the best SDE is better than the ODE",
        f"W2 of the best w_t below the ODE's by 95 % intervals, {steps} steps",
        ", ".join(f"{name} {shown(one)}" for name, one in found.items()) + f"; exact draws {shown(floor(size=size))}",
        found[best].high < found["ODE"].low,
    )
