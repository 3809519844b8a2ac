"""What a config holds of Urn's: a method by name, and a grid by name or as its times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from urn.grids import find_grid
from urn.methods import find_method

OWN = ("method", "options", "grid", "final", "plan", "source")


def checked_method(method: Any, options: Mapping[str, Any]) -> str:
    if not isinstance(method, str):
        raise ValueError(
            f"method={method!r} must be a name in urn.METHODS; for anything else compile a plan and pass plan="
        )
    find_method(method).with_options(**options)
    return method


def checked_grid(grid: Any) -> str | list[float] | None:
    if grid is None:
        return None
    if isinstance(grid, str):
        find_grid(grid)
        return grid
    if callable(grid):
        raise ValueError(
            f"grid={grid!r} must be a name in urn.GRIDS or a list of times: a config cannot hold a function"
        )
    return [float(t) for t in grid]
