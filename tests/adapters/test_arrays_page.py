"""The page on NumPy and JAX, and the example, do what they say: their code runs as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import urn

ROOT = Path(__file__).parents[2]


def test_the_code_of_the_page_runs():
    pytest.importorskip("jax")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "arrays.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "arrays.md", "exec", dont_inherit=True), names)
    np.testing.assert_allclose(names["in_jax"], names["x"], atol=1e-5)
    model, start = names["model_of"](names["params"]), names["start"]
    np.testing.assert_allclose(names["compiled"], urn.sample(model, names["plan"], start=start), atol=1e-5)
    np.testing.assert_allclose(names["noisy"], urn.sample(model, names["sde"], start=start, seed=0), atol=1e-5)
    kernel, step = names["params"]["kernel"], 1e-2 * np.ones((5, 5))
    up, down = ((names["run"]({"kernel": kernel + s}, start) ** 2).mean() for s in (step, -step))
    assert float((names["slope"] * step).sum()) == pytest.approx(float(up - down) / 2, rel=1e-2)


def test_the_example_runs(capsys):
    pytest.importorskip("jax")
    runpy.run_path(str(ROOT / "examples" / "jax_model.py"))
    printed = capsys.readouterr().out
    errors = [float(found) for found in re.findall(r"(\S+) from torch", printed)]
    assert len(errors) == 2
    assert max(errors) < 1e-4
    assert "the network is what its model says it is" in printed
