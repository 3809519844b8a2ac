"""Every tuner of Urn at equal seconds: the same starts, the same untuned plans to begin with, judged on starts none has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import urn
from benchmarks.accuracy import ratio, summary
from benchmarks.course import course, distances, mixture
from benchmarks.tuned import PROCESS, digits_model, run
from urn.tuning import ToReference, Tuned, TuningError, tuners

SECONDS = {"mixture": 20.0, "digits network": 40.0}
STARTS = {"mixture": 512, "digits network": 256}
BUDGETS = {"mixture": (5, 10), "digits network": (5,)}
QUICK = ("untuned",)
CALLS, FINE = 60, 100  # of the references on the network: the searches', and the one that judges

Say = Callable[[str], None]
Judge = Callable[[urn.Plan], Tensor]


def measure(quick: bool = False, say: Say = print) -> dict[str, Any]:
    """Run the benchmark; everything that the page shows, as JSON values."""
    names = [name for name in tuners() if not quick or name in QUICK]
    count = 64 if quick else 1024
    rows: list[dict[str, Any]] = []
    for problem, budgets in BUDGETS.items():
        model, settings, judge = (on_mixture if problem == "mixture" else on_digits)(count, quick)
        for budget in budgets[: 1 if quick else None]:
            plain: Tensor | None = None
            for name in names:
                row: dict[str, Any] = {"problem": problem, "budget": budget, "tuner": name}
                try:
                    limit = 2.0 if quick else SECONDS[problem]
                    found = urn.tune(model, budget, tuner=name, seconds=limit, **settings)
                except TuningError as error:
                    rows.append({**row, "refused": str(error)})
                    continue
                errors = judge(found.plan)
                plain = errors if name == "untuned" else plain
                rows.append({**row, **line_of(found), **summary(errors)})
                if plain is not None:
                    rows[-1]["over"] = ratio(plain, errors)
                say(f"{problem}, {budget} calls, {name}: RMS {rows[-1]['rms']:.4g} in {rows[-1]['seconds']:.0f} s")
    return {"kind": "tuners", "quick": quick, "limits": SECONDS, "starts": count, "training": STARTS, "rows": rows}


def line_of(found: Tuned) -> dict[str, Any]:
    """What a search cost and came to."""
    record = found.record
    tuned = record.returned == "tuned"
    return {
        "label": (record.tuned if tuned else record.untuned).label,
        "returned": record.returned,
        "seconds": record.seconds,
        "evaluations": record.evaluations,
        "plans": len(record.tried),
    }


def on_mixture(count: int, quick: bool) -> tuple[urn.Model, dict[str, Any], Judge]:
    """The digits mixture under diffusers' table, and distances to the exact ends."""
    whole = course(count)
    starts = 64 if quick else STARTS["mixture"]
    settings = {"starts": starts, "held_out": starts}
    model = mixture().model(PROCESS, "epsilon")
    return model, settings, lambda plan: distances(run(plan, whole.starts), whole.clean)


def on_digits(count: int, quick: bool) -> tuple[urn.Model, dict[str, Any], Judge]:
    """The shipped network with the classes in turn, and distances to the ends of its own fine trajectories."""
    model = digits_model()
    half = 32 if quick else STARTS["digits network"]
    settings = {
        "starts": half,
        "held_out": half,
        "conditioning": {"label": torch.arange(2 * half) % 10},
        "objective": ToReference(15 if quick else CALLS),
    }
    starts = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(count) % 10

    def samples(plan: urn.Plan) -> Tensor:
        with torch.no_grad():
            made: Tensor = urn.execute(plan, model, {"x": starts}, conditioning={"label": labels})["x"]
        return made

    fine = samples(ToReference(15 if quick else FINE).reference(model.process))
    return model, settings, lambda plan: distances(samples(plan), fine)
