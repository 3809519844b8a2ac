"""The picture of a search: error against model calls, everything that was tried, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urn.tuning.record import Record

Point = tuple[int, float]


def front(points: Sequence[Point]) -> list[Point]:
    """The points (calls, value) that no other has fewer calls and a smaller value than, by calls."""
    kept: list[Point] = []
    for calls, value in sorted(points):
        if not kept or value < kept[-1][1]:
            if kept and kept[-1][0] == calls:
                kept.pop()
            kept.append((calls, value))
    return kept


def draw(records: Sequence[Record], untuned: Sequence[tuple[str, int, float]], path: str | Path) -> Path:
    """Write the picture of searches at one budget or several.

    Args:
        records: the searches.
        untuned: (label, calls, value on training starts) of untuned plans at other budgets.
        path: of the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'urn-samplers[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    tried = [(calls, value) for r in records for _, calls, value, pruned, _ in r.tried if not pruned]
    tried = [point for point in [*tried, *((c, v) for _, c, v in untuned)] if point[1] < float("inf")]
    axes.scatter(*_columns(tried), s=9, color="0.7", label="tried (training starts)")
    edge = front(tried)
    axes.step(*_columns(edge), where="post", color="0.4", linewidth=1, label="Pareto front")
    for kind, marker, colour in (("untuned", "o", "C0"), ("tuned", "*", "C3")):
        own: list[Any] = sorted(((r.calls, getattr(r, kind).held_out) for r in records), key=lambda one: one[0])
        x, y = [calls for calls, _ in own], [f.estimate for _, f in own]
        spread = [[max(f.estimate - f.low, 0) for _, f in own], [max(f.high - f.estimate, 0) for _, f in own]]
        axes.errorbar(x, y, yerr=spread, marker=marker, color=colour, label=f"{kind} (held-out starts)", capsize=2)
    calls = sorted({c for c, _ in tried} | {r.calls for r in records})
    axes.set(xscale="log", xlabel="model calls", ylabel=records[0].objective)
    if all(value > 0 for _, value in tried):
        axes.set_yscale("log")
    axes.set_xticks(calls, labels=[str(n) for n in calls])
    axes.minorticks_off()
    axes.legend()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path


def _columns(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [calls for calls, _ in points], [value for _, value in points]
