"""Candidates: a grid and the choices of every step, which `urn.methods.usf` compiles; and those that are untuned plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from urn.compiler import compile_plan
from urn.plan import Plan
from urn.prediction import as_tensor
from urn.processes import Process
from urn.tuning.times import angle
from urn.tuning.untuned import GRIDS, WHOLE, plan_within

CHOICES = ("orders", "predictions", "differences", "correctors", "origins", "etas", "labels", "models")


PLAIN: Mapping[str, Any] = {
    "predictions": "x0",
    "differences": "lambda",
    "correctors": False,
    "origins": 0,
    "etas": 0.0,
    "labels": 0.0,
    "models": "main",
}


@dataclass(frozen=True)
class Candidate:
    """A plan before it is compiled: its times, and what each step does.

    Attributes:
        times: the grid, steps + 1 decreasing times.
        orders, predictions, differences, correctors, origins, etas: of each step, as in `urn.methods.usf`.
        labels: how far the time shown to the network is moved in each call, as a share of the angle atan(sigma/alpha) to the
            node before (positive) or after (negative); 0 for the node's own.
        models: the name of the model of each call.

    Example:
        >>> Candidate((1.0, 0.3, 0.0), orders=(1, 2)).plan(urn.VP.linear()).nfe
        2
    """

    times: tuple[float, ...]
    orders: tuple[int, ...]
    predictions: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    correctors: tuple[bool, ...] = ()
    origins: tuple[int, ...] = ()
    etas: tuple[float, ...] = ()
    labels: tuple[float, ...] = ()
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in CHOICES:
            given = getattr(self, name) or (PLAIN.get(name),) * self.steps
            if len(given) != self.steps:
                raise ValueError(f"{name}={given!r} must have {self.steps} entries, one per step")
            object.__setattr__(self, name, tuple(given))

    @property
    def steps(self) -> int:
        """Intervals of the grid, and model calls."""
        return len(self.times) - 1

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """All but the times, by name."""
        return {name: getattr(self, name) for name in CHOICES}

    def plan(self, process: Process) -> Plan:
        """The candidate, compiled.

        Raises:
            ValueError: times or choices that the process or `usf` refuses.
        """
        given: dict[str, Any] = self.choices()
        shown = self._shown(process)
        given["labels"] = shown if any(label is not None for label in shown) else ()
        varied: dict[str, Any] = {
            name: values for name, values in given.items() if values and set(values) != {PLAIN.get(name)}
        }
        plan: Plan = compile_plan("usf", process, grid=list(self.times), **varied)
        return plan

    def _shown(self, process: Process) -> tuple[float | None, ...]:
        """The times shown, None for a node's own."""
        if not any(self.labels):
            return (None,) * self.steps
        times = torch.tensor(self.times, dtype=torch.float64)
        angles = angle(process, times)
        found: list[float | None] = []
        for i, share in enumerate(self.labels):
            other = max(i - 1, 0) if share > 0 else i + 1
            moved = angles[i] + abs(share) * (angles[other] - angles[i])
            still = share == 0 or float(moved) == float(angles[i])
            found.append(None if still else float(process.t_of_lambda(-torch.log(torch.tan(moved)))))
        return tuple(found)


# the untuned methods that call once a step: (order, prediction, differences, corrector, lifted)
HOMOGENEOUS: Mapping[str, tuple[int, str, str, bool, bool]] = {
    "ddim": (1, "x0", "lambda", False, False),
    "dpmpp_2m": (2, "x0", "halved", False, False),
    "dpmpp_3m": (3, "x0", "lambda", False, True),
    "unipc_2": (2, "x0", "halved", True, False),
    "unipc_3": (3, "x0", "halved", True, False),
    "adams_pc_2": (2, "x0", "t", True, True),
    "adams_pc_3": (3, "x0", "t", True, True),
    "deis_2": (2, "epsilon", "t", False, True),
    "deis_3": (3, "epsilon", "t", False, True),
}


def homogeneous(method: str, times: Sequence[float], jump: bool) -> Candidate:
    """The candidate that is an untuned method on a grid.

    Args:
        method: a name in `HOMOGENEOUS`.
        times: the grid; with `jump` its last step is `final="x0"`.

    Raises:
        ValueError: another method.
    """
    if method not in HOMOGENEOUS:
        raise ValueError(f"method={method!r} must be one of {', '.join(HOMOGENEOUS)}")
    order, prediction, differences, corrector, lifted = HOMOGENEOUS[method]
    count = len(times) - 1 - jump
    block = min(order - 1, count) if lifted else 0
    orders = [min(order, i + 1) for i in range(count)]
    correctors = [corrector and i >= block for i in range(count)]
    if block > 0:
        correctors[block - 1] = True  # the last state of the block is made again
    if count:
        correctors[-1] = False
    end = ([1], ["x0"], ["lambda"], [False], [0]) if jump else ([], [], [], [], [])
    return Candidate(
        tuple(times),
        (*orders, *end[0]),
        (*[prediction] * count, *end[1]),
        (*["share"] * block, *[differences] * (count - block), *end[2]),
        (*correctors, *end[3]),
        (*range(block), *[0] * (count - block), *end[4]),
    )


def untuned_candidates(
    process: Process, calls: int, methods: Sequence[str] = tuple(HOMOGENEOUS), whole: bool = False
) -> Iterator[tuple[str, Candidate]]:
    """(label, candidate) of the untuned plans that are candidates, labelled as in `urn.tuning.untuned_plans`."""
    for grid in WHOLE if whole else GRIDS:
        for method in methods:
            try:
                plan = plan_within(process, method, calls, grid)
            except ValueError:  # the grid is not for this process
                continue
            times, end = as_tensor(plan.times).tolist(), float(as_tensor(plan.outputs[0][2].t))
            jump = end != times[-1]
            if jump:
                times.append(end)
            yield f"{method}, {grid}", homogeneous(method, times, jump)
