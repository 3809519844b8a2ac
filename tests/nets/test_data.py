"""The digits and their split, which must never change: the shipped network's scores hang on it."""

import builtins
import sys

import pytest
import torch

from urn.nets import data, digits


def test_the_split_is_a_partition_of_the_data_set():
    from sklearn.datasets import load_digits

    (train, train_labels), (test, test_labels), (images, labels) = digits("train"), digits("test"), digits("all")
    assert len(train) == 1438
    assert len(test) == 359
    both = torch.cat([train, test]).flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, images.flatten(1).tolist()))
    reference = load_digits()
    assert torch.equal(images[:, 0] * 8 + 8, torch.from_numpy(reference.images).float())
    assert torch.equal(labels, torch.from_numpy(reference.target))
    assert torch.equal(torch.bincount(train_labels) + torch.bincount(test_labels), torch.bincount(labels))


def test_a_fifth_of_each_class_is_held_out():
    _, labels = digits("all")
    _, held_out = digits("test")
    assert torch.bincount(held_out).tolist() == [round(0.2 * n) for n in torch.bincount(labels).tolist()]


def test_the_split_is_the_one_the_weights_were_trained_on():
    images, labels = digits("test")  # the numbers were read off when the shipped weights were trained
    assert labels[:12].tolist() == [3, 7, 3, 9, 0, 8, 7, 0, 8, 0, 3, 3]
    assert float(images.double().sum()) == -9043.375


def test_images_are_scaled_and_typed():
    images, labels = digits()
    assert images.dtype == torch.float32
    assert labels.dtype == torch.long
    assert images.shape[1:] == (1, 8, 8)
    assert float(images.min()) == -1
    assert float(images.max()) == 1


def test_what_the_caller_does_to_a_split_does_not_come_back():
    digits("test")[0].zero_()
    assert digits("test")[0].any()


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"split='valid' must be one of train, test, all"):
        digits("valid")


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    data._load.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'urn-samplers\[digits\]'"):
        digits()
