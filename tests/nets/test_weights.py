"""Files and folders of models: what goes in comes out, and whatever is wrong is named."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from urn import VE, VP, Flow, Model
from urn.nets import DigitsDenoiser, load_digits, load_model, save_model
from urn.nets.weights_file import read_weights, write_weights


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = DigitsDenoiser(8, 16, embedding=8, heads=2).eval()
    return Model(net, VP.linear(0.2, 15.0), predicts="v", shape=(1, 8, 8))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"process": VP.cosine()},
        {"process": VE()},
        {"process": Flow(), "predicts": "velocity", "shape": None},
        {"process": VP.from_betas([0.1, 0.2])},
    ],
)
def test_what_is_saved_is_loaded(tmp_path, model, change):
    saved = replace(model, **change)
    save_model(saved, tmp_path / "made" / "here")
    loaded = load_model(tmp_path / "made" / "here")
    assert (loaded.process, loaded.predicts, loaded.shape) == (saved.process, saved.predicts, saved.shape)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded.net(x, torch.tensor(0.5)), saved.net(x, torch.tensor(0.5)))
    assert not loaded.net.training
    assert not any(parameter.requires_grad for parameter in loaded.net.parameters())


def test_saving_again_replaces_and_leaves_nothing_else(tmp_path, model):
    save_model(model, tmp_path)
    save_model(replace(model, process=VE()), tmp_path)
    assert load_model(tmp_path).process == VE()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_loading_leaves_the_callers_generator_alone(tmp_path, model):
    save_model(model, tmp_path)
    before = torch.get_rng_state()
    load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_dtype_of_the_weights_is_kept(tmp_path, model):
    model.net.half()
    save_model(model, tmp_path)
    assert next(load_model(tmp_path).net.parameters()).dtype == torch.float16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": torch.nn.Identity()}, r"net=Identity: only networks that Urn ships can be written \(DigitsDenoiser\)"),
        ({"label": lambda t: 1000 * t}, "label, input_scale or integer_times cannot be written"),
        ({"integer_times": True}, "label, input_scale or integer_times cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, model, change, message):
    with pytest.raises(ValueError, match=message):
        save_model(replace(model, **change), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_file_is_no_folder(tmp_path, model):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        save_model(model, tmp_path / "file")
    with pytest.raises(
        FileNotFoundError, match=r"file/model.json does not exist: .* is not a folder that save_model wrote"
    ):
        load_model(tmp_path / "file")


@pytest.mark.parametrize("missing", ["", "model.json", "model.safetensors"])
def test_a_missing_part_of_a_folder_is_named(tmp_path, model, missing):
    folder = tmp_path / "m"
    if missing:
        save_model(model, folder)
        (folder / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"m/?{missing} does not exist"):
        load_model(folder)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b""])
def test_a_damaged_description_is_named(tmp_path, model, text):
    save_model(model, tmp_path)
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(ValueError, match=r"model\.json is damaged"):
        load_model(tmp_path)


def test_two_files_of_different_models_are_refused(tmp_path, model):
    save_model(model, tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    description["predicts"] = "epsilon"
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"model\.json is not of the model in .*model\.safetensors"):
        load_model(tmp_path)


@pytest.fixture
def rewritten(tmp_path, model):
    """rewritten(tensors=..., metadata=...): a weights file after a function changed what is in it."""

    def rewrite(tensors=lambda tensors: None, metadata=lambda metadata: None):
        file = tmp_path / "w.safetensors"
        write_weights(model, file, {"made by": "a test"})
        content = load_file(file)
        with safe_open(file, "pt") as stream:
            words = stream.metadata()
        tensors(content)
        metadata(words)
        save_file(content, file, words)
        return file

    return rewrite


def described(**change):
    def alter(words):
        words["model"] = json.dumps({**json.loads(words["model"]), **change})

    return alter


def test_the_notes_are_in_the_file(rewritten):
    with safe_open(rewritten(), "pt") as stream:
        assert json.loads(stream.metadata()["notes"]) == {"made by": "a test"}


WEIGHT = "inward.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": lambda t: t.pop(WEIGHT)}, "inward.weight is missing"),
        (
            {"tensors": lambda t: t.update({WEIGHT: torch.zeros(8, 2, 3, 3)})},
            r"has shape \(8, 2, 3, 3\), the network needs",
        ),
        ({"tensors": lambda t: t[WEIGHT].fill_(torch.nan)}, "inward.weight is not finite"),
        ({"tensors": lambda t: t.update(more=torch.zeros(1))}, "more is not a weight of the network"),
        ({"metadata": lambda m: m.pop("model")}, "its metadata hold no model; it was not written by Urn"),
        ({"metadata": lambda m: m.update(model="{")}, "the description in its metadata is damaged"),
        ({"metadata": lambda m: m.update(model="[]")}, "its description is not of a model that Urn wrote"),
        ({"metadata": described(format="urn-model-9")}, "not of a model that Urn wrote"),
        ({"metadata": described(net={"name": "Nothing", "options": {}})}, "its network 'Nothing' is unknown"),
        ({"metadata": described(net={"name": "DigitsDenoiser", "options": {"depth": 3}})}, "incomplete or wrong"),
        ({"metadata": described(net=None)}, "incomplete or wrong"),
        ({"metadata": described(process={"kind": "nothing"})}, "process kind 'nothing' is unknown"),
        ({"metadata": described(predicts="noise")}, "predicts"),
        ({"metadata": described(shape=3)}, "incomplete or wrong"),
    ],
)
def test_every_fault_of_a_weights_file_is_named(rewritten, change, message):
    with pytest.raises(ValueError, match=rf"(?s)weights file .*w\.safetensors.*{message}"):
        read_weights(rewritten(**change))


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"", lambda b: b"no" * 99, lambda b: b"\xff" + b[1:]])
def test_a_damaged_weights_file_is_refused(rewritten, damage):
    file = rewritten()
    file.write_bytes(damage(file.read_bytes()))
    for read in (read_weights, load_digits):
        with pytest.raises(ValueError, match=r"weights file .*w\.safetensors is damaged, or no safetensors file"):
            read(file)


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights file .*gone\.safetensors does not exist"):
        load_digits(tmp_path / "gone.safetensors")


def test_load_digits_refuses_a_model_of_another_kind(tmp_path, model):
    write_weights(replace(model, predicts="epsilon"), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"holds another model: .*'epsilon'"):
        load_digits(tmp_path / "w.safetensors")
