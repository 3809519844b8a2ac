"""`python -m benchmarks [--quick] [--only PART] [--json DIR] [--no-page]`: measure, print, write the page."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import accuracy, overhead, precision, tuned, tuners
from benchmarks.machine import facts, load
from benchmarks.page import write_page
from benchmarks.screen import show

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PARTS = {
    "accuracy": accuracy.measure,
    "overhead": overhead.measure,
    "precision": precision.measure,
    "tuned": tuned.measure,
    "tuners": tuners.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; a quick run is never written to the page."""
    options = _options(arguments)
    console = Console(width=180 if not sys.stdout.isatty() else None)
    for name in [options.only] if options.only else list(PARTS):
        result = run(name, options.quick, console)
        show(result, console)
        if options.json:
            folder = Path(options.json)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        if not (options.no_page or options.quick):
            write_page(PAGE, result)
            console.print(f"written: {PAGE}")
    return 0


def run(name: str, quick: bool, console: Console) -> dict[str, Any]:
    """One part, with where and how long it ran."""
    machine, started = facts(), time.perf_counter()
    result = PARTS[name](quick, lambda line: console.print(f"[dim]{name}: {line}[/dim]", highlight=False))
    machine["load at the end"] = load()
    return {**result, "machine": machine, "seconds": round(time.perf_counter() - started, 1)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Urn beside the installed diffusers.")
    parser.add_argument("--quick", action="store_true", help="a few configurations in under a minute; writes no page")
    parser.add_argument("--only", choices=list(PARTS), help="one part; the page keeps the others as they are")
    parser.add_argument("--json", metavar="DIR", help="write accuracy.json, overhead.json, ... to this folder")
    parser.add_argument("--no-page", action="store_true", help=f"leave {PAGE.parent.name}/{PAGE.name} as it is")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
