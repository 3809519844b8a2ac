"""Denoising MCMC: chains in the product of data and noise level, whose states are denoised by the rest of a plan.

On y = x/alpha with rho = sigma/alpha, a chain's state (y, i) has the law p(i) p_i(y), p_i that of y0 + rho_i epsilon and p(i)
the weights of a finite set of levels. A sweep is Gibbs sampling, with a few Langevin steps in place of an exact draw of y:

    y <- y + (h_i/2) s(y, rho_i) + sqrt(h_i) z,    s = -epsilon/rho         `langevin_steps` times, h_i the step at level i
    i ~ p(i | y), from a classifier of levels or in closed form

A state at a high level walks between modes and one at a low level is nearly clean, so a chain stays near the data, and every
few sweeps its state is denoised from the level where it is: by the plan that starts there, all states of a level together.
The Langevin steps are not corrected, so the law is off by terms of order h_i / rho_i^2. The published code also denoises the
state of lowest level among those since the last, and takes the classifier's likeliest level: both change the law, and neither
is done here.

Source: Kim & Ye 2022, Denoising MCMC for Accelerating Diffusion-Based Generative Models, arXiv 2209.14593, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from urn.arithmetic import weighted_sum
from urn.executor import execute
from urn.model import Model
from urn.noise import SeededNoise, check_seeds, sample_seeds
from urn.plan import Array, Evaluate, Node, Plan
from urn.prediction import fold
from urn.processes import Process, with_side_input
from urn.sampling import SamplingError, SamplingInterrupted, progress_bar

LevelPosterior = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Chains:
    """Where chains are: y = x/alpha (B, *S), the levels (B,), and how many sweeps they have made."""

    y: Tensor
    level: Tensor
    sweeps: int = 0


@dataclass(frozen=True)
class DenoisedChains:
    """What denoising MCMC gives: `emissions` samples of each of B chains.

    Attributes:
        x: the samples, (B, emissions, *S).
        level: the level that each was denoised from, (B, emissions).
        nfe: model calls for each: the chain's since the last one (burn-in counts to the first), and the plan's.
        chains: where the chains are now; pass them as `start` to go on, bit for bit as if there had been no stop.
    """

    x: Tensor
    level: Tensor
    nfe: Tensor
    chains: Chains

    @property
    def mean_nfe(self) -> float:
        """Model calls per sample."""
        return float(self.nfe.double().mean())

    def autocorrelation(self, statistic: Callable[[Tensor], Tensor]) -> Tensor:
        """Of statistic(x), (n, *S) -> (n,), between samples 0, 1, ... emissions of a chain apart, (emissions,) from 1 down.

        Means and variance are taken over all chains and samples.
        """
        chains, count = self.level.shape
        values = statistic(self.x.flatten(0, 1)).double().reshape(chains, count)
        centred = values - values.mean()
        products = [(centred[:, : count - lag] * centred[:, lag:]).mean() for lag in range(count)]
        return torch.stack(products) / products[0]


class ChainsInterrupted(SamplingInterrupted):
    """The chains were interrupted; `result` holds what was drawn, and the chains to go on from, None if nothing was."""

    def __init__(self, result: DenoisedChains | None) -> None:
        super().__init__(None if result is None else result.x)
        self.result = result


class Dense(Protocol):
    """A target with a density at every noise level."""

    def log_density(self, x: Tensor, process: Process, t: float) -> Tensor: ...


def exact_level_posterior(
    target: Dense, plans: Sequence[Plan], weights: Sequence[float] | None = None
) -> LevelPosterior:
    """log p(i) p_i(y), up to what all levels share, as a function of y (B, *S) -> (B, levels), of a closed form.

    Args:
        target: of `urn.exact`, with a log-density.
        plans: one for each level, as in `denoising_mcmc`.
        weights: p(i), positive; equal by default. The chain's levels have this law, so it sets the mean cost of a sample.

    Raises:
        ValueError: other weights.
    """
    prior = torch.ones(len(plans), dtype=torch.float64) if weights is None else torch.as_tensor(weights).double()
    if prior.shape != (len(plans),) or not bool((prior > 0).all()):
        raise ValueError(f"weights={weights!r} must be {len(plans)} positive numbers, one per level")
    levels = [_first_node(plan) for plan in plans]

    def log_posterior(y: Tensor) -> Tensor:
        volume = math.prod(y.shape[1:])
        parts = [
            target.log_density(node.alpha * y.double(), plan.process, node.t) + volume * math.log(node.alpha)
            for node, plan in zip(levels, plans, strict=True)
        ]
        return torch.stack(parts, 1) + torch.log(prior).to(y.device)

    return log_posterior


def denoising_mcmc(
    model: Model,
    plans: Sequence[Plan],
    level_posterior: LevelPosterior,
    start: Tensor | Chains,
    emissions: int,
    *,
    step: float | Sequence[float],
    sweeps: int = 1,
    langevin_steps: int = 1,
    burn_in: int = 0,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    conditioning: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> DenoisedChains:
    """Run B chains, and denoise the state of each every `sweeps` sweeps.

    Args:
        model: the model, of any process without a side input.
        plans: one for each level, which is the plan's first node; with 0 < sigma/alpha < inf there, and one end for all.
            `[urn.compile_plan("heun", process, grid=times[i:]) for i in range(len(times) - 1)]` has a grid's points as levels.
        level_posterior: y = x/alpha (B, *S) -> log-probabilities of the levels (B, len(plans)), up to a constant of each row:
            a trained classifier of noise levels, or `exact_level_posterior`.
        start: states x at the level of plans[0], (B, *S); or `Chains` to go on with.
        emissions: samples from each chain.
        step: h, a positive number for all levels, as published, or one for each. Stable below 4 (rho_i^2 + the variance
            of the data in any direction).
        sweeps: between samples; langevin_steps: in a sweep, one model call each; burn_in: sweeps before the first ones.
        seed, seeds: as in `urn.sample`, one per chain: a chain's noise does not depend on the others.
        conditioning: keyword arguments for the network; tensors whose first size is B are split with the chains.
        progress: show a bar, one tick per sample of every chain.

    Raises:
        ValueError: an argument is wrong; nothing was drawn.
        SamplingError: a chain or a sample became nan or infinite; it keeps what was drawn.
        ChainsInterrupted: a KeyboardInterrupt came; it keeps the samples that were finished, and the chains.

    Example:
        >>> posterior = exact_level_posterior(target, plans)
        >>> run = denoising_mcmc(target.model(process), plans, posterior, start, 10, step=0.1, sweeps=4, burn_in=50)
        >>> run.x.shape, run.mean_nfe
    """
    levels = _checked_levels(model, plans)
    steps = _checked_steps(step, len(plans))
    for name, value, least in (
        ("emissions", emissions, 1),
        ("sweeps", sweeps, 1),
        ("langevin_steps", langevin_steps, 1),
        ("burn_in", burn_in, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
    chains = _checked_start(start, levels)
    count = len(chains.level)
    own = sample_seeds(seed, count) if seeds is None else check_seeds("seeds", seeds)
    if len(own) != count:
        raise ValueError(f"seeds: {len(own)} given for {count} chains; one each is needed")
    given = dict(conditioning or {})
    sweep = _Sweep(model, levels, steps, level_posterior, langevin_steps, SeededNoise(own), given)
    done: tuple[list[tuple[Tensor, Tensor, Tensor]], Chains] = (
        [],
        chains,
    )  # replaced at once, so an interrupt tears nothing
    try:
        with torch.no_grad(), progress_bar(progress, emissions, "sample") as bar:
            for emission in range(emissions):
                due = sweeps + (burn_in if emission == 0 else 0)
                for _ in range(due):
                    chains = sweep(chains)
                x, nfe = _denoised(model, plans, levels, chains, own, given)
                done = ([*done[0], (x, chains.level, nfe + due * langevin_steps)], chains)
                _check_finite(*done)
                if bar is not None:
                    bar.update()
    except KeyboardInterrupt:
        raise ChainsInterrupted(_result(*done) if done[0] else None) from None
    return _result(*done)


@dataclass(frozen=True)
class _Sweep:
    """One sweep of all chains, and what it needs."""

    model: Model
    levels: tuple[Node, ...]
    steps: Tensor
    level_posterior: LevelPosterior
    langevin_steps: int
    source: SeededNoise
    conditioning: Mapping[str, Any]

    def __call__(self, chains: Chains) -> Chains:
        y, level, when = chains.y, chains.level, (float(chains.sweeps), float(chains.sweeps))
        column = (len(y), *[1] * (y.ndim - 1))
        t, alpha, sigma = (_picked(self.levels, name, level).reshape(column) for name in ("t", "alpha", "sigma"))
        node, step = Node(t, alpha, sigma), self.steps[level.cpu()].reshape(column)
        row = Evaluate((("epsilon", "epsilon"),), ("x",), t, node)
        terms = fold("epsilon", row, self.model.process, self.model.outputs)
        for place in range(self.langevin_steps):
            x = weighted_sum(((alpha, "y"),), {"y": y})
            outputs = self.model(x, t=t, **self.conditioning)
            values = {"x": x, **{f"output {i}": output for i, output in enumerate(outputs)}}
            epsilon = weighted_sum(terms, values)
            z = self.source.normal(when, 1 + place, y)
            weights = ((1.0, "y"), (-step / 2 * alpha / sigma, "epsilon"), (step.sqrt(), "z"))
            y = weighted_sum(weights, {"y": y, "epsilon": epsilon, "z": z})
        return Chains(y, self._drawn(y, when), chains.sweeps + 1)

    def _drawn(self, y: Tensor, when: tuple[float, float]) -> Tensor:
        """Levels from their posterior given y, by inverting its distribution function at one uniform per chain."""
        logs = self.level_posterior(y)
        if not isinstance(logs, Tensor) or logs.shape != (len(y), len(self.levels)):
            what = tuple(logs.shape) if isinstance(logs, Tensor) else type(logs).__name__
            raise ValueError(
                f"level_posterior returned {what}; allowed: log-probabilities ({len(y)}, {len(self.levels)})"
            )
        sums = logs.double().softmax(1).cumsum(1)
        uniform = torch.special.ndtr(self.source.normal(when, 0, sums[:, :1]))
        drawn: Tensor = (uniform * sums[:, -1:] >= sums).sum(1).clamp(max=len(self.levels) - 1)
        return drawn


def _denoised(
    model: Model,
    plans: Sequence[Plan],
    levels: Sequence[Node],
    chains: Chains,
    seeds: Sequence[int],
    conditioning: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """The chains' states through the plans of their levels, and those plans' model calls."""
    x, nfe = torch.empty_like(chains.y), torch.zeros(len(chains.y), dtype=torch.long)
    for level in sorted(set(chains.level.tolist())):
        here = (chains.level == level).nonzero().flatten()
        begun = weighted_sum(((levels[level].alpha, "y"),), {"y": chains.y[here]})
        fresh = [sample_seeds(seeds[i], 1, first=chains.sweeps)[0] for i in here.tolist()]
        split = {
            name: value[here.to(value.device)]
            if isinstance(value, Tensor) and value.shape[:1] == (len(chains.y),)
            else value
            for name, value in conditioning.items()
        }
        x[here] = execute(plans[level], model, {"x": begun}, SeededNoise(fresh), conditioning=split)["x"]
        nfe[here.cpu()] = plans[level].nfe
    return x, nfe


def _result(found: Sequence[tuple[Tensor, Tensor, Tensor]], chains: Chains) -> DenoisedChains:
    x, level, nfe = (torch.stack(part, 1) for part in zip(*found, strict=True))
    return DenoisedChains(x, level, nfe, chains)


def _check_finite(found: Sequence[tuple[Tensor, Tensor, Tensor]], chains: Chains) -> None:
    good = [torch.isfinite(value).flatten(1).all(1) for value in (chains.y, found[-1][0])]
    for finite, what in zip(good, ("state", "sample"), strict=True):
        if not bool(finite.all()):
            bad = (~finite).nonzero().flatten()
            samples = torch.stack([x for x, *_ in found], 1)
            where = f"{len(bad)} of {len(finite)} chains (first: {int(bad[0])})"
            raise SamplingError(
                f"the {what} of {where} is not finite after {chains.sweeps} sweeps; a smaller step may help",
                samples,
                torch.isfinite(samples).flatten(2).all(2),
            )


def _picked(levels: Sequence[Node], name: str, level: Tensor) -> Tensor:
    """A number of the levels for each chain, (B,), float64 on the CPU."""
    return torch.tensor([getattr(node, name) for node in levels], dtype=torch.float64)[level.cpu()]


def _first_node(plan: Plan) -> Node:
    node = dict(plan.inputs)["x"].node
    if node is None or isinstance(node.t, Array):
        raise ValueError("plans: each must start from a state at one time")
    return node


def _checked_levels(model: Model, plans: Sequence[Plan]) -> tuple[Node, ...]:
    if not plans or not all(isinstance(plan, Plan) for plan in plans):
        raise ValueError("plans must be compiled plans, one for each level, at least one")
    if with_side_input(model.process) is not None:
        raise ValueError(f"{model.process} has a side input, which denoising MCMC does not carry")
    levels = tuple(_first_node(plan) for plan in plans)
    for place, (plan, node) in enumerate(zip(plans, levels, strict=True)):
        if plan.process != model.process:
            raise ValueError(f"plans[{place}] is for {plan.process}, the model is of {model.process}")
        if node.alpha == 0 or node.sigma == 0:
            raise ValueError(f"plans[{place}] starts at t={node.t:g}, where sigma/alpha is not positive and finite")
        if plan.outputs[0][2].t != plans[0].outputs[0][2].t:
            ends = plans[0].outputs[0][2].t, plan.outputs[0][2].t
            raise ValueError(
                f"plans: the first ends at t={ends[0]:g}, plans[{place}] at {ends[1]:g}; one end is needed"
            )
        model.check_time(node.t)
    return levels


def _checked_steps(step: float | Sequence[float], count: int) -> Tensor:
    steps = torch.as_tensor(step, dtype=torch.float64)
    if steps.shape not in [(), (count,)] or not bool(((steps > 0) & steps.isfinite()).all()):
        raise ValueError(f"step={step!r} must be a positive number, or {count} of them, one per level")
    return steps.expand(count)


def _checked_start(start: Tensor | Chains, levels: Sequence[Node]) -> Chains:
    if isinstance(start, Chains):
        if bool(((start.level < 0) | (start.level >= len(levels))).any()):
            raise ValueError(f"start: levels {start.level.tolist()}; allowed: 0 to {len(levels) - 1}")
        return start
    if not isinstance(start, Tensor) or not start.dtype.is_floating_point or start.ndim < 2:
        raise ValueError("start must be a floating-point tensor of shape (B, *S), or Chains")
    return Chains(start / levels[0].alpha, torch.zeros(len(start), dtype=torch.long, device=start.device))
