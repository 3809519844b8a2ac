"""Flows: networks of flow_matching, SiT, rectified flow, stochastic interpolants, Stable Diffusion 3 and Flux."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from urn.model import Model
from urn.processes import VP, Flow, Interpolant, LinearSignal, Polynomial, Process, Trigonometric

from .calls import (
    Net,
    Shape,
    as_shape,
    both,
    by_keyword,
    check_predicts,
    checked,
    from_noise,
    named,
    reversed_time,
    sample_of,
    times,
    with_one_time,
)

PATHS: Mapping[str, Process] = {
    "cond_ot": Flow(),
    "cosine": Trigonometric(),
    "vp": VP.linear(),
    "linear_vp": LinearSignal(),
}
SIT_PATHS: Mapping[str, Process] = {"linear": Flow(), "gvp": Trigonometric(), "vp": VP.linear()}
SCHEDULERS: Mapping[str, Callable[[Any], Process]] = {
    "CondOTScheduler": lambda given: Flow(),
    "PolynomialConvexScheduler": lambda given: Polynomial(float(given.n)),
    "VPScheduler": lambda given: VP.linear(given.beta_min, given.beta_max),
    "LinearVPScheduler": lambda given: LinearSignal(),
    "CosineScheduler": lambda given: Trigonometric(),
}
GAMMAS: Mapping[str, tuple[str, float]] = {
    "brownian": ("brownian", 0.5**0.5),
    "bsquared": ("quadratic", 0.25),
    "sinesquared": ("sine", 1.0),
}


def flow_matching(
    net: Net, path: str | Process | Any = "cond_ot", predicts: str = "velocity", shape: Shape = None
) -> Model:
    """A network of facebookresearch/flow_matching: net(x=x, t=t, **extras), t from 0 = noise to 1 = data.

    x_t = alpha_t x_1 + sigma_t x_0 there, x_1 the data and x_0 the noise; the velocity is dx/dt in that direction.

    Args:
        net: a ModelWrapper, or anything that is called like one.
        path: "cond_ot", "cosine", "vp", "linear_vp"; a scheduler of that library; or a process, as `Polynomial(3)`.
        predicts: "velocity"; "x0" for its x_1 (target) prediction; or "epsilon".
        shape: the shape of one sample.

    Raises:
        ValueError: an unknown path or prediction.

    Source: Lipman et al. 2024, Flow Matching Guide and Code, arXiv 2412.06264.

    Example:
        >>> flow_matching(lambda x, t: x).shown(0.25, torch.zeros(2, 1))
        tensor([0.7500, 0.7500])
    """
    if isinstance(path, str):
        process: Process = named("path", path, PATHS)
    elif type(path).__name__ in SCHEDULERS:
        process = SCHEDULERS[type(path).__name__](path)
    elif hasattr(path, "velocity_weights"):
        process = path
    else:
        raise ValueError(f"path={path!r} must be one of {', '.join(PATHS)}, a scheduler of flow_matching, or a process")
    check_predicts(predicts, ("velocity", "x0", "epsilon"))
    return from_noise(partial(by_keyword, checked(net)), process, predicts, shape)


def sit(net: Net, path: str = "linear", predicts: str = "velocity", shape: Shape = None) -> Model:
    """A network of SiT's code: net(x, t, **extras), t from 0 = noise to 1 = data (its paper counts the other way).

    Args:
        net: the transformer; what `learn_sigma` adds it drops itself.
        path: "linear", "gvp" or "vp".
        predicts: "velocity", "score", or "epsilon" for its noise prediction.
        shape: the shape of one sample.

    Raises:
        ValueError: an unknown path or prediction.

    Source: Ma et al. 2024, SiT: Exploring Flow and Diffusion-based Generative Models, arXiv 2401.08740.

    Example:
        >>> sit(lambda x, t: x, "gvp").process
        Trigonometric()
    """
    check_predicts(predicts, ("velocity", "score", "epsilon"))
    return from_noise(checked(net), named("path", path, SIT_PATHS), predicts, shape)


def rectified_flow(net: Net, shape: Shape = None) -> Model:
    """A network of gnobitab/RectifiedFlow: net(x, 999 t), t from 0 = noise to 1 = data, velocity x_1 - x_0.

    Source: Liu, Gong, Liu 2023, Flow Straight and Fast, arXiv 2209.03003.

    Example:
        >>> rectified_flow(lambda x, t: x).shown(0.0, torch.zeros(1, 1))
        tensor([999.])
    """
    return from_noise(checked(net), Flow(), "velocity", shape, 999.0)


def stochastic_interpolant(
    net: Net,
    path: str = "linear",
    gamma: str = "brownian",
    *,
    eta: Net | None = None,
    score: Net | None = None,
    shape: Shape = None,
) -> Model:
    """Networks of malbergo/stochastic-interpolants: net(x, t) is the drift b, t of shape (1,) from 0, the base, to 1, the data.

    Args:
        net: b = dx/dt in that direction.
        path: "linear" or "encoding-decoding" between two densities, then `start=` takes draws of the base; "one-sided-linear"
            or "one-sided-trig" from Gaussian noise.
        gamma: the noise in between: "brownian" sqrt(t (1 - t)), "bsquared" t (1 - t), "sinesquared" sin^2(pi t).
        eta, score: one of them for methods with noise, on a path between two densities: the denoiser as that code trains it,
            -E[z | x] (the paper's is +E[z | x]), or the score.
        shape: the shape of one sample.

    Raises:
        ValueError: an unknown path or gamma, both of eta and score, or either on a one-sided path.

    Source: Albergo, Boffi, Vanden-Eijnden 2023, Stochastic Interpolants, arXiv 2303.08797.

    Example:
        >>> stochastic_interpolant(lambda x, t: x).process
        Interpolant(path='linear', noise='brownian', scale=0.7071067811865476)
    """
    called = partial(with_one_time, checked(net))
    others = [other for other in (eta, score) if other is not None]
    sides: Mapping[str, Process] = {"one-sided-linear": Flow(), "one-sided-trig": Trigonometric()}
    if path in sides:
        if others:
            raise ValueError(f"path={path!r}: eta and score follow from the drift there; leave them out")
        return from_noise(called, sides[path], "velocity", shape)
    if path not in ("linear", "encoding-decoding"):
        raise ValueError(f"path={path!r} must be one of linear, encoding-decoding, {', '.join(sides)}")
    noise, scale = named("gamma", gamma, GAMMAS)
    process = Interpolant(path, noise, scale)
    if not others:
        return from_noise(called, process, "velocity", shape)
    if len(others) == 2:
        raise ValueError("eta and score are both given; one of them is enough")
    second = partial(with_one_time, checked(others[0]))
    kind = "score" if eta is None else "epsilon"
    together = partial(both, called, second, 1.0 if eta is None else -1.0)
    return Model(together, process, ("velocity", kind), as_shape(shape), reversed_time)


def sd3(net: Net, shape: Shape = None) -> Model:
    """Stable Diffusion 3 and the flows of diffusers: net(x, 1000 t), x_t = (1 - t) x0 + t epsilon, velocity epsilon - x0.

    The shift of such models is one of the grid: `urn.grids.shifted`. What a diffusers network returns is taken as it comes.

    Source: Esser et al. 2024, Scaling Rectified Flow Transformers, arXiv 2403.03206.

    Example:
        >>> sd3(lambda x, t: x).shown(0.5, torch.zeros(1, 1))
        tensor([500.])
    """
    return Model(partial(sample_of, checked(net)), Flow(), "velocity", as_shape(shape), label=partial(times, 1000.0))


def flux(net: Net, shape: Shape = None) -> Model:
    """Flux: as `sd3`, but shown t itself; its code, and diffusers' transformer, multiply by 1000 inside.

    Source: Black Forest Labs 2024, the code of Flux; Esser et al. 2024, arXiv 2403.03206.

    Example:
        >>> flux(lambda x, t: x).shown(0.5, torch.zeros(1, 1))
        tensor([0.5000])
    """
    return Model(partial(sample_of, checked(net)), Flow(), "velocity", as_shape(shape))
