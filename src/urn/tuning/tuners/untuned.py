"""No tuning: the best of the plans that every search is seeded with."""

from __future__ import annotations

from urn.tuning.search import Search
from urn.tuning.tuners import tuner


@tuner(source="")
def untuned(search: Search) -> None:
    """The best untuned plan: methods times grids, which every search measures first."""
