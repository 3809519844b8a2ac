"""Grids of a table's integer times, as diffusers' schedulers space them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.processes import Process

from .spaced import is_table


def trailing(process: Process, steps: int) -> Tensor:
    """Integer times T, T - T/steps, ..., each less one and rounded, then t_end: always starts at the noisiest time.

    Tabulated processes only. Source: Lin et al. 2024, arXiv 2305.08891, table 2.
    """
    size = _table_size(process, steps, "trailing")
    return _integers(process, np.round(np.arange(size, 0, -size / steps))[:steps] - 1)


def leading(process: Process, steps: int, offset: int = 0) -> Tensor:
    """Integer times i (T // steps) + offset for i = steps - 1 ... 0, then t_end; never starts at the noisiest time.

    Tabulated processes only; DDPM's and DDIM's own spacing. Source: named so in Lin et al. 2024, arXiv 2305.08891.
    """
    size = _table_size(process, steps, "leading")
    return _integers(process, np.arange(steps - 1, -1, -1) * (size // steps) + offset)


def linspace(process: Process, steps: int) -> Tensor:
    """Integer times evenly spaced from T - 1 to 0 and rounded, then t_end; one step starts at T - 1. Tabulated only.

    Source: named so in Lin et al. 2024, arXiv 2305.08891.
    """
    size = _table_size(process, steps, "linspace")
    # made upwards, as peers make it: downwards, halves such as 38.5 come out a rounding error apart and round otherwise
    return _integers(process, np.round(np.linspace(0, size - 1, max(steps, 2)))[::-1][:steps])


def _table_size(process: Process, steps: int, name: str) -> int:
    if not is_table(process):
        raise ValueError(f"grid={name!r} is made of a table's integer times; {process} is continuous, try 'uniform'")
    size = round(process.t_start) + 1
    if steps > size:
        raise ValueError(f"steps={steps} is more than the {size} integer times of {process}")
    return size


def _integers(process: Process, times: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.append(times, process.t_end).astype(np.float64))
