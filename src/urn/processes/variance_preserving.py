"""Variance-preserving processes, alpha^2 + sigma^2 = 1, in continuous time, and sub-VP, which shares their alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .process import Times, as_float64, check_positive, log_ratio, register_process, safe_sqrt
from .tabulated import Tabulated

HALF_PI = math.pi / 2


@register_process("vp")
@dataclass(frozen=True)
class VP:
    """VP with log alpha_t = -B(t)/2, B(t) the integral of the noise rate beta over [0, t], t in [0, 1].

    ```
    linear          beta(t) = beta_min + t (beta_max - beta_min)                         Song et al. 2021
    scaled_linear   beta(t) = (sqrt(beta_min) + t (sqrt(beta_max) - sqrt(beta_min)))^2   Rombach et al. 2022
    ```
    Make one with `VP.linear`, `VP.scaled_linear`, `VP.cosine` or `VP.from_betas`.

    Sources:
        Song et al. 2021, Score-Based Generative Modeling through SDEs, arXiv 2011.13456, appendix C;
        Rombach et al. 2022, High-Resolution Image Synthesis with Latent Diffusion Models, arXiv 2112.10752.

    Example:
        >>> VP.linear().sigma(0.0)
        tensor(0., dtype=torch.float64)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    power: int = 1  # beta^(1/power) is linear in t: 1 for linear, 2 for scaled_linear

    t_start = 1.0
    t_end = 0.0
    t_finite = (1.0, 1e-3)
    domain = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_positive(beta_min=self.beta_min, beta_max=self.beta_max)
        if self.power not in (1, 2):
            raise ValueError(f"power={self.power!r} must be 1 (linear) or 2 (scaled linear)")

    @classmethod
    def linear(cls, beta_min: float = 0.1, beta_max: float = 20.0) -> VP:
        """The VP SDE of Song et al.: beta linear in t."""
        return cls(beta_min, beta_max, 1)

    @classmethod
    def scaled_linear(cls, beta_min: float = 0.85, beta_max: float = 12.0) -> VP:
        """sqrt(beta) linear in t; the defaults are Stable Diffusion's table (0.00085 to 0.012) times its 1000 steps."""
        return cls(beta_min, beta_max, 2)

    @staticmethod
    def cosine(offset: float = 0.008) -> Cosine:
        """alpha_t = cos(((t + s)/(1 + s)) pi/2) / cos((s/(1 + s)) pi/2); alpha_1 = 0. Nichol & Dhariwal 2021."""
        return Cosine(offset)

    @staticmethod
    def from_betas(betas: Sequence[float] | Tensor | Any, zero_terminal_snr: bool = False) -> Tabulated:
        """A trained network's table of betas; t is the integer timestep, interpolated in between. See `Tabulated`."""
        return Tabulated.from_betas(betas, zero_terminal_snr)

    def __repr__(self) -> str:
        return f"VP.{'linear' if self.power == 1 else 'scaled_linear'}({self.beta_min}, {self.beta_max})"

    def rate(self, t: Times) -> Tensor:
        """beta(t), the noise rate of the forward SDE dx = -beta x/2 dt + sqrt(beta) dw."""
        a, d = self._line()
        return (a + as_float64(t) * d) ** self.power

    def integrated_rate(self, t: Times) -> Tensor:
        """B(t), the integral of beta over [0, t]."""
        t = as_float64(t)
        a, d = self._line()
        return t * (a + t * d / 2) if self.power == 1 else t * (a * a + a * d * t + (d * t) ** 2 / 3)

    def alpha(self, t: Times) -> Tensor:
        return torch.exp(-self.integrated_rate(t) / 2)

    def sigma(self, t: Times) -> Tensor:
        return safe_sqrt(-torch.expm1(-self.integrated_rate(t)))

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        return self.t_of_integrated_rate(-torch.nn.functional.logsigmoid(2 * as_float64(l)))

    def t_of_integrated_rate(self, b: Tensor) -> Tensor:
        """The inverse of `integrated_rate`, in a form that does not cancel at small t."""
        a, d = self._line()
        if self.power == 1:
            return 2 * b / (a + torch.sqrt(a * a + 2 * d * b))
        u = (a**3 + 3 * d * b).pow(1 / 3)
        return 3 * b / (u * u + u * a + a * a)

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        alpha, half_rate = self.alpha(t), self.rate(t) / 2
        return -half_rate * alpha, half_rate * alpha**2 / self.sigma(t)

    def prior_std(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))

    def _line(self) -> tuple[float, float]:
        a = self.beta_min ** (1 / self.power)
        return a, self.beta_max ** (1 / self.power) - a


@register_process("cosine")
@dataclass(frozen=True)
class Cosine:
    """The cosine VP process: alpha_t = cos(phi_t)/cos(phi_0), phi_t = ((t + s)/(1 + s)) pi/2, t in [0, 1].

    alpha_1 = 0 exactly, so lambda_1 = -inf: the signal-to-noise ratio at the start is zero.

    Source: Nichol & Dhariwal 2021, Improved Denoising Diffusion Probabilistic Models, arXiv 2102.09672, equation 17.
    Their discrete version clips beta at 0.999; that one is `VP.from_betas(cosine_betas(1000))`.
    """

    offset: float = 0.008

    t_start = 1.0
    t_end = 0.0
    t_finite = (0.999, 1e-3)
    domain = (0.0, 1.0)

    def __post_init__(self) -> None:
        check_positive(offset=self.offset)

    def __repr__(self) -> str:
        return f"VP.cosine({self.offset})"

    def alpha(self, t: Times) -> Tensor:
        # sin(pi/2 - phi), exactly 0 at t = 1 where cos(phi) would leave 6e-17
        return torch.sin((1 - as_float64(t)) * self._slope()) / math.cos(self._phi0())

    def sigma(self, t: Times) -> Tensor:
        # sin^2(phi) - sin^2(phi_0) = sin(phi - phi_0) sin(phi + phi_0), without cancellation at small t
        t, phi0 = as_float64(t), self._phi0()
        return safe_sqrt(torch.sin(t * self._slope()) * torch.sin(t * self._slope() + 2 * phi0)) / math.cos(phi0)

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        l, phi0 = as_float64(l), self._phi0()
        alpha_squared, sigma_squared = torch.sigmoid(2 * l), torch.sigmoid(-2 * l)
        # sin(phi - phi_0) from sin(phi) and cos(phi), again without cancellation
        cos_phi = torch.sqrt(alpha_squared) * math.cos(phi0)
        sin_phi = torch.sqrt(sigma_squared * math.cos(phi0) ** 2 + math.sin(phi0) ** 2)
        sine = sigma_squared * math.cos(phi0) ** 2 / (sin_phi * math.cos(phi0) + cos_phi * math.sin(phi0))
        cosine = cos_phi * math.cos(phi0) + sin_phi * math.sin(phi0)
        return torch.atan2(sine, cosine) / self._slope()

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        d_alpha = -torch.cos((1 - as_float64(t)) * self._slope()) * self._slope() / math.cos(self._phi0())
        return d_alpha, -self.alpha(t) * d_alpha / self.sigma(t)

    def prior_std(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))

    def _slope(self) -> float:
        return HALF_PI / (1 + self.offset)

    def _phi0(self) -> float:
        return self.offset * self._slope()


@register_process("sub-vp")
@dataclass(frozen=True)
class SubVP:
    """sub-VP: VP.linear's alpha with sigma_t = 1 - alpha_t^2, below VP's at every t > 0; t in [0, 1].

    Source: Song et al. 2021, arXiv 2011.13456, section 3.4 and appendix B.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    t_start = 1.0
    t_end = 0.0
    t_finite = (1.0, 1e-3)
    domain = (0.0, 1.0)

    def __post_init__(self) -> None:
        self._vp()

    def alpha(self, t: Times) -> Tensor:
        return self._vp().alpha(t)

    def sigma(self, t: Times) -> Tensor:
        return -torch.expm1(-self._vp().integrated_rate(t))

    def lambda_(self, t: Times) -> Tensor:
        return log_ratio(self.alpha(t), self.sigma(t))

    def t_of_lambda(self, l: Times) -> Tensor:
        # with r = e^lambda, r alpha^2 + alpha - r = 0 gives sigma = 1 - alpha^2 = alpha / r = 2 / (1 + sqrt(1 + 4 r^2));
        # the integrated rate is -log(1 - sigma) = -2 log alpha, each where it does not cancel
        l = as_float64(l)
        sigma = 2 / (1 + torch.sqrt(1 + 4 * torch.exp(2 * l)))
        alpha = 2 / (torch.exp(-l) + torch.sqrt(torch.exp(-2 * l) + 4))
        return self._vp().t_of_integrated_rate(torch.where(sigma < 0.5, -torch.log1p(-sigma), -2 * torch.log(alpha)))

    def velocity_weights(self, t: Times) -> tuple[Tensor, Tensor]:
        alpha, rate = self.alpha(t), self._vp().rate(t)
        return -rate * alpha / 2, rate * alpha**2

    def prior_std(self, t: Times) -> Tensor:
        return torch.ones_like(as_float64(t))

    def _vp(self) -> VP:
        return VP.linear(self.beta_min, self.beta_max)
