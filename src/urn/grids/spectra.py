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
