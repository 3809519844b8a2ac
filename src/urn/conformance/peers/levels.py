"""Which noise level a scheduler of diffusers means by its times and sigmas, and what its network answers there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .network import Network
from .pipeline import EDM, FLOW_MATCH, short_name

PREDICTIONS = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v", "flow_prediction": "velocity"}


def answered(scheduler: Any, network: Network, scaled: Tensor, t: Any) -> Tensor:
    """What the network of a scheduler answers where it is shown the scaled state and t."""
    name, level = (
        short_name(scheduler),
        share_of(scheduler, float(t.flatten()[0]) if isinstance(t, Tensor) else float(t)),
    )
    kind = scheduler.config.get("prediction_type")
    if name in EDM:
        ratio, data = level / (1 - level), float(scheduler.config.sigma_data)
        total = math.hypot(ratio, data)
        x, c_out = scaled * total, ratio * data / total * (-1 if kind == "v_prediction" else 1)
        residual: Tensor = network(x, "ratio", level, "x0") - (data / total) ** 2 * x
        return residual / c_out
    if name == "MiniMaxH3":
        return -network(scaled, "flow", level, "velocity")
    if name in FLOW_MATCH:
        return network(scaled, "flow", level, "velocity")
    units = "flow" if scheduler.config.get("use_flow_sigmas") else "vp"
    wanted = "v" if name == "IPNDM" else PREDICTIONS[kind or "epsilon"]
    return network(scaled, units, level, wanted)


def share_of(scheduler: Any, t: float) -> float:
    """The noise level, sigma/(alpha + sigma), that a scheduler names by t; between its table's entries linear in lambda."""
    name = short_name(scheduler)
    if name == "MiniMaxH3":
        return 1 - t
    if name in FLOW_MATCH or scheduler.config.get("use_flow_sigmas"):
        return t / float(scheduler.config.num_train_timesteps)
    if name in ("IPNDM", "CosineDPMSolverMultistep"):
        return 1.0 if t == 1 else 1 - 1 / (1 + math.tan(t * math.pi / 2))
    if name in EDM:
        return 1 - 1 / (1 + math.exp(4 * t))
    if name == "DDPMWuerstchen":
        return _share_of_kept(float(scheduler._alpha_cumprod(torch.tensor([t], dtype=torch.float64), "cpu")))
    low = min(max(math.floor(t), 0), len(scheduler.alphas_cumprod) - 1)
    high = min(low + 1, len(scheduler.alphas_cumprod) - 1)
    ends = [_share_of_kept(float(scheduler.alphas_cumprod[k])) for k in (low, high)]
    if t <= low or low == high:
        return ends[0]
    logs = [math.log(s) - math.log1p(-s) for s in ends]
    return 1 / (1 + math.exp(-(logs[0] + (t - low) * (logs[1] - logs[0]))))


def _share_of_kept(kept: float) -> float:
    """From alpha^2 under a variance-preserving process."""
    alpha, sigma = math.sqrt(kept), math.sqrt(1 - kept)
    return sigma / (alpha + sigma)


def first_and_last(scheduler: Any) -> tuple[float, float]:
    """The noise levels, sigma/(alpha + sigma), at which a scheduler's own grid begins and ends."""
    sigmas = getattr(scheduler, "sigmas", None)
    name = short_name(scheduler)
    if name == "IPNDM":
        return (*(_share_of_kept(1 - float(scheduler.betas[k]) ** 2) for k in (0, -1)),)  # type: ignore[return-value]
    if name == "ScoreSdeVe":
        return float(1 - 1 / (1 + scheduler.discrete_sigmas[-1])), 0.0
    if sigmas is not None:
        first, last = float(sigmas[0]), float(sigmas[-1])
        flow = name in FLOW_MATCH or scheduler.config.get("use_flow_sigmas")
        return (first, last) if flow else (first / (1 + first), last / (1 + last))
    kept = float(getattr(scheduler, "final_alpha_cumprod", 1.0))
    return share_of(scheduler, float(scheduler.timesteps[0])), _share_of_kept(kept)
