"""The variance-exploding process, alpha = 1, in EDM's time: t is sigma itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .process import Times, as_float64, check_positive, log_ratio, register_process


@register_process("ve")
@dataclass(frozen=True)
class VE:
    """VE: x_t = x0 + t epsilon, t = sigma from sigma_max down to sigma_min (and on to 0, where that is asked for).

    Sources: Song et al. 2021, arXiv 2011.13456; Karras et al. 2022, Elucidating the Design Space of Diffusion-Based
    Generative Models, arXiv 2206.00364, whose sigma this is.

    Example:
        >>> VE(sigma_min=0.002, sigma_max=80.0).t_of_lambda(0.0)
        tensor(1., dtype=torch.float64)
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    domain = (0.0, float("inf"))

    def __post_init__(self) -> None:
        check_positive(sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min} must be below sigma_max={self.sigma_max}")

    @property
    def t_start(self) -> float:
        return self.sigma_max

    @property
    def t_end(self) -> float:
        return self.sigma_min

    @property
    def t_finite(self) -> tuple[float, float]:
        return (self.sigma_max, self.sigma_min)

    def alpha(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))

    def sigma(self, t: Times) -> Tensor:
        return as_float64(t)

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        return torch.exp(-as_float64(l))

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        t = as_float64(t)
        return torch.zeros_like(t), torch.ones_like(t)

    def prior_std(self, t: Times) -> Tensor:
        return as_float64(t)
