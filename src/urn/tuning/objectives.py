"""What a plan is judged by: how far its samples end from a fine reference's, how far they are from data, or the user's own.

Smaller is better. An objective compares the samples of some starts with a target, which it makes once for each part of the
starts: the ends of the reference trajectories, or its share of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from urn.metrics import energy_distance, frechet_distance, mmd
from urn.plan import Plan, Rows
from urn.processes import Process
from urn.tuning.untuned import plan_within

METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "energy": energy_distance,
    "frechet": frechet_distance,
    "mmd": mmd,
}
Run = Callable[[Rows], Tensor]


class Objective(Protocol):
    """What a search makes small.

    Attributes:
        name: in words, for tables.
        paired: whether sample i belongs to target i, so that every start has an error of its own.
    """

    @property
    def name(self) -> str: ...

    @property
    def paired(self) -> bool: ...

    def target(self, run: Run, process: Process, held_out: bool) -> Tensor | None:
        """What samples are compared with; `run(plan)` draws the part's samples by any plan."""
        ...

    def value(self, samples: Tensor, target: Tensor | None) -> Any:
        """The figure: a number, or a tensor of one that carries the samples' gradient."""
        ...


@dataclass(frozen=True)
class ToReference:
    """The RMS distance, per coordinate, between a plan's samples and a fine plan's from the same starts.

        sqrt(mean over starts and coordinates of (x - x_reference)^2)

    Attributes:
        calls: model calls of the reference, a third-order plan on the process's default grid.
        plan: or the reference itself.

    Raises:
        ValueError: fewer than 3 calls, or a reference that draws noise.
    """

    calls: int = 200
    plan: Plan | None = None
    name: str = field(default="RMS distance to the reference", init=False)
    paired: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.calls, bool) or not isinstance(self.calls, int) or self.calls < 3:
            raise ValueError(f"calls={self.calls!r} must be an integer of at least 3")
        if self.plan is not None and self.plan.stochastic:
            raise ValueError(f"plan: {self.plan.method} draws noise, so it has no trajectory to be a reference")

    def reference(self, process: Process) -> Plan:
        """The fine plan."""
        return self.plan if self.plan is not None else plan_within(process, "dpm_solver_3", self.calls)

    def target(self, run: Run, process: Process, held_out: bool) -> Tensor:
        """The reference's ends."""
        return run(self.reference(process))

    def value(self, samples: Tensor, target: Tensor | None) -> Tensor:
        """The RMS distance, differentiable in the samples."""
        return (samples - cast(Tensor, target)).square().mean().sqrt()


@dataclass(frozen=True, eq=False)
class ToData:
    """A distance between the samples and data.

    Attributes:
        data: (N, *S), of which the training starts are compared with one half and the held-out starts with the other.
        metric: "energy", "frechet" or "mmd", or a function of (samples, data) that returns a number.
        held_out: (M, *S), other data for the held-out starts; then all of `data` is for training.

    Raises:
        ValueError: an unknown metric, fewer than 8 data, or held-out data of another shape.
    """

    data: Tensor
    metric: str | Callable[[Tensor, Tensor], Any] = "energy"
    held_out: Tensor | None = None
    paired: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.metric, str) and self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r} must be one of {', '.join(METRICS)}, or a function")
        for name, value in (("data", self.data), ("held_out", self.held_out)):
            if value is None and name == "held_out":
                continue
            if not isinstance(value, Tensor) or value.ndim < 2 or len(value) < 8 or not value.is_floating_point():
                what = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name}: {what}; a floating-point tensor (N, *S) of at least 8 data is needed")
        if self.held_out is not None and self.held_out.shape[1:] != self.data.shape[1:]:
            raise ValueError(f"held_out: {tuple(self.held_out.shape)} is not like data, {tuple(self.data.shape)}")

    @property
    def name(self) -> str:
        """The metric's."""
        metric = self.metric if isinstance(self.metric, str) else getattr(self.metric, "__name__", "own metric")
        return f"{metric} distance to data"

    def target(self, run: Run, process: Process, held_out: bool) -> Tensor:
        """The part's share of the data."""
        if self.held_out is not None:
            return self.held_out if held_out else self.data
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(0))
        middle = len(order) // 2
        return self.data[order[middle:] if held_out else order[:middle]]

    def value(self, samples: Tensor, target: Tensor | None) -> Any:
        """The metric."""
        metric = METRICS[self.metric] if isinstance(self.metric, str) else self.metric
        return metric(samples, cast(Tensor, target).to(samples))


@dataclass(frozen=True)
class Own:
    """A user's function of the samples alone."""

    function: Callable[[Tensor], Any]
    paired: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """The function's."""
        return getattr(self.function, "__name__", "own objective")

    def target(self, run: Run, process: Process, held_out: bool) -> None:
        """None."""

    def value(self, samples: Tensor, target: Tensor | None) -> Any:
        """What the function returns."""
        return self.function(samples)


def as_objective(objective: Any, data: Tensor | None) -> Objective:
    """The objective of a name, a function, or itself.

    Raises:
        ValueError: none of these, a metric without data, or data with an objective that has no use for them.
    """
    if objective is None:
        objective = "reference" if data is None else "energy"
    if isinstance(objective, str):
        if objective == "reference":
            if data is not None:
                raise ValueError(f"data: objective='reference' has no use for them; use one of {', '.join(METRICS)}")
            return ToReference()
        if objective in METRICS:
            if data is None:
                raise ValueError(f"objective={objective!r} compares samples with data: pass data=<tensor (N, *S)>")
            return ToData(data, objective)
        raise ValueError(f"objective={objective!r} must be 'reference', {', '.join(map(repr, METRICS))}, or a function")
    if data is not None:
        raise ValueError("data: given beside an objective of your own; pass urn.tuning.ToData(data, metric)")
    if isinstance(objective, (ToReference, ToData, Own)) or all(
        hasattr(objective, name) for name in ("name", "paired", "target", "value")
    ):
        found: Objective = objective
        return found
    if callable(objective):
        return Own(objective)
    raise ValueError(f"objective={objective!r} must be a name, an Objective, or a function of the samples")


__all__ = ["METRICS", "Objective", "Own", "ToData", "ToReference", "as_objective"]
