"""The page on diffusers does what it says: its code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import urn

PAGE = Path(__file__).parents[2] / "docs" / "diffusers.md"


def test_the_code_of_the_page_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(blocks[0], "diffusers.md", "exec", dont_inherit=True), names)
    assert "adams_pc_3 on Tabulated(1000 steps" in capsys.readouterr().out
    assert names["pipe"].scheduler.plan.nfe == 8
    exec(compile(blocks[1], "diffusers.md", "exec", dont_inherit=True), names)
    assert names["pipe"].scheduler.plan == names["plan"]
    assert isinstance(names["plan"], urn.Plan)
    assert float((names["mixed"] - names["images"]).abs().max()) > 1e-2
    exec(compile(blocks[2], "diffusers.md", "exec", dont_inherit=True), names)
    exec(compile(blocks[3], "diffusers.md", "exec", dont_inherit=True), names)
    assert names["model"].process == names["pipe"].scheduler.process
    assert names["x"].shape == (4, 3, 8, 8)
    assert float((names["batch"][1] - names["alone"][0]).abs().max()) < 1e-5
    assert float((names["batch"][0] - names["alone"][0]).abs().max()) > 1e-2
