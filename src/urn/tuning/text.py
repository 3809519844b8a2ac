"""A record as text: what was found beside the best untuned plan, and the best of what was tried."""

from __future__ import annotations

import math

from urn.tuning.record import Entry, Record
from urn.tuning.task import Figure

SHOWN = 8  # of the trials


def table(record: Record) -> str:
    """The record in lines."""
    entries = [("tuned", record.tuned), ("untuned", record.untuned)]
    widest = max(len(entry.label) for _, entry in entries)
    lines = [
        f"{record.objective}, {record.calls} calls, {record.model}",
        f"tuner {record.tuner}: {len(record.tried)} plans, {record.evaluations:,} evaluations, {record.seconds:.1f} s, "
        f"seed {record.seed}",
        f"{'':8} {'plan':{widest}}  {f'{record.starts} training starts':>32}  {f'{record.held_out} held-out starts':>32}",
        *(
            f"{kind:8} {entry.label:{widest}}  {shown(entry.train):>32}  {shown(entry.held_out):>32}"
            for kind, entry in entries
        ),
    ]
    if record.tuned.held_out.median is not None and record.untuned.held_out.median is not None:
        lines.append(
            f"held-out starts, median {record.tuned.held_out.median:.4g} beside {record.untuned.held_out.median:.4g}, "
            f"90 % quantile {record.tuned.held_out.q90:.4g} beside {record.untuned.held_out.q90:.4g}"
        )
    if record.returned == "untuned":
        verdict = "no better than the best untuned plan on held-out starts, so that one is returned"
    elif math.isfinite(record.gain):
        verdict = f"{record.gain:.3g} times below the best untuned plan on held-out starts"
    else:
        below = record.untuned.held_out.estimate - record.tuned.held_out.estimate
        verdict = f"{below:.4g} below the best untuned plan on held-out starts"
    notes = [f"{name}: {value}" for name, value in record.notes.items()]
    return "\n".join([*lines, *notes, verdict])


def shown(figure: Figure) -> str:
    """A figure with its interval."""
    return f"{figure.estimate:.4g} [{figure.low:.4g}, {figure.high:.4g}]"


def best_tried(record: Record, count: int = SHOWN) -> list[tuple[str, int, float]]:
    """(label, calls, value) of the best trials, best first."""
    full = [(label, calls, value) for label, calls, value, pruned, _ in record.tried if not pruned]
    return sorted(full, key=lambda one: one[2])[:count]


__all__ = ["Entry", "best_tried", "shown", "table"]
