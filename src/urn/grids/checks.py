"""What times a process takes as a grid."""

from __future__ import annotations

import math

from torch import Tensor

from urn.processes import Process


def check_times(process: Process, times: Tensor) -> None:
    """Refuse times that are no grid of the process, naming the first offender."""
    if times.ndim < 1 or len(times) < 2:
        raise ValueError(
            f"grid must be one-dimensional with at least 2 times, not of shape {tuple(times.shape)}; or (steps + 1, *F), a "
            "time per frame"
        )
    if times.ndim > 1:
        _check_frames(process, times.detach())
        return
    values = times.detach().tolist()
    low, high = process.domain
    for i, t in enumerate(values):
        if not math.isfinite(t) or not low <= t <= high:
            raise ValueError(f"grid[{i}]={t!r} is outside the process {process}, whose t is in [{low}, {high}]")
    direction = -1 if values[-1] < values[0] else 1
    for i in range(len(values) - 1):
        if direction * (values[i + 1] - values[i]) <= 0:
            what = "repeated" if values[i + 1] == values[i] else "not monotone"
            raise ValueError(f"grid is {what} at [{i}], [{i + 1}]: {values[i]!r}, {values[i + 1]!r}")


def _check_frames(process: Process, times: Tensor) -> None:
    """The same of a time per frame, (steps + 1, *F): some may rest in a step, none may turn back."""
    low, high = process.domain
    if not bool(((times >= low) & (times <= high)).all()):
        raise ValueError(f"grid has a time outside the process {process}, whose t is in [{low}, {high}]")
    moved = times.diff(dim=0).flatten(1)
    downwards = bool(times[-1].sum() < times[0].sum())
    for i, step in enumerate(-moved if downwards else moved):
        if bool((step < 0).any()) or not bool((step > 0).any()):
            raise ValueError(f"grid at [{i}], [{i + 1}]: every frame must rest or go on, and one at least go on")
