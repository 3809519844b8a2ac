"""The results on the screen."""

from __future__ import annotations

from typing import Any

import rich.table
from rich.console import Console

from benchmarks import tables, tuned_tables


def show(result: dict[str, Any], console: Console) -> None:
    """The main tables of a result."""
    if result["kind"] == "accuracy":
        largest = result["counts"][-1]
        found = [tables.headline(result, count) for count in result["counts"]]
        found += [tables.chosen(result, largest), tables.top(result, largest)]
    elif result["kind"] == "precision":
        found = [tables.precision(result, name) for name in ("bfloat16", "float16")]
    elif result["kind"] == "tuned":
        found = [one(result) for one in tuned_tables.TUNED]
    elif result["kind"] == "tuners":
        found = tuned_tables.tuners(result)
    else:
        shapes = list(dict.fromkeys(tuple(row["shape"]) for row in result["rows"]))
        found = [
            *(tables.speed(result, list(shape)) for shape in shapes),
            tables.schedulers(result),
            tables.setup(result),
            tables.noise(result),
        ]
        found.append(tables.every(result))
    for title, header, rows in found:
        table = rich.table.Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
