"""Discrete-time processes given by a trained network's table, interpolated to real times, and the usual tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .process import Times, as_float64, log_ratio, register_process


@register_process("tabulated")
@dataclass(frozen=True)
class Tabulated:
    """VP at integer times: alpha_t^2 = alphas_cumprod[t], t = 0 ... T-1, and clean data at t = -1.

    Between two integers lambda is linear in t (as k-diffusion and diffusers interpolate a fractional timestep); in the
    two intervals where lambda is infinite at one end, at t = -1 and at a zero terminal SNR, the angle
    arctan(sigma/alpha) is. So all of [-1, T-1] is covered, `t_end` is -1, and grids in lambda end at t = 0.

    Sources:
        Ho et al. 2020, Denoising Diffusion Probabilistic Models, arXiv 2006.11239;
        zero terminal SNR: Lin et al. 2024, Common Diffusion Noise Schedules and Sample Steps are Flawed, arXiv 2305.08891.

    Example:
        >>> Tabulated.from_betas(linear_betas(1000)).t_start
        999.0
    """

    alphas_cumprod: tuple[float, ...]

    def __post_init__(self) -> None:
        table = self.alphas_cumprod
        if len(table) < 2:
            raise ValueError(f"a table of {len(table)} entries: at least 2 are needed")
        bounds = (1.0, *table)
        for i, (before, value) in enumerate(zip(bounds, table, strict=False)):
            if not (0.0 <= value < before):
                raise ValueError(f"alphas_cumprod[{i}]={value!r} must decrease strictly from below 1 and stay >= 0")

    @classmethod
    def from_betas(cls, betas: Sequence[float] | Tensor | Any, zero_terminal_snr: bool = False) -> Tabulated:
        """The process of a table of betas, alphas_cumprod[t] = prod_{i<=t} (1 - beta_i).

        Args:
            betas: noise variances of the forward steps, each in (0, 1]; 1 only in the last place.
            zero_terminal_snr: rescale sqrt(alphas_cumprod) linearly so that its last entry is 0 and its first unchanged.
        """
        values = torch.as_tensor(betas, dtype=torch.float64)
        if values.ndim != 1 or not bool(((values > 0) & (values <= 1)).all()):
            raise ValueError("betas must be a one-dimensional array of numbers in (0, 1]")
        process = cls(tuple(torch.cumprod(1 - values, 0).tolist()))
        return process.with_zero_terminal_snr() if zero_terminal_snr else process

    def with_zero_terminal_snr(self) -> Tabulated:
        """Lin et al. 2024, algorithm 1: s'_t = (s_t - s_T) s_0 / (s_0 - s_T) with s = sqrt(alphas_cumprod)."""
        s = torch.tensor(self.alphas_cumprod, dtype=torch.float64).sqrt()
        return Tabulated(tuple((((s - s[-1]) * s[0] / (s[0] - s[-1])) ** 2).tolist()))

    def __repr__(self) -> str:
        table = self.alphas_cumprod
        return f"Tabulated({len(table)} steps, alphas_cumprod {table[0]:.6g} to {table[-1]:.6g})"

    @property
    def t_start(self) -> float:
        return len(self.alphas_cumprod) - 1.0

    @property
    def t_end(self) -> float:
        return -1.0

    @property
    def t_finite(self) -> tuple[float, float]:
        return (self.t_start if self.alphas_cumprod[-1] > 0 else self.t_start - 1, 0.0)

    @property
    def domain(self) -> tuple[float, float]:
        return (-1.0, self.t_start)

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor]:
        """lambda and the angle arctan(sigma/alpha) at t = -1, 0, ..., T-1."""
        squared = torch.tensor((1.0, *self.alphas_cumprod), dtype=torch.float64)
        alpha, sigma = torch.sqrt(squared), torch.sqrt(1 - squared)
        return log_ratio(alpha, sigma), torch.atan2(sigma, alpha)

    def _segment(self, t: Times) -> tuple[Tensor, Tensor, Tensor]:
        """Index of the interval that holds t, the fraction of it passed, and whether lambda is finite at both its ends."""
        position = as_float64(t) + 1
        index = position.detach().floor().long().clamp(0, len(self.alphas_cumprod) - 1)
        lambdas, _ = self._table
        return index, position - index, torch.isfinite(lambdas[index]) & torch.isfinite(lambdas[index + 1])

    def _angle(self, t: Times) -> Tensor:
        index, fraction, finite = self._segment(t)
        lambdas, angles = self._table
        low = torch.where(finite, lambdas[index], 0.0)
        high = torch.where(finite, lambdas[index + 1], 0.0)
        by_lambda = torch.atan(torch.exp(-torch.lerp(low, high, fraction)))
        return torch.where(finite, by_lambda, torch.lerp(angles[index], angles[index + 1], fraction))

    def alpha(self, t: Times) -> Tensor:
        # cos(pi/2) is 6e-17: the sine of the complement is exactly 0 at a zero terminal SNR
        return torch.sin(math.pi / 2 - self._angle(t))

    def sigma(self, t: Times) -> Tensor:
        return torch.sin(self._angle(t))

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        l = as_float64(l)
        lambdas, angles = self._table
        index = torch.searchsorted(-lambdas, -l.detach().contiguous(), right=True) - 1
        index = index.clamp(0, len(lambdas) - 2)
        finite = torch.isfinite(lambdas[index]) & torch.isfinite(lambdas[index + 1])
        low = torch.where(finite, lambdas[index], 0.0)
        high = torch.where(finite, lambdas[index + 1], 1.0)
        by_lambda = (l - low) / (high - low)
        by_angle = (torch.atan(torch.exp(-l)) - angles[index]) / (angles[index + 1] - angles[index])
        return index - 1 + torch.where(finite, torch.where(finite, by_lambda, 0.0), by_angle)

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        # d angle/dt: constant where the angle is linear, -sin cos dlambda/dt where lambda is
        index, _, finite = self._segment(t)
        lambdas, angles = self._table
        alpha, sigma = self.alpha(t), self.sigma(t)
        slope = torch.where(finite, lambdas[index + 1] - lambdas[index], 0.0)
        d_angle = torch.where(finite, -alpha * sigma * slope, angles[index + 1] - angles[index])
        return -sigma * d_angle, alpha * d_angle

    def prior_std(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))


def linear_betas(steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """DDPM's table: betas evenly spaced. Ho et al. 2020, arXiv 2006.11239."""
    return torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Tensor:
    """Stable Diffusion's table: sqrt(beta) evenly spaced. Rombach et al. 2022, arXiv 2112.10752."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2


def cosine_betas(steps: int = 1000, offset: float = 0.008, ceiling: float = 0.999) -> Tensor:
    """iDDPM's table: beta_t = 1 - f(t+1)/f(t), f(t) = cos^2(((t/T + s)/(1 + s)) pi/2), clipped at `ceiling`.

    Source: Nichol & Dhariwal 2021, arXiv 2102.09672, equation 17.
    """
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return torch.clamp(1 - f[1:] / f[:-1], max=ceiling)
