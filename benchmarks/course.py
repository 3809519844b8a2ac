"""What both sides integrate: the digits mixture under diffusers' default table, and where its trajectories end exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import urn
from urn.conformance.targets import exact_end
from urn.exact import GaussianMixture, digits_mixture
from urn.plan import Evaluate
from urn.processes import Flow, Process, linear_betas

TABLE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
PROCESS = urn.VP.from_betas(linear_betas(1000, 0.0001, 0.02))
FIRST, SMALLEST, CLEAN = 999.0, 0.0, -1.0
SEED = 20

Run = Callable[[Tensor], Tensor]


class NotPossibleError(Exception):
    """A configuration that this budget does not allow, or that does not run; the message says why."""


@dataclass(frozen=True)
class Ready:
    """A configuration at a budget: `run` takes the unit normals that it starts from to its samples."""

    steps: int
    nfe: int
    run: Run


class Network:
    """The exact mixture as both sides' network: computed in float64, answered in the dtype of x, its calls counted."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, t: Any, kind: str = "epsilon") -> Tensor:
        """A prediction of the table's process at its own time t; "velocity" and "flow epsilon" are the rectified flow's."""
        self.calls += 1
        t = t.double() if isinstance(t, Tensor) else t
        process = Flow() if kind in ("velocity", "flow epsilon") else PROCESS
        answer = mixture().prediction(x.double(), process, t, kind.removeprefix("flow "))
        return answer.to(x.dtype)

    def model(self, process: Process = PROCESS) -> urn.Model:
        """The same for Urn: an epsilon network of the table, or a velocity network of a flow."""
        kind = "velocity" if isinstance(process, Flow) else "epsilon"
        return urn.Model(lambda x, t: self(x, t, kind), process, predicts=kind, shape=mixture().shape)


@dataclass(frozen=True)
class Course:
    """Starts, unit normals in float32 (N, 1, 8, 8); and in float64 the exact states at the table's end t = 0 and clean."""

    starts: Tensor
    smallest: Tensor
    clean: Tensor

    def first(self, count: int) -> Course:
        """The course of the first starts alone."""
        return Course(self.starts[:count], self.smallest[:count], self.clean[:count])


def mixture() -> GaussianMixture:
    """20 Gaussians in 64 dimensions, fitted to scikit-learn's digits."""
    return digits_mixture()


@lru_cache(maxsize=2)
def course(count: int, seed: int = SEED) -> Course:
    """`count` trajectories from t = 999; their ends by SciPy's DOP853 at relative tolerance 1e-12."""
    starts = torch.randn(count, *mixture().shape, generator=torch.Generator().manual_seed(seed))
    smallest = exact_end(PROCESS, starts, FIRST, SMALLEST, mixture())
    return Course(starts, smallest, exact_end(PROCESS, smallest, SMALLEST, CLEAN, mixture()))


def distances(x: Tensor, y: Tensor) -> Tensor:
    """(N,) root mean square differences over pixels."""
    return (x.double() - y).square().flatten(1).mean(1).sqrt()


def rms(errors: Tensor) -> float:
    """Root mean square over starts."""
    return float(errors.square().mean().sqrt())


def checks(found: Course, calls: int = 2001) -> dict[str, float]:
    """What the measurement stands on, as RMS distances.

    Returns:
        "fine plan": the exact ends beside a third-order plan of 2,001 calls, by Urn's own arithmetic;
        "jump": the x0 prediction at the exact state of t = 0 beside the exact clean end: what is left to anything that
        makes its last evaluation there; "stop": that state itself beside the clean end.
    """
    plan = urn.compile_plan("dpm_solver_3", PROCESS, calls // 3)
    fine = urn.execute(plan, mixture().model(PROCESS), {"x": found.starts.double()})["x"]
    jump = mixture().x0(found.smallest, PROCESS, SMALLEST)
    return {
        "fine plan": rms(distances(fine, found.clean)),
        "jump": rms(distances(jump, found.clean)),
        "stop": rms(distances(found.smallest, found.clean)),
    }


def times_shown(plan: urn.Plan) -> list[float]:
    """The times at which a plan calls its network."""
    return [float(row.t) for row in plan.rows if isinstance(row, Evaluate)]
