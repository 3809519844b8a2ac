"""LD3: learned grids beside the usual ones, and what moving the starts does for starts that were not trained on."""

from __future__ import annotations

from evidence.book import Finding, case
from evidence.findings import contest
from evidence.learned import Bench, best_of_tuner
from evidence.measure import rms

TITLE = "Learning to Discretize Denoising Diffusion ODEs"
METHODS = {"DPM-Solver++(2M)": "dpmpp_2m", "UniPC-3": "unipc_3"}


@case(TITLE, f"Tong, Hoang, Liu, Van den Broeck & Niepert 2024, {TITLE}, arXiv 2405.15506")
def run(full: bool) -> list[Finding]:
    """The digits mixture (quick: the one in two dimensions), VP.linear() from t = 1; held-out starts against a fine reference."""
    return [
        *(_learned(label, full) for label in METHODS),
        _relaxed(full),
    ]


def _learned(label: str, full: bool) -> Finding:
    pairs = {}
    for calls in (5, 10) if full else (5,):
        bench = Bench(full, calls)
        plans = bench.on_grids(METHODS[label])
        search = bench.tuned("ld3", plans, method=METHODS[label], radius=0.0, batch=128)
        pairs[f"{calls} calls"] = (bench.errors(best_of_tuner(search)), bench.best(list(plans.values())))
    return contest(
        f"{label} on its learned grid, plain fit, is nearer to the reference than on any usual one",
        "the best of the log-SNR, quadratic and EDM grids",
        pairs,
    )


def _relaxed(full: bool) -> Finding:
    """Few training starts, as in the paper, so that there is something to overfit."""
    pairs, gaps = {}, []
    for calls in (5, 8) if full else (5,):
        bench = Bench(full, calls, 32)
        plans = bench.on_grids("dpmpp_2m")
        moved, plain = (
            bench.tuned("ld3", plans, method="dpmpp_2m", labels=True, radius=radius, rounds=6).tried[-1]
            for radius in (0.1, 0.0)
        )
        pairs[f"{calls} calls"] = (bench.errors(moved.plan), bench.errors(plain.plan))
        gaps.append(f"{plain.value:.3g} and {rms(bench.errors(plain.plan)):.3g} with {calls} calls")
    return contest(
        "Trained on 32 starts, times and labels: moving the starts (r = 0.1) generalises better than the plain fit",
        "the plain fit",
        pairs,
        reason=lambda: (
            f"what there is to prevent: the plain fit's rms error on its own 32 starts and on those held out is {', '.join(gaps)}"
        ),
    )
