"""What every metric accepts: two finite tensors of equal sample shape, turned into float64 points."""

from __future__ import annotations

import torch
from torch import Tensor


def as_points(name: str, value: Tensor) -> Tensor:
    """Flatten a tensor of shape (N, *S) to float64 points of shape (N, d), or say what is wrong with it.

    Args:
        name: what the caller calls the tensor, for the messages.
        value: real (floating or integer) values, N >= 2, all finite. A tensor of shape (N,) is N points with d = 1.

    Raises:
        TypeError: not a tensor, or a complex one.
        ValueError: fewer than two points, points without coordinates, or values that are not finite.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape (N, *S), got {type(value).__name__}")
    if value.is_complex():
        raise TypeError(f"{name} must be real, got {value.dtype}; torch.view_as_real gives a real tensor")
    if value.ndim == 0 or len(value) < 2 or value.numel() == 0:
        raise ValueError(f"{name} must have shape (N, *S) with N >= 2 and S not empty, got {tuple(value.shape)}")
    value = value.detach()
    if value.device.type == "mps":  # Apple's GPUs have no float64
        value = value.cpu()
    points = value.reshape(len(value), -1).to(torch.float64)
    spoilt = int((~torch.isfinite(points).all(dim=1)).sum())
    if spoilt:
        raise ValueError(f"{name} must be finite, got NaN or infinity in {spoilt} of {len(points)} rows")
    return points


def as_pair(samples: Tensor, data: Tensor, naming: str = "{}") -> tuple[Tensor, Tensor]:
    """Both sets as points on the device of ``samples``, shifted by the mean of ``data``.

    No metric sees a common shift, and |x|^2 + |y|^2 - 2 x.y keeps its digits only near the origin.

    Args:
        samples: shape (N, *S).
        data: shape (M, *S).
        naming: how messages name the sets, where the caller has changed them: ``"features({})"``.

    Returns:
        float64 tensors of shapes (N, d) and (M, d).

    Raises:
        TypeError, ValueError: as `as_points`, and where the sample shapes S differ.
    """
    left, right = naming.format("samples"), naming.format("data")
    x, y = as_points(left, samples), as_points(right, data)
    if samples.shape[1:] != data.shape[1:]:
        shapes = f"{tuple(samples.shape[1:])} and {tuple(data.shape[1:])}"
        raise ValueError(f"{left} and {right} must have the same sample shape S, got {shapes}")
    y = y.to(x.device)
    centre = y.mean(dim=0)
    return x - centre, y - centre
