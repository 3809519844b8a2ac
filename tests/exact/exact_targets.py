"""Targets that are skewed and unequal in scale, and every process with times from one end to the other."""

from __future__ import annotations

import torch
from torch import Tensor

from urn.exact import Empirical, Gaussian, GaussianMixture
from urn.processes import VE, VP, Flow, SubVP, Tabulated, linear_betas

MEAN = torch.tensor([1.5, -0.4, 0.7], dtype=torch.float64)
FACTOR = torch.tensor([[1.3, 0.0, 0.0], [-0.6, 0.4, 0.0], [0.3, 0.2, 0.05]], dtype=torch.float64)
MEANS = torch.tensor([[2.0, 0.1, -0.5], [-1.0, 0.6, 0.3], [0.2, -2.5, 1.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
FULL = torch.stack([FACTOR @ FACTOR.T, 0.2 * FACTOR.T @ FACTOR, torch.diag(torch.tensor([0.5, 0.02, 1.1]).double())])
DIAGONAL = torch.tensor([[0.8, 0.05, 0.3], [0.02, 0.6, 1.4], [0.1, 0.1, 0.9]], dtype=torch.float64)
POINTS = torch.tensor(
    [[2.0, 0.1, -0.5], [1.7, 0.4, -0.2], [-1.0, 0.6, 0.3], [0.2, -2.5, 1.0], [0.25, -2.4, 0.8], [3.0, 0.0, 0.1]],
    dtype=torch.float64,
)

TARGETS = {
    "gaussian": Gaussian(MEAN, FACTOR @ FACTOR.T),
    "gaussian diagonal": Gaussian(MEAN, DIAGONAL[0]),
    "gaussian isotropic": Gaussian(MEAN, 0.3),
    "mixture": GaussianMixture(WEIGHTS, MEANS, FULL),
    "mixture diagonal": GaussianMixture(WEIGHTS, MEANS, DIAGONAL),
    "mixture isotropic": GaussianMixture(WEIGHTS, MEANS, DIAGONAL[:, 0]),
    "empirical": Empirical(POINTS, chunk=4),
    "empirical nearest": Empirical(POINTS, neighbours=3, chunk=4),
}

# Each process with three times: near the noise, in the middle, near the data.
PROCESSES = {
    "vp linear": (VP.linear(), (0.95, 0.4, 0.05)),
    "vp cosine": (VP.cosine(), (0.95, 0.5, 0.1)),
    "sub-vp": (SubVP(), (0.9, 0.5, 0.3)),
    "ve": (VE(0.002, 80.0), (20.0, 1.0, 0.2)),
    "flow": (Flow(), (0.9, 0.5, 0.1)),
    "flow shifted": (Flow(shift=3.0), (0.9, 0.4, 0.05)),
    "tabulated": (Tabulated.from_betas(linear_betas(100, 1e-3, 0.1)), (90.0, 33.5, 2.25)),
}


def states(target: object, process: object, t: float | Tensor, count: int = 6, seed: int = 1) -> Tensor:
    """Noisy draws at t: where a sampler would evaluate the model."""
    x0 = target.sample(count, seed)
    t = torch.as_tensor(t, dtype=torch.float64).expand(count)
    columns = (weight(t).reshape(-1, *[1] * (x0.ndim - 1)) for weight in (process.alpha, process.sigma))
    alpha, sigma = columns
    return alpha * x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=x0.dtype)
