"""AMED-Solver: a learned point inside each step, beside solvers with as many calls."""

from __future__ import annotations

from typing import Any

from evidence.book import Finding, case
from evidence.findings import contest
from evidence.learned import Bench, best_of_tuner

TITLE = "Fast ODE-based Sampling for Diffusion Models in Around 5 Steps"
RIVALS = {
    "DPM-Solver-2": ("dpm_solver_2",),
    "Heun and DDIM": ("heun", "ddim"),
    "DPM-Solver++(2M) and iPNDM": ("dpmpp_2m", "ipndm"),
}


@case(TITLE, f"Zhou, Chen, Wang & Chen 2024, {TITLE}, arXiv 2312.00094")
def run(full: bool) -> list[Finding]:
    """The digits mixture (quick: the one in two dimensions), VP.linear() from t = 1; held-out starts against a fine reference.
    The points, weights and times shown are a step's own; the paper's come from a network, a sample's own."""
    found: dict[str, dict[str, Any]] = {label: {} for label in RIVALS}
    for calls in (6, 8) if full else (6,):
        bench = Bench(full, calls)
        amed = bench.errors(best_of_tuner(bench.tuned("amed", {}, batch=128)))
        for label, methods in RIVALS.items():
            plans = [plan for method in methods for plan in bench.on_grids(method).values()]
            found[label][f"{calls} calls"] = (amed, bench.best(plans))
    return [
        contest(
            f"In around 5 steps AMED-Solver is nearer to the reference than {label} with as many calls",
            "the best of them on the log-SNR, quadratic and EDM grids",
            pairs,
        )
        for label, pairs in found.items()
    ]
