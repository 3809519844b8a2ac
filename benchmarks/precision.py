"""Half precision: how far a run in bfloat16 or float16 ends from the same run in float64, Urn's plans beside diffusers.

The methods are those that end in the same numbers as the scheduler in float64. Both sides see one network, exact in float64,
that takes and returns half precision, and each is held to its own run in float64: what is measured is what the sampler's
arithmetic and the rounding of its states add, not how good the method is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import urn
from benchmarks.course import PROCESS, Network, course, distances, rms
from benchmarks.drive import prepared, quiet

COUNTS = (5, 10, 20, 50, 100)
STARTS = 256
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
TRAILING = {"timestep_spacing": "trailing"}
PAIRS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ddim", "DDIM", {"clip_sample": False}),
    ("dpmpp_2m_lower_final", "DPMSolverMultistep", {"solver_order": 2}),
    ("dpmpp_3m_published_lower_final", "DPMSolverMultistep", {"solver_order": 3}),
    ("unipc_3_bh2_lower_final", "UniPCMultistep", {"solver_order": 3}),
)


def measure(quick: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the benchmark; everything that the page shows, as JSON values."""
    starts = course(16 if quick else STARTS).starts
    rows = []
    for method, scheduler, settings in PAIRS[: 1 if quick else None]:
        for steps in COUNTS[: 2 if quick else None]:
            runs = {"urn": partial(ours, method, steps), "diffusers": partial(theirs, scheduler, settings, steps)}
            found: dict[str, Any] = {"method": method, "scheduler": scheduler, "steps": steps}
            for side, run in runs.items():
                exact = run(starts.double())
                errors = {name: distances(run(starts.to(kind)), exact) for name, kind in DTYPES.items()}
                found[side] = {name: {"median": float(e.median()), "rms": rms(e)} for name, e in errors.items()}
            rows.append(found)
            sides = (f"{side} {found[side]['bfloat16']['median']:.2g}" for side in runs)
            say(f"{method} in {steps} steps, bfloat16: {', '.join(sides)}")
    return {"kind": "precision", "quick": quick, "starts": len(starts), "rows": rows}


def ours(method: str, steps: int, starts: Tensor) -> Tensor:
    """A plan's samples from unit normals, in their dtype."""
    plan = urn.compile_plan(method, PROCESS, steps, "trailing")
    with torch.no_grad():
        made: Tensor = urn.execute(plan, Network().model(), {"x": starts})["x"]
    return made


def theirs(scheduler: str, settings: dict[str, Any], steps: int, starts: Tensor) -> Tensor:
    """A pipeline's loop from unit normals, in their dtype."""
    made, network, x = prepared(scheduler, {**TRAILING, **settings}, None, steps), Network(), starts
    with torch.no_grad(), quiet():
        for t in made.timesteps:
            x = made.step(network(made.scale_model_input(x, t), float(t)), t, x, return_dict=False)[0]
    return x
