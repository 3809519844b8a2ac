"""Small models to tune on, and tuners made up for the tests."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

import urn
from urn.exact import GaussianMixture
from urn.tuning import Search, tuner

PROCESS = urn.VP.linear()
SMALL: dict[str, Any] = {"starts": 64, "held_out": 64, "dtype": torch.float64}


@lru_cache(maxsize=4)
def plane(process: Any = PROCESS) -> urn.Model:
    """A skewed mixture in the plane."""
    covariances = [[[0.09, 0.02], [0.02, 0.2]], [[0.02, 0.0], [0.0, 0.1]]]
    return GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-0.7, 0.4]], covariances).model(process, "v")


@tuner(source="made up")
def shifting(search: Search, most: int = 6) -> None:
    """DDIM on uniform grids bent more and more: plan k is the same in every search."""
    done = sum(not one.untuned for one in search.tried)
    for k in range(done, most):
        if search.is_over:
            return
        times = torch.linspace(1, 0, search.task.calls + 1, dtype=torch.float64) ** (1 + 0.1 * k)
        search.try_plan(urn.compile_plan("ddim", search.task.model.process, grid=times), f"bent {k}")
