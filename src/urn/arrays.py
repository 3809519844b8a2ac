"""Which library a state belongs to, torch, NumPy or JAX, and the few things that are done to whole states beside sums.

JAX is imported only where a state is one of its arrays, or is to be one.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def is_floating(value: Any) -> bool:
    """Whether a state has a floating-point type, bfloat16 included."""
    if isinstance(value, Tensor):
        return value.is_floating_point()
    return library(value) is not None and (value.dtype.kind == "f" or str(value.dtype) == "bfloat16")


def is_traced(value: Any) -> bool:
    """Whether a state is one inside a function that JAX traces, as under `jax.jit`: it has no numbers yet."""
    return any(kind.__name__ == "Tracer" for kind in type(value).__mro__)


def empty(shape: Sequence[int], dtype: Any, device: Any) -> Any:
    """A state of no particular numbers; its type says of which library: torch.float32, np.float32, jax.numpy.float32.

    Raises:
        ValueError: no floating-point type of any of them.
    """
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return torch.empty(*shape, dtype=dtype, device=device)
    if type(dtype).__module__.startswith("jax") and is_floating(found := np.zeros((), dtype)):
        import jax.numpy as jnp

        return jnp.zeros(shape, found.dtype)
    numpy_type = isinstance(dtype, np.dtype) or (isinstance(dtype, type) and issubclass(dtype, np.floating))
    if numpy_type and np.dtype(dtype).kind == "f":
        return np.empty(shape, dtype)
    raise ValueError(f"dtype={dtype!r} must be a floating-point type, as torch.float32, or NumPy's or JAX's")


def repeated(value: Any, count: int) -> Any:
    """A state (*S) as (count, *S), every sample the same."""
    if isinstance(value, Tensor):
        return value.expand(count, *value.shape)
    return np.broadcast_to(value, (count, *value.shape)) if library(value) == "numpy" else value[None].repeat(count, 0)


def joined(parts: Sequence[Any]) -> Any:
    """Batches one after another."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    if library(parts[0]) == "numpy":
        return np.concatenate(parts)
    import jax.numpy as jnp

    return jnp.concatenate(parts)


def finite_samples(value: Any) -> Tensor:
    """For each sample whether all its numbers are finite, (B,)."""
    tensor = as_tensor_of(value)
    if tensor is None:
        raise ValueError(f"the samples are {type(value).__name__}, neither a tensor nor an array")
    return torch.isfinite(tensor).flatten(1).all(1)
