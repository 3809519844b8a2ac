"""The digits data set: 1797 handwritten digits of 8 x 8 pixels, shipped with scikit-learn, under one fixed split."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SPLIT_SEED = 0
TEST_SHARE = 0.2
SPLITS = ("train", "test", "all")


def digits(split: str = "train") -> tuple[Tensor, Tensor]:
    """Images and labels of a part of scikit-learn's digits.

    The split is stratified and never changes: of each class, in the order of a permutation by NumPy's frozen
    `RandomState(0)`, the first fifth, rounded, is held out; both parts keep the order of the data set. That leaves 1438
    images to train on and 359 to test on. The network that Urn ships has never seen the latter.

    Args:
        split: "train", "test" or "all".

    Returns:
        images: (N, 1, 8, 8) float32; the data set's integers 0 ... 16 scaled to [-1, 1].
        labels: (N,) long, 0 ... 9.

    Raises:
        ValueError: another split.
        ImportError: scikit-learn is not installed.

    Source: Alpaydin, Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (its test
        part, which is what scikit-learn ships).

    Example:
        >>> images, labels = digits("test")
        >>> tuple(images.shape)
        (359, 1, 8, 8)
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}")
    images, labels, held_out = _load()
    chosen = np.ones_like(held_out) if split == "all" else held_out == (split == "test")
    return torch.from_numpy(images[chosen]), torch.from_numpy(labels[chosen])


@lru_cache(maxsize=1)
def _load() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scaled images, labels, and for each whether it is held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits data need scikit-learn: pip install 'urn-samplers[digits]'") from error
    data = load_digits()
    images = (data.images / 8 - 1).astype(np.float32)[:, None]
    labels = data.target.astype(np.int64)
    order, held_out = np.random.RandomState(SPLIT_SEED), np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = order.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(TEST_SHARE * len(members))]] = True
    return images, labels, held_out
