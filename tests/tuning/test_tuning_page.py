"""The page on tuning and its example do what they say: the code runs as it stands, and every tuner is on the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from urn.tuning import load, tuners

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tuning.md").read_text()


def test_the_code_of_the_page_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "tuning.md", "exec", dont_inherit=True), names)
    assert "held-out starts" in capsys.readouterr().out
    assert names["record"].gain > 1


def test_every_tuner_is_on_the_page():
    for name in tuners():
        assert f"`{name}`" in PAGE, name


def test_the_example_runs(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "tune_digits.py"), "--out", str(tmp_path), "--starts", "32"]
    found = subprocess.run([*command, "--tuner", "grid"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert load(tmp_path / "plan.json").plan.nfe == 6
    assert "drew (64, 1, 8, 8)" in found.stdout
