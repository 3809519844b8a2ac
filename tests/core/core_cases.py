"""The processes that all core tests run on, with what each promises at its ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from urn.processes import (
    VE,
    VP,
    Flow,
    LinearSignal,
    Polynomial,
    SubVP,
    Tabulated,
    Trigonometric,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
)


@dataclass(frozen=True)
class Case:
    """A process, whether alpha is exactly 0 at t_start, and whether sigma is exactly 0 at t_end."""

    process: Any
    zero_alpha: bool = False
    zero_sigma: bool = True


CASES = {
    "vp linear": Case(VP.linear()),
    "vp scaled linear": Case(VP.scaled_linear()),
    "vp cosine": Case(VP.cosine(), zero_alpha=True),
    "sub-vp": Case(SubVP()),
    "flow": Case(Flow(), zero_alpha=True),
    "flow shifted": Case(Flow(shift=3.0), zero_alpha=True),
    "polynomial": Case(Polynomial(2.5), zero_alpha=True),
    "trigonometric": Case(Trigonometric(), zero_alpha=True),
    "linear signal": Case(LinearSignal(), zero_alpha=True),
    "ve": Case(VE(), zero_sigma=False),
    "table linear": Case(VP.from_betas(linear_betas(1000))),
    "table scaled linear": Case(VP.from_betas(scaled_linear_betas(1000))),
    "table cosine": Case(VP.from_betas(cosine_betas(1000))),
    "table zero snr": Case(VP.from_betas(scaled_linear_betas(1000), zero_terminal_snr=True), zero_alpha=True),
    "table of three": Case(Tabulated((0.9, 0.5, 0.1))),
}
PROCESSES = {name: case.process for name, case in CASES.items()}
TABLES = {name: process for name, process in PROCESSES.items() if isinstance(process, Tabulated)}


def interior(process: Any, count: int = 101) -> Tensor:
    """Times between the ends of `t_finite`, both included, none of them a table's integer but the ends."""
    first, last = process.t_finite
    inner = torch.linspace(0, 1, count, dtype=torch.float64)[1:-1] ** 1.5
    ends = torch.tensor([first, last], dtype=torch.float64)
    return torch.cat([ends[:1], first + (last - first) * inner, ends[1:]])
