"""compare: several methods on one model, at several budgets, against a fine reference or against data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from urn.compiler import compile_plan
from urn.grids import GridLike
from urn.metrics import bootstrap, energy_distance
from urn.model import Model
from urn.noise import SeededNoise, sample_seeds
from urn.plan import Plan
from urn.sampling import sample

REFERENCE = ("dpm_solver_3", 200)  # steps; on the process's default grid
RESAMPLES = 400


@dataclass(frozen=True)
class Entry:
    """One method at one budget.

    Attributes:
        method: its name.
        plan: what was run.
        estimate, low, high: the figure and its 95 % interval: over starts for an error, over samples for a distance.
        median: of the error over starts, nan for a distance.
    """

    method: str
    plan: Plan
    estimate: float
    low: float
    high: float
    median: float


def compare(
    model: Model,
    methods: Sequence[str],
    steps: Sequence[int],
    *,
    grid: GridLike | None = None,
    count: int = 256,
    seed: int = 0,
    data: Tensor | None = None,
    metric: Callable[[Tensor, Tensor], float] | None = None,
    conditioning: Mapping[str, Any] | None = None,
    watch: Callable[[str, int], None] | None = None,
) -> list[Entry]:
    """Run every method at every number of steps from the same starts.

    Without `data`, the figure is the error: the RMS distance per coordinate between a deterministic method's sample and that
    of a fine plan (third order, 200 steps) from the same start; with it, `metric(samples, data)`, by default the energy
    distance. Grids that end at a small noise get the jump to the clean prediction, `final="x0"`.

    Args:
        model: the model; it must know its shape.
        methods: names in `urn.METHODS`.
        steps: numbers of grid intervals; a plan's model calls are `entry.plan.nfe`.
        grid: for all of them; by default the process's own.
        count: starts, or samples.
        seed: of the starts and of all noise.
        data: real data, (N, *S).
        metric: of samples and data.
        conditioning: keyword arguments for the network, tensors of `count` entries.
        watch: called with (method, steps) before each run.

    Raises:
        ValueError: a name is unknown, or a stochastic method is to be compared with a reference trajectory.
    """
    if model.shape is None:
        raise ValueError("compare needs a model that knows the shape of a sample: Model(..., shape=(...))")
    plans = [(method, _plan(model, method, n, grid)) for method in methods for n in steps]
    for method, plan in plans:
        if data is None and plan.stochastic:
            raise ValueError(f"method {method!r} draws noise, so it has no trajectory to compare: pass data")
    seeds = sample_seeds(seed, count)
    like = torch.empty((count, *model.shape), dtype=torch.float64 if data is None else torch.float32)
    noise = SeededNoise(seeds).normal((0.0, 0.0), 0, like)

    def drawn(plan: Plan) -> Tensor:
        start = noise * plan.inputs[0][1].std
        x: Tensor = sample(model, plan, start=start, seeds=seeds, conditioning=conditioning)
        return x

    target = drawn(_plan(model, *REFERENCE, None)) if data is None else data
    entries = []
    for method, plan in plans:
        if watch is not None:
            watch(method, plan.steps)
        x = drawn(plan)
        found = _error(x, target) if data is None else _distance(x, target, metric)
        entries.append(Entry(method, plan, *found))
    return entries


def _plan(model: Model, method: str, steps: int, grid: GridLike | None) -> Plan:
    plan: Plan = compile_plan(method, model.process, steps, grid)
    ends_clean = plan.outputs[0][2].sigma == 0
    return plan if ends_clean else compile_plan(method, model.process, steps, grid, final="x0")


def _error(x: Tensor, reference: Tensor) -> tuple[float, float, float, float]:
    squares = (x - reference).square().flatten(1).mean(1)
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(squares), (RESAMPLES, len(squares)), generator=generator)
    low, high = squares[picks].mean(1).sqrt().quantile(torch.tensor([0.025, 0.975], dtype=squares.dtype)).tolist()
    return float(squares.mean().sqrt()), low, high, float(squares.median().sqrt())


def _distance(
    x: Tensor, data: Tensor, metric: Callable[[Tensor, Tensor], float] | None
) -> tuple[float, float, float, float]:
    found = bootstrap(metric or energy_distance, x, data)
    return found.estimate, found.low, found.high, float("nan")
