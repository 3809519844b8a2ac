"""Binding: a plan compiled further, for the networks that it runs on, into the few operations that the executor walks.

What a network predicts is folded into weights, and sums with no call between them become one linear map, a `Mix`: of a
sum whose result only other sums of the map read, nothing is left but its weights in theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import Any, ClassVar

import torch
from torch import Tensor

from urn.model import Model
from urn.plan import Apply, Combine, Draft, Evaluate, Noise, PlanError, Register, Rows
from urn.plan.rows import Term
from urn.prediction import fold
from urn.processes import Process

Kind = tuple[str, Process, tuple[str, ...]]  # name, process, outputs: what is cached must not keep a network alive
Sum = tuple[Register, tuple[Term, ...]]


@dataclass(frozen=True)
class Call:
    """A model call: the registers that its outputs go to, and sums to make of them at once."""

    row: Evaluate
    outputs: tuple[Register, ...]
    sums: tuple[Sum, ...]
    spent: tuple[Register, ...] = ()

    @property
    def reads(self) -> tuple[Register, ...]:
        return (*self.row.inputs, *(r for _, terms in self.sums for _, r in terms if r not in self.outputs))

    @property
    def outs(self) -> tuple[Register, ...]:
        return (*self.outputs, *(out for out, _ in self.sums))


@dataclass(frozen=True)
class Draw:
    """A noise."""

    row: Noise
    spent: tuple[Register, ...] = ()
    reads: ClassVar[tuple[Register, ...]] = ()

    @property
    def outs(self) -> tuple[Register, ...]:
        return (self.row.out,)


@dataclass(frozen=True)
class Map:
    """A registered map of registers."""

    row: Apply
    spent: tuple[Register, ...] = ()

    @property
    def outs(self) -> tuple[Register, ...]:
        return (self.row.out,)

    @property
    def reads(self) -> tuple[Register, ...]:
        return self.row.inputs


@dataclass(frozen=True)
class Mix:
    """Weighted sums, in order; a later one may read an earlier one. `row` is the plan's, where it is that row alone."""

    sums: tuple[Sum, ...]
    spent: tuple[Register, ...] = ()
    row: Combine | None = None

    @property
    def outs(self) -> tuple[Register, ...]:
        return tuple(out for out, _ in self.sums)

    @property
    def reads(self) -> tuple[Register, ...]:
        return tuple(register for _, terms in self.sums for _, register in terms)


Operation = Call | Draw | Map | Mix


@dataclass(frozen=True)
class Product:
    """A Mix of registers that lie in the rows of one block, as a matrix.

    Attributes:
        matrix: of at least two rows, for products with one are rounded otherwise, and by the number of columns.
        made: the row of the block that each row of the matrix makes; of one only, the matrix has a row of zeros besides.
        read: how many rows of the block are read, from the first on.
        height: rows of the matrix.
    """

    matrix: Tensor
    made: tuple[int, ...]
    read: int
    height: int


@dataclass(frozen=True, eq=False)
class Program:
    """What the executor walks. Each operation says which registers nothing reads after it (`spent`)."""

    inputs: tuple[Register, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Register, ...]
    times: Mapping[str, Sequence[Any]]  # of each model's calls, in order
    is_long: bool  # more than one call
    _products: dict[tuple[torch.dtype, bool], tuple[Product, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def has_numbers_only(self) -> bool:
        """Whether every weight is a float: no Array, and no tensor that carries a gradient."""
        sums = (terms for one in self.operations if isinstance(one, Mix) for _, terms in one.sums)
        return all(isinstance(weight, (int, float)) for terms in sums for weight, _ in terms)

    @cached_property
    def places(self) -> Mapping[Register, int]:
        """Where registers lie in one block of memory: each in the first row that is free. What a Mix makes may take the rows
        of what it reads for the last time; nothing else may, for a network may keep what it is shown."""
        places = {name: place for place, name in enumerate(self.inputs)}
        taken, freed = set(places.values()), set[int]()
        for operation in self.operations:
            spent = {places[name] for name in operation.spent if name in places}
            if isinstance(operation, Mix):
                taken -= freed | spent
                freed, spent = set(), set()
            for name in operation.outs:
                if name not in operation.spent:  # else nothing reads it
                    places[name] = next(place for place in count() if place not in taken)
                    taken.add(places[name])
            freed |= spent
        return places

    @cached_property
    def height(self) -> int:
        """Rows of the block of memory."""
        return max(2, 1 + max(self.places.values()))

    @cached_property
    def copies_much(self) -> bool:
        """Whether a third or more of the rows that whole products make only copy what is read later."""
        whole, made = (
            sum(len(one.made) for one in self.products(torch.float64, is_whole)) for is_whole in (True, False)
        )
        return 3 * made <= 2 * whole

    def products(self, dtype: torch.dtype, whole: bool) -> tuple[Product, ...]:
        """Each Mix as a product with the block; a whole one makes a block, with all that is read later, in another's memory."""
        if (dtype, whole) not in self._products:
            found, live = [], set(self.inputs)
            for operation in self.operations:
                if isinstance(operation, Mix):
                    found.append(self._product(operation, live, whole, dtype))
                live = (live | set(operation.outs)) - set(operation.spent)
            self._products[dtype, whole] = tuple(found)
        return self._products[dtype, whole]

    def _product(self, mix: Mix, live: set[Register], whole: bool, dtype: torch.dtype) -> Product:
        known: dict[Register, Mapping[Register, float]] = {}
        for out, terms in mix.sums:
            known[out] = _summed(terms, known)
        rows = {self.places[name]: terms for name, terms in known.items() if name not in mix.spent}
        if whole:
            rows |= {self.places[name]: {name: 1.0} for name in live if name not in mix.spent}
            made = tuple(range(1 + max(rows, default=0)))
        else:
            made = tuple(rows)
        width = 1 + max((self.places[name] for name in live), default=0)
        matrix = torch.zeros(max(len(made), 2), width, dtype=torch.float64)
        for row, place in enumerate(made):
            for name, weight in rows.get(place, {}).items():
                matrix[row, self.places[name]] = weight
        return Product(matrix.to(dtype), made, *matrix.T.shape)


def bind(plan: Rows, models: Mapping[str, Model], *, watched: bool = False) -> Program:
    """The program of a plan on its models; kept with a plan, so that binding it again costs nothing.

    Args:
        plan: a Plan or Draft.
        models: by name.
        watched: leave every register of the plan as it is, for whoever looks at rows one by one.

    Raises:
        PlanError: a row names a model that is not given, a model is of another process, a conversion is not finite, or a
            network that takes integer times is shown a fraction.
    """
    kinds = tuple((name, model.process, model.outputs) for name, model in models.items())
    kept: list[tuple[Any, Program]] = [] if isinstance(plan, Draft) else plan.__dict__.setdefault("_programs", [])
    # looked for by what is equal, not by hash: that of a process may be long in the making
    program = next((made for key, made in kept if key == (kinds, watched)), None)
    if program is None:
        program = _program(plan, {kind[0]: kind for kind in kinds}, watched)
        kept.append(((kinds, watched), program))
    for name, model in models.items():
        if model.integer_times:
            for t in program.times[name]:
                model.check_time(t)
    return program


def _program(plan: Rows, kinds: Mapping[str, Kind], watched: bool) -> Program:
    inputs, outputs = tuple(name for name, _ in plan.inputs), tuple(register for _, register, _ in plan.outputs)
    operations = list(_operations(plan, kinds))
    if not watched:
        operations = list(_inlined(list(_merged(operations)), outputs))
    times = {
        name: [one.row.t for one in operations if isinstance(one, Call) and one.row.model == name] for name in kinds
    }
    is_long = sum(map(len, times.values())) > 1
    return Program(inputs, tuple(_with_spent(operations, outputs)), outputs, times, is_long)


def _operations(plan: Rows, kinds: Mapping[str, Kind]) -> Iterator[Operation]:
    """Row by row."""
    process = getattr(plan, "process", None)
    for row in plan.rows:
        if isinstance(row, Evaluate):
            if row.model not in kinds:
                raise PlanError(f"step {row.step}: the plan calls model {row.model!r}; given: {', '.join(kinds)}")
            name, of, outputs = kinds[row.model]
            if of != process:
                raise PlanError(f"the plan is for {process}, model {name!r} is of {of}: compile it for that")
            folds = tuple((out, fold(wanted, row, of, outputs)) for out, wanted in row.outs)
            yield Call(row, tuple(f"output {place}" for place in range(len(outputs))), folds)
        elif isinstance(row, Combine):
            yield Mix(((row.out, row.weights),), row=row)
        else:
            yield Draw(row) if isinstance(row, Noise) else Map(row)


def _merged(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Sums put off until something but a sum reads one of them, and then made together."""
    waiting: list[Sum] = []
    for place, operation in enumerate(operations):
        if isinstance(operation, Mix):
            waiting.extend(operation.sums)
            continue
        if any(out in operation.reads for out, _ in waiting):
            yield Mix(tuple(waiting))
            waiting = []
        if isinstance(operation, Call):  # outputs that wait need names of their own
            raw = {name: f"{name} of row {place}" for name in operation.outputs}
            waiting.extend((out, tuple((w, raw.get(r, r)) for w, r in terms)) for out, terms in operation.sums)
            operation = Call(operation.row, tuple(raw.values()), ())
        yield operation
    if waiting:
        yield Mix(tuple(waiting))


def _inlined(operations: list[Operation], outputs: tuple[Register, ...]) -> Iterator[Operation]:
    """Without the sums that only other sums of their Mix read: these take their terms in their place."""
    read: dict[Register, int] = dict.fromkeys(outputs, -1)  # the only operation that reads it, else -1
    for place, operation in enumerate(operations):
        for register in operation.reads:
            read[register] = place if read.get(register, place) == place else -1
    for place, operation in enumerate(operations):
        if not isinstance(operation, Mix):
            yield operation
            continue
        gone: dict[Register, Mapping[Register, float]] = {}
        sums: list[Sum] = []
        for out, terms in operation.sums:
            numbers = all(isinstance(weight, (int, float)) for weight, _ in terms)
            if any(register in gone for _, register in terms):
                if numbers:
                    terms = tuple((w, r) for r, w in _summed(terms, gone).items())
                else:
                    sums.extend((r, tuple((w, s) for s, w in gone.pop(r).items())) for _, r in terms if r in gone)
            if numbers and read.get(out) == place:
                gone[out] = {register: weight for weight, register in terms}
            else:
                sums.append((out, terms))
        yield Mix(tuple(sums))


def _summed(terms: Iterable[Term], known: Mapping[Register, Mapping[Register, float]]) -> dict[Register, float]:
    """A sum of registers, some of which are sums themselves, in terms of the others."""
    total: dict[Register, float] = {}
    for weight, register in terms:
        for inner, factor in known.get(register, {register: 1.0}).items():
            total[inner] = total.get(inner, 0.0) + weight * factor
    return total


def _with_spent(operations: list[Operation], outputs: tuple[Register, ...]) -> list[Operation]:
    live = set(outputs)
    found: list[Operation] = []
    for operation in reversed(operations):
        spent = tuple(dict.fromkeys(r for r in (*operation.reads, *operation.outs) if r not in live))
        live = (live - set(operation.outs)) | set(operation.reads)
        found.append(replace(operation, spent=spent))
    return found[::-1]
