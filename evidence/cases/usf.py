"""USF: plans searched step by step against the best of those that are alike in every step."""

from __future__ import annotations

import math
from functools import lru_cache

from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.findings import contest
from evidence.measure import distances, mean_interval, normals, shown
from urn.conformance.targets import MIXTURE
from urn.exact import digits_mixture
from urn.plan import Plan
from urn.prediction import as_tensor
from urn.processes import VP
from urn.tuning import ToReference, Tuned, tune, untuned_plans
from urn.tuning.untuned import plan_within

TITLE = "A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models"
PROCESS = VP.linear()


@case(TITLE, f"Liu, Ning, Lin, Yang & Wang 2024, {TITLE}, arXiv 2312.07243")
def run(full: bool) -> list[Finding]:
    """Exact scores of Gaussian mixtures on VP.linear(). Plans are searched by their RMS distance to a fine reference over
    training starts, seeded with DDIM, DPM-Solver++, UniPC, DEIS and Adams methods on six grids, and judged on other starts
    beside the best of these by training starts. The paper's figures are FIDs."""
    where = "digits mixture" if full else "2-D mixture"
    found = {calls: searched(where, calls, 200 if full else 40, 0) for calls in ((5, 10) if full else (5,))}
    return [_held_out(where, found, 1024 if full else 256), _never_worse(found), *([_predictor()] if full else [])]


@lru_cache(maxsize=16)
def searched(where: str, calls: int, trials: int, seed: int, predictor: bool = True) -> Tuned:
    """A search on few starts."""
    starts = 256 if where == "digits mixture" else 64
    return tune(
        model_of(where),
        calls,
        tuner="usf",
        objective=ToReference(120),
        starts=starts,
        held_out=starts,
        seed=seed,
        trials=trials,
        predictor=predictor,
    )


def model_of(where: str) -> urn.Model:
    """The exact model."""
    target = MIXTURE if where == "2-D mixture" else digits_mixture()
    return target.model(PROCESS, "v")


def _held_out(where: str, found: dict[int, Tuned], count: int) -> Finding:
    model = model_of(where)
    starts = normals(77, count, *(model.shape or ()))
    fine = ends(plan_within(PROCESS, "dpm_solver_3", 300), model, starts)
    pairs, rivals = {}, []
    for calls, (plan, record) in found.items():
        rival = dict(untuned_plans(PROCESS, calls))[record.untuned.label]
        ours, theirs = (distances(ends(one, model, starts), fine) for one in (plan, rival))
        pairs[f"{calls} calls:"] = (ours, theirs)
        rivals.append(record.untuned.label)
    claim = (
        f"A searched plan is closer than the best plan that is alike in every step, on starts it has not seen: {where}"
    )
    return contest(claim, " and ".join(dict.fromkeys(rivals)), pairs)


def ends(plan: Plan, model: urn.Model, starts: Tensor) -> Tensor:
    """Where a plan takes unit normals."""
    found: Tensor = urn.execute(plan, model, {"x": starts * float(as_tensor(dict(plan.inputs)["x"].std))})["x"]
    return found


def _never_worse(found: dict[int, Tuned]) -> Finding:
    pairs = {
        calls: (one.record.tuned.train.estimate, one.record.untuned.train.estimate) for calls, one in found.items()
    }
    return Finding(
        "A search that is seeded with the usual plans is never worse on its training starts",
        "the RMS distance no larger than the best seed's",
        "; ".join(f"{calls} calls: {ours:.3g} from {theirs:.3g}" for calls, (ours, theirs) in pairs.items()),
        all(ours <= theirs for ours, theirs in pairs.values()),
    )


def _predictor() -> Finding:
    """The same number of trials, children chosen by the predictor or by chance."""
    gaps = []
    for seed in range(6):
        ours, theirs = (
            searched("2-D mixture", 5, 60, seed, predictor).record.tuned.train.estimate for predictor in (True, False)
        )
        gaps.append(math.log(ours / theirs))
    interval = mean_interval(gaps)
    return Finding(
        "The predictor finds better plans in the same number of trials: 2-D mixture, 5 calls",
        "the logarithm of the RMS distance with it over that without below 0, by the 95 % interval over 6 seeds of 60 trials",
        shown(interval),
        interval.high < 0,
    )
