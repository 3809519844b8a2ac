"""How a scheduler of diffusers is put on the kit's grid: its own settings, never its attributes.

```
nodes    a table of betas (`trained_betas`) that has one entry a node, of which the scheduler takes every one: no time is rounded,
         and the network is shown the time of its state. Flow schedulers take the nodes as `sigmas`
spaced   where the settings choose a spacing (karras, exponential, beta, lu): a table between the grid's ends, even in lambda, on
         which the scheduler spaces its own steps. Of 100,001 entries where it rounds times to entries, so that this is small; of
         1,001 where it interpolates
```
Schedulers that end at their table's smallest sigma end at the grid's last node; of the others the last timestep, the one that
goes to sigma = 0, is left out unless the grid ends there, as pipelines do with `denoising_end`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from urn.plan import PlanError

from .pipeline import EDM, FLOW_MATCH, RATIO

SPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")
TABLE = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr"),
    *("snr_shift_scale", "sigma_min", "sigma_max", "shift", "flow_shift", "sampling_eps"),
)
ENDS = ("timestep_spacing", "steps_offset", "final_sigmas_type", "set_alpha_to_one")
OWN_GRID = (*TABLE, *ENDS)  # settings that the kit's grid stands in for; they act on the scheduler's own

TO_SMALLEST = ("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep", "SASolver")
# flow sigmas: times are 0 to 1,000,000, for they are cut to integers; the betas are not used, but must not make alpha 0
FINE_FLOW = {"num_train_timesteps": 1_000_000, "beta_start": 1e-7, "beta_end": 2e-5}
ENTRIES = {True: 1_001, False: 100_001}  # by whether it interpolates in its table


@dataclass(frozen=True)
class Placed:
    """Settings of the class, arguments of `set_timesteps`, and how many timesteps at the end are left out."""

    settings: dict[str, Any]
    timesteps: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0


def placed(name: str, taken: Any, shares: list[float], options: dict[str, Any]) -> Placed:
    """A scheduler's settings for the noise levels of a grid.

    Args:
        name: the class's, without "Scheduler".
        taken: the names of its settings.
        shares: sigma/(alpha + sigma) at the nodes, decreasing; 0 at the last one for sigma = 0.
        options: the settings asked for.

    Raises:
        PlanError: it cannot be put there.
    """
    steps, to_zero = len(shares) - 1, shares[-1] == 0
    inner = shares[:-1] if to_zero else shares
    left_out, count = (0, steps) if to_zero else (1, steps + 1)
    if shares[0] == 1 and name not in ("IPNDM", *FLOW_MATCH):
        raise PlanError(f"{name}Scheduler takes no start at alpha = 0, where sigma/alpha is infinite")
    if to_zero and options.get("final_sigmas_type") == "sigma_min":
        raise PlanError("with final_sigmas_type=sigma_min it ends at its table's smallest sigma, never at 0")
    if options.get("use_flow_sigmas") and name == "UniPCMultistep":
        found = FINE_FLOW | {"flow_shift": 1.0, "final_sigmas_type": "zero"}
        return Placed(found, {"sigmas": np.array(inner)}, left_out)
    if options.get("use_flow_sigmas"):
        raise PlanError("use_flow_sigmas starts at pure noise and ends at the data: it runs on its own grid only")
    if name in EDM or name == "ScoreSdeVe":
        own = {"sigma_min": _ratio(inner[-1]), "sigma_max": _ratio(inner[0])}
        return Placed(own, {"num_inference_steps": count}, left_out)
    if name == "FlowMatchHeunDiscrete":
        raise PlanError("it starts at pure noise and ends at the data: it runs on its own grid only")
    if name == "FlowMatchEulerDiscrete":
        return Placed({}, {"sigmas": inner}, left_out)
    if name in ("LTXEulerAncestralRF", "MiniMaxH3"):  # both want the zero; LTX makes it a timestep, which does nothing
        return Placed({}, {"sigmas": [*inner, 0.0]}, left_out + (name == "LTXEulerAncestralRF"))
    if name == "IPNDM":
        return Placed({"trained_betas": [_sigma(s) for s in shares]}, {"num_inference_steps": steps})
    if name == "DDPMWuerstchen":
        times = [_wuerstchen_time(s) for s in shares]
        return Placed({}, {"timesteps": times}, 1)
    if any(options.get(spacing) for spacing in SPACINGS):
        if to_zero and name in ("DEISMultistep", "SASolver"):
            raise PlanError("it ends at its table's smallest sigma, never at 0")
        found = _table(_even_in_lambda(inner[0], inner[-1], ENTRIES[name in RATIO]))
        last = {"final_sigmas_type": options.get("final_sigmas_type", "zero")} if "final_sigmas_type" in taken else {}
        return Placed(found | last, {"num_inference_steps": count}, left_out)
    if name in TO_SMALLEST:
        if to_zero and "final_sigmas_type" not in taken:
            raise PlanError("it ends at its table's smallest sigma, never at 0")
        found = _table(inner)
        if name == "DPMSolverSinglestep" and to_zero:
            return Placed(found | {"final_sigmas_type": "zero"}, {"timesteps": list(range(steps - 1, -1, -1))})
        found |= {"timestep_spacing": "trailing" if to_zero else "linspace"} if "timestep_spacing" in taken else {}
        found |= {"final_sigmas_type": "zero" if to_zero else "sigma_min"} if "final_sigmas_type" in taken else {}
        return Placed(found, {"num_inference_steps": steps})
    if name == "PNDM" and not options.get("skip_prk_steps"):  # its Runge-Kutta steps want entries halfway too
        return Placed(
            _table(_with_midpoints(inner)) | {"timestep_spacing": "leading", "set_alpha_to_one": True},
            {"num_inference_steps": count},
            left_out,
        )
    ends: dict[str, Any] = {"timestep_spacing": "linspace" if name in RATIO else "leading", "set_alpha_to_one": True}
    if "snr_shift_scale" in taken:
        ends["snr_shift_scale"] = 1.0
    ends = {key: value for key, value in ends.items() if key in taken}
    return Placed(_table(inner) | ends, {"num_inference_steps": count}, left_out)


def _ratio(share: float) -> float:
    return share / (1 - share)


def _sigma(share: float) -> float:
    return float(share / np.hypot(share, 1 - share))


def _table(shares: Any) -> dict[str, Any]:
    """A table of betas with these noise levels, the first one last."""
    ratio = np.array([_ratio(s) for s in shares][::-1])
    kept = 1 / (1 + ratio**2)
    first = ratio[0] ** 2 * kept[0]
    # 1 - kept[k] / kept[k - 1], without cancellation
    rest = (ratio[1:] ** 2 - ratio[:-1] ** 2) * kept[1:]
    return {"trained_betas": [float(first), *rest.tolist()], "num_train_timesteps": len(ratio)}


def _even_in_lambda(first: float, last: float, entries: int) -> Any:
    logs = np.linspace(np.log(_ratio(first)), np.log(_ratio(last)), entries)
    return 1 / (1 + np.exp(-logs))


def _with_midpoints(shares: list[float]) -> list[float]:
    """The nodes with one more level before each, halfway in lambda; before the first one, as far again."""
    logs = np.log([_ratio(s) for s in shares])
    before = np.concatenate([[logs[0] + (logs[0] - logs[1]) / 2], (logs[1:] + logs[:-1]) / 2])
    woven = np.stack([before, logs], 1).reshape(-1)
    both: list[float] = (1 / (1 + np.exp(-woven))).tolist()
    return both


def _wuerstchen_time(share: float) -> float:
    """Where cos^2(pi/2 (t + s)/(1 + s)) over its start is alpha^2, with s = 0.008."""
    s = 0.008
    kept = ((1 - share) / np.hypot(share, 1 - share)) ** 2
    start = np.cos(s / (1 + s) * np.pi / 2)
    return float(max(np.arccos(np.sqrt(kept) * start) / (np.pi / 2) * (1 + s) - s, 0.0))
