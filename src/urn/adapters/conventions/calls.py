"""How foreign networks are called and read, and the checks that all constructors make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.model import Model
from urn.processes import Process

Net = Callable[..., Any]
Shape = Sequence[int] | None


def from_noise(net: Net, process: Process, predicts: str, shape: Shape, scale: float = 1.0) -> Model:
    """A network whose time runs from 0, noise, to `scale`, data: a velocity is then dx/dt the other way round."""
    turned = partial(negated, net) if predicts == "velocity" else net
    label = reversed_time if scale == 1 else partial(reversed_time, scale=scale)
    return Model(turned, process, predicts, as_shape(shape), label)


def reversed_time(t: Any, scale: float = 1.0) -> Any:
    """A label: from 0 at t = 1 to `scale` at t = 0."""
    return scale * (1 - t)


def times(factor: float, t: Any) -> Any:
    """A label: a multiple of t."""
    return factor * t


def negated(net: Net, x: Any, t: Any, **conditioning: Any) -> Any:
    return -net(x, t, **conditioning)


def by_keyword(net: Net, x: Any, t: Any, **conditioning: Any) -> Any:
    return net(x=x, t=t, **conditioning)


def with_one_time(net: Net, x: Any, t: Any, **conditioning: Any) -> Any:
    """Called with the time that all samples share, of shape (1,)."""
    return net(x, t[:1], **conditioning)


def both(net: Net, second: Net, sign: float, x: Any, t: Any, **conditioning: Any) -> tuple[Any, Any]:
    """A drift the other way round, and a second network's output."""
    return -net(x, t, **conditioning), sign * second(x, t, **conditioning)


def sample_of(net: Net, x: Any, t: Any, **conditioning: Any) -> Any:
    """A network's output out of diffusers' wrapping."""
    output = net(x, t, **conditioning)
    output = output[0] if isinstance(output, tuple) else output
    return getattr(output, "sample", output)


def with_channels(net: Net, learned_variance: bool, x: Any, t: Any, **conditioning: Any) -> Any:
    """The prediction, and the variance from the second half of the channels where it is learned."""
    output = sample_of(net, x, t, **conditioning)
    expected = (x.shape[0], (2 if learned_variance else 1) * x.shape[1], *x.shape[2:])
    if tuple(output.shape) != expected:
        doubled = tuple(output.shape) == (x.shape[0], 2 * x.shape[1], *x.shape[2:])
        advice = ": half of its channels are a variance, pass learned_variance=True" if doubled else ""
        raise ValueError(f"the network returned shape {tuple(output.shape)} where {expected} is expected{advice}")
    return (output[:, : x.shape[1]], output[:, x.shape[1] :]) if learned_variance else output


def preconditioned(net: Net, sigma_data: float, x: Any, sigma: Any, **conditioning: Any) -> Any:
    c_noise = (torch.log if isinstance(sigma, Tensor) else np.log)(sigma) / 4
    column = sigma.reshape(-1, *[1] * (x.ndim - 1))
    r_squared = column**2 + sigma_data**2
    output = net(x / r_squared**0.5, c_noise, **conditioning)
    return sigma_data**2 / r_squared * x + column * sigma_data / r_squared**0.5 * output


def checked(net: Any) -> Net:
    if not callable(net):
        raise ValueError(f"net={net!r} must be a network: something callable with a state and a time")
    return net  # type: ignore[no-any-return]


def named(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    if value not in known:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}")
    return known[value]


def check_predicts(value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"predicts={value!r} must be one of {', '.join(allowed)} in this convention")


def as_shape(shape: Shape) -> tuple[int, ...] | None:
    return None if shape is None else tuple(shape)
