"""The page on ComfyUI and its example do what they say: their code runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import urn
from urn import grids

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "comfyui.md"


def test_the_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "comfyui.md", "exec", dont_inherit=True), names)
    errors = names["errors"]
    assert errors["euler", None] == pytest.approx(errors["euler", "x0"], abs=1e-12)
    for method in ("dpmpp_2m", "unipc_3"):
        assert errors[method, "x0"] < errors[method, None]
    assert errors["deis_3", None] < min(errors["deis_3", "x0"], errors["euler", None])
    flow, found = names["flow"], names["for_euler"]
    assert not torch.allclose(found, names["for_midpoint"])
    assert {len(names[name]) for name in ("for_euler", "for_midpoint", "by_steps", "aligned")} == {9}
    assert found[[0, -1]].tolist() == [flow.t_start, flow.t_end]
    assert names["read"] == names["plan"]
    model = names["target"].model(urn.VE(), "x0")
    mixed = urn.mixed(("dpmpp_2m_sde", 4), "dpmpp_2m")
    expected = urn.sample(model, mixed, start=names["start"], grid=names["sigmas"], seed=7)
    torch.testing.assert_close(names["x"], expected, rtol=1e-12, atol=1e-12)


def test_the_names_on_the_page_and_in_the_readme_are_there() -> None:
    text = PAGE.read_text()
    for name in re.findall(r"`([a-z_0-9]+)`", text.split("## Schedulers")[1].split("## Plans")[0]):
        assert name in grids.GRIDS or name in ("denoise", "model_sampling"), name
    folder = ROOT / "integrations" / "comfyui"
    displayed = re.findall(r': "(Urn [^"]+)"', (folder / "nodes.py").read_text())
    assert len(displayed) == 7
    for name in displayed:
        assert re.sub(r" \(.*\)", "", name) in (folder / "README.md").read_text()


def test_the_example_runs() -> None:
    """And its computed grid is the best of those that it prints."""
    command = [sys.executable, str(ROOT / "examples" / "comfy_grids.py")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [dict(re.findall(r"(\w+) (\d\.\d+)", line)) for line in ran.stdout.splitlines() if line.startswith("  ")]
    assert len(rows) == 6
    for row in rows:
        assert len(row) == 8
        assert min(row, key=lambda name: float(row[name])) in ("optimal_steps", "gits")
        assert float(row["optimal_steps"]) <= float(row["gits"])
