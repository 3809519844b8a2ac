"""Momentum in solvers: orders, what they are without it, and samples that strong guidance throws out of range."""

from __future__ import annotations

import torch

from evidence.book import Finding, case
from evidence.cases.dpmpp import guided_plane
from evidence.findings import orders, same_ends
from evidence.measure import TIMES, Course
from urn.compiler import compile_plan
from urn.methods.momentum import ghvb, hb
from urn.methods.pndm import ipndm

BETAS = (1.0, 0.8, 0.5)


@case(
    "Diffusion Sampling with Momentum for Mitigating Divergence Artifacts",
    "Wizadwongsa, Chinchuthakun, Khungurn, Raj & Suwajanakorn 2024, Diffusion Sampling with Momentum for Mitigating "
    "Divergence Artifacts, arXiv 2307.11118",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3; guided as c + (scale - 1)(c - u) by the 2-D mixture's two classes."""
    damped = {f"beta {beta:g}": (ghvb.with_options(order=2, beta=beta), 2) for beta in BETAS}
    heavy = {f"beta {beta:g}": (hb.with_options(order=1, beta=beta), 1) for beta in BETAS}
    return [
        orders("HB is of order 1 for every beta", heavy, "quadratic", full),
        orders("GHVB2 is of order 2 for every beta", damped, "quadratic", full),
        same_ends(
            "With beta = 1, GHVB4 is the four-step linear multistep method (PLMS from lower orders)",
            ghvb.with_options(order=4, beta=1.0),
            ipndm,
        ),
        *(_out_of_range(scale, steps, 1024 if full else 256) for scale in (7.5, 15.0) for steps in (8, 15)),
    ]


def _out_of_range(scale: float, steps: int, count: int) -> Finding:
    data = guided_plane(count, scale)
    shares = {
        "GHVB4, beta 0.5": share_outside(data, ghvb.with_options(order=4, beta=0.5), steps),
        "PLMS4": share_outside(data, ipndm, steps),
        "DDIM": share_outside(data, "ddim", steps),
    }
    return Finding(
        f"Guided at scale {scale:g}, {steps} steps: fewer samples out of range than with PLMS4",
        "share of samples with a coordinate beyond 1.2 times the largest of the exact ends, below PLMS4's; uniform grid",
        ", ".join(f"{name}: {share:.3f}" for name, share in shares.items()),
        shares["GHVB4, beta 0.5"] < shares["PLMS4"],
        "PLMS4 throws none out here either" if shares["PLMS4"] == 0 else "",
    )


def share_outside(data: Course, method: object, steps: int) -> float:
    """The share of ends with a coordinate larger than any that is right, by a fifth."""
    ends = data.run(compile_plan(method, data.model.process, grid=TIMES["uniform"](steps)))  # type: ignore[arg-type]
    largest = 1.2 * data.ends.abs().amax(0)
    return float((ends.abs() > largest).any(1).to(torch.float64).mean())
