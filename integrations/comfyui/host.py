"""What ComfyUI's model says of its noise, as an Urn process, and grids as its SIGMAS."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable
from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor

import urn

EMPTY = torch.FloatTensor([])  # what ComfyUI's schedulers give for a denoise of 0


def process_of(model_sampling: Any) -> tuple[urn.processes.Process, int]:
    """The process of a ComfyUI model's `model_sampling`, and how many noise levels it was trained at.

    A flow (CONST) has its shift in its table: s = shift u / (1 + (shift - 1) u) at u = 1/T, 2/T, ..., 1. Continuous EDM
    models are VE; of all others the table of sigmas is taken, which is that of a variance-preserving network.

    Raises:
        ValueError: a flow whose table is of another kind, or a table that does not increase.
    """
    sigmas = model_sampling.sigmas.detach().double().cpu()
    count = len(sigmas)
    if isinstance(model_sampling, comfy.model_sampling.CONST):
        u = torch.arange(1, count + 1, dtype=torch.float64) / count
        middle = count // 2 - 1
        s = float(sigmas[middle])
        shift = s * (1 - float(u[middle])) / (float(u[middle]) * (1 - s)) if 0 < s < 1 else math.nan
        process = urn.Flow(round(shift, 6)) if shift > 0 else None
        if process is None or not torch.allclose(process.sigma(u), sigmas, rtol=1e-3, atol=1e-5):
            raise ValueError("Urn: this flow's sigmas are not those of a shift; make SIGMAS with another scheduler")
        return process, count
    if isinstance(model_sampling, comfy.model_sampling.ModelSamplingContinuousEDM):
        return urn.VE(float(model_sampling.sigma_min), float(model_sampling.sigma_max)), count
    if not bool((sigmas.diff() > 0).all()) or not float(sigmas[0]) > 0:
        raise ValueError("Urn: this model's table of sigmas does not increase from above 0")
    return urn.Tabulated(tuple((1 / (1 + sigmas**2)).tolist())), count


def sigmas_of(process: urn.processes.Process, times: Tensor) -> Tensor:
    """ComfyUI's sigmas at times of a process, float32: sigma on a flow, sigma/alpha elsewhere."""
    sigma = process.sigma(times)
    return (sigma if isinstance(process, urn.Flow) else sigma / process.alpha(times)).float()


def grid_sigmas(
    model_sampling: Any, grid: str | Callable[..., Tensor], steps: int, denoise: float = 1.0, **options: Any
) -> Tensor:
    """SIGMAS of a grid on a model, from the noise down to 0: of a grid that ends at a small noise, one step fewer and then 0.

    With denoise below 1 the last `steps` steps of one of int(steps / denoise), as ComfyUI's own schedulers.

    Raises:
        ValueError: steps below 1, an unknown grid or option, or a model that the grid is not for.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r} must be an integer of at least 1")
    if not 0 <= denoise <= 1:
        raise ValueError(f"denoise={denoise!r} must be between 0 and 1")
    if denoise == 0:
        return EMPTY.clone()
    process, levels = process_of(model_sampling)
    function = urn.grids.find_grid(grid) if isinstance(grid, str) else grid
    takes = list(inspect.signature(function).parameters)[2:]
    if unknown := [name for name in options if name not in takes]:
        raise ValueError(f"grid {grid!r} has no option {', '.join(unknown)}; its options: {', '.join(takes) or 'none'}")
    if "levels" in takes:
        options = {"levels": levels, **options}
    made = functools.partial(function, **options)
    total = int(steps / denoise)
    sigmas = sigmas_of(process, urn.grids.grid_times(process, total, made))
    if sigmas[-1] > 0:
        kept = sigmas[:1] if total == 1 else sigmas_of(process, urn.grids.grid_times(process, total - 1, made))
        sigmas = torch.cat([kept, kept.new_zeros(1)])
    return sigmas[-(steps + 1) :] if denoise < 1 else sigmas


def read_options(text: str | None) -> dict[str, Any]:
    """The options of a text field: a JSON object, or nothing.

    Raises:
        ValueError: anything else.
    """
    try:
        options = json.loads(text) if text and text.strip() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f'options={text!r} is not JSON, as in {{"eta": 0.5}}: {error}') from None
    if not isinstance(options, dict):
        raise ValueError(f'options={text!r} must be a JSON object, as in {{"eta": 0.5}}')
    return options
