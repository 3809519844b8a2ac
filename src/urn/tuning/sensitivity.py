"""How a plan's samples move with its weights and times: the exact Jacobian, by running the executor on dual numbers.

A dual number is a state with one tangent for each free number that it depends on. Sums of duals are duals; a model call takes
all tangents of its state at once by forward-mode differentiation. A weight of a sum enters with what it multiplies as its
tangent, a time with the prediction's slope in it. Numbers are in the order in which a run meets them, so that a state
carries the tangents of the first so many alone.

A network that has no forward-mode derivative, as many in diffusers, is differentiated by differences instead, along all
tangents in one batch, at the same cost.

For a plan of the method `linear` with n calls: the angle atan(sigma/alpha) of call i (but the first's, where the plan starts),
then the weights A_i, B_i0, ..., B_ii, for i = 0, ..., n - 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from urn.executor import execute
from urn.model import Model
from urn.plan import Combine, Evaluate, Node, Plan, Row
from urn.prediction import as_tensor, conversion
from urn.processes import Process
from urn.tuning.task import Starts, Task

NUMBERS = 1 << 19  # in the tangents that pass through a call at a time


class Dual:
    """A state (B, *S) and its tangents (P, B, *S) in the first P free numbers."""

    def __init__(self, value: Tensor, tangents: Tensor) -> None:
        self.value, self.tangents = value, tangents

    def __add__(self, other: Dual) -> Dual:
        long, short = (self, other) if len(self.tangents) >= len(other.tangents) else (other, self)
        tangents = long.tangents.clone()
        tangents[: len(short.tangents)] += short.tangents
        return Dual(self.value + other.value, tangents)

    def __mul__(self, factor: float) -> Dual:
        return Dual(self.value * factor, self.tangents * factor)

    def seeded(self, *further: Tensor) -> Dual:
        """With the tangents of further numbers."""
        return Dual(self.value, torch.cat([self.tangents, torch.stack(further)]))


def count_of(calls: int, times: bool, first: int = 0) -> int:
    """How many numbers are free in a plan of so many calls, of those from call `first` on."""
    return sum(i + 2 + (times and i > 0) for i in range(first, calls))


def tangents_of(calls: int, times: bool, first: int = 0) -> int:
    """How many tangents pass through its calls in a run, those of times in their own call included."""
    before = [count_of(i, times, first) for i in range(calls)]
    return sum(before) + times * (calls - max(first, 1))


def jacobian(
    task: Task, plan: Plan, starts: Starts, *, times: bool = True, first: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The samples of a `linear` plan and their derivatives in its free numbers, some starts at a time.

    Free are the weights and times from call `first` on, the times if `times` says so.

    Each tangent that passes through the model counts as one evaluation, beside those of the run itself.

    Yields:
        (indices (b,), samples (b, *S), tangents (P, b, *S)).
    """
    prediction = dict(plan.options).get("prediction", "x0")
    law, calls = dict(plan.inputs)["x"], plan.nfe
    size = max(1, NUMBERS // (count_of(calls, times, first) * starts.normals[0].numel()))
    for part in torch.split(torch.arange(len(starts)), size):
        some = starts.part(part)
        run = _Run(task, prediction, some.conditioning, times, first)
        x = some.normals * float(law.std)
        start = Dual(x, x.new_zeros(0, *x.shape))
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            made: Dual = execute(plan, run.model, {"x": start}, watch=run.seed)["x"]
        yield part, made.value, made.tangents


class _Run:
    """One run on dual numbers: the model of duals, and the watch that seeds weights."""

    def __init__(self, task: Task, prediction: str, conditioning: Mapping[str, Any], times: bool, first: int) -> None:
        self.task, self.prediction, self.conditioning = task, prediction, conditioning
        self.times, self.first = times, first
        self.known: list[Tensor] = []
        self.free, self.calls = 0, 0
        self.model = Model(self.net, task.model.process, predicts=prediction)

    def net(self, x: Dual, t: float) -> Dual:
        """The prediction of a dual state at time t, with the tangent of t where it is free."""
        task, count = self.task, len(x.tangents)
        task.evaluations += len(x.value) * (1 + count)
        angle = _angle(task.model.process, t)

        if count:
            value, tangents = self.moved(x, as_tensor(t))
        else:
            value, tangents = self.predicted(x.value, as_tensor(t)), x.tangents
        made = Dual(value, tangents)
        if self.times and self.calls >= max(self.first, 1):
            slope = self.slope(x.value, value, angle)
            task.evaluations += len(x.value)
            made = Dual(value, _padded(tangents, self.free)).seeded(slope)
            self.free += 1
        self.calls += 1
        return made

    def predicted(self, value: Tensor, t: Tensor, copies: int = 1) -> Tensor:
        """The prediction for states, or for so many copies of the batch."""
        given = self.conditioning
        if copies > 1:
            batch = len(value) // copies
            given = {
                name: v.repeat(copies, *[1] * (v.ndim - 1)) if isinstance(v, Tensor) and v.shape[:1] == (batch,) else v
                for name, v in given.items()
            }
        return predicted(self.task.model, self.prediction, value, t, given)

    def moved(self, x: Dual, t: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction and its derivatives along the tangents of x."""

        def along(v: Tensor) -> tuple[Tensor, Tensor]:
            value, tangent = jvp(lambda u: self.predicted(u, t), (x.value,), (v,))[:2]
            return value, tangent

        try:
            found: tuple[Tensor, Tensor] = vmap(along, out_dims=(None, 0))(x.tangents)  # type: ignore[arg-type]
        except (NotImplementedError, RuntimeError):
            value, shape = self.predicted(x.value, t), x.tangents.shape
            sizes = x.tangents.flatten(2).square().mean(-1).sqrt().clamp(min=torch.finfo(value.dtype).tiny ** 0.5)
            steps = (_difference(value) / sizes).reshape(*shape[:2], *[1] * (len(shape) - 2))
            made = self.predicted((x.value + steps * x.tangents).flatten(0, 1), t, shape[0])
            found = value, (made.reshape(shape) - value) / steps
        return found

    def slope(self, x: Tensor, value: Tensor, angle: Tensor) -> Tensor:
        """The derivative of the prediction in the angle of its time."""

        def of_angle(angle: Tensor) -> Tensor:
            return self.predicted(x, self.task.model.process.t_of_lambda(-torch.log(torch.tan(angle))))

        try:
            found: Tensor = jvp(of_angle, (angle,), (torch.ones_like(angle),))[1]
        except (NotImplementedError, RuntimeError):
            step = _difference(value) * float(angle)
            found = (value - of_angle(angle - step)) / step
        return found

    def seed(self, row: Row, registers: Mapping[str, Any]) -> None:
        """After a call its prediction is known; after a sum its weights are free."""
        if isinstance(row, Evaluate):
            if not self.known:
                self.known.append(registers[row.inputs[0]].value)
            self.known.append(registers[row.outs[0][0]].value)
        elif isinstance(row, Combine) and self.calls > self.first:
            state = registers[row.out]
            made = Dual(state.value, _padded(state.tangents, self.free)).seeded(*self.known)
            registers[row.out] = made  # type: ignore[index]
            self.free += len(self.known)


def predicted(model: Model, prediction: str, x: Tensor, t: Tensor, conditioning: Mapping[str, Any]) -> Tensor:
    """A prediction of a model for a tensor of states at one time, differentiable in both."""
    node = Node(t, model.process.alpha(t), model.process.sigma(t))
    on_x, on_output = conversion(model.outputs[0], prediction, node, model.process)
    output: Tensor = model(x, t=t, **conditioning)[0]
    return as_tensor(on_x).to(x) * x + as_tensor(on_output).to(x) * output


def _difference(like: Tensor) -> float:
    """The step of a difference, beside the size of what is moved."""
    return float(torch.finfo(like.dtype).eps ** (1 / 3))


def _padded(tangents: Tensor, count: int) -> Tensor:
    """Tangents in the first `count` numbers, of which a state does not depend on the last ones."""
    missing = count - len(tangents)
    return tangents if missing == 0 else torch.cat([tangents, tangents.new_zeros(missing, *tangents.shape[1:])])


def _angle(process: Process, t: float) -> Tensor:
    time = as_tensor(t)
    return torch.atan2(process.sigma(time), process.alpha(time))
