"""EPD-Solver: several points in a step, whose calls are parallel, beside one point and beside as many calls in a row."""

from __future__ import annotations

from typing import Any

from evidence.book import Finding, case
from evidence.findings import contest
from evidence.learned import Bench, best_of_tuner

TITLE = "Distilling Parallel Gradients for Fast ODE Solvers of Diffusion Models"


@case(TITLE, f"Zhu, Wang, Zhao, Zhang & Zhang 2025, {TITLE}, arXiv 2507.14797")
def run(full: bool) -> list[Finding]:
    """The digits mixture (quick: the one in two dimensions), VP.linear() from t = 1; held-out starts against a fine reference.
    Latency is counted in rounds of calls that do not need each other, two in a step."""
    one: dict[str, Any] = {}
    untuned: dict[str, Any] = {}
    counted = True
    for steps in (2, 3):
        rounds = 2 * steps
        errors = {}
        for points in (1, 2):
            bench = Bench(full, steps * (1 + points))
            plan = best_of_tuner(bench.tuned("epd", {}, points=points, batch=128))
            errors[points] = bench.errors(plan)
            counted = counted and plan.rounds == rounds and plan.nfe == steps * (1 + points)
        few = Bench(full, rounds)
        rivals = [plan for name in ("dpmpp_2m", "ipndm", "dpm_solver_2") for plan in few.on_grids(name).values()]
        one[f"{rounds} rounds"] = (errors[2], errors[1])
        untuned[f"{rounds} rounds"] = (errors[2], few.best(rivals))
    return [
        Finding(
            "More points in a step cost no latency",
            "two rounds a step with one point and with two, by the plans' own count",
            f"{'two' if counted else 'not two'} in every plan",
            counted,
        ),
        contest("Two points are nearer to the reference than one at the same latency", "one point, as learned", one),
        contest(
            "EPD-Solver is nearer than solvers of the same latency",
            "the best of DPM-Solver++(2M), iPNDM and DPM-Solver-2 on the log-SNR, quadratic and EDM grids",
            untuned,
        ),
    ]
