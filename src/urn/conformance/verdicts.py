"""What the kit found on the registered methods when it was last run on all of them: `make methods`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).with_name("verdicts.json")

Verdicts = dict[str, dict[str, dict[str, float | bool | None]]]


@lru_cache(maxsize=1)
def recorded_verdicts() -> Verdicts:
    """By method, by process ("VP", "flow", "VE"): `passed`, and the fitted `order`, None where none was measured."""
    found: Verdicts = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def in_words(name: str) -> str:
    """A method's verdict in a line: whether it passed, and the fitted orders on VP, a flow and VE."""
    known = recorded_verdicts().get(name)
    if not known:
        return "not run"
    orders = ", ".join("-" if one["order"] is None else f"{one['order']:.1f}" for one in known.values())
    failed = [label for label, one in known.items() if not one["passed"]]
    return ("passes" if not failed else f"fails on {', '.join(failed)}") + f" ({orders})"
