"""What samples of digits are worth: class agreement, Fréchet distances, and whether they copy the training digits."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from urn.metrics import frechet_distance
from urn.metrics.pairwise import squared_distances
from urn.model import Model
from urn.nets.data import digits
from urn.sampling import sample


def score_digits(samples: Tensor, labels: Tensor) -> dict[str, float]:
    """Compare class-conditional samples with the real digits.

    Args:
        samples: (N, 1, 8, 8), N >= 2, in [-1, 1] up to small overshoots.
        labels: (N,), the classes that were asked for, 0 ... 9.

    Returns:
        agreement: share of samples to which a support-vector classifier with RBF kernel (C = 10), fitted on the training
            split, gives the class asked for.
        classifier_accuracy: the share that it gets right of the held-out split.
        frechet_to_test, frechet_to_train: `urn.metrics.frechet_distance` of the samples' 64 pixels to a split.
        frechet_train_to_test: that of the training split to the held-out split; what a perfect network would get.
        nearest_train: mean Euclidean distance from a sample to the nearest training image.
        nearest_train_of_test: the same for held-out images; samples that were nearer would be copies.

    Raises:
        ValueError: labels that are not (N,) classes; samples of another shape or not finite.
        ImportError: scikit-learn is not installed.

    Example:
        >>> images, labels = digits("test")
        >>> score_digits(images, labels)["frechet_to_test"]
        0.0
    """
    if tuple(samples.shape[1:]) != (1, 8, 8):
        raise ValueError(f"samples of shape {tuple(samples.shape)} must have shape (N, 1, 8, 8)")
    if tuple(labels.shape) != (len(samples),) or not bool(((labels >= 0) & (labels < 10)).all()):
        raise ValueError(f"labels of shape {tuple(labels.shape)} must be {len(samples)} classes, 0 ... 9")
    samples, labels = samples.detach().cpu(), labels.cpu()
    (train, _), (test, test_labels) = digits("train"), digits("test")
    return {
        "frechet_to_test": frechet_distance(samples, test),  # first, since it refuses what is not finite
        "frechet_to_train": frechet_distance(samples, train),
        "frechet_train_to_test": frechet_distance(train, test),
        "agreement": _agreement(samples, labels),
        "classifier_accuracy": _agreement(test, test_labels),
        "nearest_train": _nearest(samples, train),
        "nearest_train_of_test": _nearest(test, train),
    }


def evaluate_digits(
    model: Model, count: int = 2000, method: str = "dpmpp_2m", steps: int = 50, grid: str = "quadratic", seed: int = 0
) -> dict[str, float]:
    """Draw `count` samples, the classes in turn, with a method on a grid of `steps` intervals, and `score_digits` them.

    Example:
        >>> evaluate_digits(load_digits(), steps=8)["agreement"]  # doctest: +SKIP
    """
    labels = torch.arange(count) % 10
    with torch.no_grad():
        samples = sample(
            model, method, (count, 1, 8, 8), steps=steps, grid=grid, seed=seed, conditioning={"label": labels}
        )
    return score_digits(samples, labels)


@lru_cache(maxsize=1)
def _classifier() -> Any:
    from sklearn.svm import SVC

    images, labels = digits("train")
    return SVC(kernel="rbf", C=10.0, gamma="scale").fit(images.flatten(1).numpy(), labels.numpy())


def _agreement(images: Tensor, labels: Tensor) -> float:
    given = torch.from_numpy(_classifier().predict(images.flatten(1).float().numpy()))
    return float((given == labels).double().mean())


def _nearest(images: Tensor, data: Tensor) -> float:
    return float(squared_distances(images.flatten(1).double(), data.flatten(1).double()).amin(1).sqrt().mean())
