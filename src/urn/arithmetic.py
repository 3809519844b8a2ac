"""The one thing that the executor does to states: the weighted sum of registers.

For torch tensors it is one pass over memory per term, in place after the first, and accumulates half precision in
float32. Anything else that has `+` and `*` by a number (NumPy and JAX arrays, affine numbers) goes through these; arrays of
half precision are summed in float32 too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.plan import Array, Register

HALF = (torch.float16, torch.bfloat16)


def weighted_sum(weights: tuple[tuple[Any, Register], ...], registers: Mapping[Register, Any]) -> Any:
    """sum_i w_i x_i over (weight, register) pairs; a weight is a float, an `Array`, or a tensor that carries a gradient."""
    weight, register = weights[0]
    value = registers[register]
    if isinstance(value, Tensor):
        if len(weights) == 1 and isinstance(weight, (int, float)) and weight == 1:
            return value
        return _torch_sum(weights, registers, value.dtype)
    dtype = getattr(value, "dtype", None)
    half = str(dtype) in ("float16", "bfloat16")
    total = _scaled(weight, value.astype("float32") if half else value)
    for weight, register in weights[1:]:
        term = registers[register]
        total = total + _scaled(weight, term.astype("float32") if half else term)
    return total.astype(dtype) if half else total


def _torch_sum(weights: tuple[tuple[Any, Register], ...], registers: Mapping[Register, Any], dtype: torch.dtype) -> Any:
    half = dtype in HALF
    weight, register = weights[0]
    value = registers[register]
    value = value.float() if half else value
    total = value * (weight if isinstance(weight, (int, float)) else _like(weight, value))
    for weight, register in weights[1:]:
        if isinstance(weight, (int, float)):
            total.add_(registers[register], alpha=weight)
        else:  # `to`, for half precision times a number on its own would stay in half precision
            total = total + registers[register].to(total.dtype) * _like(weight, total)
    return total.to(dtype) if half else total


def _scaled(weight: Any, value: Any) -> Any:
    if isinstance(weight, Array):
        weight = np.asarray(weight.values, dtype=getattr(value, "dtype", None))
    return value * weight


def _like(weight: Array | Tensor, value: Tensor) -> Tensor:
    """A coefficient that is not a float as a tensor of the state's dtype and device."""
    raw = torch.tensor(weight.values) if isinstance(weight, Array) else weight
    return raw.to(device=value.device, dtype=value.dtype)
