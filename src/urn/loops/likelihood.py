"""The log-density of data under a model, by carrying it along the probability flow.

With v the flow's velocity, d log p_t(x_t)/dt = -div v(x_t, t) along a trajectory, so from data at t_end to noise at t_start

    log p(x) = log N(x_start; 0, std^2 I) + int div v dt.

State and log-density are one value with + and *, and a plan of `probability_flow_rk4` (or Heun, or Euler) that runs on such
values integrates both with the same weights: the ordinary executor does it.

Sources: Chen et al. 2018, Neural Ordinary Differential Equations, arXiv 1806.07366; Song et al. 2021, arXiv 2011.13456,
section 4.3; the estimator of the divergence: Hutchinson 1990; Grathwohl et al. 2019, FFJORD, arXiv 1810.01367.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from urn.compiler import compile_plan
from urn.executor import execute
from urn.grids import GridLike, grid_times
from urn.model import Model
from urn.noise import SeededNoise, check_seeds, sample_seeds
from urn.plan import Node
from urn.prediction import conversion
from urn.processes import with_side_input


@dataclass(frozen=True)
class Carried:
    """A state (B, *S) and the change of its log-density (B,), added and multiplied together."""

    x: Tensor
    log_density: Tensor

    def __add__(self, other: Carried) -> Carried:
        return Carried(self.x + other.x, self.log_density + other.log_density)

    def __mul__(self, factor: float) -> Carried:
        return Carried(self.x * factor, self.log_density * factor)


def log_likelihood(
    model: Model,
    x: Tensor,
    steps: int = 100,
    *,
    grid: GridLike = "lambda",
    method: str = "probability_flow_rk4",
    probes: int | None = None,
    seeds: Sequence[int] | None = None,
    prior: Callable[[Tensor], Tensor] | None = None,
    conditioning: Mapping[str, Any] | None = None,
) -> Tensor:
    """log p(x) in nats, (B,): of the law that the model's probability flow gives at the grid's data end.

    Args:
        model: the model; its network is differentiated.
        x: data, (B, *S), at the grid's last time (by default the data end of `t_finite`, so add that little noise to data,
            or divide by its alpha, where it matters).
        steps, grid: of the integration; the grid is walked from its data end to its noise end.
        method: "probability_flow", "probability_flow_heun" or "probability_flow_rk4".
        probes: None for the exact divergence, d gradients per evaluation; else the number of random signs of Hutchinson's
            unbiased estimator.
        seeds: of the probes, one per sample.
        prior: log-density at the noise end, (B, *S) -> (B,); by default that of N(0, process.prior_std^2).

    Raises:
        ValueError: the method is no probability flow in t, or probes is below 1.

    Example:
        >>> bits_per_dimension = -log_likelihood(model, x) / (x[0].numel() * math.log(2))
    """
    if not method.startswith("probability_flow"):
        raise ValueError(f"method={method!r} must be probability_flow, probability_flow_heun or probability_flow_rk4")
    if probes is not None and probes < 1:
        raise ValueError(f"probes={probes!r} must be None or at least 1")
    process = model.process
    if with_side_input(process) is not None:
        raise ValueError(f"{process} has a side input, which likelihoods do not carry")
    times = grid_times(process, steps, grid).flip(0)
    plan = compile_plan(method, process, grid=times)
    signs = _signs(x, probes, seeds)

    def net(state: Carried, t: float) -> Carried:
        value = state.x.detach().requires_grad_()
        with torch.enable_grad():
            output = model(value, t=t, **(conditioning or {}))[0]
            node = Node(t, float(process.alpha(t)), float(process.sigma(t)))
            on_x, on_output = conversion(model.outputs[0], "velocity", node, process)
            velocity = on_x * value + on_output * output
            divergence = _divergence(velocity, value, signs)
        return Carried(velocity.detach(), divergence)

    carrier = Model(net, process, predicts="velocity")
    end = execute(plan, carrier, {"x": Carried(x, torch.zeros(len(x), dtype=x.dtype, device=x.device))})["x"]
    if prior is not None:
        return torch.add(prior(end.x), end.log_density)
    std = float(process.prior_std(times[-1]))
    flat = end.x.flatten(1) / std
    normal = -(flat**2).sum(1) / 2 - flat.shape[1] * math.log(std * math.sqrt(2 * math.pi))
    return torch.add(normal, end.log_density)


def _signs(x: Tensor, probes: int | None, seeds: Sequence[int] | None) -> list[Tensor]:
    """Random signs for Hutchinson's estimator, the same through a whole trajectory; none for the exact divergence."""
    chosen = sample_seeds(0, len(x)) if seeds is None else check_seeds("seeds", seeds)
    source = SeededNoise(chosen)
    return [torch.sign(source.normal((0.0, 0.0), probe, x)) for probe in range(probes or 0)]


def _divergence(velocity: Tensor, x: Tensor, signs: list[Tensor]) -> Tensor:
    """sum_i dv_i/dx_i of every sample, or the mean over probes e of e . J e, whose expectation it is."""
    if signs:
        parts = [torch.autograd.grad(velocity, x, e, retain_graph=True)[0] * e for e in signs]
        return torch.stack(parts).mean(0).flatten(1).sum(1)
    flat = velocity.flatten(1)
    rows = (torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0] for i in range(flat.shape[1]))
    return torch.stack([row.flatten(1)[:, i] for i, row in enumerate(rows)]).sum(0)
