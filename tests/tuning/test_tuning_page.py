"""The page on tuning and its example do what they say: the code runs as it stands, and every tuner is on the page."""

from __future__ import annotations

import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

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


class Denoiser(torch.nn.Module):
    """A network as EDM saves it, of one grey pixel's Gaussian."""

    img_channels, img_resolution = 1, 4

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s = sigma.reshape(-1, 1, 1, 1)
        return 0.3 + 0.04 / (0.04 + s**2) * (x - 0.3)


def test_a_network_of_edm_is_tuned_and_drawn_from(tmp_path, capsys):
    weights = tmp_path / "network.pkl"
    weights.write_bytes(pickle.dumps({"ema": Denoiser()}))
    example = runpy.run_path(str(ROOT / "examples" / "edm_fid.py"))
    small = ["--starts", "16", "--count", "3", "--seconds", "5", "--steps", "3", "--out", str(tmp_path / "out")]
    example["main"](["--weights", str(weights), *small])
    assert "held-out starts" in capsys.readouterr().out
    assert load(tmp_path / "out" / "plan.json").plan.nfe == 3
    assert sorted(path.name for path in (tmp_path / "out" / "unipc_3").iterdir()) == [f"00000{i}.png" for i in range(3)]
