"""The network in the package: what it weighs, what it scores, and what its training leaves behind."""

import json

import pytest
import torch

from urn import VP, sample
from urn.nets import DigitsDenoiser, digits, evaluate_digits, load_digits, score_digits, train_digits
from urn.nets.digits_network import WEIGHTS


@pytest.fixture(scope="module")
def model():
    return load_digits()


def test_it_is_what_it_says(model):
    assert WEIGHTS.stat().st_size < 4_000_000
    assert WEIGHTS.with_suffix(".md").is_file()
    assert model.process == VP.linear(0.1, 20.0)
    assert model.predicts == "v"
    assert model.shape == (1, 8, 8)
    assert not any(p.requires_grad for p in model.net.parameters())


def test_its_samples_are_digits_of_the_class_asked_for(model):
    scores = evaluate_digits(model, count=500, steps=20)
    assert scores["agreement"] >= 0.95
    assert scores["frechet_to_test"] <= 2 * scores["frechet_train_to_test"]
    assert scores["nearest_train"] > 0.9 * scores["nearest_train_of_test"]


def test_it_draws_all_classes_without_a_label(model):
    samples = sample(model, "dpmpp_2m", (300, 1, 8, 8), steps=15, seed=1)
    from urn.nets.evaluation import _classifier

    counts = torch.bincount(torch.from_numpy(_classifier().predict(samples.flatten(1).numpy())), minlength=10)
    assert counts.min() >= 10  # 30 are expected of each


def test_real_digits_score_as_real_digits():
    images, labels = digits("train")
    scores = score_digits(images, labels)
    assert scores["agreement"] == 1.0
    assert scores["frechet_to_train"] == pytest.approx(0, abs=1e-9)
    assert scores["frechet_to_test"] == scores["frechet_train_to_test"]
    assert scores["nearest_train"] == pytest.approx(0, abs=1e-6)
    assert scores["classifier_accuracy"] > 0.97
    shuffled = score_digits(images, (labels + 1) % 10)
    assert shuffled["agreement"] == 0.0


@pytest.mark.parametrize(
    ("samples", "labels", "message"),
    [
        (torch.zeros(4, 8, 8), torch.zeros(4).long(), r"samples of shape \(4, 8, 8\)"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(3).long(), r"labels of shape \(3,\) must be 4 classes"),
        (torch.zeros(4, 1, 8, 8), torch.full((4,), 10), "must be 4 classes, 0 ... 9"),
        (torch.full((4, 1, 8, 8), torch.nan), torch.zeros(4).long(), "finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(samples, labels, message):
    with pytest.raises(ValueError, match=message):
        score_digits(samples, labels)


def test_the_command_makes_the_same_bits_again_and_the_architecture_that_is_shipped(tmp_path):
    for part in ("once", "again"):
        train_digits(tmp_path / part, steps=3, progress=False, score=False)
    once, again = (load_digits(tmp_path / part / "digits.safetensors").net for part in ("once", "again"))
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True))
    assert once.options == load_digits().net.options


def test_training_leaves_weights_and_a_record(tmp_path):
    net = DigitsDenoiser(8, 8, embedding=8, heads=2)
    threads = torch.get_num_threads()
    model = train_digits(tmp_path, steps=2, seed=4, progress=False, score=False, net=net, threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert sorted(f.name for f in tmp_path.iterdir()) == ["checkpoint.pt", "digits.json", "digits.safetensors"]
    record = json.loads((tmp_path / "digits.json").read_text())
    assert (record["steps"], record["seed"], record["threads"]) == (2, 4, threads + 1)
    assert len(record["losses"]) == 2
    loaded = load_digits(tmp_path / "digits.safetensors")
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.8])
    assert torch.equal(loaded.net(x, t), model.net(x, t))
