"""The page on other libraries' samplers: its code runs as it stands, and it holds every scheduler and sampler."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from urn.conformance.peers.facts import NOT_RUN
from urn.conformance.peers.schedulers import scheduler_names

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"


def test_the_code_of_the_page_runs(capsys: Any) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, "peers.md", "exec", dont_inherit=True), names)
    printed = capsys.readouterr().out
    assert names["report"].order < 2.25
    assert re.search(r"documented order 3(.|\n)*FAIL pass(.|\n)*mine: passed", printed)


def test_every_scheduler_has_a_line() -> None:
    page = PAGE.read_text()
    for name in scheduler_names():
        short = name.removesuffix("Scheduler")
        assert (f"| `{name}`" if short in NOT_RUN else f"| `{short}") in page, name
