"""The pass over a model that gives DPM-Solver-v3 its statistics: derivatives of the model at sampled states, averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from urn.coefficients.model_statistics import Curve, ModelStatistics
from urn.model import Model
from urn.plan import Node
from urn.prediction import conversion
from urn.processes import Process

FLAT = 1e-12  # a variance of f below this share of that of x/alpha is rounding


def model_statistics(
    model: Model,
    lambdas: Any,
    states: Tensor,
    *,
    probes: int | None = 1,
    seed: int = 0,
    conditioning: Mapping[str, Any] | None = None,
) -> ModelStatistics:
    """Measure l, s and b of a model, by forward derivatives at sampled states.

    With f = (sigma epsilon - l x)/alpha and f' its derivative in lambda along the probability flow,

        l = E[diag(sigma d epsilon/dx)],   s = cov(f, f')/var(f),   b = E[f'] - s E[f],

    coordinate by coordinate: l makes f change least with x, s f + b is the linear regression of f' on f. Where f does not
    change with the state s is 0. It takes probes + 1 derivatives of the model per state.

    Args:
        model: a network with forward-mode derivatives in x and t.
        lambdas: (K,), increasing, finite; they should reach from the grid's first to its last.
        states: (K, N, *S), states[i] of the law at lambdas[i] (`noised_states`), at least 2.
        probes: random sign vectors v per state, with which the diagonal is that of v (J v); None for the exact diagonal, by one
            derivative per coordinate.
        seed: of the sign vectors, the same at every lambda: what is random in the statistics then changes smoothly.
        conditioning: keyword arguments for the network.

    Raises:
        ValueError: shapes that do not fit, fewer than two states, or a network that takes integer times.

    Source: Zheng, Lu, Chen & Zhu 2023, DPM-Solver-v3, arXiv 2310.13268, equations 7, 10, appendix C.

    Example:
        >>> statistics = model_statistics(model, lambdas, noised_states(model.process, data, lambdas))
        >>> plan = compile_plan("dpm_solver_v3", model.process, 8, statistics=statistics)
    """
    knots = torch.as_tensor(lambdas, dtype=torch.float64, device="cpu")
    if knots.ndim != 1 or states.ndim < 2 or len(states) != len(knots) or states.shape[1] < 2:
        raise ValueError(
            f"states={tuple(states.shape)} must be (K, N, *S) with N at least 2, for K = {len(knots)} lambdas"
        )
    if probes is not None and (isinstance(probes, bool) or not isinstance(probes, int) or probes < 1):
        raise ValueError(f"probes={probes!r} must be None or an integer of at least 1")
    if model.integer_times:
        raise ValueError("model.integer_times=True must be False: its derivative in time is needed")
    given = dict(conditioning or {})
    diagonal, parts = [], []
    for l, x in zip(knots, states, strict=True):
        at = _Level(model, float(l), given)
        diagonal.append(at.diagonal(x, probes, seed))
        parts.append(at.parts(x))
    slopes = Curve(knots.numpy(), torch.stack(diagonal).numpy()).slope(knots)
    fits = [_regression(l, slope, *part) for l, slope, part in zip(diagonal, slopes, parts, strict=True)]
    s, b = (torch.stack(values) for values in zip(*fits, strict=True))
    return ModelStatistics(knots, torch.stack(diagonal), s, b)  # type: ignore[arg-type]


def noised_states(process: Process, data: Tensor, lambdas: Any, seed: int = 0) -> Tensor:
    """States of the forward process at each lambda, (K, N, *S), from data (N, *S).

    On a model that is exact for the data's law they have the law of the model's own trajectories. A sample has one noise at
    all lambdas, so that statistics of a finite number of states change smoothly with lambda.
    """
    t = process.t_of_lambda(torch.as_tensor(lambdas, dtype=torch.float64))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(data.shape, generator=generator, dtype=torch.float64).to(data)
    alpha, sigma = (weight(t).to(data).reshape(-1, *[1] * data.ndim) for weight in (process.alpha, process.sigma))
    return alpha * data + sigma * noise


class _Level:
    """A model at one lambda."""

    def __init__(self, model: Model, l: float, conditioning: dict[str, Any]) -> None:
        self.model, self.conditioning = model, conditioning
        process = model.process
        self.t = process.t_of_lambda(torch.tensor(l, dtype=torch.float64))
        self.alpha, self.sigma = float(process.alpha(self.t)), float(process.sigma(self.t))
        d_alpha, d_sigma = (float(slope) for slope in process.velocity_weights(self.t))
        t_slope = 1 / (d_alpha / self.alpha - d_sigma / self.sigma)  # dt/dlambda
        self.t_slope, self.alpha_slope, self.sigma_slope = t_slope, d_alpha * t_slope, d_sigma * t_slope

    def epsilon(self, x: Tensor, t: Tensor) -> Tensor:
        process = self.model.process
        node = Node(t, process.alpha(t), process.sigma(t))
        on_x, on_output = conversion(self.model.outputs[0], "epsilon", node, process)
        output = self.model(x, t=t, **self.conditioning)[0]
        sum_: Tensor = _cast(on_x, x) * x + _cast(on_output, x) * output
        return sum_

    def derivative(self, x: Tensor, along: Tensor, in_time: float = 0.0) -> tuple[Tensor, Tensor]:
        """epsilon, and its derivative along a change of x and of t."""
        with torch.no_grad(), forward_ad.dual_level():
            moving = forward_ad.make_dual(x, along)  # type: ignore[no-untyped-call]
            t = forward_ad.make_dual(self.t, torch.full_like(self.t, in_time)) if in_time else self.t  # type: ignore[no-untyped-call]
            value, tangent = forward_ad.unpack_dual(self.epsilon(moving, t))  # type: ignore[no-untyped-call]
            return value, torch.zeros_like(value) if tangent is None else tangent

    def diagonal(self, x: Tensor, probes: int | None, seed: int) -> Tensor:
        """sigma diag(d epsilon/dx), averaged over states and probes, (*S)."""
        shape = x.shape[1:]
        if probes is None:
            each = torch.eye(math.prod(shape), dtype=x.dtype, device=x.device).reshape(-1, *shape)
            found = [(v * self.derivative(x, v.expand_as(x).clone())[1].double().mean(0)) for v in each]
            return self.sigma * torch.stack(found).sum(0).double().cpu()
        generator, total = torch.Generator().manual_seed(seed), torch.zeros(shape, dtype=torch.float64)
        for _ in range(probes):
            v = (2 * torch.randint(0, 2, x.shape, generator=generator) - 1).to(x)
            total += (v * self.derivative(x, v)[1]).double().mean(0).cpu()
        return self.sigma * total / probes

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Means, variances and covariances over states of rho epsilon, rho epsilon' and x/alpha, rho = sigma/alpha.

        They give those of f and f' for any l, so that the states need not be kept until l's slope is known.
        """
        with torch.no_grad():
            epsilon = self.epsilon(x, self.t)
        x0 = (x - self.sigma * epsilon) / self.alpha
        flow = self.alpha_slope * x0 + self.sigma_slope * epsilon
        _, epsilon_slope = self.derivative(x, flow, self.t_slope)
        rho = self.sigma / self.alpha
        stacked = torch.stack([rho * epsilon, rho * epsilon_slope, x / self.alpha]).double()
        means = stacked.mean(1)
        centred = stacked - means.unsqueeze(1)
        return means.cpu(), torch.einsum("an...,bn...->ab...", centred, centred).cpu() / x.shape[0]


def _regression(l: Tensor, slope: Tensor, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    """s and b from f = rho epsilon - l x/alpha, f' = rho (epsilon' - (1 - l) epsilon) - l' x/alpha.

    For d(x/alpha)/dlambda = -rho epsilon and rho' = -rho.
    """
    one, zero = torch.ones_like(l), torch.zeros_like(l)
    f, f_slope = torch.stack([one, zero, -l]), torch.stack([l - 1, one, -slope])
    with_f = (covariances * f.unsqueeze(0)).sum(1)
    variance, covariance = (f * with_f).sum(0), (f_slope * with_f).sum(0)
    varies = variance > FLAT * covariances[2, 2]
    s = torch.where(varies, covariance / torch.where(varies, variance, one), zero)
    return s, (f_slope * means).sum(0) - s * (f * means).sum(0)


def _cast(number: Any, like: Tensor) -> Any:
    return number.to(like) if isinstance(number, Tensor) else number
