"""compile_plan: a method on a process and a grid becomes a plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.compiling import Compiling
from urn.grids import GridLike, grid_times
from urn.method import Method, Steps, combine, evaluate, noise
from urn.nodes import Nodes, is_clean
from urn.plan import Draft, Evaluate, Node, Plan, Rows
from urn.plan.rows import carries_gradient, freeze_number, map_numbers, without_dead_rows
from urn.processes import Process, components_of, is_between, with_side_input
from urn.schemes.stretches import on_stretch
from urn.side_input import carrying


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
        A `Plan`; where the times or an option carry gradients, a `Draft`. The last plans are kept: asked for again, they cost
        no more than their grid.

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
    request = _Request(chosen, process, grid_times(process, steps, grid), final)
    return kept_plans(request) if request.can_be_kept else _compile(request)


@dataclass(frozen=True, eq=False)
class _Request:
    """What a plan is compiled of. Plans are values, so that equal requests give one plan; `key` says which are equal."""

    method: Method
    process: Process
    times: Tensor
    final: str | None

    @cached_property
    def key(self) -> tuple[Any, ...]:
        settings = (repr(sorted(given.items())) for given in (self.method.fixed, self.method.options))
        times = (tuple(self.times.shape), tuple(self.times.flatten().tolist()))
        facts = (
            self.method.function,
            self.method.name,
            self.method.order,
            self.method.exact_for,
            self.method.stochastic,
        )
        return (*facts, *settings, self.process, times, self.final)

    @property
    def can_be_kept(self) -> bool:
        """Whether nothing in it can change: no gradients, and no object that somebody else may alter."""
        frozen = getattr(type(self.process), "__dataclass_params__", None)
        values = (*self.method.fixed.values(), *self.method.options.values())
        if self.times.requires_grad or frozen is None or not frozen.frozen or not all(map(_is_plain, values)):
            return False
        try:
            hash(self)
        except TypeError:
            return False
        return True

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Request) and self.key == other.key


def _is_plain(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, (str, int, float))
        or (isinstance(value, tuple) and all(map(_is_plain, value)))
    )


def _compile(request: _Request) -> Plan | Draft:
    chosen, process, times, final = request.method, request.process, request.times, request.final
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


kept_plans = lru_cache(maxsize=512)(_compile)  # a tuned budget begins with some 130


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


def _setting(value: Any) -> Any:
    """An option as it is written in the plan: numbers, strings and tuples of them; anything else by its name."""
    if isinstance(value, (list, tuple)):
        return tuple(_setting(item) for item in value)
    if isinstance(value, Tensor):
        return freeze_number(value) if value.ndim == 0 else _setting(value.detach().tolist())
    if isinstance(value, (np.ndarray, np.generic)):
        return _setting(value.tolist())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__name__", repr(value))
