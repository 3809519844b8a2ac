"""urn tune, urn tuners and urn tuned: what they print and write, and what they refuse."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import fails, run
from PIL import Image

import urn
from urn.tuning import load

SMALL = ("--starts", 32, "--held-out", 32, "--tuner", "untuned")


def test_tune_writes_plans_that_can_be_drawn_by(tmp_path):
    result = run("tune", "digits-exact", "--steps", "4,6", *SMALL, "--storage", tmp_path / "t.db", "--out", tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    assert [load(file).record.calls for file in files] == [4, 6]
    for file in files:
        plan, record = load(file)
        assert plan.nfe <= record.calls
        assert str(file) in result.stdout.replace("\n", "")
        assert record.untuned.label in result.stdout
        assert record.model == "digits-exact"
    assert Image.open(tmp_path / "tune.png").size[0] > 500
    run("sample", "digits-exact", "--plan", files[0], "--count", 4, "--out", tmp_path / "drawn")
    assert (tmp_path / "drawn" / "samples.safetensors").exists()
    run("plan", "show", files[0])
    listed = run("tuned", *files).stdout
    assert all(f"{load(file).record.untuned.held_out.estimate:.4g}" in listed for file in files)


def test_the_process_of_an_exact_model_is_chosen(tmp_path):
    run(
        "tune",
        "photographs-exact",
        "--process",
        "flow:shift=3",
        "--steps",
        3,
        *SMALL,
        "--storage",
        "none",
        "--out",
        tmp_path,
    )
    (file,) = tmp_path.glob("*.json")
    assert load(file).plan.process == urn.Flow(shift=3)


def test_tuners_are_listed_and_described():
    listed = run("tuners").stdout
    assert all(name in listed for name in urn.tuning.tuners())
    assert "The best untuned plan" in run("tuners", "untuned").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits-exact", "--steps", "1"], "--steps '1' must be integers of at least 2"),
        (["digits-exact", "--tuner", "untund"], "tuner='untund' is unknown; did you mean untuned"),
        (["digits", "--process", "flow"], "process: digits has its own; only digits-exact, photographs-exact take one"),
        (["photographs-exact", "--objective", "energy"], "--objective: the data here are digits"),
        (["nothing"], "model='nothing' is unknown"),
        (["digits-exact", "--storage", "postgresql://a@127.0.0.1:1/b", *SMALL], "cannot be reached"),
    ],
)
def test_wrong_use_is_one_line(arguments, said, tmp_path):
    assert said in fails("tune", *arguments, "--out", tmp_path)


def test_a_search_that_is_terminated_keeps_its_best_and_goes_on(tmp_path):
    storage, options = tmp_path / "t.db", ("--starts", "32", "--held-out", "32", "--tuner", "tpe", "--steps", "4")
    urn_itself = Path(sys.executable).with_name("urn")
    command = [urn_itself, "tune", "digits-exact", *options, "--storage", storage, "--out", tmp_path]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not searching(storage):
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    plan, record = load(tmp_path / "interrupted-4.json")
    assert plan.nfe <= 4
    tried = len(record.tried)
    run("tune", "digits-exact", *options, "--trials", 1, "--storage", storage, "--out", tmp_path)
    (path,) = tmp_path.glob("digits-exact*.json")
    assert len(load(path).record.tried) >= tried


def searching(storage: Path) -> bool:
    """Whether a trial of the tuner's own is in the storage."""
    if not storage.exists():
        return False
    try:
        with sqlite3.connect(storage) as database:
            told = database.execute("select value_json from trial_user_attributes").fetchall()
    except sqlite3.Error:
        return False
    return any('"label": "tpe' in text for (text,) in told)
