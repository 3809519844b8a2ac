"""Spectra of data: the variances of Gaussian data along their principal axes, which the computed grids are made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.processes.process import check_positive


def natural_spectrum(size: int = 32, exponent: float = 2.0, data_std: float = 0.5) -> Tensor:
    """Variances of images whose power spectrum falls as |f|^-exponent, as that of photographs does with exponents near 2.

    One for each of the size^2 frequencies f of a square image of one channel (that of f = 0 is as at |f| = 1), scaled so that
    a pixel's variance is data_std^2: the variances of the orthonormal Fourier coefficients, which are the eigenvalues of the
    image's covariance.

    Source: Field 1987, Relations between the statistics of natural images and the response properties of cortical cells,
    Journal of the Optical Society of America A 4(12).

    Raises:
        ValueError: size that is not an integer of at least 2, or numbers that are not positive.

    Example:
        >>> natural_spectrum(8).shape
        torch.Size([64])
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 2:
        raise ValueError(f"size={size!r} must be an integer of at least 2")
    check_positive(exponent=exponent, data_std=data_std)
    f = torch.fft.fftfreq(size, d=1 / size, dtype=torch.float64)
    radius = torch.sqrt(f[:, None] ** 2 + f**2)
    radius[0, 0] = 1.0
    power = radius.flatten() ** -exponent
    return power * data_std**2 / power.mean()


def measured_spectrum(samples: Tensor) -> Tensor:
    """Variances of the Fourier coefficients of images or latents, for the grids that are computed for a spectrum.

    The mean over the samples of |c|^2 for each orthonormal coefficient c of each channel, whose mean over all samples and
    pixels is taken away first. For data whose law does not change when they are moved these are the eigenvalues of each
    channel's covariance.

    Args:
        samples: (B, *C, H, W), real, of any floating-point dtype; a few hundred pixels in all are enough for a smooth spectrum.

    Returns:
        (*C H W,), float64; its mean is the mean variance of a pixel.

    Raises:
        ValueError: another shape or dtype, values that are not finite, or samples that are all alike.

    Example:
        >>> noise = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> round(float(measured_spectrum(noise).mean()), 1)
        1.0
    """
    if not isinstance(samples, Tensor) or not samples.dtype.is_floating_point or samples.ndim < 3 or not len(samples):
        what = (
            f"{samples.dtype} of shape {tuple(samples.shape)}"
            if isinstance(samples, Tensor)
            else type(samples).__name__
        )
        raise ValueError(f"samples={what} must be a floating-point tensor of shape (B, *C, H, W), B at least 1")
    given = samples.detach().to("cpu", torch.float64)
    if not bool(given.isfinite().all()):
        raise ValueError("samples must be finite")
    centred = given - given.mean(dim=(0, -2, -1), keepdim=True)
    variances: Tensor = torch.fft.fft2(centred, norm="ortho").abs().square().mean(0).flatten()
    if not bool((variances > 0).any()):
        raise ValueError("samples are all alike: they have no spectrum")
    return variances


def distinct(
    variances: Sequence[float] | Tensor | np.ndarray[Any, Any] | None, **spectrum: float
) -> tuple[Tensor, Tensor]:
    """The variances without repeats, (K,) float64, and how many there are of each; by default those of `natural_spectrum`.

    Raises:
        ValueError: no variance, one that is negative or not finite, or none that is positive.
    """
    if variances is None:
        given = natural_spectrum(**spectrum)  # type: ignore[arg-type]
    else:
        given = torch.as_tensor(variances).detach().to("cpu", torch.float64).flatten()
    if not len(given) or not bool((given.isfinite() & (given >= 0)).all()) or not bool((given > 0).any()):
        raise ValueError(
            f"variances={variances!r} must be the variances of data along their principal axes: finite, none negative, "
            "not all 0"
        )
    found, counts = torch.unique(given[given > 0], return_counts=True)
    return found, counts.double()
