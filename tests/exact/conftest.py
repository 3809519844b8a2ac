"""Every target, every process, and times from one end of it to the other."""

from __future__ import annotations

import pytest
import torch
from exact_targets import PROCESSES, TARGETS
from torch import Tensor


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> object:
    return TARGETS[request.param]


@pytest.fixture(params=PROCESSES)
def process(request: pytest.FixtureRequest) -> object:
    return PROCESSES[request.param][0]


@pytest.fixture
def times(process: object) -> list[float | Tensor]:
    """Three single times, then one time per sample for a batch of six."""
    single = next(times for known, times in PROCESSES.values() if known is process)
    return [*single, torch.tensor(single * 2, dtype=torch.float64)]
