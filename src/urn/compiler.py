"""compile_plan: a method on a process and a grid becomes a plan."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from urn.grids import GridLike, grid_times
from urn.method import Method, Steps, combine, evaluate, noise
from urn.nodes import Nodes, is_clean
from urn.plan import Apply, Combine, Draft, Evaluate, Law, Node, Noise, Plan, PlanError, Read, Register, Row, Rows
from urn.plan.rows import Array, carries_gradient, freeze_number, map_numbers, without_dead_rows
from urn.processes import CoupledProcess, Process, components_of, is_between, with_side_input
from urn.schemes.stretches import on_stretch
from urn.side_input import carrying

PREFIXES = {"x0": "d", "epsilon": "eps", "score": "s", "v": "v", "velocity": "u"}


def compile_plan(
    method: str | Method | Callable[..., Steps],
    process: Process,
    steps: int | None = None,
    grid: GridLike | None = None,
    *,
    final: str | None = None,
    **options: Any,
) -> Plan | Any:
    """Compile a method on a process and a grid to a plan.

    Args:
        method: a name in `urn.METHODS`, a `Method`, or a generator function of your own.
        process: the forward process.
        steps: intervals of the grid, at least 1; may be left out where `grid` is an array of times.
        grid: a name in `urn.GRIDS`, a function (process, steps) -> times, or a strictly monotone array of times in the
            process's own t, taken as it is. By default the process's usual one (`urn.grids.default_grid`).
        final: None to end at the grid's last point, "x0" to evaluate there once more and end at the clean prediction.
        options: the method's own options.

    Returns:
        A `Plan`; where the times or an option carry gradients, a `Draft`.

    Raises:
        ValueError: an unknown name, an option the method does not have, or times it cannot use.
        PlanError: the rows are inconsistent, or a coefficient has no finite value on this grid.

    Example:
        >>> plan = compile_plan("dpmpp_2m", VP.linear(), steps=10, grid="lambda")
        >>> plan.nfe
        10
    """
    chosen = as_method(method, options).with_options(**options)
    if chosen.components != (components := components_of(process)):
        states = (f"({', '.join(names)})" for names in (chosen.components, components))
        raise ValueError(f"method {chosen.name!r} is for states {next(states)}; those of {process} are {next(states)}")
    if final not in (None, "x0"):
        raise ValueError(f"final={final!r} must be None or 'x0'")
    times = grid_times(process, steps, grid)
    if chosen.stochastic:
        _refuse_increasing(chosen, times)
    nodes = Nodes(process, times)
    compiling = Compiling(nodes, f"{chosen.name} on {process}")
    ended = _ended(chosen, nodes, final)
    try:
        last = compiling.run(ended if with_side_input(process) is None else carrying(nodes, ended))
    except RuntimeError as error:  # torch's, where a method asks which way a tensor of several numbers goes
        if not nodes[0].alpha.ndim:
            raise
        raise ValueError(
            f"method {chosen.name!r} does not take a time per frame or a schedule per block: {error}"
        ) from error
    rows = without_dead_rows(compiling.rows_so_far(last))
    if is_between(process):
        _check_between(chosen, process, rows)
    if rows.stochastic:
        _refuse_increasing(chosen, times)
    facts = (chosen.name, process)
    settings = tuple(sorted((name, _setting(value)) for name, value in chosen.options.items()))
    if carries_gradient((rows.inputs, rows.rows, rows.outputs)):
        return Draft(rows.inputs, rows.rows, rows.outputs, *facts, times, settings, chosen.order, chosen.exact_for)
    inputs, code, outputs = (map_numbers(part, freeze_number) for part in (rows.inputs, rows.rows, rows.outputs))
    return Plan(
        inputs, code, outputs, *facts, tuple(freeze_number(t) for t in times), settings, chosen.order, chosen.exact_for
    )


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


def as_method(method: str | Method | Callable[..., Steps], options: Mapping[str, Any] | None = None) -> Method:
    """The method of a name, a method itself, or one of a generator function; `options` are those of the function's parameters
    that it is going to be given, the others without a default being components of the state.

    Raises:
        ValueError: none of these, or an unknown name.
    """
    if isinstance(method, (str, Method)):
        from urn.methods import find_method  # the registry imports the methods, which nothing else may

        return find_method(method)
    if inspect.isgeneratorfunction(method):
        return Method(method, getattr(method, "func", method).__name__, None, "", options=options or {})
    raise ValueError(f"method={method!r} must be a name in urn.METHODS, a Method, or a generator function (nodes, x)")


def _check_between(method: Method, process: Process, rows: Rows) -> None:
    """On an interpolant x0, epsilon and the velocity do not follow from one another: only a method made of the velocity, and
    of a score that it adds to it, is right."""
    for row in rows.rows:
        wanted = {name for _, name in row.outs} if isinstance(row, Evaluate) else {"velocity"}
        if "velocity" not in wanted or not wanted <= {"velocity", "score", "epsilon"}:
            raise ValueError(
                f"method {method.name!r} wants {', '.join(sorted(wanted))} at step {row.step}; on {process} methods are "
                "made of the velocity, or of velocity and score: probability_flow_heun, a Runge-Kutta method with "
                "clock='t', sit_sde with w"
            )


def _refuse_increasing(method: Method, times: Tensor) -> None:
    if bool((times[0] < times[-1]).any()):
        start, end = times[0].tolist(), times[-1].tolist()
        raise ValueError(f"method {method.name!r} draws noise and needs decreasing times, not {start} to {end}")


def _ended(method: Method, nodes: Nodes, final: str | None) -> Steps:
    """The method, and after it the jump to the clean prediction where that is asked for."""
    components = components_of(nodes.process)
    from_point = _is_point(nodes[0]) and not is_between(nodes.process)
    last = yield from (_from_point(method, nodes) if from_point else method(nodes, *components))
    if final == "x0":
        if len(components) > 1:
            raise ValueError(
                f"final='x0' is for states x alone; those of {nodes.process} are ({', '.join(components)})"
            )
        here = nodes[len(nodes) - 1]
        if is_clean(here):
            raise ValueError("final='x0' on a grid that ends at sigma = 0: it is clean there; leave `final` out")
        x0 = yield evaluate(last, here, "x0")
        one, zero = torch.ones_like(here.alpha), torch.zeros_like(here.sigma)
        clean = torch.as_tensor(nodes.process.domain[0], dtype=torch.float64)
        last = yield combine(Node(clean, one, zero), (one, x0))
    return last


def _is_point(node: Node) -> bool:
    """Whether the state there is known and has no noise, as at the start of a bridge: alpha = sigma = 0."""
    return bool((node.alpha == 0).all()) and bool((node.sigma == 0).all())


def _from_point(method: Method, nodes: Nodes) -> Steps:
    """A method from a point: its noise cannot be told there (0/0), so the first step is a draw at the predicted x0.

        x_next = alpha_next x0 + sigma_next z, and with a side input + beta_next y

    The method runs on what is left of the grid. Zheng et al. 2024, Diffusion Bridge Implicit Models, arXiv 2405.15885.
    """
    first, next = nodes[0], nodes[1]
    x0 = yield evaluate("x", first, "x0")
    terms = [(next.alpha, x0)]
    if not is_clean(next):
        terms.append((next.sigma, (yield noise(first, next))))
    x = yield combine(next, *terms)
    if len(nodes) == 2:
        return str(x)
    return (yield from on_stretch(method, nodes, x, nodes.times[1:], range(1, len(nodes))))


def _merged(weights: tuple[tuple[Any, Register], ...]) -> tuple[tuple[Any, Register], ...]:
    """Each register once, weights of repeats added, as float64 tensors."""
    total: dict[Register, Any] = {}
    for weight, register in weights:
        weight = torch.as_tensor(weight, dtype=torch.float64)
        total[register] = total[register] + weight if register in total else weight
    return tuple((weight, register) for register, weight in total.items())


def _setting(value: Any) -> Any:
    """An option as it is written in the plan: numbers, strings and tuples of them; anything else by its name."""
    if isinstance(value, (list, tuple)):
        return tuple(_setting(item) for item in value)
    if isinstance(value, Tensor):
        return freeze_number(value) if value.ndim == 0 else tuple(value.detach().tolist())
    if isinstance(value, (np.ndarray, np.generic)):
        return _setting(value.tolist())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__name__", repr(value))


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
