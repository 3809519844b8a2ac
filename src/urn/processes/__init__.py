"""Processes: how data become noise, x_t = alpha_t x0 + sigma_t epsilon. One file per family."""

from .flow import Flow
from .process import Process, process_from_json, process_to_json, register_process
from .tabulated import Tabulated, cosine_betas, linear_betas, scaled_linear_betas
from .variance_exploding import VE
from .variance_preserving import VP, Cosine, SubVP

__all__ = [
    "VE",
    "VP",
    "Cosine",
    "Flow",
    "Process",
    "SubVP",
    "Tabulated",
    "cosine_betas",
    "linear_betas",
    "process_from_json",
    "process_to_json",
    "register_process",
    "scaled_linear_betas",
]
