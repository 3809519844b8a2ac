"""urn train digits: a few steps, going on after an interruption, and drawing from what came out."""

from __future__ import annotations

import json

import pytest
import torch
from cli_runs import fails, run, tensors

import urn.nets
from urn.nets import load_digits, train_digits

QUICK = ("train", "digits", "--no-score", "--out")


def test_trains_what_the_library_trains(tmp_path):
    result = run(*QUICK, tmp_path / "cli", "--steps", 2, "--seed", 5)
    train_digits(tmp_path / "library", steps=2, seed=5, progress=False, score=False)
    one, other = (load_digits(tmp_path / name / "digits.safetensors").net.state_dict() for name in ("cli", "library"))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert json.loads((tmp_path / "cli" / "digits.json").read_text())["steps"] == 2
    assert f"urn sample {tmp_path / 'cli'}" in result.stdout
    run("sample", tmp_path / "cli", "--count", 2, "--steps", 2, "--out", tmp_path / "out")
    assert tensors(tmp_path / "out")["x"].shape == (2, 1, 8, 8)


def test_goes_on_or_starts_anew(tmp_path):
    run(*QUICK, tmp_path, "--steps", 2)
    assert "steps was 2, is 3" in fails(*QUICK, tmp_path, "--steps", 3)
    run(*QUICK, tmp_path, "--steps", 3, "--no-resume")


def test_interruption_is_a_line(tmp_path, monkeypatch):
    def stopped(*args, **settings):
        raise urn.nets.TrainingInterrupted("training stopped after 1 of 2 updates")

    monkeypatch.setattr(urn.nets, "train_digits", stopped)
    assert run(*QUICK, tmp_path, status=130).stderr == "training stopped after 1 of 2 updates\n"


@pytest.mark.parametrize("resume", ["--resume", "--no-resume"])
def test_minutes_become_steps(tmp_path, monkeypatch, resume):
    """Timed on this machine; a checkpoint keeps the steps that were chosen first."""
    seen = []

    def noted(out, steps, seed, **settings):
        seen.append(steps)

    run(*QUICK, tmp_path, "--steps", 2)
    monkeypatch.setattr(urn.nets, "train_digits", noted)
    result = run(*QUICK, tmp_path, "--minutes", 0.1, resume)
    assert f"{seen[0]} steps" in result.stdout
    assert seen[0] == 2 if resume == "--resume" else seen[0] > 2


def test_steps_and_minutes_exclude_each_other(tmp_path):
    assert "give one of them" in fails(*QUICK, tmp_path, "--steps", 2, "--minutes", 1)
