"""Rows as a method's generator yields them: named, checked for what they read, given their step and their noise's stream."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from urn.method import Steps
from urn.nodes import Nodes
from urn.plan import Apply, Combine, Evaluate, Law, Node, Noise, PlanError, Read, Register, Row, Rows
from urn.plan.rows import Array
from urn.processes import CoupledProcess, components_of, with_side_input

PREFIXES = {"x0": "d", "epsilon": "eps", "score": "s", "v": "v", "velocity": "u"}


class Compiling:
    """Rows being collected from a method's generator: names registers, follows nodes and steps, assigns noise streams."""

    def __init__(self, nodes: Nodes, where: str) -> None:
        start = nodes[0]
        self.where = where
        self.rows: list[Row] = []
        self.places: dict[Register, Node] = {"x": start}
        self.defined: set[Register] = {"x"}
        self.inputs: tuple[tuple[str, Law], ...] = (("x", Law(start, nodes.process.prior_std(start.t))),)
        if len(components := components_of(nodes.process)) > 1:
            stds = cast("CoupledProcess", nodes.process).prior_stds(start.t)
            self.inputs = tuple((name, Law(start, std)) for name, std in zip(components, stds, strict=True))
            self.defined.update(components)
        if (side := with_side_input(nodes.process)) is not None:
            law = Law(start, nodes.process.prior_std(start.t), ((side.prior_weight(start.t), "y"),))
            self.inputs = (("x", law), ("y", Law(None)))
            self.defined.add("y")
        self._step = 0
        self._ended: tuple[int, set[Register]] | None = None  # a node that was reached, and which components were
        self._names: Counter[str] = Counter()
        self._streams: set[tuple[float, float, int]] = set()
        self._walked: list[tuple[float, float]] = []

    def run(self, steps: Steps) -> Register:
        """List the rows of a generator; its value is the register that it returns."""
        answer: Any = None
        while True:
            try:
                request = steps.send(answer)
            except StopIteration as end:
                return self._known(end.value)
            if isinstance(request, Read):
                raise PlanError(
                    f"{self.where}: the method reads the state, so it has no plan: run it with urn.loops.adaptive"
                )
            answer = self.add(request)

    def add(self, request: Row) -> Any:
        """Name what a row defines, append it, and give back the register (or registers) for the method."""
        row: Row
        if not isinstance(request, Row):
            raise PlanError(f"{self.where}, step {self._reached}: the method yielded {request!r}, which is not a row")
        self._enter_step(request)
        if isinstance(request, Evaluate):
            call = self._count("call")
            outs = tuple((f"{PREFIXES.get(wanted, wanted)}{call}", wanted) for _, wanted in request.outs)
            row = replace(request, outs=outs, step=self._step)
            answer: Any = outs[0][0] if len(outs) == 1 else tuple(name for name, _ in outs)
        elif isinstance(request, Noise):
            interval = (_plain_time(request.interval[0]), _plain_time(request.interval[1]))
            stream = self._stream(*interval, request.stream)
            row = Noise(f"z{self._count('z')}", interval, stream, self._step)
            answer = row.out
        else:
            row = replace(request, out=self._state_name(request), step=self._step)
            if isinstance(row, Combine):
                row = replace(row, weights=_merged(row.weights))
            else:
                row = replace(row, options=tuple((name, _option(value)) for name, value in row.options))
            answer = row.out
            if row.node is not None:
                self.places[row.out] = row.node
                if row.node.index is not None:
                    self._ended = (row.node.index, {request.out or "x", *(self._ended[1] if self._ended else ())})
        for register in row.reads:
            self._known(register)
        self.rows.append(row)
        self.defined.update(row.defines)
        return answer

    @property
    def _reached(self) -> int:
        return self._ended[0] if self._ended else self._step

    def _enter_step(self, request: Row) -> None:
        """A step ends with the states at its node, one of each component."""
        if self._ended is None:
            return
        index, components = self._ended
        state = request if isinstance(request, (Combine, Apply)) else None
        if state and state.node and state.node.index == index and (state.out or "x") not in components:
            return
        self._step, self._ended = index, None

    def rows_so_far(self, last: Register) -> Rows:
        """The rows, with `last` as the output `x`."""
        node = self.places.get(last)
        if node is None:
            raise PlanError(f"{self.where}: the method returned {last!r}, which is not a state: give its row a node")
        return Rows(self.inputs, tuple(self.rows), (("x", last, node),))

    def _known(self, register: Any) -> Register:
        if not isinstance(register, str) or register not in self.defined:
            raise PlanError(
                f"{self.where}, step {self._reached}: {register!r} is not a register that a yield handed back"
            )
        return register

    def _count(self, kind: str) -> int:
        self._names[kind] += 1
        return self._names[kind]

    def _state_name(self, row: Combine | Apply) -> Register:
        if row.node is None:
            return f"c{self._count('c')}"
        if row.node.index is None:
            return f"y{self._count('y')}"
        name = f"{row.out or 'x'}{row.node.index}"
        times = self._count(name)
        return name + ("'" * (times - 1) if times < 4 else f"'{times - 1}")

    def _stream(self, start: float, end: float, given: int | None) -> int:
        """The given stream, or 0 for an interval of the Brownian path not yet walked, or the next fresh one."""
        free = start > end and all(start <= low or end >= high for high, low in self._walked)
        fresh = 0 if free else next(i for i in itertools.count(1) if (start, end, i) not in self._streams)
        stream = fresh if given is None else given
        self._streams.add((start, end, stream))
        if stream == 0:
            self._walked.append((max(start, end), min(start, end)))
        return stream


def _merged(weights: tuple[tuple[Any, Register], ...]) -> tuple[tuple[Any, Register], ...]:
    """Each register once, weights of repeats added, as float64 tensors."""
    total: dict[Register, Any] = {}
    for weight, register in weights:
        weight = torch.as_tensor(weight, dtype=torch.float64)
        total[register] = total[register] + weight if register in total else weight
    return tuple((weight, register) for register, weight in total.items())


def _option(value: Any) -> Any:
    """An option of an Apply row as a value that a plan can hold; a tensor may stay, it is frozen with the rows."""
    if isinstance(value, (list, tuple)):
        return tuple(_option(item) for item in value)
    if isinstance(value, np.ndarray):
        return Array(value)
    return value.item() if isinstance(value, np.generic) else value


def _plain_time(t: Any) -> float:
    """A number for a time, of frames their mean: what tells a noise's interval from others."""
    return float(t.detach().mean()) if isinstance(t, Tensor) else float(t)
