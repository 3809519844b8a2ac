"""urn sample: what is written, that it can be interrupted, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_runs import fails, interrupting, patch_net, run, save_small_model, tensors
from PIL import Image
from safetensors.torch import load_file, save_file

import urn
from urn.cli.sample import DEFAULT_METHOD
from urn.exact import digits_mixture
from urn.nets.digits_network import WEIGHTS

PROCESS = urn.VP.linear()
SMALL = ("digits-exact", "--steps", 3, "--count", 12, "--batch-size", 5)


def exact(count: int = 12, classes: range | list[int] = range(10), batch_size: int = 5, **settings):
    """What `urn sample digits-exact` must draw, from the library."""
    labels = torch.tensor(list(classes))[torch.arange(count) % len(classes)]
    model = settings.pop("model", None) or digits_mixture().model(PROCESS)
    settings = {"plan": DEFAULT_METHOD, "steps": 3, "seed": 0, **settings}
    plan = settings.pop("plan")
    shape, conditioning = (count, 1, 8, 8), {"label": labels}
    return urn.sample(model, plan, shape, conditioning=conditioning, batch_size=batch_size, **settings), labels


def test_writes_what_the_library_draws(tmp_path):
    result = run("sample", *SMALL, "--seed", 7, "--out", tmp_path)
    x, labels = exact(seed=7)
    held = tensors(tmp_path)
    assert sorted(held) == ["labels", "seeds", "x"]
    assert torch.equal(held["x"], x)
    assert torch.equal(held["labels"], labels)
    assert [int(seed) for seed in held["seeds"].tolist()] == list(urn.sample_seeds(7, 12))
    plan = urn.compile_plan(DEFAULT_METHOD, PROCESS, steps=3)
    assert urn.Plan.from_json((tmp_path / "plan.json").read_text()) == plan
    assert sorted(os.listdir(tmp_path)) == ["plan.json", "samples.png", "samples.safetensors"]
    assert str(plan) in result.stdout
    assert "12 samples drawn" in result.stdout
    assert "nfe = 3 model calls" in result.stdout
    for name in os.listdir(tmp_path):
        assert str(tmp_path / name) in result.stdout


def test_sheet_has_a_class_to_a_column_and_the_same_pixels_each_time(tmp_path):
    for name in ("a", "b"):
        run("sample", *SMALL, "--out", tmp_path / name)
    a, b = (Image.open(tmp_path / name / "samples.png") for name in ("a", "b"))
    assert a.tobytes() == b.tobytes()
    assert a.mode == "L"
    assert a.size == (10 * (64 + 4) + 4, 2 * (64 + 14 + 4) + 4)
    x = tensors(tmp_path / "a")["x"]
    left, top = 2 * 68 + 4, 82 + 4 + 14  # image 12 would be the third of the second row; image 11 the second
    tile = torch.tensor(list(a.crop((left - 68, top, left - 68 + 64, top + 64)).tobytes())).reshape(64, 64)
    wanted = ((x[11, 0].double().clamp(-1, 1) + 1) * 127.5).round().long()
    assert torch.equal(tile, wanted.repeat_interleave(8, 0).repeat_interleave(8, 1))


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--method", "ddim:eta=0.5"], {"plan": "ddim", "eta": 0.5}),
        (
            ["--method", "ddim", "--option", "eta=1", "--noise", "brownian"],
            {"plan": "ddim", "eta": 1, "noise": "brownian"},
        ),
        (["--method", "euler_ancestral", "--noise", "fast"], {"plan": "euler_ancestral", "noise": "fast"}),
        (
            ["--grid", "karras:rho=5", "--final", "x0"],
            {"grid": lambda p, n: urn.grids.karras(p, n, rho=5), "final": "x0"},
        ),
        (["--dtype", "float64"], {"dtype": torch.float64}),
        (["--dtype", "bfloat16"], {"dtype": torch.bfloat16}),
        (["--class", "4"], {"classes": [4]}),
        (["--class", "3,0,7"], {"classes": [3, 0, 7]}),
        (["--seed", str(2**64 - 1)], {"seed": 2**64 - 1}),
    ],
)
def test_options_reach_the_library(tmp_path, arguments, settings):
    run("sample", *SMALL, *arguments, "--out", tmp_path)
    x, labels = exact(**settings)
    held = tensors(tmp_path)
    assert held["x"].dtype == x.dtype
    assert torch.equal(held["x"], x)
    assert torch.equal(held["labels"], labels)


def test_guidance_is_classifier_free_guidance(tmp_path):
    result = run("sample", *SMALL, "--guidance", 2.5, "--out", tmp_path)
    model = urn.classifier_free_guidance(digits_mixture().model(PROCESS), 2.5, {"label": None})
    assert torch.equal(tensors(tmp_path)["x"], exact(model=model)[0])
    assert "two of the network's each" in result.stdout


def test_no_class_is_the_whole_mixture(tmp_path):
    run("sample", *SMALL, "--class", "none", "--out", tmp_path)
    x = urn.sample(digits_mixture().model(PROCESS), DEFAULT_METHOD, (12, 1, 8, 8), steps=3, batch_size=5)
    held = tensors(tmp_path)
    assert sorted(held) == ["seeds", "x"]
    assert torch.equal(held["x"], x)


def test_plan_file(tmp_path):
    plan = urn.compile_plan("unipc_3", PROCESS, grid=[1.0, 0.6, 0.2, 0.0])
    (tmp_path / "my.json").write_text(plan.to_json())
    run("sample", "digits-exact", "--plan", tmp_path / "my.json", "--count", 3, "--out", tmp_path / "out")
    assert urn.Plan.from_json((tmp_path / "out" / "plan.json").read_text()) == plan
    assert torch.equal(tensors(tmp_path / "out")["x"], exact(3, plan=plan, steps=None)[0])


def test_saved_model_on_another_process(tmp_path):
    model = save_small_model(tmp_path / "model", urn.Flow(shift=2.0))
    run("sample", tmp_path / "model", "--count", 4, "--steps", 2, "--out", tmp_path / "out")
    x, _ = exact(4, steps=2, model=model)
    assert torch.equal(tensors(tmp_path / "out")["x"], x)
    assert urn.Plan.from_json((tmp_path / "out" / "plan.json").read_text()).process == urn.Flow(shift=2.0)


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the digits network's weights are not in this checkout")
def test_digits(tmp_path):
    from urn.nets import load_digits

    run("sample", "digits", "--count", 4, "--steps", 2, "--out", tmp_path)
    assert torch.equal(tensors(tmp_path)["x"], exact(4, steps=2, model=load_digits())[0])


def test_network_that_looks_like_another_prediction_is_warned_of(tmp_path, monkeypatch):
    """The exact network for epsilon, in a model that says v."""
    patch_net(monkeypatch, lambda net: digits_mixture().model(PROCESS, predicts="epsilon").net)
    result = run("sample", *SMALL, "--method", "ddim", "--out", tmp_path)
    assert result.stderr.startswith("warning: the network's outputs look like ")
    assert "not like the 'v' that the model declares" in result.stderr
    assert "PredictionWarning" not in result.stderr


# interruption


@pytest.mark.parametrize("method", ["dpmpp_2m", "euler_ancestral"])
@pytest.mark.parametrize("call", [1, 5, 12])
def test_interrupted_run_goes_on_and_ends_in_the_same_bits(tmp_path, monkeypatch, call, method):
    """Four batches of three calls: Ctrl-C in the first, in the second and in the last."""
    command = ("sample", "digits-exact", "--steps", 3, "--count", 17, "--batch-size", 5, "--method", method, "--out")
    run(*command, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch_net(patch, interrupting(call))
        stopped = run(*command, tmp_path / "parts", status=130)
    done = (call - 1) // 3
    assert f"interrupted: {5 * done} of 17 samples are kept" in stopped.stderr
    assert len(list((tmp_path / "parts" / "samples.partial").glob("batch-*.safetensors"))) == done
    assert not (tmp_path / "parts" / "samples.safetensors").exists()
    resumed = run(*command, tmp_path / "parts")
    assert f"{17 - 5 * done} samples drawn" in resumed.stdout
    for name in ("samples.safetensors", "samples.png", "plan.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "parts")) == ["plan.json", "samples.png", "samples.safetensors"]


def test_a_damaged_or_missing_batch_is_drawn_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch_net(patch, interrupting(8))
        run("sample", *SMALL, "--out", tmp_path, status=130)
    first, second = sorted((tmp_path / "samples.partial").glob("batch-*"))
    first.write_bytes(first.read_bytes()[:50])
    assert "5 of 12 samples are in" in run("sample", *SMALL, "--out", tmp_path).stdout
    assert second.name == "batch-000001.safetensors"
    assert torch.equal(tensors(tmp_path)["x"], exact()[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--seed", 1], "seed was 0, is 1"),
        (["--count", 13], "count was 12, is 13"),
        (["--steps", 4], "plan was 'adams_pc_3 on VP.linear(0.1, 20.0), 3 steps"),
        (["--class", "1"], "class was [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], is [1]"),
        (["--dtype", "float64"], "dtype was 'float32', is 'float64'"),
        (["--noise", "brownian"], "noise was 'seeded', is 'brownian'"),
        (["--guidance", 2], "guidance was None, is 2.0"),
        (["--batch-size", 6], "batch_size was 5, is 6"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_run_in_the_same_folder_is_refused(tmp_path, monkeypatch, finished, change, said):
    with monkeypatch.context() as patch:
        if not finished:
            patch_net(patch, interrupting(8))
        run("sample", *SMALL, "--out", tmp_path, status=0 if finished else 130)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    message = fails("sample", *SMALL, *change, "--out", tmp_path)
    assert said in message
    assert "--overwrite" in message
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_other_weights_are_another_run(tmp_path):
    model = save_small_model(tmp_path / "model")
    command = ("sample", tmp_path / "model", "--count", 2, "--steps", 2, "--out", tmp_path / "out")
    run(*command)
    model.net.inward.weight.data *= 1.01
    urn.nets.save_model(model, tmp_path / "model")
    assert "weights was" in fails(*command)


def test_overwrite_starts_anew(tmp_path, monkeypatch):
    run("sample", *SMALL, "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch_net(patch, interrupting(8))
        run("sample", *SMALL, "--seed", 1, "--overwrite", "--out", tmp_path, status=130)
    assert sorted(os.listdir(tmp_path)) == ["plan.json", "samples.partial"]
    run("sample", *SMALL, "--seed", 1, "--out", tmp_path)
    assert torch.equal(tensors(tmp_path)["x"], exact(seed=1)[0])


def test_a_finished_run_is_not_drawn_again(tmp_path, monkeypatch):
    run("sample", *SMALL, "--out", tmp_path)
    before = (tmp_path / "samples.safetensors").read_bytes()
    (tmp_path / "samples.png").unlink()
    patch_net(monkeypatch, interrupting(1))
    again = run("sample", *SMALL, "--out", tmp_path)
    assert "nothing is left to draw" in again.stdout
    assert (tmp_path / "samples.safetensors").read_bytes() == before
    assert (tmp_path / "samples.png").exists()


def test_files_that_are_not_a_run(tmp_path):
    (tmp_path / "samples.safetensors").write_bytes(b"no tensors")
    assert "is damaged" in fails("sample", *SMALL, "--out", tmp_path)
    save_file({"x": torch.zeros(2)}, tmp_path / "samples.safetensors")
    assert "holds another run" in fails("sample", *SMALL, "--out", tmp_path)


def test_plan_of_the_folder_itself_is_not_lost(tmp_path, monkeypatch):
    """A run may take its plan from the folder that it writes into, and be interrupted; another plan there is refused."""
    plan = urn.compile_plan("ddim", PROCESS, steps=2)
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert "plan.json is there already, and is another plan" in fails("sample", *SMALL, "--out", tmp_path)
    command = ("sample", "digits-exact", "--count", 2, "--plan", tmp_path / "plan.json", "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch_net(patch, interrupting(2))
        run(*command, "--overwrite", status=130)
    run(*command)
    assert urn.Plan.from_json((tmp_path / "plan.json").read_text()) == plan


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    """A real SIGINT, between whatever instructions it comes: nothing is lost, and the run ends in the same bits."""
    command = ["sample", "digits-exact", "--steps", "5", "--count", "400", "--batch-size", "5", "--out"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("urn"), *command, tmp_path / "parts"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored where the tests run in the background
    )
    partial = tmp_path / "parts" / "samples.partial"
    deadline = time.monotonic() + 60
    while len(list(partial.glob("batch-*.safetensors"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert b"Traceback" not in stderr
    kept = len(list(partial.glob("batch-*.safetensors")))
    assert f"interrupted: {5 * kept} of 400 samples are kept".encode() in stderr
    before = {path.name: path.read_bytes() for path in partial.glob("batch-*.safetensors")}
    assert f"{400 - 5 * kept} samples drawn" in run(*command, tmp_path / "parts").stdout
    x = exact(400, steps=5)[0]
    assert torch.equal(tensors(tmp_path / "parts")["x"], x)
    (tmp_path / "batch").write_bytes(before["batch-000002.safetensors"])
    assert torch.equal(load_file(tmp_path / "batch")["x"], x[10:15])


# failure


def test_a_network_that_returns_nan_keeps_what_was_drawn(tmp_path, monkeypatch):
    def change(net):
        def broken(x, t, **conditioning):
            output = net(x, t, **conditioning)
            return (
                torch.where(torch.arange(len(x)).reshape(-1, 1, 1, 1) == 1, torch.nan, output)
                if len(x) == 2
                else output
            )

        return broken

    with monkeypatch.context() as patch:
        patch_net(patch, change)
        message = fails("sample", *SMALL, "--out", tmp_path)
    assert message.startswith("samples 10 to 11: 1 of 2 samples")
    assert str(tmp_path / "samples.failed.safetensors") in message
    failed = load_file(tmp_path / "samples.failed.safetensors")
    assert failed["finite"].tolist() == [True, False]
    assert failed["labels"].tolist() == [0, 1]
    assert failed["x"].isfinite().flatten(1).all(1).tolist() == [True, False]
    assert not (tmp_path / "samples.safetensors").exists()
    assert "10 of 12 samples are in" in run("sample", *SMALL, "--out", tmp_path).stdout
    assert torch.equal(tensors(tmp_path)["x"], exact()[0])
    assert sorted(os.listdir(tmp_path)) == ["plan.json", "samples.png", "samples.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["digit"],
            "model='digit' is unknown; did you mean digits? allowed: digits, digits-exact, photographs-exact, or a folder",
        ),
        (["digits-exact", "--method", "dpmp_2m"], "method='dpmp_2m' is unknown; did you mean dpmpp_2m"),
        (["digits-exact", "--grid", "karas"], "grid='karas' is unknown; did you mean karras"),
        (["digits-exact", "--grid", "karras:rh=5"], "grid 'karras' has no option rh=5; its options: rho"),
        (["digits-exact", "--grid", "karras:rho=five"], "grid 'karras': rho='five' must be a number"),
        (["digits-exact", "--grid", "trailing"], "table's integer times"),
        (["digits-exact", "--grid", "1,0.5,0.7"], "not monotone"),
        (["digits-exact", "--option", "eta=1"], "'adams_pc_3' has no option eta=1"),
        (["digits-exact", "--option", "eta"], "option 'eta' is not name=value"),
        (["digits-exact", "--method", "ddim", "--option", "eta=2"], "eta=2 must be between 0 and 1"),
        (["digits-exact", "--final", "x1"], "final='x1' must be None or 'x0'"),
        (["digits-exact", "--class", "11"], "class='11' must be 'all', 'none', or classes from 0 to 9"),
        (["digits-exact", "--class", "1,x"], "class='1,x' must be"),
        (["digits-exact", "--class", "none", "--guidance", "2"], "needs a class"),
        (["digits-exact", "--seed", str(2**64)], "below 2^64"),
        (["digits-exact", "--plan", "p.json"], "p.json: No such file or directory"),
        (["digits-exact", "--plan", "p.json", "--steps", "4", "--option", "a=1"], "--steps, --option cannot change it"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails("sample", *arguments)
    assert os.listdir(tmp_path) == []


def test_plan_of_another_process_overwrites_nothing(tmp_path):
    run("sample", *SMALL, "--out", tmp_path)
    (tmp_path / "flow.json").write_text(urn.compile_plan("ddim", urn.Flow(), steps=2).to_json())
    message = fails("sample", "digits-exact", "--plan", tmp_path / "flow.json", "--overwrite", "--out", tmp_path)
    assert "the plan is for Flow" in message
    assert torch.equal(tensors(tmp_path)["x"], exact()[0])


def test_folders_that_hold_no_model(tmp_path):
    assert "holds no model that Urn saved" in fails("sample", tmp_path)
    save_small_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert "model.safetensors does not exist" in fails("sample", tmp_path)


def test_out_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file" in fails("sample", *SMALL, "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_samples_are_kept_where_pictures_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "not written: pictures need Pillow" in run("sample", *SMALL, "--out", tmp_path).stdout
    assert torch.equal(tensors(tmp_path)["x"], exact()[0])


def test_record_is_in_the_metadata(tmp_path):
    from safetensors import safe_open

    run("sample", *SMALL, "--out", tmp_path)
    with safe_open(tmp_path / "samples.safetensors", "pt") as file:
        record = json.loads(file.metadata()["urn"])
    checksum = json.loads((tmp_path / "plan.json").read_text())["checksum"]
    assert record["plan"] == f"{DEFAULT_METHOD} on VP.linear(0.1, 20.0), 3 steps, {checksum}"
    assert (record["model"], record["seed"], record["count"]) == ("digits-exact", 0, 12)
