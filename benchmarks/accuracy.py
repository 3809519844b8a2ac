"""Accuracy: how far samples are from the exact ends of their trajectories, at equal numbers of model calls.

Every configuration of either side runs from the first 64 starts; the best by that go on to 1,024. At each budget the best
configuration of a side is chosen on one half of the starts and reported on the other, so that trying many flatters
nobody. (The 64 lie in the half that chooses among the 1,024.)
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers, plans
from benchmarks.course import Course, NotPossibleError, Ready, checks, course, distances, rms
from urn.metrics import bootstrap

BUDGETS = (5, 8, 10, 15, 20, 50)
COUNTS = (64, 1024)
POOLS = (("diffusers", "settings"), ("diffusers", "any"), ("urn", "any"), ("urn", "whole times"))
KEPT, KEPT_BY_MEDIAN = 40, 15  # of each pool at each budget, for the larger count

Say = Callable[[str], None]
Array = np.ndarray[Any, Any]


class Configuration(Protocol):
    """A line of either side's table."""

    @property
    def side(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def grid(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def pools(self) -> tuple[str, ...]: ...
    def at(self, budget: int) -> Ready: ...


@dataclass(frozen=True, eq=False)
class Entry:
    """A configuration at a budget, and how far its samples are from the exact ends, (N,)."""

    configuration: Configuration
    budget: int
    steps: int
    nfe: int
    errors: Tensor

    def record(self) -> dict[str, Any]:
        """For the JSON and the page."""
        of = self.configuration
        return {
            "side": of.side,
            "family": of.family,
            "grid": of.grid,
            "pools": list(of.pools),
            "budget": self.budget,
            "steps": self.steps,
            "nfe": self.nfe,
            "starts": len(self.errors),
            **summary(self.errors),
        }


def summary(errors: Tensor) -> dict[str, float]:
    """RMS, median and 90 % quantile over starts."""
    return {"rms": rms(errors), "median": float(errors.median()), "q90": float(errors.quantile(0.9))}


def measure(quick: bool = False, say: Say = print) -> dict[str, Any]:
    """Run the benchmark; everything that the page shows, as JSON values."""
    budgets, counts = ((5, 10), (16,)) if quick else (BUDGETS, COUNTS)
    sides = (peers.QUICK, plans.QUICK) if quick else (peers.diffusers_configurations(), plans.urn_configurations())
    whole = course(counts[-1])
    few = whole.first(counts[0])
    found = {"checks": checks(few.first(8 if quick else 32)), "same": same_ddim(few)}
    say(f"checks: {found}")
    workers = 1 if quick else os.cpu_count() or 1
    entries, failures = sweep([one for side in sides for one in side], budgets, few, say, workers)
    choices, records = choose(entries, budgets), [entry.record() for entry in entries]
    for count in counts[1:]:
        more: list[Entry] = []
        for budget in budgets:
            kept = promising([entry for entry in entries if entry.budget == budget])
            say(f"{len(kept)} configurations of {budget} calls from {count} starts")
            more += sweep(kept, [budget], whole.first(count), lambda _: None, workers)[0]
        choices += choose(more, budgets)
        records += [entry.record() for entry in more]
    return {
        "kind": "accuracy",
        "quick": quick,
        "budgets": list(budgets),
        "counts": list(counts),
        "configurations": {side[0].side: len(side) for side in sides},
        **found,
        "choices": choices,
        "records": records,
        "failures": failures,
    }


def same_ddim(few: Course, budget: int = 10) -> float:
    """The RMS distance between Urn's DDIM and diffusers' on the same times: what rounding to float32 leaves."""
    ours = plans.UrnConfiguration("ddim", "trailing").at(budget).run(few.starts)
    theirs = peers.Peer("DDIM", "trailing", (("clip_sample", False),)).at(budget).run(few.starts)
    return rms(distances(ours, theirs.double()))


def sweep(
    configurations: Sequence[Configuration], budgets: Iterable[int], few: Course, say: Say, workers: int = 1
) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Run configurations at budgets; those that do not run, or not to finite samples, with the reason."""
    entries: list[Entry] = []
    failures: list[dict[str, Any]] = []
    spawned = multiprocessing.get_context("spawn")
    several = ProcessPoolExecutor(workers, spawned, torch.set_num_threads, (1,)) if workers > 1 else nullcontext()
    with several as pool:
        for budget in budgets:
            # arrays, for every tensor sent to another process holds a file open
            task = partial(attempt, budget=budget, starts=few.starts.numpy(), clean=few.clean.numpy())
            results = map(task, configurations) if pool is None else pool.map(task, configurations, chunksize=16)
            for one, found in zip(configurations, results, strict=True):
                if isinstance(found, str):
                    failures.append({"side": one.side, "label": one.label, "budget": budget, "reason": found})
                else:
                    steps, nfe, errors = found
                    entries.append(Entry(one, budget, steps, nfe, torch.from_numpy(errors)))
            say(
                f"{budget} calls: {sum(e.budget == budget for e in entries)} of {len(configurations)} configurations run"
            )
    return entries, failures


def attempt(one: Configuration, budget: int, starts: Array, clean: Array) -> tuple[int, int, Array] | str:
    """A configuration's steps, calls and errors, or why there are none."""
    try:
        ready = one.at(budget)
        errors = distances(ready.run(torch.from_numpy(starts)), torch.from_numpy(clean))
    except NotPossibleError as error:
        return str(error)
    finite = bool(torch.isfinite(errors).all())
    return (ready.steps, ready.nfe, errors.numpy()) if finite else "samples that are nan or infinite"


def promising(entries: Sequence[Entry]) -> list[Configuration]:
    """The best of each pool by RMS, and some by the median: few starts near a border decide an RMS."""
    kept: dict[Configuration, None] = {}
    for side, pool in POOLS:
        group = of_pool(entries, side, pool)
        for key, number in ((rms, KEPT), (torch.median, KEPT_BY_MEDIAN)):
            ranked = sorted(group, key=lambda entry, key=key: float(key(entry.errors)))  # type: ignore[misc]
            kept.update((entry.configuration, None) for entry in ranked[:number])
    return list(kept)


def of_pool(entries: Sequence[Entry], side: str, pool: str) -> list[Entry]:
    return [e for e in entries if e.configuration.side == side and pool in e.configuration.pools]


def choose(entries: Sequence[Entry], budgets: Iterable[int]) -> list[dict[str, Any]]:
    """For each budget and pool the configuration of least RMS on the first half of the starts, on the second half.

    "over" has, for each pool of diffusers', its best RMS over this one's with the 95 % interval over starts: above 1 this
    one is nearer.
    """
    choices = []
    for budget in budgets:
        here = [entry for entry in entries if entry.budget == budget]
        best = {pool: chosen for pool in POOLS if (chosen := chosen_from(of_pool(here, *pool))) is not None}
        for (_, pool), entry in best.items():
            over = {
                other: ratio(reported(reference), reported(entry))
                for (side, other), reference in best.items()
                if side == "diffusers" and reference is not entry
            }
            choices.append({**entry.record(), "pool": pool, **summary(reported(entry)), "over": over})
    return choices


def chosen_from(entries: Sequence[Entry]) -> Entry | None:
    """The entry of least RMS on the first half of its starts."""
    return min(entries, key=lambda entry: rms(entry.errors[: len(entry.errors) // 2]), default=None)


def reported(entry: Entry) -> Tensor:
    """The errors from the half of the starts that chose nothing."""
    return entry.errors[len(entry.errors) // 2 :]


def ratio(reference: Tensor, errors: Tensor) -> dict[str, float]:
    """rms(reference)/rms(errors) of the same starts; the interval is of its logarithm."""

    def log_ratio(a: Tensor, b: Tensor) -> float:
        return math.log(rms(a)) - math.log(rms(b))

    found = bootstrap(log_ratio, reference[:, None], errors[:, None], 400, resample="pairs")
    return dict(zip(("ratio", "low", "high"), map(math.exp, found), strict=True))
