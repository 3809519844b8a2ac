"""Restart: against its own ODE solver at equal evaluations, with a model that errs and with the exact one."""

from __future__ import annotations

import urn
from evidence.book import Finding, case
from evidence.line_samples import Exact, exact, floor, perturbed, w2
from evidence.measure import shown
from urn.metrics import Interval
from urn.plan import Plan
from urn.processes import VE

INTERVALS = {
    "0.06 to 0.3": ((0.06, 0.3, 6, 3),),  # the paper's for CIFAR-10
    "10 to 40": ((10.0, 40.0, 6, 3),),
}


@case(
    "Restart Sampling for Improving Generative Processes",
    "Xu, Deng, Cheng, Tian, Liu & Jaakkola 2023, Restart Sampling for Improving Generative Processes, arXiv 2306.14878",
)
def run(full: bool) -> list[Finding]:
    """W2 on a line, on VE from sigma = 80 on EDM's grid to 0. Heun has 36 steps; Restart 18, and six ways down of three steps
    from one interval, the same 71 evaluations; the SDE (EDM's churn) 36 steps."""
    size = 40_000 if full else 6000
    erring = _all(perturbed, size)
    right = _all(exact, size)
    ode, paper, high = "Heun", "Restart 0.06 to 0.3", "Restart 10 to 40"
    return [
        _below(
            "With a model that errs, Restart is better than its ODE solver at equal evaluations",
            erring,
            paper,
            ode,
            size,
        ),
        _below(
            "With a model that errs, Restart is better than a step-by-step SDE at equal evaluations",
            erring,
            paper,
            "churn",
            size,
        ),
        _below(
            "At the wrong noise, 10 to 40, Restart does worse than at 0.06 to 0.3: a model that errs",
            erring,
            paper,
            high,
            size,
        ),
        Finding(
            "With the exact model Restart gains nothing over its ODE solver at this budget",
            "95 % intervals of W2 overlap, or Restart's is above",
            _listed(right, size),
            right[paper].high >= right[ode].low,
        ),
    ]


def _plans() -> dict[str, Plan]:
    plans = {"Heun": _plan("heun", 36)}
    for label, intervals in INTERVALS.items():
        plans[f"Restart {label}"] = _plan("restart", 18, intervals=intervals)
    plans["churn"] = _plan("edm", 36)
    counts = {label: plan.nfe for label, plan in plans.items()}
    if set(counts.values()) != {71}:
        raise ValueError(f"evaluations differ: {counts}")
    return plans


def _plan(name: str, steps: int, **options: object) -> Plan:
    times = [*urn.grids.karras(VE(), steps - 1).tolist(), 0.0]
    plan: Plan = urn.compile_plan(name, VE(), grid=times, **options)
    return plan


def _all(model: Exact, size: int) -> dict[str, Interval]:
    return {label: w2(plan, model, size=size) for label, plan in _plans().items()}


def _below(claim: str, found: dict[str, Interval], one: str, other: str, size: int) -> Finding:
    return Finding(
        claim,
        f"W2 of {one} below that of {other}, by 95 % intervals",
        _listed(found, size),
        found[one].high < found[other].low,
    )


def _listed(found: dict[str, Interval], size: int) -> str:
    return (
        "; ".join(f"{label} {shown(one)}" for label, one in found.items()) + f"; exact draws {shown(floor(size=size))}"
    )
