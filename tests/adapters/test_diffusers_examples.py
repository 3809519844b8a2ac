"""The examples run as they stand, and print what their text says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import urn
from urn.adapters.diffusers import load
from urn.nets import digits

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *options: str) -> str:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *options]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def numbers(text: str) -> dict[str, float]:
    return {name.strip(): float(value) for name, value in re.findall(r"^  (\S.*?) {2,}([\d.]+)", text, re.MULTILINE)}


def test_digits_of_an_exact_network():
    errors = numbers(run("diffusers_pipeline.py"))
    assert len(errors) == 6
    assert min(errors, key=errors.__getitem__).startswith("UrnScheduler adams_pc_3")


def test_digits_of_a_trained_network():
    distances = numbers(run("digits_unet.py", "--count", "100", "--calls", "4"))
    assert len(distances) == 7
    same = distances["UrnScheduler dpmpp_2m_lower_final, times as above"]
    assert distances["DPMSolverMultistepScheduler"] == pytest.approx(same, abs=1e-3)


def test_the_trained_network_draws_digits():
    """As a model of Urn: nearer to held-out digits than noise with their mean and spread."""
    model, (held_out, _) = load(EXAMPLES / "digits_unet"), digits("test")
    x = urn.sample(model, "adams_pc_3", shape=(400, *model.shape), steps=8, grid="quadratic", seed=0)
    blurred = held_out.mean(0) + held_out.std(0) * torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    distance = urn.metrics.frechet_distance
    assert distance(x, held_out) < 0.8 < 4 < distance(blurred, held_out)
