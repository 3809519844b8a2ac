"""The loss of a network that predicts v, at times spread over both t and lambda."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from urn.processes import Process


def v_loss(net: nn.Module, process: Process, x0: Tensor, label: Tensor, t: Tensor) -> Tensor:
    """The mean of |net(x_t, t, label) - v|^2 with x_t = alpha x0 + sigma epsilon, v = alpha epsilon - sigma x0.

    epsilon comes from torch's own generator.

    Args:
        net: called as net(x, t, label).
        process: gives alpha and sigma.
        x0: clean data, (B, *S).
        label: (B,) classes.
        t: (B,) times.

    Source: Salimans & Ho 2022, Progressive Distillation for Fast Sampling of Diffusion Models, arXiv 2202.00512, section 4.
    """
    shape = (-1, *[1] * (x0.ndim - 1))
    alpha, sigma = process.alpha(t).to(x0).view(shape), process.sigma(t).to(x0).view(shape)
    epsilon = torch.randn_like(x0)
    output: Tensor = net(alpha * x0 + sigma * epsilon, t.to(x0), label)
    return (output - (alpha * epsilon - sigma * x0)).square().mean()


def draw_times(
    process: Process, count: int, uniform_share: float = 0.3, lambda_mean: float = 0.3, lambda_std: float = 1.6
) -> Tensor:
    """(count,) float64 times: of a share, uniform in t; of the rest, lambda ~ N(lambda_mean, lambda_std^2).

    Where lambda is far from 0 either x0 or epsilon is plainly seen, so there is little to learn; but sampling starts and
    ends there, hence the uniform share. Each part is stratified, which lowers the variance of the loss. Times stay within
    `process.t_finite`.
    """
    first, last = process.t_finite
    uniform = round(uniform_share * count)
    u = _stratified(uniform) * (first - last) + last
    lambdas = lambda_mean + lambda_std * torch.special.ndtri(_stratified(count - uniform))
    return torch.cat([u, process.t_of_lambda(lambdas).clamp(min(first, last), max(first, last))])


def _stratified(count: int) -> Tensor:
    """One uniform draw in each of `count` equal parts of (0, 1)."""
    # away from 0, where the normal quantile is infinite
    return ((torch.arange(count) + torch.rand(count, dtype=torch.float64)) / max(1, count)).clamp_(1e-9, 1 - 1e-9)
