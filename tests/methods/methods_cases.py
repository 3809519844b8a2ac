"""What the tests of methods share: processes, grids, the exact mixture, ways to compare two plans, and fitted orders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import urn
from urn.conformance.targets import GAUSSIAN, MIXTURE, exact_end, states_at
from urn.exact.affine import Affine, output_law
from urn.noise import FastNoise
from urn.plan import Plan
from urn.processes import VE, VP, Flow, cosine_betas, scaled_linear_betas

PROCESSES: dict[str, Any] = {
    "vp": VP.linear(),
    "vp cosine": VP.cosine(),
    "ve": VE(),
    "flow": Flow(),
    "flow shifted": Flow(shift=3.0),
    "table": VP.from_betas(scaled_linear_betas(1000)),
}
ZERO_SNR = {
    "flow": Flow(),
    "vp cosine": VP.cosine(),
    "table zero snr": VP.from_betas(scaled_linear_betas(1000), zero_terminal_snr=True),
}
COSINE_TABLE = VP.from_betas(cosine_betas(1000))


def bent(process: Any, steps: int, start: float = -1.5, end: float = 2.5) -> Tensor:
    """Times with lambda from start to end in unequal steps, the longest about 1.9 times the shortest."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return process.t_of_lambda(start + (end - start) * (u + 0.3 * torch.sin(2 * math.pi * u) / (2 * math.pi)))


def geometric(process: Any, steps: int, start: float = -1.0, end: float = 2.0) -> Tensor:
    """Times with lambda from start to end in steps that grow by a quarter each."""
    lengths = 1.25 ** torch.arange(steps, dtype=torch.float64)
    at = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumsum(lengths, 0)]) / lengths.sum()
    return process.t_of_lambda(start + (end - start) * at)


GRIDS: dict[str, Callable[..., Tensor]] = {"bent": bent, "geometric": geometric}


def compiled(method: Any, process: Any, times: Any, **options: Any) -> Plan:
    plan: Plan = urn.compile_plan(method, process, grid=times, **options)
    return plan


def run(plan: Any, x: Tensor | None = None, seed: int = 5, target: Any = MIXTURE, predicts: str = "v") -> Tensor:
    """The plan on the exact model of a target; noise in the order of the rows, whatever their intervals are called."""
    if x is None:
        x = start_states(plan)
    found: Tensor = urn.execute(plan, target.model(plan.process, predicts), {"x": x}, FastNoise(seed))["x"]
    return found


def start_states(plan: Any, count: int = 12) -> Tensor:
    return states_at(plan.process, float(plan.times[0]), count)


def law(plan: Any) -> list[Tensor]:
    """Mean, and the matrix of the start and of every noise in the order of the rows, on Gaussian data."""
    found: Affine = output_law(plan, GAUSSIAN)
    return [found.mean, *found.parts.values()]


def gap(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    return float((a - b).abs().max() / b.abs().max())


def assert_same_rows(one: Plan, other: Plan, tolerance: float = 1e-12) -> None:
    assert (difference := one.diff(other, tolerance)) == "", difference


def assert_does_the_same(one: Plan, other: Plan, tolerance: float = 1e-12, scale: float = 1.0) -> None:
    """Both on the mixture with the same noise, and their exact laws on Gaussian data with every noise apart.

    `scale`: what the start and end of `one` are multiplied by, as (start, end) ratios of `other`'s, see `image_scales`.
    """
    x = start_states(other)
    assert gap(run(one, x * scale), run(other, x) * 1.0) < tolerance
    if one.process == other.process:
        laws = law(one), law(other)
        assert len(laws[0]) == len(laws[1])
        for a, b in zip(*laws, strict=True):
            assert float((a - b).abs().max()) < tolerance * 10


def fitted(errors: Sequence[float], steps: Sequence[int], floor: float = 1e-11) -> float:
    """The slope of log error over log steps, errors at rounding left out."""
    kept = [(math.log(n), math.log(e)) for n, e in zip(steps, errors, strict=True) if e > floor]
    assert len(kept) > 1, f"errors {errors} are rounding"
    return -float(np.polyfit(*zip(*kept, strict=True), 1)[0])


def exact_states(process: Any, t_from: float, t_to: float, count: int = 12) -> tuple[Tensor, Tensor]:
    """States of the mixture at one time and the exact ends of their trajectories at the other."""
    x = states_at(process, t_from, count)
    return x, exact_end(process, x, t_from, t_to)


def order_of(method: Any, process: Any, steps: Sequence[int] = (24, 48, 96), grid: Any = bent, **options: Any) -> float:
    """The fitted order of a deterministic method on the mixture."""
    ends = grid(process, 1)
    x, end = exact_states(process, float(ends[0]), float(ends[-1]))
    errors = [rms(run(compiled(method, process, grid(process, n), **options), x) - end) for n in steps]
    return fitted(errors, steps)


def law_order_of(method: Any, process: Any, steps: Sequence[int] = (24, 48, 96), grid: Any = bent) -> float:
    """The fitted order of the exact mean and covariance on Gaussian data."""
    errors = []
    for n in steps:
        plan = compiled(method, process, grid(process, n))
        found = output_law(plan, GAUSSIAN)
        mean, covariance = GAUSSIAN.moments(process, plan.times[-1])
        errors.append(float((found.mean - mean).norm() + (found.covariance - covariance).norm()))
    return fitted(errors, steps)


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


class Listed:
    """A noise source that hands out given tensors one after the other."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self.draws = list(draws)

    def normal(self, interval: tuple[float, float], stream: int, like: Tensor) -> Tensor:
        return self.draws.pop(0).reshape(like.shape).to(like.dtype)


def normals(count: int, states: int = 12, seed: int = 11) -> Tensor:
    """Noise for `count` rows, (count, states, 2)."""
    return torch.randn(count, states, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
