"""Rectified flow: straight lines between data and noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .process import Times, as_float64, check_positive, log_ratio, register_process


@register_process("flow")
@dataclass(frozen=True)
class Flow:
    """x_t = (1 - s) x0 + s epsilon with s = shift t / (1 + (shift - 1) t), t in [0, 1]; both ends are exact.

    shift = 1 is rectified flow, where dx_t/dt = epsilon - x0. A shift above 1 spends more of [0, 1] near the noise: an
    even grid in the shifted t is the shifted grid of Stable Diffusion 3. Networks of such models are shown s, not t: give
    them `label=lambda t: 1000 * s(t)`, or keep `Flow()` and shift the grid (`urn.grids.shifted`).

    Sources: Liu et al. 2023, Flow Straight and Fast, arXiv 2209.03003; Lipman et al. 2023, Flow Matching for Generative
    Modeling, arXiv 2210.02747; the shift: Esser et al. 2024, Scaling Rectified Flow Transformers, arXiv 2403.03206, eq. 23.
    """

    shift: float = 1.0

    t_start = 1.0
    t_end = 0.0
    t_finite = (0.999, 1e-3)
    domain = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_positive(shift=self.shift)

    def alpha(self, t: Times) -> Tensor:
        t = as_float64(t)
        return (1 - t) / (1 + (self.shift - 1) * t)

    def sigma(self, t: Times) -> Tensor:
        t = as_float64(t)
        return self.shift * t / (1 + (self.shift - 1) * t)

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        s = torch.sigmoid(-as_float64(l))
        return s / (self.shift - (self.shift - 1) * s)

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        slope = self.shift / (1 + (self.shift - 1) * as_float64(t)) ** 2
        return -slope, slope

    def prior_std(self, t: Times) -> Tensor:
        return self.sigma(t)
