"""Urn's methods and grids in the lists of ComfyUI's own nodes: KSampler, KSamplerSelect, BasicScheduler and those like them.

The environment variable URN_COMFYUI_LISTS says which methods: names of Urn's with commas between them, with `:x0` after one
that is to end with the model's prediction (listed as urn_NAME_x0); `all`; or `none`, for neither methods nor grids.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import comfy.samplers
from torch import Tensor

from urn.adapters.k_diffusion import sampler

from .host import grid_sigmas
from .nodes import COMPUTED, METHODS

VARIABLE = "URN_COMFYUI_LISTS"
FEW = (
    *("deis_3", "adams_pc_3", "unipc_3:x0", "dpmpp_2m:x0", "dpmpp_3m:x0", "dpmpp_2s", "res_2s", "res_3s"),
    *("dpmpp_2m_sde:x0", "sa_solver_3"),
)
# names in the lists, and the grids that they are; ComfyUI's own have their names already, and `ays` is for SDE methods alone
GRIDS = {
    "urn_uniform": "uniform",
    "urn_quadratic": "quadratic",
    "urn_lambda": "lambda",
    "urn_arctan": "arctan",
    "urn_gits": "gits",
    "urn_optimal_steps": "optimal_steps",
    "beta57": "beta57",
    "bong_tangent": "bong_tangent",
}


def register(which: str | None = None) -> list[str]:
    """Add the methods and grids to ComfyUI's lists, and give back the names added; a name that is there is left as it is.

    Args:
        which: as URN_COMFYUI_LISTS, which it is read from by default.

    Raises:
        ValueError: a name that is no method for ComfyUI.
    """
    chosen = (os.environ.get(VARIABLE, "") if which is None else which).strip()
    if chosen == "none":
        return []
    names = {"": FEW, "all": tuple(METHODS)}.get(chosen) or tuple(name.strip() for name in chosen.split(","))
    if unknown := [name for name in names if name.removesuffix(":x0") not in METHODS]:
        raise ValueError(f"{VARIABLE}: {', '.join(unknown)} is not a method for ComfyUI; `urn methods` lists them")
    host, added = comfy.samplers, []
    for name in names:
        method, _, final = name.partition(":")
        listed = f"urn_{method}_x0" if final else f"urn_{method}"
        # KSampler finds the function of a name in this module
        if not hasattr(host.k_diffusion_sampling, f"sample_{listed}"):
            setattr(host.k_diffusion_sampling, f"sample_{listed}", sampler(method, final=final or None))
        added += _append(listed, host.KSAMPLER_NAMES, host.SAMPLER_NAMES, host.KSampler.SAMPLERS)
    for listed, grid in GRIDS.items():
        if listed not in host.SCHEDULER_HANDLERS:
            handler = functools.partial(_scheduled, grid=grid)
            host.SCHEDULER_HANDLERS[listed] = host.SchedulerHandler(handler)
            added += _append(listed, host.SCHEDULER_NAMES, host.KSampler.SCHEDULERS)
    return added


def _scheduled(model_sampling: Any, steps: int, grid: str) -> Tensor:
    # these lists have no fields: latents have a std of about 1, and a fine grid must have more points than are chosen
    options = {"data_std": 1.0, "candidates": max(64, 2 * steps)} if grid in COMPUTED else {}
    return grid_sigmas(model_sampling, grid, steps, **options)


def _append(name: str, *lists: list[str]) -> list[str]:
    new = all(name not in one for one in lists)
    for one in lists:  # some of them are one and the same list
        if name not in one:
            one.append(name)
    return [name] if new else []
