"""Flow-CPS: the noise that a step leaves, against Flow-GRPO's; and what a constant eta does to the law."""

from __future__ import annotations

import math

import numpy as np
import torch

import urn
from evidence.book import Finding, case
from evidence.line_law import wasserstein_on_line
from evidence.line_samples import LINE, floor, w2
from evidence.measure import listed, shown, slope
from urn.conformance.targets import GAUSSIAN
from urn.exact import moments
from urn.plan import Combine, Evaluate, Noise, Plan
from urn.processes import Flow

ETA = 0.7
COUNTS = (10, 20, 40, 80, 160)
CONSTANT = (
    "every step replaces the share sin^2(eta pi/2) of the noise's variance, however short the step is, so the fresh noise in "
    "all grows with the steps without bound"
)


@case(
    "Coefficients-Preserving Sampling for Reinforcement Learning with Flow Matching",
    "Wang & Yu 2025, Coefficients-Preserving Sampling for Reinforcement Learning with Flow Matching, arXiv 2509.05952",
)
def run(full: bool) -> list[Finding]:
    """Rectified flow from t = 1 to 0 in even steps, eta = 0.7, exact models; Flow-GRPO with noise in its last step, as it is
    published. W2 on a line, for CPS from its law without sampling."""
    size = 40_000 if full else 6000
    cps, grpo = (_totals(name) for name in ("cps", "flow_grpo"))
    constant, vanishing = (_w2(name, 400 if full else 300) for name in ("cps", "cps_vanishing"))
    quality = {name: w2(_plan(name, 10), size=size) for name in ("cps", "flow_grpo")}
    return [
        Finding(
            "CPS keeps the coefficient of all noise at its level in every step",
            "its excess over t, in 10 steps, below 1e-12",
            f"largest excess {np.abs(cps).max():.1e}",
            bool(np.abs(cps).max() < 1e-12),
        ),
        Finding(
            "Flow-GRPO's step leaves more noise than its level",
            "total coefficient of noise above t after every step of 10, the last (t = 0) included",
            f"excess between {grpo.min():.3f} and {grpo.max():.3f}, in the last step {grpo[-1]:.3f}",
            bool((grpo > 0).all()),
        ),
        Finding(
            "CPS's samples are better than Flow-GRPO's at 10 steps",
            "W2 below, by 95 % intervals",
            f"CPS {shown(quality['cps'])}, Flow-GRPO {shown(quality['flow_grpo'])}; exact draws {shown(floor(size=size))}",
            quality["cps"].high < quality["flow_grpo"].low,
        ),
        _converges("CPS with a constant eta samples the model's law as steps grow", "cps", constant, CONSTANT),
        _converges("With eta times sqrt(dt/t) it does", "cps_vanishing", vanishing),
    ]


def _converges(claim: str, name: str, distances: list[float], reason: str = "") -> Finding:
    """By exact moments: the quantiles of the line's law have an error of their own, 0.01 to 0.03 after 160 noisy steps."""
    errors = []
    for steps in COUNTS:
        mean, covariance = moments(_plan(name, steps), GAUSSIAN)
        errors.append(float((mean - GAUSSIAN.mean).norm() + (covariance - GAUSSIAN.covariance).norm()))
    fitted = slope(errors, COUNTS)
    return Finding(
        claim,
        f"the exact error in mean and covariance on Gaussian data falls with slope at least 0.75 over {COUNTS[0]} to "
        f"{COUNTS[-1]} steps",
        f"slope {fitted:.2f}; W2 on the line {listed(distances)} at {', '.join(map(str, COUNTS))} steps",
        fitted >= 0.75,
        "" if fitted >= 0.75 else reason,
    )


def _plan(name: str, steps: int) -> Plan:
    options = {"last_noise": True} if name == "flow_grpo" else {}
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    plan: Plan = urn.compile_plan(name, Flow(), grid=times, eta=ETA, **options)
    return plan


def _w2(name: str, count: int) -> list[float]:
    return [wasserstein_on_line(_plan(name, steps), LINE, count) for steps in COUNTS]


def _totals(name: str) -> np.ndarray:
    """After every step of 10, the root of the sum of squares of the coefficients of epsilon and fresh noise, less t."""
    excess, kinds, node = [], {}, None
    for row in _plan(name, 10).rows:
        if isinstance(row, Evaluate):
            kinds, node = dict(row.outs), row.node
        elif isinstance(row, Noise):
            kinds[row.out] = "noise"
        elif isinstance(row, Combine):
            d_sigma = float(Flow().velocity_weights(node.t)[1])
            per = {"epsilon": 1.0, "velocity": d_sigma, "x0": 0.0, "noise": 0.0, "x": float(node.sigma)}
            old = sum(float(w) * per[kinds.get(register, "x")] for w, register in row.weights)
            new = sum(float(w) for w, register in row.weights if kinds.get(register) == "noise")
            excess.append(math.hypot(old, new) - float(row.node.sigma))
    return np.array(excess)
