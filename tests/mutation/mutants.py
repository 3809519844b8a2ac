"""Mutants of a method: the same plans with one coefficient of its rule 1 % larger.

A coefficient of the rule is a term of a kind of row: the third weight of a step's second sum of (state, prediction,
prediction), say. It is changed in every row of that kind, in every plan the method compiles to, so a mutant is a method with
one number wrong, as a misread paper would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from urn.compiler import compile_plan
from urn.conformance import Subject
from urn.conformance.checks import CHECKS, law, order
from urn.conformance.targets import fitting_times
from urn.method import Method
from urn.plan import Combine, PlanError, Row, Rows
from urn.processes import Process

ROLES = {"x": "state", "y": "state", "z": "noise", "c": "sum"}  # by a register's first letter; else a prediction
Kind = tuple[int, tuple[str, ...]]


@dataclass(frozen=True)
class Mutant:
    """`factor` on term `term` of every row of kind `kind`."""

    method: Method
    kind: Kind
    term: int
    factor: float = 1.01

    def __str__(self) -> str:
        place, roles = self.kind
        marked = [f"[{role}]" if i == self.term else role for i, role in enumerate(roles)]
        return f"{self.method.name}: sum {place + 1} of a step, {' + '.join(marked)}"

    def rows(self, plan: Rows) -> tuple[Row, ...]:
        """The plan's rows with the coefficient changed."""
        changed = list(plan.rows)
        for i, kind in kinds_of(plan):
            row = plan.rows[i]
            if kind == self.kind and isinstance(row, Combine):
                weights = list(row.weights)
                weight, register = weights[self.term]
                weights[self.term] = (weight * self.factor, register)
                changed[i] = replace(row, weights=tuple(weights))
        return tuple(changed)

    def refused_at_construction(self, process: Process) -> bool:
        """Whether the plan's own check on a point mass notices."""
        plan = compile_plan(self.method, process, grid=fitting_times(process, 6))
        try:
            replace(plan, rows=self.rows(plan))
        except PlanError:
            return True
        return False

    def subject(self) -> Subject:
        """The mutant as the kit sees it; its plans are not checked at construction."""
        return Subject.of_method(self.method, lambda plan: replace(plan, rows=self.rows(plan), exact_for=()))

    def caught_by(self, processes: Sequence[Process]) -> str | None:
        """The name of the first check of the kit that notices on one of the processes, None if none does."""
        for process in processes:
            if self.refused_at_construction(process):
                return "construction"
        subject = self.subject()
        for process in processes:
            for check in CHECKS:
                if check is not (order if subject.stochastic else law) and check(subject, process).verdict == "FAIL":
                    return check.__name__
        return None


def kinds_of(plan: Rows) -> Iterator[tuple[int, Kind]]:
    """(row, kind) of every sum: its place among the sums of its step, and the roles of its terms in order."""
    place, step = 0, -1
    for i, row in enumerate(plan.rows):
        if row.step != step:
            place, step = 0, row.step
        if isinstance(row, Combine):
            yield i, (place, tuple(ROLES.get(register[0], "prediction") for register in row.reads))
            place += 1


def mutants_of(method: Method, process: Process, steps: int = 6) -> list[Mutant]:
    """Every mutant of a method that shows in a plan of a few steps."""
    if method.name == "annealed_langevin":
        method = method.with_options(repeats=2)  # its hundred sums a step are one sum
    plan = compile_plan(method, process, grid=fitting_times(process, steps))
    kinds = dict.fromkeys(kind for _, kind in kinds_of(plan))
    return [Mutant(method, kind, term) for kind in kinds for term in range(len(kind[1]))]
