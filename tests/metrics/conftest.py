"""Points to measure distances between: skewed and unequal in scale, since symmetric ones hide mistakes of sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

Skewed = Callable[..., Tensor]


@pytest.fixture(scope="session")
def skewed() -> Skewed:
    """skewed(count, dimensions, seed, rate=1.0): exponential coordinates, the j-th of mean (1 + j) / rate."""

    def draw(count: int, dimensions: int, seed: int, rate: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(count, dimensions, generator=generator, dtype=torch.float64)
        return -torch.log1p(-uniform) * torch.arange(1, dimensions + 1) / rate

    return draw


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Thousands of tiny metrics: on a shared machine, threads wait for each other for longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
