"""Patches of photographs as a mixture of Gaussians: a model in closed form that is more like pictures than digits are."""

from __future__ import annotations

from functools import lru_cache

import torch

from urn.exact.mixture import GaussianMixture

COUNT, PIXEL_VARIANCE = 8000, 1e-4


@lru_cache(maxsize=4)
def photographs_mixture(size: int = 8, components: int = 16, seed: int = 0) -> GaussianMixture:
    """Square grey patches of scikit-learn's two sample photographs as a mixture of full-covariance Gaussians.

    Fitted to 8,000 patches at random places, pixels in [-1, 1], grey being the mean of the three channels; samples have
    shape (1, size, size). The variance added to every pixel is 1e-4. Made once per Python process; do not change it in place.

    Args:
        size: of a patch, in pixels, >= 2.
        components: Gaussians, >= 1.
        seed: of the places and of scikit-learn's fit.

    Raises:
        ImportError: scikit-learn or Pillow is not installed.
        ValueError: a number out of range.

    Example:
        >>> model = photographs_mixture().model(urn.Flow())
    """
    for name, value, least in (("size", size, 2), ("components", components, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}")
    try:
        from sklearn.datasets import load_sample_images
        from sklearn.mixture import GaussianMixture as Fit

        images = load_sample_images().images
    except ImportError as error:
        raise ImportError("photographs_mixture needs scikit-learn and Pillow: urn-samplers[digits,plots]") from error
    generator, patches = torch.Generator().manual_seed(seed), []
    for image in images:
        grey = torch.as_tensor(image.copy()).double().mean(-1) / 127.5 - 1
        tops, lefts = (torch.randint(n - size + 1, (COUNT // len(images),), generator=generator) for n in grey.shape)
        every = grey.unfold(0, size, 1).unfold(1, size, 1)
        patches.append(every[tops, lefts].flatten(1))
    fit = Fit(components, covariance_type="full", reg_covar=PIXEL_VARIANCE, random_state=seed)
    fit.fit(torch.cat(patches).numpy())
    weights, means, covariances = (torch.as_tensor(part) for part in (fit.weights_, fit.means_, fit.covariances_))
    return GaussianMixture(weights, means, covariances, shape=(1, size, size))
