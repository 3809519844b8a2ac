"""Affine numbers, and the exact law of what a plan makes of Gaussian data: no samples, no Monte Carlo error.

An affine number is m + sum_k A_k z_k: a mean, and one matrix for each named standard-normal vector z_k. Sums and multiples
of such are such, and so is the prediction of an exact model of Gaussian data, which is linear in x. A plan run on them by
the ordinary executor gives the mean and covariance of its output, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from urn.executor import execute
from urn.model import Model
from urn.plan import FUNCTIONS, Apply, PlanError, Rows

from .gaussian import Gaussian


@dataclass(frozen=True)
class Affine:
    """m + sum_k A_k z_k, with m of shape (d,) and A_k of shape (d, d), float64."""

    mean: Tensor
    parts: Mapping[Any, Tensor] = field(default_factory=dict)

    def __add__(self, other: Affine) -> Affine:
        parts = dict(self.parts)
        for name, matrix in other.parts.items():
            parts[name] = parts[name] + matrix if name in parts else matrix
        return Affine(self.mean + other.mean, parts)

    def __mul__(self, factor: Any) -> Affine:
        """Times a number, or times a vector of one number per coordinate."""
        row = torch.as_tensor(factor, dtype=torch.float64).reshape(-1, 1) if not isinstance(factor, float) else factor
        flat = row.reshape(-1) if isinstance(row, Tensor) else row
        return Affine(self.mean * flat, {name: matrix * row for name, matrix in self.parts.items()})

    def mapped(self, matrix: Tensor, offset: Tensor) -> Affine:
        """matrix @ self + offset."""
        return Affine(matrix @ self.mean + offset, {name: matrix @ part for name, part in self.parts.items()})

    @property
    def covariance(self) -> Tensor:
        """sum_k A_k A_k^T."""
        total = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64)
        return total + sum(part @ part.T for part in self.parts.values())


class AffineNoise:
    """A noise source of affine numbers: a fresh z for every (interval, stream), the same one for the same."""

    def normal(self, interval: Any, stream: int, like: Affine) -> Affine:
        """See `urn.noise.NoiseSource`."""
        size = len(like.mean)
        return Affine(
            torch.zeros(size, dtype=torch.float64), {(interval, stream): torch.eye(size, dtype=torch.float64)}
        )


def moments(plan: Rows, data: Gaussian, start: str = "exact") -> tuple[Tensor, Tensor]:
    """The exact mean (d,) and covariance (d, d) of the output of a plan run on the exact model of Gaussian data.

    Args:
        plan: a plan without nonlinear maps.
        data: the law of x0.
        start: "exact" to start from the data's law at the plan's first node, "prior" from the plan's own law of its start.

    Raises:
        PlanError: the plan has a nonlinear map.
        ValueError: another `start`.

    Example:
        >>> mean, covariance = moments(compile_plan("ddim", VP.linear(), 10), Gaussian([1.0, 2.0], [1.0, 0.1]))
    """
    law = output_law(plan, data, start)
    return law.mean, law.covariance


def output_law(plan: Rows, data: Gaussian, start: str = "exact") -> Affine:
    """The output of `moments` as an affine number in the start's noise, named "x", and in every noise of the plan."""
    for row in plan.rows:
        if isinstance(row, Apply) and not FUNCTIONS[row.function].linear:
            raise PlanError(f"step {row.step}: {row.function} is not linear, so the output's law is not Gaussian")
    process = plan.process  # type: ignore[attr-defined]
    first = dict(plan.inputs)["x"]
    size = data.mean.numel()
    if start == "exact" and first.node is not None:
        mean, covariance = data.moments(process, float(first.node.t))
        values, vectors = torch.linalg.eigh(covariance)
        x = Affine(mean, {"x": vectors * values.clamp(min=0).sqrt()})
    elif start == "prior":
        x = Affine(
            torch.zeros(size, dtype=torch.float64), {"x": float(first.std) * torch.eye(size, dtype=torch.float64)}
        )
    else:
        raise ValueError(f"start={start!r} must be 'exact' or 'prior'")
    model = Model(_affine_net(data.affine_net(process)), process, predicts=("x0", "epsilon"))
    result: Affine = execute(plan, model, {"x": x}, AffineNoise())["x"]
    return result


def _affine_net(weights: Callable[[float], tuple[Tensor, Tensor, Tensor, Tensor]]) -> Callable[..., Any]:
    def net(x: Affine, t: float) -> tuple[Affine, Affine]:
        x0_matrix, x0_offset, epsilon_matrix, epsilon_offset = weights(t)
        return x.mapped(x0_matrix, x0_offset), x.mapped(epsilon_matrix, epsilon_offset)

    return net
