"""A model: a network with its process and what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from urn.arrays import library
from urn.plan import Array, PlanError
from urn.prediction import PREDICTIONS, check_prediction_name
from urn.processes import Process

HALF = (torch.float16, torch.bfloat16)
KINDS: dict[str | None, str] = {"torch": "a torch tensor", "numpy": "a NumPy array", "jax": "a JAX array"}
ADVICE = "states are of one library: pass `start=`, or `dtype=`, of the one that the network is of"


@dataclass(frozen=True, eq=False)
class Model:
    """A network, the process it was trained for, and what it predicts.

    Attributes:
        net: called as net(x, t, **conditioning), x of shape (B, *S), t of shape (B,); returns a tensor like x, or a tuple
            of tensors where `predicts` names several. It may take NumPy or JAX arrays instead; t is then a NumPy array.
        process: its forward process.
        predicts: one of "epsilon", "x0", "v", "velocity", "score"; or a tuple of such a name and names of further
            outputs, as ("epsilon", "variance").
        shape: the shape S of one sample, where known.
        label: what the network is shown for a time t; by default t itself. A flow network trained on 0 ... 1000 has
            `label=lambda t: 1000 * t`.
        input_scale: what x is multiplied by before the network sees it, as a function of t; by default 1.
        integer_times: whether the network takes integer times only; a fractional one is then refused.
        outputs: the names of what the network returns, the prediction first.

    Raises:
        ValueError: `predicts` or `shape` is not one of the above.

    Example:
        >>> model = Model(lambda x, t: torch.zeros_like(x), VP.linear(), predicts="v", shape=(3, 32, 32))
    """

    net: Callable[..., Any] = field(repr=False)
    process: Process
    predicts: str | tuple[str, ...] = "epsilon"
    shape: tuple[int, ...] | None = None
    label: Callable[[Any], Any] | None = None
    input_scale: Callable[[Any], Any] | None = None
    integer_times: bool = False
    outputs: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = (self.predicts,) if isinstance(self.predicts, str) else tuple(self.predicts)
        object.__setattr__(self, "outputs", names)
        check_prediction_name("predicts", self.outputs[0] if self.outputs else None)
        if not callable(self.net):
            raise ValueError(f"net={self.net!r} must be callable as net(x, t, **conditioning)")
        if self.shape is not None:
            object.__setattr__(self, "shape", check_shape("shape", self.shape))

    def __call__(self, *inputs: Any, t: float | Tensor | Array, **conditioning: Any) -> tuple[Any, ...]:
        """Call the network at time t; returns its outputs as they are, in the input's dtype.

        Raises:
            ValueError: it returned another number of outputs, or another shape.
        """
        return self.call(inputs, t, self.shown(t, inputs[0]), conditioning)

    def call(
        self, inputs: Sequence[Any], t: float | Tensor | Array, shown: Any, conditioning: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        """The same, where what the network is shown of t has been made already."""
        x = inputs[0]
        if self.input_scale is not None:
            scale = self.input_scale(torch.tensor(t.values) if isinstance(t, Array) else t)
            if isinstance(scale, Tensor) and scale.ndim:  # one time per sample, or per frame
                scale = scale.to(x)[None] if isinstance(t, Array) else scale.to(x).reshape(-1, *[1] * (x.ndim - 1))
            inputs = [value * scale for value in inputs]
        try:
            result = self.net(*inputs, shown, **conditioning)
        except (TypeError, AttributeError) as error:
            if library(x) not in ("numpy", "jax") and not (library(x) == "torch" and _is_of_jax(error)):
                raise
            raise ValueError(
                f"the network was called with {KINDS[library(x)]} and failed; {ADVICE}: {error}"
            ) from error
        return self.accepted(result, x)

    def accepted(self, result: Any, x: Any) -> tuple[Any, ...]:
        """What the network returned for x, one tensor for each name in `outputs`, in x's dtype.

        Raises:
            ValueError: another number of outputs, or another shape.
        """
        single = isinstance(result, Tensor) and isinstance(x, Tensor) and len(self.outputs) == 1
        if single and result.shape == x.shape and result.dtype == x.dtype:  # as it mostly is
            return (result,)
        outputs = tuple(result) if isinstance(result, (tuple, list)) else (result,)
        if len(outputs) != len(self.outputs):
            raise ValueError(f"the network returned {len(outputs)} outputs, the model says {self.outputs}")
        if not (isinstance(x, Tensor) and isinstance(outputs[0], Tensor)):
            kinds = {library(value): None for value in (x, *outputs)}
            if len(kinds) > 1 and None not in kinds:
                first, other, *_ = (KINDS[kind] for kind in kinds)
                raise ValueError(f"the network was called with {first} and returned {other}; {ADVICE}")
        found, expected = getattr(outputs[0], "shape", None), getattr(x, "shape", None)
        if found != expected:
            what = type(outputs[0]).__name__ if found is None else f"shape {tuple(found)}"
            raise ValueError(f"the network returned {what} for x of shape {tuple(expected or ())}")
        if isinstance(x, Tensor):
            return tuple([output if output.dtype == x.dtype else output.to(x.dtype) for output in outputs])
        return outputs if library(x) is None else tuple(output.astype(x.dtype) for output in outputs)

    def telling(self, told: Callable[[], Any]) -> Model:
        """The same model, which calls `told()` after each of its calls: for progress bars, as runs are not changed by it."""

        def net(*inputs: Any, **conditioning: Any) -> Any:
            result = self.net(*inputs, **conditioning)
            told()
            return result

        return replace(self, net=net)

    def times(self, given: Sequence[float | Tensor | Array], x: Any) -> Iterator[Any]:
        """What the network is shown of each of several times, as `shown`, in order."""
        on_cpu = isinstance(x, Tensor) and x.device.type == "cpu" and {*map(type, given)} <= {int, float}
        values: Sequence[Any] = [] if not on_cpu else given if self.label is None else [self.label(t) for t in given]
        if len(values) < 2 or (self.label is not None and any(isinstance(value, Tensor) for value in values)):
            return (self.shown(t, x) for t in given)
        if self.integer_times:
            values = [round(float(value)) for value in values]
        table = torch.tensor(values, dtype=self._time_dtype(x))[:, None]  # at once, which saves time
        return iter(table.expand(-1, x.shape[0]).contiguous().unbind())

    def shown(self, t: float | Tensor | Array, x: Any) -> Any:
        """The time that the network is shown: `label(t)` for every sample of x, in float32 where x is of half precision.

        Of shape (B,); a time per frame, an `Array` of shape F, is shown as (B, *F).
        """
        frames = isinstance(t, Array)
        given = torch.tensor(t.values) if isinstance(t, Array) else t
        value = given if self.label is None else self.label(given)
        if self.integer_times:  # 57 may come as 56.99999999999999, which a cast would make 56
            value = torch.round(value) if isinstance(value, Tensor) else round(value)
        if isinstance(x, Tensor):
            dtype = self._time_dtype(x)
            if frames and isinstance(value, Tensor):
                return value.to(device=x.device, dtype=dtype).expand(x.shape[0], *value.shape)
            if isinstance(value, Tensor):  # a learned time, carrying its gradient, or one time per sample
                return value.to(device=x.device, dtype=dtype).reshape(-1).expand(x.shape[0])
            return torch.full((x.shape[0],), value, dtype=dtype, device=x.device)
        if not hasattr(x, "shape"):
            return value
        wide = np.int64 if self.integer_times else np.float32 if x.dtype.itemsize == 2 else x.dtype
        return np.array(np.broadcast_to(np.asarray(value), (x.shape[0], *np.shape(value))), dtype=wide)

    def _time_dtype(self, x: Tensor) -> torch.dtype:
        return torch.long if self.integer_times else torch.float32 if x.dtype in HALF else x.dtype

    def check_time(self, t: float | Tensor | Array) -> None:
        """Refuse a fractional time where the network takes integers only.

        Raises:
            PlanError: naming the time and grids that suit the network.
        """
        if not self.integer_times:
            return
        given = torch.tensor(t.values) if isinstance(t, Array) else t
        label = given if self.label is None else self.label(given)
        values = label.detach().flatten().tolist() if isinstance(label, Tensor) else [float(label)]
        value = max(values, key=lambda v: abs(v - round(v)))
        if abs(value - round(value)) > 1e-6:
            raise PlanError(
                f"the network takes integer times and would be shown {value!r}: use grid='trailing', 'linspace' or "
                "'leading', urn.grids.rounded(...) around another, or an array of integers"
            )


def _is_of_jax(error: Exception) -> bool:
    """Whether JAX did not know what to do with a tensor."""
    return type(error).__module__.startswith("jax") or "JAX" in str(error) or "abstract array" in str(error)


def check_shape(name: str, shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of positive integers.

    Raises:
        ValueError: naming the argument and the value.
    """
    try:
        sizes = tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        sizes = ()
    if not sizes or any(size < 1 for size in sizes) or sizes != tuple(shape):
        raise ValueError(f"{name}={shape!r} must be a tuple of positive integers")
    return sizes


__all__ = ["PREDICTIONS", "Model", "check_shape"]
