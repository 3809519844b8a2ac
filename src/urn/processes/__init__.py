"""Processes: how data become noise, x_t = alpha_t x0 + sigma_t epsilon, some with a side input. One file per family."""

from .blocks import Blocks
from .bridge import Bridge
from .flow import Flow
from .interpolant import Interpolant
from .mean_reverting import MeanReverting, ResShift
from .ornstein_uhlenbeck import OUVE
from .paths import LinearSignal, Polynomial, Trigonometric
from .phase_space import PhaseSpace
from .process import (
    CoupledProcess,
    Process,
    SideProcess,
    components_of,
    is_between,
    process_from_json,
    process_to_json,
    register_process,
    with_side_input,
)
from .residual import RDDM
from .tabulated import Tabulated, cosine_betas, linear_betas, scaled_linear_betas
from .variance_exploding import VE
from .variance_preserving import VP, Cosine, SubVP

__all__ = [
    "OUVE",
    "RDDM",
    "VE",
    "VP",
    "Blocks",
    "Bridge",
    "Cosine",
    "CoupledProcess",
    "Flow",
    "Interpolant",
    "LinearSignal",
    "MeanReverting",
    "PhaseSpace",
    "Polynomial",
    "Process",
    "ResShift",
    "SideProcess",
    "SubVP",
    "Tabulated",
    "Trigonometric",
    "components_of",
    "cosine_betas",
    "is_between",
    "linear_betas",
    "process_from_json",
    "process_to_json",
    "register_process",
    "scaled_linear_betas",
    "with_side_input",
]
