"""Timestep Aligner: labels of DDIM's calls tuned by the authors' loss, and towards the fine trajectory."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from evidence.book import Finding, case
from evidence.findings import same_ends
from evidence.fitted import ends, on
from evidence.measure import TIMES, mean_interval, normals, shown
from urn.exact import digits_mixture
from urn.metrics import energy_distance
from urn.processes import VP
from urn.schemes.relabelled import relabelled
from urn.tuning import Starts, Task, ToReference
from urn.tuning.tuners.timestep_aligner import fitted_labels

KINDS = {
    "sequential": "rolled states, the authors' loss",
    "parallel": "noised data, the authors' loss",
    "trajectory": "towards the fine trajectory",
}


@case(
    "Towards More Accurate Diffusion Model Acceleration with A Timestep Aligner",
    "Xia, Shen, Lei, Zhou, Yi, Zhao, Wang, Liu 2023, Towards More Accurate Diffusion Model Acceleration with A Timestep Aligner, "
    "arXiv 2310.09469",
)
def run(full: bool) -> list[Finding]:
    """The exact digits mixture as an epsilon model on VP.linear() from t = 1 to 1e-3, DDIM with steps even in t, as the paper's.
    Labels are tuned on 64 starts; the energy distance is that of other starts' samples to draws of the mixture."""
    steps = (5, 10, 20) if full else (10,)
    findings = [same_ends("Ratios 1 give DDIM", relabelled("ddim", (1.0,) * 10), "ddim")]
    for kind, said in KINDS.items():
        gains = {n: _gain(n, kind, full) for n in steps}
        figures = "; ".join(f"{n} steps: {shown(gain)} from {_plain(n, full):.3g}" for n, gain in gains.items())
        findings.append(
            Finding(
                f"Tuned labels bring DDIM of {' and '.join(map(str, steps))} steps nearer to the data: {said}",
                "energy distance less that of DDIM from the same starts below 0, by 95 % intervals over batches",
                figures,
                all(gain.high < 0 for gain in gains.values()),
            )
        )
        if full:
            findings.append(
                Finding(
                    f"The improvement shrinks as steps grow: {said}",
                    "energy distance gained at 5 steps above that at 20",
                    figures,
                    -gains[5].estimate > -gains[20].estimate,
                )
            )
    return findings


def _gain(steps: int, kind: str, full: bool):  # type: ignore[no-untyped-def]
    model, times = digits_mixture().model(VP.linear(), "epsilon"), TIMES["uniform"](steps)
    starts = Starts(normals(77, 64, 1, 8, 8), tuple(range(64)), {}, False)
    task = Task(model, steps, ToReference(), starts, starts)
    tuned = on(times, relabelled("ddim", fitted_labels(task, on(times, "ddim"), "ddim", starts, kind)))
    return mean_interval(
        [ours - theirs for ours, theirs in zip(_distances(tuned, full), _of_ddim(steps, full), strict=True)]
    )


@lru_cache(maxsize=8)
def _of_ddim(steps: int, full: bool) -> tuple[float, ...]:
    return tuple(_distances(on(TIMES["uniform"](steps), "ddim"), full))


def _plain(steps: int, full: bool) -> float:
    return sum(_of_ddim(steps, full)) / len(_of_ddim(steps, full))


def _distances(plan, full: bool) -> list[float]:  # type: ignore[no-untyped-def]
    batches, count = (6, 400) if full else (3, 128)
    model = digits_mixture().model(VP.linear(), "epsilon")
    found = [ends(model, plan, normals(200 + batch, count, 1, 8, 8)) for batch in range(batches)]
    return [energy_distance(x, _data(batch, count)) for batch, x in enumerate(found)]


@lru_cache(maxsize=16)
def _data(batch: int, count: int) -> Tensor:
    with torch.no_grad():
        return digits_mixture().sample(2 * count, 500 + batch)
