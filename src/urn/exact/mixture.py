"""Mixtures of Gaussians: every prediction in closed form, optionally conditional on a class.

Where ``x0 ~ sum_k w_k N(m_k, C_k)``, component k of ``x_t`` is Gaussian (see `urn.exact.gaussian`), with
``M_k = alpha^2 C_k + sigma^2 I`` and ``r_k = x - alpha m_k``, and

    p(k | x)       ~ w_k N(x; alpha m_k, M_k)
    E[x0 | x]      = sum_k p(k | x) (m_k + alpha C_k M_k^-1 r_k)
    E[epsilon | x] = sigma sum_k p(k | x) M_k^-1 r_k
    score          = -sum_k p(k | x) M_k^-1 r_k

(Bishop 2006, Pattern Recognition and Machine Learning, 2.3.9.) Every ``C_k`` is factored once. A prediction turns the
states into all eigenbases with one matrix product and turns their weighted sum back with another.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from urn.processes import Process
from urn.processes.process import Times

from .contract import (
    Level,
    closed_form_model,
    event_shape,
    follow,
    level_at,
    prediction_weights,
    rows,
    spectrum,
)

if TYPE_CHECKING:
    from urn.model import Model

FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class GaussianMixture:
    """x0 ~ sum_k w_k N(m_k, C_k).

    Args:
        weights: w, (K,), positive, of sum 1.
        means: m, (K, d).
        covariances: C, full (K, d, d), diagonal (K, d), isotropic (K,), or one isotropic variance for all, ().
        shape: S, the shape of one sample, of d elements; (d,) by default.
        labels: the class of each component, (K,) integers >= 0. With them every method takes `label`, (B,) integers:
            that class's part of the mixture; negative, or no label, means all of it.

    Raises:
        ValueError: weights, shapes, covariances or labels that are not so.
    """

    def __init__(
        self, weights: Any, means: Any, covariances: Any, shape: Sequence[int] | None = None, labels: Any = None
    ) -> None:
        self.weights, self.means, given = (
            torch.as_tensor(value, dtype=torch.float64, device="cpu").clone() for value in (weights, means, covariances)
        )
        if self.means.ndim != 2 or not bool(self.means.isfinite().all()):
            raise ValueError(f"means has shape {tuple(self.means.shape)}; allowed: (K, d), finite")
        count, dimension = self.means.shape
        if self.weights.shape != (count,) or not bool((self.weights > 0).all()):
            raise ValueError(f"weights are {self.weights.tolist()}; allowed: {count} positive numbers, one per mean")
        if not abs(self.weights.sum().item() - 1) <= 1e-6:
            raise ValueError(f"weights sum to {self.weights.sum().item()}; allowed: 1, within 1e-6")
        if given.shape not in [(), (count,), (count, dimension), (count, dimension, dimension)]:
            allowed = f"(), ({count},), ({count}, {dimension}) or ({count}, {dimension}, {dimension})"
            raise ValueError(f"covariances has shape {tuple(given.shape)}; allowed: {allowed}")
        self.shape = event_shape(shape, dimension)
        self.labels = as_labels(labels, count)
        given = given.expand(count) if given.ndim == 0 else given
        self._values, self._vectors = spectrum("covariances", given, dimension)
        self._wide, self._rotated_means = None, self.means
        if self._vectors is not None:
            self._wide = self._vectors.transpose(0, 1).reshape(dimension, count * dimension)
            self._rotated_means = torch.einsum("kij,ki->kj", self._vectors, self.means)
        self._cache: dict[Any, Any] = {}

    @property
    def covariances(self) -> Tensor:
        """C, (K, d, d)."""
        return torch.stack([self._matrix(k, values) for k, values in enumerate(self._values)])

    def sample(self, count: int, seed: int, dtype: torch.dtype = torch.float64, label: Tensor | None = None) -> Tensor:
        """`count` draws of x0, (count, *S), of the classes `label` (count,) if given, from a generator of their own."""
        generator = torch.Generator().manual_seed(seed)
        log_weights = self._log_weights(label, self.means.new_empty(count, 1)).expand(count, -1)
        component = torch.multinomial(log_weights.exp(), 1, generator=generator)[:, 0]
        z = torch.randn(count, self.means.shape[1], generator=generator, dtype=torch.float64)
        draws = torch.empty_like(z)
        for k in set(component.tolist()):
            chosen = component == k
            draws[chosen] = self.means[k] + self._turn(k, self._values[k].sqrt() * z[chosen])
        return draws.reshape(count, *self.shape).to(dtype)

    def x0(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """E[x0 | x_t = x], of x's shape."""
        return self.prediction(x, process, t, "x0", label)

    def epsilon(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """E[epsilon | x_t = x], of x's shape."""
        return self.prediction(x, process, t, "epsilon", label)

    def score(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """The gradient of log p(x_t) at x, of x's shape."""
        return self.prediction(x, process, t, "score", label)

    def prediction(self, x: Tensor, process: Process, t: Times, kind: str, label: Tensor | None = None) -> Tensor:
        """The prediction `kind`, one of the five, of x's shape.

        a sum_k p_k m_k + sum_k U_k p_k (a alpha l_k + b) / (alpha^2 l_k + sigma^2) U_k^T r_k, p_k = p(k | x).
        """
        flat, level, log_weights = self._read(x, process, t, label)
        a, b = prediction_weights(kind, process, level)
        slabs = self._slabs(flat, level.alpha, level.variance, log_weights, a, b)
        return torch.cat([self._predict(*slab) for slab in slabs]).reshape(x.shape).to(x.dtype)

    def log_density(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """log p(x_t = x), or log p(x_t = x | label), (B,)."""
        flat, level, log_weights = self._read(x, process, t, label)
        slabs = self._slabs(flat, level.alpha, level.variance, log_weights)
        return torch.cat([self._whiten(*slab)[2].logsumexp(1) for slab in slabs]).to(x.dtype)

    def posterior(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean (B, d) and covariance (B, d, d) of x0 given x_t = x.

        The covariance is that within the components, sum_k p_k sigma^2 C_k M_k^-1, plus that between their means.
        """
        flat, level, log_weights = self._read(x, process, t, label)
        white, inverse, log_joint = self._whiten(flat, level.alpha, level.variance, log_weights)
        means, values, *_ = self._on(x)
        share = log_joint.softmax(1)
        a, b = prediction_weights("x0", process, level)
        mean = self._predict(flat, level.alpha, level.variance, log_weights, a, b)
        covariance = flat.new_zeros(*flat.shape, flat.shape[1])
        for k in range(len(means)):
            within = self._matrix(k, values[k] * level.sigma.square() * inverse[:, k])
            between = means[k] + self._turn(k, level.alpha * values[k] * white[:, k]) - mean
            covariance = covariance + share[:, k, None, None] * (within + between.unsqueeze(2) * between.unsqueeze(1))
        return mean.to(x.dtype), covariance.to(x.dtype)

    def model(self, process: Process, predicts: str = "v") -> Model:
        """The exact network for `process`; it takes `label=` (B,) where the mixture has labels.

        Of the five kinds only "v" is finite at both ends of every process.
        """
        return closed_form_model(self, process, predicts)

    def _on(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """m (K, d), l (K, d), U_k^T m_k (K, d) and the U_k side by side (d, K d), where x is, in its working dtype."""
        parameters = self.means, self._values, self._rotated_means, self._wide
        return follow(self._cache, x, *parameters)  # type: ignore[no-any-return]

    def _read(self, x: Tensor, process: Process, t: Times, label: Tensor | None) -> tuple[Tensor, Level, Tensor]:
        """The states as rows (B, d), the level at t, and the log-weights (B or 1, K)."""
        flat = rows(x, self.shape)
        return flat, level_at(process, t, flat), self._log_weights(label, flat)

    def _slabs(self, x: Tensor, *columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The rows of x and of the columns (of B rows, or of one that all share), a few at a time.

        On a CPU a slab's (B, K, d) stays in the cache, which halves the time; elsewhere it only bounds the memory.
        """
        room = 2**18 if x.device.type == "cpu" else 2**28
        size = max(1, room // (x.element_size() * self._values.numel()))
        for start in range(0, max(1, len(x)), size):
            yield x[start : start + size], *(c if len(c) == 1 else c[start : start + size] for c in columns)

    def _whiten(self, x: Tensor, alpha: Tensor, noise: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U_k^T M_k^-1 r_k (B, K, d); the eigenvalues of M_k^-1 (B or 1, K, d); log p(k, x) (B, K)."""
        _, values, rotated_means, wide = self._on(x)
        alpha, noise = alpha.unsqueeze(2), noise.unsqueeze(2)
        rotated = x.unsqueeze(1) if wide is None else (x @ wide).reshape(-1, *values.shape)
        residual = rotated - alpha * rotated_means
        inverse = 1 / (alpha.square() * values + noise)
        white = residual * inverse
        constant = math.log(2 * math.pi) * values.shape[1]
        log_density = -0.5 * ((residual * white).sum(2) - inverse.log().sum(2) + constant)
        return white, inverse, log_weights + log_density

    def _predict(self, x: Tensor, alpha: Tensor, noise: Tensor, log_weights: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """`prediction` for rows x (B, d) and the weights a and b of its kind."""
        means, values, _, wide = self._on(x)
        white, _, log_joint = self._whiten(x, alpha, noise, log_weights)
        share = log_joint.softmax(1)
        gain = (a * alpha).unsqueeze(2) * values + b.unsqueeze(2)
        weighted = share.unsqueeze(2) * gain * white
        return a * (share @ means) + (weighted.sum(1) if wide is None else weighted.flatten(1) @ wide.T)

    def _log_weights(self, label: Tensor | None, x: Tensor) -> Tensor:
        """log w, (1, K), or (B, K): -inf outside the class of a sample, and of sum one within."""
        wanted = as_label(label, self.labels, len(x))
        weights = self.weights[None]
        if wanted is not None and self.labels is not None:
            weights = weights * admits(wanted, self.labels)
        return (weights / weights.sum(1, keepdim=True)).log().to(x)

    def _turn(self, k: int, r: Tensor) -> Tensor:
        """U_k r for rows r, (B, d)."""
        return r if self._vectors is None else r @ self._vectors[k].T.to(r)

    def _matrix(self, k: int, diagonal: Tensor) -> Tensor:
        """U_k diag(.) U_k^T for rows (..., d)."""
        if self._vectors is None:
            return torch.diag_embed(diagonal)
        vectors = self._vectors[k].to(diagonal)
        return (vectors * diagonal.unsqueeze(-2)) @ vectors.T


def as_labels(labels: Any, count: int) -> Tensor | None:
    """The classes of `count` components or points, (count,) integers >= 0, or None. ValueError otherwise."""
    if labels is None:
        return None
    classes = torch.as_tensor(labels, device="cpu")
    if classes.shape != (count,) or classes.dtype in (torch.bool, *FLOATING) or bool((classes < 0).any()):
        raise ValueError(f"labels has shape {tuple(classes.shape)} and {classes.dtype}; allowed: {count} integers >= 0")
    return classes.long()


def as_label(label: Tensor | None, labels: Tensor | None, batch: int) -> Tensor | None:
    """What is asked for, (B,) integers on the CPU, or None for everything.

    ValueError for a label that no component or point has, or where there are no labels at all.
    """
    if label is None:
        return None
    if labels is None:
        raise ValueError("label was given; allowed: None, for the target was made without labels")
    wanted = torch.as_tensor(label, device="cpu")
    if wanted.shape not in [(), (batch,)] or wanted.dtype in (torch.bool, *FLOATING):
        raise ValueError(f"label has shape {tuple(wanted.shape)} and {wanted.dtype}; allowed: ({batch},) integers")
    missing = wanted[(wanted >= 0) & ~torch.isin(wanted, labels)]
    if missing.numel():
        allowed = sorted(set(labels.tolist()))
        raise ValueError(f"label holds {missing.tolist()}; allowed: {allowed}, or a negative number for all")
    return wanted.long().expand(batch)


def admits(wanted: Tensor, labels: Tensor) -> Tensor:
    """Which of `labels` (K,) each of `wanted` (B,) asks for, (B, K); a negative one asks for all."""
    return (wanted < 0).unsqueeze(1) | (wanted.unsqueeze(1) == labels)


@functools.cache
def digits_mixture(components_per_class: int = 2, seed: int = 0) -> GaussianMixture:
    """scikit-learn's 8 x 8 digits as a mixture: full-covariance Gaussians fitted to each class, labelled 0 to 9.

    Fitted to the training part of `urn.nets.data.digits`, pixels in [-1, 1]; samples have shape (1, 8, 8). Each class
    weighs as it is frequent. The variance added to every pixel, 1e-3, is that of noise of std 0.03. Made once per
    Python process; do not change it in place.

    Args:
        components_per_class: Gaussians per class, >= 1.
        seed: of scikit-learn's fit (k-means++ starts).

    Raises:
        ImportError: scikit-learn is not installed.

    Data: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
    """
    try:
        from sklearn.mixture import GaussianMixture as Fit
    except ImportError as error:
        raise ImportError("digits_mixture needs scikit-learn: pip install 'urn-samplers[digits]'") from error
    from urn.nets.data import digits

    images, classes = digits("train")
    weights, means, covariances = [], [], []
    for digit in range(10):
        members = images[classes == digit].flatten(1).double()
        fit = Fit(components_per_class, covariance_type="full", reg_covar=1e-3, random_state=seed).fit(members.numpy())
        weights.append(torch.as_tensor(fit.weights_) * (len(members) / len(images)))
        means.append(torch.as_tensor(fit.means_))
        covariances.append(torch.as_tensor(fit.covariances_))
    labels = torch.arange(10).repeat_interleave(components_per_class)
    return GaussianMixture(torch.cat(weights), torch.cat(means), torch.cat(covariances), shape=(1, 8, 8), labels=labels)
