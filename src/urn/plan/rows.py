"""The four kinds of row that a plan is made of, and what they are made of."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from urn.processes.process import log_ratio

Number = Any  # float or Array in a Plan; a float64 scalar tensor that may carry a gradient in a method and in a Draft
Register = str
Term = tuple[Number, Register]


class PlanError(ValueError):
    """Something is wrong with a plan, or with what it is asked to run on. The message names row and numbers."""


class Array:
    """A coefficient with one number per coordinate or frame: a read-only float64 array that broadcasts against a state.

    Unlike a NumPy array it is compared by value and hashable, so that a plan that holds one is too.
    """

    def __init__(self, values: Any) -> None:
        raw = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        self.values = np.array(raw, dtype=np.float64)
        self.values.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        low, high = self.values.min(), self.values.max()
        return f"[{low:.5g}..{high:.5g}]{'x'.join(map(str, self.values.shape))}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Array, (self.values,)

    def _key(self) -> tuple[tuple[int, ...], bytes]:
        return self.values.shape, self.values.tobytes()

    def to_json(self) -> dict[str, Any]:
        return {
            "shape": list(self.values.shape),
            "float64": base64.b64encode(self.values.astype("<f8").tobytes()).decode(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Array:
        return cls(np.frombuffer(base64.b64decode(data["float64"]), dtype="<f8").reshape(data["shape"]))


@dataclass(frozen=True)
class Node:
    """A point of a process: time t with its alpha and sigma. `index` is its place on the grid, None off the grid."""

    t: Number
    alpha: Number
    sigma: Number
    index: int | None = None

    @cached_property
    def lambda_(self) -> Number:
        """log(alpha / sigma); -inf at alpha = 0, +inf at sigma = 0."""
        if isinstance(self.alpha, Tensor):
            return log_ratio(self.alpha, self.sigma)
        if isinstance(self.alpha, Array):
            with np.errstate(divide="ignore"):
                return Array(np.log(self.alpha.values) - np.log(self.sigma.values))
        if self.alpha == 0 or self.sigma == 0:
            return math.inf if self.alpha > 0 else -math.inf
        return math.log(self.alpha) - math.log(self.sigma)


@dataclass(frozen=True)
class Law:
    """What a plan assumes of an input: at `node`, a mean that is a weighted sum of other inputs, and a std.

    The start `x` has no mean and the process's prior std. `node` is None for an input that is not a state (a mask).
    """

    node: Node | None
    std: Number = 0.0
    mean: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Evaluate:
    """One model call. `outs` are (register, wanted prediction) pairs; one call can give several.

    `t` is the time that the model is shown. `node` gives the alpha and sigma with which its output is converted to the
    wanted predictions; by default that is the node of the first input.
    """

    outs: tuple[tuple[Register, str], ...]
    inputs: tuple[Register, ...]
    t: Number
    node: Node
    model: str = "main"
    step: int = 0
    kind: ClassVar[str] = "evaluate"

    @property
    def defines(self) -> tuple[Register, ...]:
        return tuple(register for register, _ in self.outs)

    @property
    def reads(self) -> tuple[Register, ...]:
        return self.inputs


@dataclass(frozen=True)
class Noise:
    """One standard-normal tensor of the state's shape, identified by (interval, stream).

    Stream 0 is the increment of the Brownian path over the interval (from, to), which coarse and fine grids share.
    """

    out: Register
    interval: tuple[Number, Number]
    stream: int | None = None
    step: int = 0
    kind: ClassVar[str] = "noise"
    reads: ClassVar[tuple[Register, ...]] = ()

    @property
    def defines(self) -> tuple[Register, ...]:
        return (self.out,)


@dataclass(frozen=True)
class Combine:
    """`out` = weighted sum of registers. One that makes a state carries its node."""

    out: Register
    weights: tuple[Term, ...]
    node: Node | None = None
    step: int = 0
    kind: ClassVar[str] = "combine"

    @property
    def defines(self) -> tuple[Register, ...]:
        return (self.out,)

    @property
    def reads(self) -> tuple[Register, ...]:
        return tuple(register for _, register in self.weights)


@dataclass(frozen=True)
class Apply:
    """`out` = a named, registered map of registers; `options` are its JSON parameters. See `urn.plan.functions`."""

    out: Register
    function: str
    inputs: tuple[Register, ...]
    options: tuple[tuple[str, Any], ...] = ()
    node: Node | None = None
    step: int = 0
    kind: ClassVar[str] = "apply"

    @property
    def defines(self) -> tuple[Register, ...]:
        return (self.out,)

    @property
    def reads(self) -> tuple[Register, ...]:
        return self.inputs


@dataclass(frozen=True)
class Read:
    """A request of a method for the value of a register. It never stands in a plan."""

    register: Register


Row = Evaluate | Noise | Combine | Apply


@dataclass(frozen=True)
class Rows:
    """Rows with the inputs that they read and the registers that they hand out: what Plan and Draft have in common.

    `outputs` are (name, register, node) triples.
    """

    inputs: tuple[tuple[str, Law], ...]
    rows: tuple[Row, ...]
    outputs: tuple[tuple[str, Register, Node], ...]
    stochastic: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stochastic", any(isinstance(row, Noise) for row in self.rows))

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was worked out from them, as a hash, may be another in another process."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


_FIELDS = {kind: tuple(f.name for f in fields(kind) if f.init) for kind in (Node, Law, Evaluate, Noise, Combine, Apply)}


def map_numbers(value: Any, change: Any) -> Any:
    """Rebuild rows, laws, nodes or tuples of them with `change` applied to every coefficient in them."""
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if kind is tuple:
        return tuple([map_numbers(item, change) for item in value])
    if kind in _FIELDS:
        return kind(*[map_numbers(getattr(value, name), change) for name in _FIELDS[kind]])
    return change(value) if isinstance(value, (Tensor, float, Array)) else value


def carries_gradient(value: Any) -> bool:
    """Whether a coefficient in rows, laws, nodes or tuples of them does."""
    if isinstance(value, tuple):
        return any(map(carries_gradient, value))
    if type(value) in _FIELDS:
        return any(carries_gradient(getattr(value, name)) for name in _FIELDS[type(value)])
    return isinstance(value, Tensor) and value.requires_grad


def freeze_number(value: Number) -> float | Array:
    """A plan's coefficient from a number or tensor: a float, or an `Array` for a tensor with elements of its own."""
    if isinstance(value, Tensor):
        value = value.detach()
        return float(value) if value.ndim == 0 else Array(value.to(torch.float64).cpu().numpy())
    if isinstance(value, np.ndarray):
        return Array(value)
    return value if isinstance(value, Array) else float(value)


def without_zeros(weights: tuple[Term, ...]) -> tuple[Term, ...]:
    """The terms whose weight is not exactly 0, or carries a gradient; of none the last: a sum of nothing has no shape."""

    def counts(weight: Number) -> bool:
        if isinstance(weight, Tensor):
            return weight.requires_grad or bool((weight != 0).any())
        return bool(weight.values.any() if isinstance(weight, Array) else weight != 0)

    return tuple(term for term in weights if counts(term[0])) or weights[-1:]


def without_dead_rows(plan: Rows) -> Rows:
    """Drop zero weights, and then rows, and predictions of a call, that nothing handed out depends on."""
    needed = {register for _, register, _ in plan.outputs}
    kept: list[Row] = []
    for row in reversed(plan.rows):
        if needed.isdisjoint(row.defines):
            continue
        if isinstance(row, Combine):
            row = replace(row, weights=without_zeros(row.weights))
        if isinstance(row, Evaluate):
            row = replace(row, outs=tuple(out for out in row.outs if out[0] in needed))
        kept.append(row)
        needed.update(row.reads)
    return Rows(plan.inputs, tuple(kept[::-1]), plan.outputs)
