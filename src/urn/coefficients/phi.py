"""The phi functions of exponential integrators, and the Gauss-Legendre rule that gives them without cancellation."""

from __future__ import annotations

import math
from functools import cache

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

POINTS = 40  # integrates exp(z u) over [0, 1] to rounding for |z| up to about 80, far above any step in lambda


@cache
def gauss_legendre(dimensions: int = 0) -> tuple[Tensor, Tensor]:
    """Points and weights of the rule on [0, 1], float64, (POINTS, 1, ...) to broadcast against `dimensions` more."""
    points, weights = leggauss(POINTS)
    shape = (-1, *[1] * dimensions)
    return torch.from_numpy((points + 1) / 2).reshape(shape), torch.from_numpy(weights / 2).reshape(shape)


def phi(order: int, z: Tensor) -> Tensor:
    """phi_k(z) = (1/(k-1)!) int_0^1 e^((1-u) z) u^(k-1) du for k >= 1, and phi_0(z) = e^z.

    phi_1(z) = (e^z - 1)/z, phi_2(z) = (e^z - 1 - z)/z^2; phi_(k+1)(z) = (phi_k(z) - 1/k!)/z, a recurrence that loses all
    digits at small z, which the integral does not.

    Args:
        order: k, at least 0.
        z: float64, |z| <= 80.

    Source: Hochbruck & Ostermann 2010, Exponential Integrators, Acta Numerica 19, section 2.
    """
    if order == 0:
        return torch.exp(z)
    u, weights = gauss_legendre(z.ndim)
    return (weights * torch.exp((1 - u) * z) * u ** (order - 1)).sum(0) / math.factorial(order - 1)
