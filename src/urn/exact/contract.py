"""What the closed forms of `urn.exact` share: their contract, and how a state, a time and a prediction's kind are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from urn.prediction import check_prediction_name
from urn.processes import Process
from urn.processes.process import Times

if TYPE_CHECKING:
    from urn.model import Model


class ClosedForm(Protocol):
    """What a target known in closed form answers. States are (B, *S), float16 to float64, on any device.

    The parameters are float64 and follow the state's device and dtype (half precision is computed in float32).
    A label, where the target has classes, is an integer tensor (B,); negative means unconditional.
    """

    shape: tuple[int, ...]

    def sample(self, count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor: ...
    def x0(self, x: Tensor, process: Process, t: Times) -> Tensor: ...
    def epsilon(self, x: Tensor, process: Process, t: Times) -> Tensor: ...
    def score(self, x: Tensor, process: Process, t: Times) -> Tensor: ...
    def prediction(self, x: Tensor, process: Process, t: Times, kind: str) -> Tensor: ...
    def log_density(self, x: Tensor, process: Process, t: Times) -> Tensor: ...
    def posterior(self, x: Tensor, process: Process, t: Times) -> tuple[Tensor, Tensor]: ...
    def model(self, process: Process, predicts: str = "v") -> Model: ...


class Level(NamedTuple):
    """Signal and noise at the times of a batch: columns (B, 1), or (1, 1) where the batch shares its time."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    variance: Tensor
    """sigma^2, never zero: at sigma = 0 a number so small that every formula takes its limit instead of 0 / 0."""


def level_at(process: Process, t: Times, x: Tensor) -> Level:
    """The level of a batch of rows x (B, d) at t, a float or a tensor (B,). ValueError for any other shape of t.

    The process is asked in float64 on the CPU, as everywhere in Urn; the answers follow x. Equal times become one:
    what depends on the time alone is then computed once for the batch.
    """
    times = torch.as_tensor(t, dtype=torch.float64, device="cpu")
    if times.ndim > 1 or times.numel() not in (1, len(x)):
        raise ValueError(f"t has shape {tuple(times.shape)}; allowed: a float, or one time per sample, ({len(x)},)")
    if times.numel() > 1 and not _is_tracked(times) and bool((times == times[0]).all()):
        times = times[:1]
    alpha, sigma = (weight(times).to(x).reshape(-1, 1) for weight in (process.alpha, process.sigma))
    floor = 1e-100 if x.dtype == torch.float64 else 1e-15
    return Level(times.reshape(-1, 1), alpha, sigma, sigma.clamp(min=floor).square())


def _is_tracked(t: Tensor) -> bool:
    """Whether t carries derivatives, backward or forward: then each sample needs its own."""
    return t.requires_grad or unpack_dual(t).tangent is not None  # type: ignore[no-untyped-call]


def prediction_weights(kind: str, process: Process, level: Level) -> tuple[Tensor, Tensor]:
    """The pair (a, b), columns like `level`'s, with prediction = a E[x0 | x] - b score.

    Since E[epsilon | x] = -sigma score, the pairs are finite wherever the process's velocity weights are:
    x0 (1, 0), epsilon (0, sigma), v (-sigma, alpha sigma), velocity (alpha', sigma sigma'), score (0, -1).
    ValueError for another kind.
    """
    check_prediction_name("kind", kind)
    alpha, sigma = level.alpha, level.sigma
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    if kind == "velocity":
        alpha_slope, sigma_slope = (w.to(alpha) for w in process.velocity_weights(level.t))
        return alpha_slope, sigma * sigma_slope
    pairs = {"epsilon": (zero, sigma), "x0": (one, zero), "v": (-sigma, alpha * sigma), "score": (zero, -one)}
    return pairs[kind]


def rows(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The states x (B, *S) as rows (B, d) in their working dtype. ValueError if x is not floating or not of shape S."""
    if tuple(x.shape[1:]) != shape or not x.is_floating_point() or x.ndim == 0:
        raise ValueError(f"x has shape {tuple(x.shape)} and {x.dtype}; allowed: floating, of shape (B, *{shape})")
    return x.reshape(len(x), math.prod(shape)).to(torch.promote_types(x.dtype, torch.float32))


def event_shape(shape: Sequence[int] | None, dimension: int) -> tuple[int, ...]:
    """`shape`, or (d,) where it is None. ValueError unless its product is d."""
    event = (dimension,) if shape is None else tuple(shape)
    if math.prod(event) != dimension:
        raise ValueError(f"shape is {event}; allowed: a shape of {dimension} elements")
    return event


def spectrum(name: str, covariances: Tensor, dimension: int) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues (K, d) and eigenvectors (K, d, d), None if axis-aligned, of K covariances (K,), (K, d) or (K, d, d).

    Eigenvalues below rounding are set to zero. ValueError, with `name`, unless symmetric and positive semi-definite.
    """
    if covariances.ndim < 3:
        values, vectors = covariances.reshape(len(covariances), -1).expand(-1, dimension), None
    else:
        skew = (covariances - covariances.mT).abs().amax().item()
        if not skew <= 1e-6 * covariances.abs().amax().item():
            raise ValueError(f"{name} must be symmetric; the largest |C - C^T| is {skew:.3g}")
        values, vectors = torch.linalg.eigh((covariances + covariances.mT) / 2)
        rounding = dimension * torch.finfo(values.dtype).eps * values.amax(1, keepdim=True)
        values = values.where(values.abs() > rounding, torch.zeros_like(values))
    least, largest = values.amin().item(), values.amax().item()
    if not (math.isfinite(largest) and least >= -1e-6 * largest):
        raise ValueError(f"{name} must be finite and positive semi-definite; the eigenvalues span [{least}, {largest}]")
    return values.clamp(min=0.0), vectors


def follow(cache: dict[Any, Any], x: Tensor, *tensors: Tensor | None) -> Any:
    """`tensors` on the device and in the working dtype of x, moved once and kept in `cache`."""
    key = (x.device, torch.promote_types(x.dtype, torch.float32))
    if key not in cache:
        # A tensor made under inference mode could never again take part in a backward pass.
        with torch.inference_mode(False):
            cache[key] = tuple(None if tensor is None else tensor.to(*key, copy=True) for tensor in tensors)
    return cache[key]


def closed_form_model(target: ClosedForm, process: Process, predicts: str) -> Model:
    """`target` as a model whose network answers `predicts`; a `label=` given to the model reaches the target."""
    from urn.model import Model

    def net(x: Tensor, t: Tensor, **conditioning: Any) -> Tensor:
        return target.prediction(x, process, t, predicts, **conditioning)

    return Model(net, process, predicts=predicts, shape=target.shape)
