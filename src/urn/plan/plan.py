"""The plan: a method on a process and a grid, compiled to rows. Immutable, checked, hashable, comparable, JSON both ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from urn.processes import Process

from . import checks
from .rows import Array, Evaluate, Rows, freeze_number, map_numbers, without_dead_rows


@dataclass(frozen=True)
class Plan(Rows):
    """A sampler as a straight-line program with float64 coefficients.

    A plan does not know the network: it records its process and the predictions that it wants, and `urn.sample` runs it
    on any model of that process. Make one with `urn.compile_plan`; construction checks it.

    Attributes:
        inputs: (name, law) of every input; `x` is the start.
        rows: the program, in single-assignment form.
        outputs: (name, register, node) of what is handed out; `x` is the sample.
        method: name of the method, `options` its options as (name, value) pairs.
        process: the forward process it was compiled for.
        times: the grid, in the process's own t; an `Array` each where frames have their own.
        order: nominal global order of convergence, None where none is claimed.
        exact_for: what the method is exact for; plans that promise "point" are checked on a point mass, those that promise
            "straight" where a point mass has straight trajectories in t (VE, rectified flow).

    Raises:
        PlanError: a register is undefined or written twice, a coefficient is not finite, or a node is not reached.
    """

    method: str
    process: Process
    times: tuple[float | Array, ...]
    options: tuple[tuple[str, Any], ...] = ()
    order: int | None = None
    exact_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_structure(self.method, self)
        if "point" in self.exact_for or ("straight" in self.exact_for and checks.is_straight(self.process, self.times)):
            checks.check_point_mass(self.method, self, self.process)

    @cached_property
    def _hash(self) -> int:
        return hash((self.method, self.process, self.times, self.options, self.inputs, self.rows, self.outputs))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def nfe(self) -> int:
        """Model calls in the plan."""
        return sum(isinstance(row, Evaluate) for row in self.rows)

    @cached_property
    def rounds(self) -> int:
        """Sequential rounds of model calls: calls that do not need each other count once."""
        return checks.sequential_rounds(self)

    @cached_property
    def registers(self) -> int:
        """Tensors of the state's shape alive at once."""
        return checks.live_registers(self)

    @property
    def steps(self) -> int:
        """Intervals of the grid."""
        return len(self.times) - 1

    def __str__(self) -> str:
        from .text import table

        return table(self)

    def diff(self, other: Plan, tolerance: float = 0.0) -> str:
        """The rows in which two plans differ by more than `tolerance`, as text; empty where they do the same."""
        from .text import diff

        return diff(self, other, tolerance)

    def to_json(self) -> str:
        """The plan as JSON text; `Plan.from_json` gives back an equal plan, bit for bit."""
        from .serial import to_json

        return to_json(self)

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan that `to_json` wrote, or that of a tuned plan's file.

        Raises:
            PlanError: the text is not JSON, not a plan, of a later version, or was damaged.
        """
        from .serial import from_json

        return from_json(text)


@dataclass(frozen=True, eq=False)
class Draft(Rows):
    """A plan whose coefficients are float64 tensors that carry gradients: it runs, but cannot be compared or written.

    `freeze` gives the Plan.
    """

    method: str
    process: Process
    times: Any
    options: tuple[tuple[str, Any], ...] = ()
    order: int | None = None
    exact_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.check_structure(self.method, map_numbers_of(self))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def freeze(self) -> Plan:
        """The plan with the coefficients' present values: what compiling at these values without gradients gives."""
        rows = without_dead_rows(map_numbers_of(self))
        times = tuple(freeze_number(t) for t in self.times)
        return Plan(
            inputs=rows.inputs,
            rows=rows.rows,
            outputs=rows.outputs,
            method=self.method,
            process=self.process,
            times=times,
            options=self.options,
            order=self.order,
            exact_for=self.exact_for,
        )


def map_numbers_of(plan: Rows) -> Rows:
    """The rows of a draft with every coefficient frozen to a float or an Array."""
    return Rows(*(map_numbers(part, freeze_number) for part in (plan.inputs, plan.rows, plan.outputs)))


__all__ = ["Array", "Draft", "Plan"]
