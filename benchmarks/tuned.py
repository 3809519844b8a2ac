"""Tuned plans beside untuned ones and beside diffusers: on the digits mixture by distance, on the digits network by law.

diffusers' side are the schedulers that came first in the accuracy benchmark at one of its budgets, on all grids that it tries
for them; the best is chosen on the same starts that it is reported on, which flatters it. What is tuned has its own starts,
by seed, and none of these; the test digits are nobody's to tune on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import urn
from benchmarks.accuracy import ratio, summary
from benchmarks.course import PROCESS, Course, Network, NotPossibleError, course, distances, mixture, rms
from benchmarks.peers import Peer, diffusers_configurations
from urn.metrics import bootstrap, energy_distance, frechet_distance
from urn.nets.data import digits
from urn.processes import VP, Flow
from urn.tuning import Search, ToReference, Tuned, Tuner, plan_within
from urn.tuning.least_squares import Settings
from urn.tuning.tuners.grid import fit_grid

BUDGETS = (5, 8, 10, 20)
TARGETS = {5: 4.0, 8: 8.0, 10: 6.0, 20: 3.0}
SECONDS = 100.0
STARTS = {5: 4096, 8: 4096, 10: 4096, 20: 512}  # of what the seconds allow: references and untuned plans cost them too
FRUGAL: dict[str, Any] = {"evaluations": 50_000, "starts": 64, "objective": ToReference(60)}
PROMISING = (
    "SASolver predictor_order=1 corrector_order=2",
    "IPNDM",
    "UniPCMultistep",
    "DPMSolverSinglestep solver_order=3",
)
GRIDS = ("leading", "exponential", "karras", "flow*", "flow", "given")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
HALF_STARTS = 256

Say = Callable[[str], None]


def measure(quick: bool = False, say: Say = print) -> dict[str, Any]:
    """Run the benchmark; everything that the page shows, as JSON values."""
    whole = course(64 if quick else 1024)
    budgets = (5,) if quick else BUDGETS
    limit = 3.0 if quick else SECONDS
    rows = [mixture_row(budget, whole, limit, quick, say) for budget in budgets]
    return {
        "kind": "tuned",
        "quick": quick,
        "starts": len(whole.starts),
        "rows": rows,
        "overfitting": overfitting(whole, quick, say),
        "digits": digits_rows(quick, say),
    }


# --- the mixture ------------------------------------------------------------------------------------------------------


def mixture_row(budget: int, whole: Course, limit: float, quick: bool, say: Say) -> dict[str, Any]:
    """One budget: the best of diffusers in both pools, and Urn's plan untuned, tuned, and tuned with few evaluations."""
    peers = best_peers(budget, whole, quick)
    model = mixture().model(PROCESS, "epsilon")
    starts = 64 if quick else STARTS[budget]
    tuned, seconds = timed(model, budget, starts=starts, held_out=64 if quick else 1024, seconds=limit)
    few = {**FRUGAL, "evaluations": 15_000} if quick else FRUGAL
    frugal, frugal_seconds = timed(model, budget, held_out=64, **few)
    untuned = plan_of(tuned.record.untuned.label, budget)
    plans = {"Urn, untuned": untuned, "Urn, frugal": frugal.plan, "Urn, tuned": tuned.plan}
    costs = {"Urn, frugal": (frugal, frugal_seconds), "Urn, tuned": (tuned, seconds)}
    errors = {name: distances(run(plan, whole.starts), whole.clean) for name, plan in plans.items()}
    found: dict[str, Any] = {"budget": budget, "target": TARGETS[budget], "lines": []}
    for name, (label, its) in peers.items():
        found["lines"].append({"name": name, "label": label, **summary(its)})
    for name, its in errors.items():
        line: dict[str, Any] = {"name": name, **summary(its)}
        line["over"] = {peer: ratio(theirs, its) for peer, (_, theirs) in peers.items()}
        line["label"] = tuned.record.untuned.label
        if name in costs:
            made, took = costs[name]
            line["label"] = made.record.tuned.label if made.record.returned == "tuned" else made.record.untuned.label
            line.update(seconds=took, evaluations=made.record.evaluations)
        found["lines"].append(line)
    found["half"] = half_precision(plans, whole)
    best = found["lines"][-1]
    say(f"{budget} calls: RMS {best['rms']:.4g}, median {best['median']:.3g} in {seconds:.0f} s; {best['over']}")
    return found


def best_peers(budget: int, whole: Course, quick: bool) -> dict[str, tuple[str, Tensor]]:
    """In each pool the promising configuration of least RMS from these starts, with its errors."""
    found: dict[str, tuple[str, Tensor]] = {}
    chosen = [
        one
        for one in diffusers_configurations()
        if one.family.startswith(PROMISING) and one.grid.endswith(GRIDS) and "predictor_order=2" not in one.family
    ]
    for one in chosen[:: 8 if quick else 1]:
        try:
            errors = distances(one.at(budget).run(whole.starts), whole.clean)
        except NotPossibleError:
            continue
        for pool, name in (("settings", "diffusers, by its settings"), ("any", "diffusers, any way")):
            better = name not in found or rms(errors) < rms(found[name][1])
            if pool in one.pools and bool(torch.isfinite(errors).all()) and better:
                found[name] = (one.label, errors)
    return found


def timed(model: urn.Model, budget: int, **settings: Any) -> tuple[Tuned, float]:
    """A tuned plan and the seconds of its search, the judging not among them."""
    found = urn.tune(model, budget, **settings)
    return found, found.record.seconds


def plan_of(label: str, budget: int, process: Any = PROCESS) -> urn.Plan:
    """The untuned plan of a label, "method, grid"."""
    method, grid = label.split(", ")
    return plan_within(process, method, budget, grid)


def run(plan: urn.Plan, starts: Tensor) -> Tensor:
    """From unit normals, in their dtype, on the exact network."""
    with torch.no_grad():
        made: Tensor = urn.execute(plan, Network().model(), {"x": starts})["x"]
    return made


def half_precision(plans: dict[str, urn.Plan], whole: Course) -> list[dict[str, Any]]:
    """How far a run in half precision ends from the same plan's in float64, and from the exact ends."""
    starts, clean = whole.starts[:HALF_STARTS], whole.clean[:HALF_STARTS]
    lines = []
    for name in ("Urn, untuned", "Urn, tuned"):
        exact = run(plans[name], starts.double())
        for kind, dtype in DTYPES.items():
            made = run(plans[name], starts.to(dtype))
            rounding, error = distances(made, exact), distances(made, clean)
            figures = {"rounding": float(rounding.median()), "error": float(error.median())}
            lines.append({"name": name, "dtype": kind, **figures, "without": float(distances(exact, clean).median())})
    return lines


def overfitting(whole: Course, quick: bool, say: Say, budget: int = 8) -> list[dict[str, Any]]:
    """Error on the training starts and on others, against how many there are to train on."""
    lines = []
    for count in (16,) if quick else (64, 256, 1024, 4096):
        plan, record = urn.tune(
            mixture().model(PROCESS, "epsilon"), budget, starts=count, held_out=64, seconds=2.0 if quick else 35.0
        )
        train, errors = record.tuned.train, distances(run(plan, whole.starts), whole.clean)
        lines.append(
            {
                "budget": budget,
                "starts": count,
                "train": train.estimate,
                "train median": train.median,
                "seconds": record.seconds,
                **summary(errors),
            }
        )
        say(f"{count} training starts: {lines[-1]}")
    return lines


# --- the network ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def digits_model() -> urn.Model:
    """The shipped network."""
    return urn.nets.load_digits()


class DigitsNetwork(Network):
    """The shipped network as diffusers' network: asked at the noise level of the table's time, with the classes in turn."""

    def __call__(self, x: Tensor, t: Any, kind: str = "epsilon") -> Tensor:
        """A prediction of the table's process, or of the rectified flow's, at its time t."""
        self.calls += 1
        process = Flow() if kind in ("velocity", "flow epsilon") else PROCESS
        t = float(t)
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        length = (alpha**2 + sigma**2) ** 0.5
        own = float(VP.linear().t_of_lambda(process.lambda_(t)))
        with torch.no_grad():
            v = digits_model()(x / length, t=min(own, 1.0), label=torch.arange(len(x)) % 10)[0]
        a, s = alpha / length, sigma / length
        x0, epsilon = a * x / length - s * v, s * x / length + a * v
        return {"epsilon": epsilon, "flow epsilon": epsilon, "v": v, "velocity": epsilon - x0}[kind].to(x.dtype)


def digits_rows(quick: bool, say: Say) -> dict[str, Any]:
    """Distances to the test digits at 5 and 10 calls, and what searched times do for UniPC."""
    count = 128 if quick else 1024
    starts = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    test = digits("test")[0]
    lines: list[dict[str, Any]] = []
    gains: list[dict[str, Any]] = []
    for budget in (5,) if quick else (5, 10):
        samples = {"diffusers, best": best_on_digits(budget, starts, test, quick)}
        given = torch.arange(32 if quick else 512) % 10
        half = len(given) // 2
        settings: dict[str, Any] = {"starts": half, "held_out": half, "conditioning": {"label": given}}
        kept: dict[str, urn.Plan] = {}

        def times_of_unipc(search: Search, budget: int = budget, kept: dict[str, urn.Plan] = kept) -> None:
            plain = plan_within(VP.linear(), "unipc_3", budget, "lambda")
            found = fit_grid(search, plain, "unipc_3, lambda", Settings(iterations=1 if quick else 12, part=64))
            kept.update({"UniPC": plain, "UniPC, searched times": plain if found is None else found})

        urn.tune(digits_model(), budget, tuner=Tuner(times_of_unipc, "unipc times", "", paired=True), **settings)
        tuned, record = urn.tune(digits_model(), budget, seconds=3.0 if quick else 50.0, **settings)
        kept["Urn, untuned"], kept["Urn, tuned"] = plan_of(record.untuned.label, budget, VP.linear()), tuned
        for name, plan in kept.items():
            with torch.no_grad():
                x = urn.execute(plan, digits_model(), {"x": starts}, conditioning={"label": torch.arange(count) % 10})
            samples[name] = (record.untuned.label if name == "Urn, untuned" else plan.method, x["x"])
        for name, (label, x) in samples.items():
            line: dict[str, Any] = {"budget": budget, "name": name, "label": label}
            line["energy"] = list(bootstrap(energy_distance, x, test, 100))
            line["frechet"] = list(bootstrap(frechet_distance, x, test, 100))
            lines.append(line)
            say(f"{budget} calls, {name}: energy {line['energy'][0]:.4f}, Frechet {line['frechet'][0]:.3f}")
        for name in ("UniPC, searched times", "Urn, tuned"):
            gains.append({"budget": budget, "name": name, **gain(samples["UniPC"][1], samples[name][1], test)})
    floor = {
        "energy": energy_distance(digits("train")[0], test),
        "frechet": frechet_distance(digits("train")[0], test),
    }
    return {"samples": count, "lines": lines, "gains": gains, "floor": floor}


def best_on_digits(budget: int, starts: Tensor, test: Tensor, quick: bool) -> tuple[str, Tensor]:
    """The promising configuration of least energy distance to the test digits, which flatters it, and its samples."""
    best: tuple[float, str, Tensor] | None = None
    chosen = [one for one in diffusers_configurations() if on_digits(one)]
    for one in chosen[:: 12 if quick else 1]:
        try:
            x = one.at(budget, DigitsNetwork).run(starts)
        except NotPossibleError:
            continue
        if bool(torch.isfinite(x).all()):
            energy = energy_distance(x, test)
            if best is None or energy < best[0]:
                best = (energy, one.label, x)
    if best is None:
        raise RuntimeError("no configuration of diffusers ran")
    return best[1:]


def on_digits(one: Peer) -> bool:
    """Some of the promising: every family on the grids that came first."""
    grids = ("leading", "trailing", "flow*", "karras", "quadratic betas, given", "arctan whole times, given")
    return one.family.startswith((*PROMISING, "DPMSolverMultistep solver_order=2")) and one.grid in grids


def gain(reference: Tensor, x: Tensor, test: Tensor) -> dict[str, Any]:
    """By how much nearer x is to the test digits than the reference from the same starts, with its interval, as a share."""
    found: dict[str, Any] = {}
    for name, metric in (("energy", energy_distance), ("frechet", frechet_distance)):

        def less(a: Tensor, b: Tensor, metric: Callable[[Tensor, Tensor], float] = metric) -> float:
            return metric(a, test) - metric(b, test)

        whole = metric(reference, test)
        found[name] = [value / whole for value in bootstrap(less, reference, x, 60, resample="pairs")]
    return found
