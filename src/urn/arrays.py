"""Which library a state belongs to: torch, NumPy or JAX. JAX is never imported here, only recognised."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def library(value: Any) -> str | None:
    """ "torch", "numpy" or "jax"; None for what is none of them, as an affine number.

    Example:
        >>> library(np.zeros(2))
        'numpy'
    """
    if isinstance(value, Tensor):
        return "torch"
    if isinstance(value, np.ndarray):
        return "numpy"
    return "jax" if type(value).__module__.startswith("jax") and hasattr(value, "dtype") else None


def as_tensor_of(value: Any) -> Tensor | None:
    """A state as a tensor, float32 where NumPy has no such floating type; None for what is no array.

    Example:
        >>> as_tensor_of(np.zeros(2)).dtype
        torch.float64
    """
    found = library(value)
    if found is None or found == "torch":
        return value if found else None
    array = np.asarray(value)
    if array.dtype.kind not in "iufb":  # bfloat16 is not NumPy's own
        array = array.astype(np.float32)
    return torch.from_numpy(np.array(array))
