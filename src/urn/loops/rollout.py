"""rollout: a run of a plan as a sequence of random transitions, each with its mean, std and log-density.

The sum that first reads a noise is its noisy row: given what came before, its value has the law N(mean, std^2 I), mean the
rest of the sum. Whatever reads that noise later is deterministic given the noisy row. So a run of a plan is a path

    log p(path | start) = sum over noisy rows of log N(value; mean, std^2 I)

in which every log-density is a sum over the sample's dimensions, never a mean. The values are data: with `gradients`, each
mean depends on the model's parameters through what is computed since the noisy row before, whose value is held fixed, so the
gradient of the log-density is that of the policy (Black et al. 2024, arXiv 2305.13301; Liu et al. 2025, arXiv 2505.05470).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from urn.arithmetic import weighted_sum
from urn.model import Model
from urn.noise import NoiseSource, StructuredNoise
from urn.plan import Apply, Array, Combine, Evaluate, Node, Noise, PlanError, Register, Row, Rows
from urn.sampling import sample


@dataclass(frozen=True)
class Transition:
    """One noisy row of a run.

    Attributes:
        step: the plan's step that it belongs to.
        register: the register that it makes.
        node: where its value stands, None where it is no state.
        mean: (B, *S).
        std: of every element, a number or a tensor that broadcasts against the state.
        value: what was drawn, (B, *S); it carries no gradient.
        log_density: log N(value; mean, std^2 I), (B,), a sum over dimensions.
    """

    step: int
    register: Register
    node: Node | None
    mean: Tensor
    std: float | Tensor
    value: Tensor
    log_density: Tensor


@dataclass(frozen=True)
class Rollout:
    """A run of a plan: the samples `x`, the states `start` it began with, and its transitions in order."""

    x: Tensor
    start: Tensor
    transitions: tuple[Transition, ...]

    @property
    def log_density(self) -> Tensor:
        """Of the whole path given its start, (B,).

        Raises:
            PlanError: the plan has no noise, so its path has no density.
        """
        if not self.transitions:
            raise PlanError("the plan has no noisy row: its path is deterministic and has no density")
        return torch.stack([one.log_density for one in self.transitions]).sum(0)

    def of_step(self, step: int) -> tuple[Transition, ...]:
        """The transitions of a step of the plan.

        Raises:
            PlanError: the step has no noise, so it has no mean, std or log-density.
        """
        found = tuple(one for one in self.transitions if one.step == step)
        if not found:
            steps = ", ".join(map(str, dict.fromkeys(one.step for one in self.transitions))) or "none"
            raise PlanError(f"step {step} draws no noise: it has no log-density; steps that do: {steps}")
        return found


def rollout(
    plan: Rows,
    model: Model,
    shape: Sequence[int] | None = None,
    *,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    start: Tensor | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    noise: str | NoiseSource = "seeded",
    conditioning: Mapping[str, Any] | None = None,
    path: Rollout | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    gradients: bool = False,
) -> Rollout:
    """Run a plan and keep the mean, std and log-density of each of its noisy rows.

    Args:
        plan: a compiled plan.
        model: the model.
        shape, seed, seeds, start, inputs, noise, conditioning, dtype, device: as in `urn.sample`; the samples are the same to
            rounding.
        path: an earlier run of the same plan, with this or another model: its start and values are taken, nothing is
            drawn, and their means and log-densities under this model are returned. That is what ratios of policies need.
        gradients: keep the graph, so that log-densities can be differentiated in the network's parameters.

    Raises:
        PlanError: a noise reaches the state through a map of its own instead of a sum, or two noises of one noisy row are
            read again later, so that there is no density in closed form; or `path` is of another plan.
        ValueError: an argument is wrong; see `urn.sample`.

    Example:
        >>> run = rollout(compile_plan("flow_grpo", Flow(), 8), model, shape=(4, 2))
        >>> run.log_density.shape
        torch.Size([4])
    """
    if not isinstance(plan, Rows):
        raise ValueError(f"plan={plan!r} must be a compiled plan: urn.compile_plan(method, process, steps)")
    if isinstance(noise, StructuredNoise):
        raise ValueError(f"noise: log-densities are those of independent noise; {type(noise).__name__} is not")
    noisy = _noisy_rows(plan)
    transitions: list[Transition] = []
    begun: list[Tensor] = []

    def look(row: Row, registers: Any) -> None:
        if not begun:
            begun.append(registers["x"].detach())
        if isinstance(row, Combine) and row.out in noisy:
            given = None if path is None else path.transitions[len(transitions)].value
            one = _transition(row, noisy[row.out], registers, given)
            transitions.append(one)
            registers[row.out] = one.value
            if len(fresh := noisy[row.out]) == 1 and (gradients or given is not None):
                weight = _number({r: w for w, r in row.weights}[fresh[0]], one.value)
                of_value = (one.mean.detach() if given is None else one.value) - one.mean
                kept = (
                    registers[fresh[0]] if given is None else 0.0
                )  # a drawn noise keeps its bits, and gains its gradient
                registers[fresh[0]] = kept + of_value / weight

    if path is not None:
        _check_path(noisy, path)
        start, noise = path.start, _Nothing()
    x = sample(
        model,
        plan,
        shape,
        seed=seed,
        seeds=seeds,
        start=start,
        inputs=inputs,
        noise=noise,
        conditioning=conditioning,
        dtype=dtype,
        device=device,
        watch=look,
        gradients=gradients,
    )
    return Rollout(x, begun[0], tuple(transitions))


class _Nothing:
    """A noise source for paths that are given: its zeros are replaced by what the path's values say."""

    def normal(self, interval: tuple[float, float], stream: int, like: Any) -> Any:
        """See `urn.noise.NoiseSource`."""
        return torch.zeros_like(like)


def _noisy_rows(plan: Rows) -> dict[Register, list[Register]]:
    """The register of every noisy row, and the noises that it is the first to read."""
    unread: set[Register] = set()
    noisy: dict[Register, list[Register]] = {}
    shared: set[Register] = set()  # noises of rows with several, which such a row's value does not tell apart
    for row in plan.rows:
        fresh = [register for register in row.reads if register in unread]
        if isinstance(row, Noise):
            unread.add(row.out)
        elif fresh and isinstance(row, (Apply, Evaluate)):
            what = row.function if isinstance(row, Apply) else "a model call"
            raise PlanError(f"step {row.step}: noise {fresh[0]} goes through {what}, so its row has no mean and std")
        elif fresh and isinstance(row, Combine):
            noisy[row.out] = fresh
            shared.update(fresh if len(fresh) > 1 else [])
        if again := [register for register in row.reads if register in shared and register not in fresh]:
            raise PlanError(
                f"step {row.step}: noise {again[0]} was first read together with another, and is read again"
            )
        unread.difference_update(fresh)
    return noisy


def _transition(row: Combine, fresh: list[Register], registers: Any, given: Tensor | None) -> Transition:
    rest = tuple((weight, register) for weight, register in row.weights if register not in fresh)
    drawn = registers[row.out]
    mean = weighted_sum(rest, registers) if rest else torch.zeros_like(drawn)
    stds = [_number(weight, drawn) for weight, register in row.weights if register in fresh]
    std: Any = abs(stds[0]) if len(stds) == 1 else sum(one**2 for one in stds) ** 0.5
    value = (drawn if given is None else given).detach()
    wide = value.double() if value.dtype == torch.float64 else value.float()
    spread = torch.as_tensor(std, dtype=wide.dtype, device=wide.device)
    terms = -(((wide - mean.to(wide.dtype)) / spread) ** 2) / 2 - torch.log(spread) - math.log(2 * math.pi) / 2
    return Transition(row.step, row.out, row.node, mean, std, value, terms.expand_as(wide).flatten(1).sum(1))


def _number(weight: Any, like: Tensor) -> float | Tensor:
    if isinstance(weight, (int, float)):
        return float(weight)
    raw = torch.tensor(weight.values) if isinstance(weight, Array) else weight
    return raw.to(device=like.device, dtype=like.dtype)


def _check_path(noisy: Mapping[Register, Any], path: Rollout) -> None:
    if (registers := [one.register for one in path.transitions]) != list(noisy):
        raise PlanError(
            f"path: its noisy rows make {registers}, those of this plan {list(noisy)}: it is of another plan"
        )
