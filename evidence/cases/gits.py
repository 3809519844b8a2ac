"""GITS: a grid by dynamic programming over a trajectory's own errors, beside the usual ones, and from how many trajectories."""

from __future__ import annotations

from evidence.book import Finding, case
from evidence.findings import contest
from evidence.learned import Bench, best_of_tuner
from evidence.measure import listed, ratio, rms, shown

TITLE = "On the Trajectory Regularity of ODE-based Diffusion Sampling"
METHODS = {"DDIM": "ddim", "iPNDM": "ipndm", "DPM-Solver++(2M)": "dpmpp_2m"}


@case(TITLE, f"Chen, Zhou, Wang, Shen & Lyu 2024, {TITLE}, arXiv 2405.11326")
def run(full: bool) -> list[Finding]:
    """The digits mixture (quick: the one in two dimensions), VP.linear() from t = 1; held-out starts against a fine reference;
    gamma = 1.15, 60 candidates, 256 trajectories as in the authors' code."""
    return [*(_better(label, full) for label in METHODS), _few(full)]


def _better(label: str, full: bool) -> Finding:
    pairs, plain = {}, {}
    for calls in (5, 8):
        bench = Bench(full, calls)
        plans = bench.on_grids(METHODS[label])
        rival = bench.best(list(plans.values()))
        for discount, found in ((1.15, pairs), (1.0, plain)):
            search = bench.tuned("gits", plans, methods=(METHODS[label],), discounts=(discount,))
            found[f"{calls} calls"] = (bench.errors(best_of_tuner(search)), rival)
    return contest(
        f"{label} is nearer to the reference on the grid of its trajectories than on any usual one",
        "the best of the log-SNR, quadratic and EDM grids",
        pairs,
        reason=lambda: (
            "the costs are of DDIM's single steps from exact states, whose sum is not the error at the end; with gamma = 1 the "
            "ratios are " + "; ".join(f"{name} {shown(ratio(*pair))}" for name, pair in plain.items())
        ),
    )


def _few(full: bool) -> Finding:
    bench = Bench(full, 8)
    errors = [
        rms(bench.errors(best_of_tuner(bench.tuned("gits", {}, methods=("ipndm",), discounts=(1.15,), starts=starts))))
        for starts in (16, 64, 128)
    ]
    return Finding(
        "The trajectories are so alike that a few give the grid",
        "iPNDM's error in 8 calls on the grids of 16, 64 and 128 trajectories within 5 % of each other",
        f"rms errors {listed(errors)}",
        max(errors) < 1.05 * min(errors),
    )
