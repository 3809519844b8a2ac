"""S4S: learned coefficients beside those of multistep methods on the same grid, and learned together with the times."""

from __future__ import annotations

from typing import Any

from evidence.book import Finding, case
from evidence.findings import contest
from evidence.learned import Bench, best_of_tuner
from urn.compiler import compile_plan
from urn.plan import Plan

TITLE = "S4S: Solving for a Diffusion Model Solver"
RIVALS = {"DPM-Solver++(2M)": "dpmpp_2m", "UniPC-3": "unipc_3", "iPNDM": "ipndm", "DEIS tAB-3": "deis_3"}


@case(TITLE, f"Frankel, Chen, Li, Koh, Ratliff & Oh 2025, {TITLE}, arXiv 2502.17423")
def run(full: bool) -> list[Finding]:
    """The digits mixture (quick: the one in two dimensions), VP.linear() from t = 1; held-out starts against a fine reference."""
    same: dict[str, Any] = {}
    learned: dict[str, Any] = {}
    both: dict[str, Any] = {}
    for calls in (5, 8) if full else (5,):
        bench = Bench(full, calls)
        plans = {
            f"{label}, {grid}": plan for label, name in RIVALS.items() for grid, plan in bench.on_grids(name).items()
        }
        s4s = best_of_tuner(bench.tuned("s4s", plans, times=False, radius=0.0, rounds=4, batch=128))
        alt = bench.errors(best_of_tuner(bench.tuned("s4s", plans, radius=0.0, batch=128)))
        ld3 = bench.errors(best_of_tuner(bench.tuned("ld3", plans, radius=0.0, batch=128)))
        rivals = [_on(name, s4s) for name in RIVALS.values()]
        same[f"{calls} calls"] = (bench.errors(s4s), bench.best(rivals))
        learned[f"{calls} calls"] = (alt, bench.best(list(plans.values())))
        both[f"{calls} calls"] = (alt, ld3)
    return [
        contest(
            "Learned coefficients are nearer to the reference than every multistep method on the same grid",
            f"the best of {', '.join(RIVALS)}",
            same,
        ),
        contest(
            "With learned times too (S4S-Alt) nearer than those methods on any usual grid",
            "the best of them on the log-SNR, quadratic and EDM grids",
            learned,
        ),
        contest(
            "S4S-Alt is nearer than learned times alone",
            "LD3 of the best of those methods",
            both,
        ),
    ]


def _on(method: str, plan: Plan) -> Plan:
    """A method on another plan's times, ended as that."""
    clean = float(plan.outputs[0][2].sigma) == 0 and plan.nfe == plan.steps + 1
    made: Plan = compile_plan(method, plan.process, grid=plan.times, final="x0" if clean else None)
    return made
