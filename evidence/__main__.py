"""`python -m evidence [--only TEXT] [--full] [--json FILE] [--list]`: run the cases, print them, write docs/evidence.md."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

from rich.console import Console
from rich.table import Table

from evidence.book import Case, Result, all_cases, run_case
from evidence.page import page

PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"


def main() -> int:
    """Exit status 1 if a case crashed; a claim that does not hold is a finding, and no error."""
    options = _options()
    chosen = [one for one in all_cases() if options.only.lower() in f"{one.title} {one.source}".lower()]
    if not chosen:
        print(f"no case has {options.only!r} in its title or source", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(one.title for one in chosen))
        return 0
    results, crashed = _run(chosen, options.full)
    _print(results)
    if options.json:
        Path(options.json).write_text(json.dumps([result.to_json() for result in results], indent=1) + "\n")
    if not options.only and not crashed:
        PAGE.write_text(page(results, options.full))
        print(f"written: {PAGE}")
    return 1 if crashed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__)
    parser.add_argument(
        "--only", default="", help="cases with this text in their title or source; the page is not written"
    )
    parser.add_argument("--full", action="store_true", help="full sizes: minutes instead of seconds a case")
    parser.add_argument("--json", help="write the records to this file")
    parser.add_argument("--list", action="store_true", help="list the titles and stop")
    return parser.parse_args()


def _run(chosen: list[Case], full: bool) -> tuple[list[Result], bool]:
    results, crashed = [], False
    for one in chosen:
        print(f"{one.title} ...", flush=True)
        try:
            results.append(run_case(one, full))
        except Exception:
            traceback.print_exc()
            crashed = True
    return results, crashed


def _print(results: list[Result]) -> None:
    table = Table("paper", "claim", "expected", "measured", "holds", "s", show_lines=True)
    for result in results:
        for i, finding in enumerate(result.findings):
            title, seconds = (result.case.title, f"{result.seconds:.0f}") if i == 0 else ("", "")
            measured = finding.measured + (f" ({finding.reason})" if finding.reason else "")
            table.add_row(title, finding.claim, finding.expected, measured, "yes" if finding.holds else "NO", seconds)
    Console(width=180).print(table)


if __name__ == "__main__":
    sys.exit(main())
