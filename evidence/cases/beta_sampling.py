"""Beta sampling: U-shaped grids against the uniform one and the one even in log-SNR, and when which frequencies change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.measure import flow_ends, mean_interval, normals, shown
from urn.conformance.targets import MIXTURE
from urn.exact import Empirical
from urn.metrics import mmd, wasserstein
from urn.nets import digits
from urn.plan import Evaluate, Plan, Row
from urn.processes import VP

PROCESS = VP.linear()
PUBLISHED = (0.6, 0.6)
TITLE = (
    "Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models using Stepwise Spectral "
    "Analysis"
)
Shape = tuple[float, float]


@dataclass(frozen=True)
class Task:
    """A target, and how far samples are from it; each batch is starts and what their ends are compared with. The first is
    searched on, the others judge."""

    name: str
    metric: str
    model: urn.Model
    batches: list[tuple[Tensor, Tensor]]
    distance: Callable[[Tensor, Tensor], float]

    def scores(self, plan: Plan, chosen: slice) -> list[float]:
        """A plan's distances, batch by batch."""
        starts = torch.cat([start for start, _ in self.batches[chosen]])
        ends = urn.execute(plan, self.model, {"x": starts})["x"]
        sizes = [len(start) for start, _ in self.batches[chosen]]
        parts = zip(ends.split(sizes), self.batches[chosen], strict=True)
        return [self.distance(found, data) for found, (_, data) in parts]


@case(
    TITLE,
    f"Lee, Lee, Gye & Kim 2024, {TITLE}, arXiv 2407.12173",
)
def run(full: bool) -> list[Finding]:
    """DDIM on VP.linear() from t = 1 to clean data. a and b are searched on one batch, and all grids judged on others, from
    the same starts. A shape is U-shaped where a < 1 and b < 1; (1, 1) is uniform in t."""
    tasks = [plane(256, 16 if full else 6), images(512 if full else 192, 12 if full else 4)]
    budgets = (10, 20) if full else (10,)
    values = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2) if full else (0.4, 0.6, 0.8, 1.0, 1.2)
    changes = spectral_changes(512 if full else 128)
    return [
        *(finding for task in tasks for finding in _grids(task, budgets, values)),
        _low_before_high(*changes),
        _middle(*changes),
    ]


def plane(size: int, count: int) -> Task:
    """The 2-D mixture: W2 between DDIM's ends and the exact ends of the same starts: no floor of sampling is in it."""
    starts = normals(1, (count + 1) * size, 2)
    ends = flow_ends(MIXTURE.model, PROCESS, starts, 1.0, 0.0, 1e-6)
    pairs = list(zip(starts.split(size), ends.split(size), strict=True))
    return Task("2-D mixture", "W2", MIXTURE.model(PROCESS), pairs, wasserstein)


def images(size: int, count: int) -> Task:
    """The digits as their own exact denoiser: MMD^2 to all of them."""
    data = Empirical(digits("train")[0])
    points = digits("train")[0].double()
    starts = normals(2, (count + 1) * size, 1, 8, 8).split(size)
    return Task("digits, exact denoiser", "MMD^2", data.model(PROCESS), [(start, points) for start in starts], mmd)


def beta_plan(shape: Shape, nfe: int) -> Plan:
    return urn.compile_plan("ddim", PROCESS, nfe, partial(urn.grids.beta, a=shape[0], b=shape[1]))


def lambda_plan(nfe: int) -> Plan:
    """Even in log-SNR; its last call is the jump to the clean prediction, which the others' last step is."""
    return urn.compile_plan("ddim", PROCESS, nfe - 1, "lambda", final="x0")


def search(task: Task, nfe: int, values: tuple[float, ...]) -> dict[Shape, float]:
    """The score of every pair (a, b) on the first batch."""
    return {shape: task.scores(beta_plan(shape, nfe), slice(0, 1))[0] for shape in product(values, values)}


def is_u_shaped(shape: Shape) -> bool:
    return max(shape) < 1


def _grids(task: Task, budgets: tuple[int, ...], values: tuple[float, ...]) -> Iterator[Finding]:
    won: dict[int, Shape] = {}
    best: dict[int, Shape] = {}
    scores: dict[str, dict[int, list[float]]] = {name: {} for name in ("published", "searched", "uniform", "log-SNR")}
    for nfe in budgets:
        table = search(task, nfe, values)
        won[nfe] = min(table, key=table.__getitem__)
        best[nfe] = min(filter(is_u_shaped, table), key=table.__getitem__)
        plans = (beta_plan(PUBLISHED, nfe), beta_plan(best[nfe], nfe), beta_plan((1.0, 1.0), nfe), lambda_plan(nfe))
        for name, plan in zip(scores, plans, strict=True):
            scores[name][nfe] = task.scores(plan, slice(1, None))
    calls = " and ".join(map(str, budgets))
    chosen = ", ".join(f"{shape} at {nfe}" for nfe, shape in best.items())
    reason = _reason(task)
    yield _lower(task, "Beta(0.6, 0.6) is better than uniform t", scores["published"], scores["uniform"], "", reason)
    claim = "the best U-shaped Beta is better than uniform t"
    yield _lower(task, claim, scores["searched"], scores["uniform"], chosen, reason)
    holds = all(map(is_u_shaped, won.values()))
    yield Finding(
        f"the best of all Beta grids is U-shaped: {task.name}",
        f"of {len(values)}^2 pairs (a, b) from {values[0]} to {values[-1]}, that with the lowest {task.metric} at {calls} "
        "evaluations has a < 1 and b < 1",
        ", ".join(f"{shape} at {nfe}" for nfe, shape in won.items()),
        holds,
        "" if holds else reason,
    )
    claim = "the best U-shaped Beta is better than even log-SNR"
    yield _lower(task, claim, scores["searched"], scores["log-SNR"], chosen)


def _reason(task: Task) -> str:
    """Why a U-shaped grid should be no better: what it is sparse in is where most happens."""
    times, jumps = changes(task.model, task.batches[0][0])
    share = middle_share(times, jumps.square())
    return f"{share:.0%} of the clean prediction's squared change is between t = 0.75 and 0.25" if share > 0.5 else ""


def _lower(
    task: Task,
    claim: str,
    ours: Mapping[int, list[float]],
    theirs: Mapping[int, list[float]],
    note: str,
    reason: str = "",
) -> Finding:
    gaps = {nfe: mean_interval([a - b for a, b in zip(ours[nfe], theirs[nfe], strict=True)]) for nfe in ours}
    holds = all(gap.high < 0 for gap in gaps.values())
    each = (
        f"at {nfe} {np.mean(ours[nfe]):.3g} against {np.mean(theirs[nfe]):.3g}, difference {shown(gap)}"
        for nfe, gap in gaps.items()
    )
    return Finding(
        f"{claim}: {task.name}",
        f"{task.metric} of DDIM lower at {' and '.join(map(str, gaps))} evaluations, by the 95 % interval over "
        f"{len(ours[next(iter(ours))])} batches of the same starts",
        "; ".join(each) + (f"; (a, b) = {note}" if note else ""),
        holds,
        "" if holds else reason,
    )


def changes(model: urn.Model, starts: Tensor, steps: int = 100) -> tuple[Tensor, Tensor]:
    """How the clean prediction changes between the steps of a fine DDIM: the times (K,), and the changes (B, K, *S)."""
    seen: list[tuple[float, Tensor]] = []

    def look(row: Row, registers: Mapping[str, Any]) -> None:
        if isinstance(row, Evaluate):
            seen.append((float(row.t), registers[next(out for out, wanted in row.outs if wanted == "x0")]))

    urn.execute(urn.compile_plan("ddim", PROCESS, steps, "uniform"), model, {"x": starts}, watch=look)
    times = torch.tensor([t for t, _ in seen])
    return (times[1:] + times[:-1]) / 2, torch.stack([x0 for _, x0 in seen], 1).diff(dim=1)


def spectral_changes(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the digits' exact denoiser, as energies of frequencies.

    Returns the times (K,), the energies (count, K, 8, 8), and the radial frequencies (8, 8) in cycles per image: the
    constant is 0, the finest along an axis is 4.
    """
    times, jumps = changes(Empirical(digits("train")[0]).model(PROCESS), normals(3, count, 1, 8, 8))
    cycles = torch.fft.fftfreq(8) * 8
    return times, torch.fft.fft2(jumps[:, :, 0]).abs().square(), torch.hypot(cycles[:, None], cycles[None])


def middle_share(times: Tensor, energies: Tensor) -> float:
    """What share of the whole change (B, K, ...) happens between t = 0.75 and 0.25."""
    inner = (times > 0.25) & (times < 0.75)
    return float(energies[:, inner].sum() / energies.sum())


def half_time(times: Tensor, energies: Tensor) -> float:
    """The t by which half of the whole change has happened; energies (K,)."""
    done = energies.cumsum(0) / energies.sum()
    return float(times[int((done >= 0.5).nonzero()[0])])


def _low_before_high(times: Tensor, energies: Tensor, radii: Tensor) -> Finding:
    halves = [
        [half_time(times, part[:, :, band].sum((0, 2))) for band in (radii <= 1, radii >= 3)]
        for part in energies.chunk(8)
    ]
    low, high = (mean_interval(band) for band in zip(*halves, strict=True))
    gap = mean_interval([a - b for a, b in halves])
    return Finding(
        "low frequencies change early, high ones late",
        "the t by which half of the clean prediction's change at radius <= 1 has happened is above that at radius >= 3, by "
        "the 95 % interval over 8 batches",
        f"t = {shown(low)} and {shown(high)}, difference {shown(gap)}",
        gap.low > 0,
    )


def _middle(times: Tensor, energies: Tensor, radii: Tensor) -> Finding:
    share, high = (
        mean_interval([middle_share(times, part[:, :, band]) for part in energies.chunk(8)])
        for band in (radii >= 0, radii >= 3)
    )
    return Finding(
        "most of the change is in the first and the last steps, which a U-shaped grid is for",
        "less than half of the clean prediction's change between t = 0.75 and 0.25, by the 95 % interval over 8 batches",
        f"share {shown(share)}, at radius >= 3 {shown(high)}",
        share.high < 0.5,
    )
