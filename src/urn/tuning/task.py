"""What a search is about: a model, a number of model calls, an objective, and starts to train on and others to judge by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from urn.arithmetic import weighted_sum
from urn.executor import execute
from urn.metrics import bootstrap
from urn.model import Model
from urn.noise import SeededNoise
from urn.plan import Evaluate, Plan, PlanError, Rows
from urn.prediction import as_tensor
from urn.tuning.objectives import Objective


class TuningError(ValueError):
    """A search cannot go on.

    Attributes:
        plan: the best plan found until then, None where there is none.
        record: what was tried until then, None where nothing was.
    """

    plan: Plan | None = None
    record: Any = None


class NotDifferentiableError(TuningError):
    """A model has no derivative of the kind that a tuner needs."""


class Figure(NamedTuple):
    """An objective's value with its 95 % interval over starts, and quantiles over starts where each has an error of its own."""

    estimate: float
    low: float
    high: float
    median: float | None = None
    q90: float | None = None


@dataclass(eq=False)
class Starts:
    """Starts that belong together: training's, or those held out.

    Attributes:
        normals: (B, *S) unit normals; a plan starts from them times its prior's std.
        seeds: of each sample's noise.
        conditioning: keyword arguments of the network, tensors of B entries.
        held_out: whether nothing may be chosen by them.
    """

    normals: Tensor
    seeds: tuple[int, ...]
    conditioning: Mapping[str, Any]
    held_out: bool

    def __len__(self) -> int:
        return len(self.normals)

    def first(self, count: int) -> Starts:
        """The first of them."""
        return Starts(
            self.normals[:count], self.seeds[:count], _first(self.conditioning, count, len(self)), self.held_out
        )

    def part(self, chosen: Tensor) -> Starts:
        """Those of some indices."""
        given = {
            name: value[chosen] if isinstance(value, Tensor) and value.shape[:1] == (len(self),) else value
            for name, value in self.conditioning.items()
        }
        return Starts(self.normals[chosen], tuple(self.seeds[i] for i in chosen.tolist()), given, self.held_out)


@dataclass(eq=False)
class Task:
    """A model, a budget and an objective, with the starts of both kinds. It counts what its runs cost.

    Attributes:
        model: the model.
        calls: the budget, model calls a sample.
        objective: what is made small.
        train, held_out: the starts.
        batch: starts at a time.
        variants: further models that a plan's calls may name, each with what its call costs beside one of `model`.
        evaluations: model calls times samples so far, on training starts, those of the reference included.
        judged: the same on held-out starts.
    """

    model: Model
    calls: int
    objective: Objective
    train: Starts
    held_out: Starts
    batch: int = 1024
    variants: Mapping[str, tuple[Model, float]] = field(default_factory=dict)
    evaluations: int = field(default=0, init=False)
    judged: int = field(default=0, init=False)

    def cost(self, plan: Rows) -> float:
        """What a plan costs, in calls of the model."""
        named = [row.model for row in plan.rows if isinstance(row, Evaluate)]
        return sum(self.variants[name][1] if name in self.variants else 1 for name in named)

    def run(self, plan: Rows, starts: Starts, *, model: Model | Mapping[str, Model] | None = None) -> Tensor:
        """The plan's samples from these starts; with gradients where the plan carries some."""
        calls = sum(isinstance(row, Evaluate) for row in plan.rows)
        if starts.held_out:
            self.judged += calls * len(starts)
        else:
            self.evaluations += calls * len(starts)
        parts = torch.split(torch.arange(len(starts)), self.batch)
        return torch.cat([self._run(plan, starts.part(part), model) for part in parts])

    def _run(self, plan: Rows, starts: Starts, model: Model | Mapping[str, Model] | None) -> Tensor:
        law = dict(plan.inputs)["x"]
        x = weighted_sum(((law.std, "z"),), {"z": starts.normals})
        source = SeededNoise(starts.seeds) if plan.stochastic else None
        models = {"main": self.model, **{name: one for name, (one, _) in self.variants.items()}}
        found: Tensor = execute(
            plan, models if model is None else model, {"x": x}, source, conditioning=starts.conditioning
        )["x"]
        return found

    @cached_property
    def train_target(self) -> Tensor | None:
        """What the samples of the training starts are compared with."""
        with torch.no_grad():
            return self.objective.target(lambda plan: self.run(plan, self.train), self.model.process, False)

    @cached_property
    def held_out_target(self) -> Tensor | None:
        """The same of the held-out starts."""
        with torch.no_grad():
            return self.objective.target(lambda plan: self.run(plan, self.held_out), self.model.process, True)

    def value(self, plan: Rows, count: int | None = None) -> float:
        """The objective on training starts, on the first `count` alone for a cheap look; infinity where samples are not finite.

        Raises:
            TuningError: the objective itself returned nan or no number, on finite samples.
        """
        starts = self.train if count is None else self.train.first(count)
        with torch.no_grad():
            samples = self.run(plan, starts)
            if not bool(torch.isfinite(samples).all()):
                return float("inf")
            return as_number(self.objective.value(samples, self.target_of(starts)), self.objective.name)

    def target_of(self, starts: Starts) -> Tensor | None:
        """The target of some of the training starts, the first ones."""
        target = self.train_target
        return target[: len(starts)] if target is not None and self.objective.paired else target

    def loss(self, draft: Rows, starts: Starts, target: Tensor | None) -> Tensor:
        """The objective as a tensor that carries the draft's gradients; each model call is made again in the backward pass, so
        that memory does not grow with them.

        Raises:
            TuningError: the objective or the model is not differentiable.
        """
        with torch.enable_grad():
            samples = self.run(draft, starts, model=checkpointed(self.model))
            value = self.objective.value(samples, target)
        if not isinstance(value, Tensor) or not value.requires_grad:
            raise TuningError(
                f"objective={self.objective.name!r} gives no gradient, which a gradient tuner needs: take "
                "objective='reference', a function of torch operations, or a black-box tuner"
            )
        return value

    def figure(self, plan: Plan, *, held_out: bool = True) -> Figure:
        """The objective of a plan with its interval."""
        starts = self.held_out if held_out else self.train
        target = self.held_out_target if held_out else self.train_target
        with torch.no_grad():
            samples = self.run(plan, starts)
            if not bool(torch.isfinite(samples).all()):
                return Figure(float("inf"), float("inf"), float("inf"))
            return figure_of(self.objective, samples, target)


def figure_of(objective: Objective, samples: Tensor, target: Tensor | None) -> Figure:
    """The figure of samples beside a target."""

    def metric(x: Tensor, y: Tensor) -> float:
        return as_number(objective.value(x, y if target is not None else None), objective.name)

    if objective.paired and target is not None:
        errors = (samples - target).square().flatten(1).mean(1).sqrt().double()
        found = bootstrap(metric, samples, target, resample="pairs")
        return Figure(*found, float(errors.median()), float(errors.quantile(0.9)))
    found = bootstrap(metric, samples, samples if target is None else target, resample="samples")
    return Figure(*found)


def as_number(value: Any, name: str) -> float:
    """An objective's value as a float.

    Raises:
        TuningError: it is nan or -inf, or no number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        said = str(error).splitlines()[0]
        raise TuningError(f"objective={name!r} returned {what}, which is not a number: {said}") from None
    if number != number or number == -math.inf:
        raise TuningError(
            f"objective={name!r} returned {number} on finite samples: it must be a number, smaller is better"
        )
    return number


def checkpointed(model: Model) -> Model:
    """The model with its activations made again in the backward pass instead of kept."""
    if isinstance(model.net, _Checkpointed):
        return model
    return replace(model, net=_Checkpointed(model.net))


class _Checkpointed:
    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self, *inputs: Any, **conditioning: Any) -> Any:
        return checkpoint(self.net, *inputs, use_reentrant=False, **conditioning)


def check_times_move(model: Model) -> None:
    """Refuse a network that takes integer times only.

    Raises:
        TuningError: it is one.
    """
    if model.integer_times:
        raise TuningError("model.integer_times=True: a gradient tuner moves times; take a black-box tuner")


def check_differentiable(model: Model, starts: Starts) -> None:
    """Refuse a model through which no gradient passes.

    Raises:
        NotDifferentiableError: the network breaks the graph.
    """
    one = starts.first(2)
    x = one.normals.detach().clone().requires_grad_(True)
    t = (as_tensor(model.process.t_start) + as_tensor(model.process.t_end)) / 2
    try:
        with torch.enable_grad():
            out = model(x, t=float(t.round() if model.integer_times else t), **one.conditioning)[0]
            kept = bool(out.requires_grad) and torch.autograd.grad(out.sum(), x, allow_unused=True)[0] is not None
    except (RuntimeError, PlanError) as error:
        raise NotDifferentiableError(f"model: its gradient fails ({error}); take a black-box tuner") from error
    if not kept:
        raise NotDifferentiableError(
            "model: its output carries no gradient of its input (a network under torch.no_grad, or one of NumPy?); a gradient "
            "tuner needs one: take a black-box tuner"
        )


def _first(conditioning: Mapping[str, Any], count: int, of: int) -> Mapping[str, Any]:
    return {
        name: value[:count] if isinstance(value, Tensor) and value.shape[:1] == (of,) else value
        for name, value in conditioning.items()
    }


def make_starts(
    model: Model, seeds: Sequence[int], conditioning: Mapping[str, Any], held_out: bool, dtype: torch.dtype, device: Any
) -> Starts:
    """Unit normals of seeds, the ones that `urn.sample` would start from."""
    like = torch.empty((len(seeds), *(model.shape or ())), dtype=dtype, device=device)
    t = float(as_tensor(model.process.t_start))
    return Starts(SeededNoise(tuple(seeds)).normal((t, t), 0, like), tuple(seeds), conditioning, held_out)
