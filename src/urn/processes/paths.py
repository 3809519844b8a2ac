"""Paths of flow matching other than the straight one: powers of time, the circle, and a linear signal of unit variance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .process import Times, as_float64, check_positive, log_ratio, register_process, safe_sqrt

HALF_PI = math.pi / 2


@register_process("polynomial")
@dataclass(frozen=True)
class Polynomial:
    """alpha_t = (1 - t)^power, sigma_t = 1 - alpha_t, t in [0, 1]: `Flow` in another clock; power 1 is `Flow`.

    Source: Lipman et al. 2024, Flow Matching Guide and Code, arXiv 2412.06264, section 4.7, its time running the other way.

    Example:
        >>> Polynomial(2.0).sigma(0.5)
        tensor(0.7500, dtype=torch.float64)
    """

    power: float = 2.0

    t_start = 1.0
    t_end = 0.0
    domain = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_positive(power=self.power)

    @property
    def t_finite(self) -> tuple[float, float]:
        return (1 - 1e-3 ** (1 / self.power), -math.expm1(math.log1p(-1e-3) / self.power))

    def alpha(self, t: Times) -> Tensor:
        return (1 - as_float64(t)) ** self.power

    def sigma(self, t: Times) -> Tensor:
        t = as_float64(t)
        small = -torch.expm1(self.power * torch.log1p(-t.clamp(max=0.5)))  # without cancellation at small t
        return torch.where(t < 0.5, small, 1 - self.alpha(t))

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        return -torch.expm1(torch.nn.functional.logsigmoid(as_float64(l)) / self.power)

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        slope = self.power * (1 - as_float64(t)) ** (self.power - 1)
        return -slope, slope

    def prior_std(self, t: Times) -> Tensor:
        return self.sigma(t)


@register_process("trigonometric")
@dataclass(frozen=True)
class Trigonometric:
    """alpha_t = cos(pi t/2), sigma_t = sin(pi t/2), t in [0, 1]: variance-preserving, at constant speed on the circle.

    flow_matching's cosine path and SiT's GVP; `VP.cosine` is this one with an offset. Both ends are exact.

    Sources: Albergo & Vanden-Eijnden 2023, Building Normalizing Flows with Stochastic Interpolants, arXiv 2209.15571;
    Ma et al. 2024, SiT, arXiv 2401.08740.

    Example:
        >>> Trigonometric().lambda_(0.5)
        tensor(0., dtype=torch.float64)
    """

    t_start = 1.0
    t_end = 0.0
    t_finite = (0.999, 1e-3)
    domain = (0.0, 1.0)

    def alpha(self, t: Times) -> Tensor:
        return torch.sin(HALF_PI * (1 - as_float64(t)))  # exactly 0 at t = 1

    def sigma(self, t: Times) -> Tensor:
        return torch.sin(HALF_PI * as_float64(t))

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        return torch.atan(torch.exp(-as_float64(l))) / HALF_PI

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        return -HALF_PI * self.sigma(t), HALF_PI * self.alpha(t)

    def prior_std(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))


@register_process("linear-signal")
@dataclass(frozen=True)
class LinearSignal:
    """alpha_t = 1 - t, sigma_t = sqrt(1 - alpha_t^2), t in [0, 1]; flow_matching calls it LinearVP.

    Not `VP.linear`, whose beta is linear. sigma' is infinite at t = 0, so velocities are not finite there.

    Source: Lipman et al. 2024, Flow Matching Guide and Code, arXiv 2412.06264, section 4.7, its time running the other way.

    Example:
        >>> LinearSignal().sigma(0.4)
        tensor(0.8000, dtype=torch.float64)
    """

    t_start = 1.0
    t_end = 0.0
    t_finite = (0.999, 1e-4)
    domain = (0.0, 1.0)

    def alpha(self, t: Times) -> Tensor:
        return 1 - as_float64(t)

    def sigma(self, t: Times) -> Tensor:
        t = as_float64(t)
        return safe_sqrt(t * (2 - t))

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        sigma_squared = torch.sigmoid(-2 * as_float64(l))
        return sigma_squared / (1 + torch.sqrt(1 - sigma_squared))  # 1 - alpha, without cancellation

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        alpha = self.alpha(t)
        return -torch.ones_like(alpha), alpha / self.sigma(t)

    def prior_std(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))
