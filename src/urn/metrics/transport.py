"""Wasserstein distances: exact by linear programming, and sliced by sorting.

    W_p = (inf over couplings of E|X - Y|^p)^(1/p)

In one dimension the infimum is the coupling of equal quantiles; a sliced distance averages that over directions.
"""

from __future__ import annotations

import math
from types import ModuleType

import torch
from torch import Tensor

from urn.metrics.inputs import as_pair
from urn.metrics.pairwise import TILE, squared_distances

PROJECTED_VALUES = 2**22  # projected coordinates held at once: 32 MiB
LARGEST_COSTS = 2**28  # entries of the exact problem's cost matrix: 2 GiB, and as much again for the coupling
PIVOTS = 100_000_000  # POT's own limit of 100,000 stops short of the optimum from some thousand points on


def sliced_wasserstein(samples: Tensor, data: Tensor, projections: int = 256, seed: int = 0, p: float = 2.0) -> float:
    """The sliced Wasserstein distance (E_theta W_p^p(theta.X, theta.Y))^(1/p), theta uniform on the sphere.

    Each projected W_p^p is exact, for unequal counts too: both empirical quantile functions are constant between the
    merged levels i/N and j/M. The mean over directions is Monte Carlo. In one dimension all directions are the same,
    and the result is W_p itself, with one projection as with many.

    Args:
        samples: shape (N, *S), N >= 2.
        data: shape (M, *S), M >= 2.
        projections: how many directions, >= 1.
        seed: of the directions, which are the same on every device.
        p: finite, >= 1.

    Returns:
        the distance (not its p-th power), in the unit of the data.

    Raises:
        TypeError, ValueError: input that is not two finite tensors of one sample shape, projections < 1, or p < 1.

    Source: Rabin, Peyré, Delon, Bernot (2011), "Wasserstein barycenter and its application to texture mixing", SSVM;
    Kolouri, Nadjahi, Simsekli, Badeau, Rohde (2019), "Generalized sliced Wasserstein distances", arXiv 1902.00434.

    Example:
        >>> round(sliced_wasserstein(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0, 5.0]), p=1), 6)  # 1/6 + 4/3
        1.5
    """
    x, y = as_pair(samples, data)
    _check_power(p)
    if projections < 1:
        raise ValueError(f"projections must be at least 1, got {projections!r}")
    directions = torch.randn(
        projections, x.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    directions = (directions / directions.norm(dim=1, keepdim=True)).to(x.device)
    x_rank, y_rank, widths = _merged_quantiles(len(x), len(y), x.device)
    total = x.new_zeros(())
    for block in directions.split(max(1, PROJECTED_VALUES // (len(x) + len(y)))):
        gaps = (block @ x.T).sort(dim=1).values[:, x_rank] - (block @ y.T).sort(dim=1).values[:, y_rank]
        total += (gaps.abs().pow(p) @ widths).sum()
    return math.pow(float(total) / projections, 1 / p)


def wasserstein(
    samples: Tensor,
    data: Tensor,
    p: float = 2.0,
    sample_weights: Tensor | None = None,
    data_weights: Tensor | None = None,
) -> float:
    """The exact Wasserstein distance W_p between two (weighted) point sets, by network simplex.

    The coupling comes from POT; its cost is then summed from explicit differences over the pairs that carry mass, so
    that the distance of a set to itself is 0, not the root of a rounding error. Time grows like N^3: seconds at a few
    thousand points. Beyond that, and in one dimension, use `sliced_wasserstein`.

    Args:
        samples: shape (N, *S), N >= 2.
        data: shape (M, *S), M >= 2; N M <= 2^28.
        p: finite, >= 1.
        sample_weights: shape (N,), nonnegative, not all zero; normalised here. None weighs all points alike.
        data_weights: shape (M,), likewise.

    Returns:
        the distance (not its p-th power), in the unit of the data.

    Raises:
        ImportError: POT is not installed.
        RuntimeError: the linear program was not solved to optimality.
        TypeError, ValueError: input that is not two finite tensors of one sample shape, too many points, p < 1, or
            weights of wrong shape or sign.

    Source: Bonneel, van de Panne, Paris, Heidrich (2011), "Displacement interpolation using Lagrangian mass
    transport", ACM Transactions on Graphics 30 (the solver); Flamary et al. (2021), "POT: Python Optimal Transport",
    JMLR 22.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> round(wasserstein(x, x.flip(0) + torch.tensor([3.0, 4.0])), 6)
        5.0
    """
    x, y = as_pair(samples, data)
    _check_power(p)
    if len(x) * len(y) > LARGEST_COSTS:
        raise ValueError(
            f"samples and data must have at most {LARGEST_COSTS} pairs, got {len(x)} x {len(y)}; "
            "take fewer points, or sliced_wasserstein"
        )
    masses = _masses("sample_weights", sample_weights, len(x)), _masses("data_weights", data_weights, len(y))
    costs = x.new_empty(len(x), len(y))
    for start in range(0, len(x), TILE):
        costs[start : start + TILE] = squared_distances(x[start : start + TILE], y).pow_(p / 2)
    coupling, log = _pot().emd(*masses, costs.cpu().numpy(), numItermax=PIVOTS, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"POT did not solve the transport problem of {len(x)} x {len(y)} points: {log['warning']}")
    mass = torch.from_numpy(coupling)
    i, j = mass.nonzero(as_tuple=True)
    lengths = (x[i.to(x.device)] - y[j.to(y.device)]).norm(dim=1).cpu()
    return math.pow(float(mass[i, j] @ lengths.pow(p)), 1 / p)


def _merged_quantiles(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ranks in both sorted sets, and widths, of the intervals between the levels i/n and j/m.

    Levels are counted in units of 1/(n m), so that equal levels are equal integers.
    """
    levels = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n])
    ends: Tensor = torch.unique(levels)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    widths = (ends - starts).to(torch.float64) / (n * m)
    return (starts // m).to(device), (starts // n).to(device), widths.to(device)


def _masses(name: str, weights: Tensor | None, count: int) -> object:
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64).numpy()
    if not isinstance(weights, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape ({count},), got {type(weights).__name__}")
    if weights.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), got {tuple(weights.shape)}")
    values = weights.detach().cpu().to(torch.float64)
    wrong = int((~torch.isfinite(values) | (values < 0)).sum())
    if wrong or not values.sum() > 0:
        raise ValueError(f"{name} must be finite, nonnegative and not all zero, got {wrong} wrong of {count}")
    return (values / values.sum()).numpy()


def _check_power(p: float) -> None:
    if not (math.isfinite(p) and p >= 1):
        raise ValueError(f"p must be finite and at least 1, got {p!r}")


def _pot() -> ModuleType:
    try:
        import ot
    except ImportError as error:
        raise ImportError("urn.metrics.wasserstein needs POT: pip install 'urn-samplers[metrics]'") from error
    module: ModuleType = ot
    return module
