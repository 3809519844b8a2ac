"""A library's file run in float64, with its noise handed in; nothing else about it is changed.

Every scheduler's file of diffusers says `torch.float32` and `np.float32` where it makes its tables and casts its samples; here
its module sees both libraries with these names leading to float64. So what is measured is the rule, and not the rounding.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

Noise = Callable[..., Tensor]


class Seen:
    """A library with some of its names leading elsewhere."""

    def __init__(self, library: Any, **instead: Any) -> None:
        self._library, self._instead = library, instead

    def __getattr__(self, name: str) -> Any:
        return self._instead[name] if name in self._instead else getattr(self._library, name)


@contextlib.contextmanager
def replaced(module: Any, **names: Any) -> Iterator[None]:
    """A module with some of the names that it has leading elsewhere; what it does not have is left out."""
    before = {name: getattr(module, name) for name in names if hasattr(module, name)}
    for name in before:
        setattr(module, name, names[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


@contextlib.contextmanager
def float64(scheduler_class: type, noise: Noise | None = None, only_noise: bool = False) -> Iterator[None]:
    """Run a scheduler's file in float64 (or as it is, with `only_noise`); its `randn_tensor` is `noise`, if given."""
    module = importlib.import_module(scheduler_class.__module__)
    before = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        if not only_noise:
            seen = {"torch": Seen(torch, float32=torch.float64), "np": Seen(np, float32=np.float64)}
            stack.enter_context(replaced(module, **seen))
        if noise is not None:
            stack.enter_context(replaced(module, randn_tensor=noise))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        torch.set_default_dtype(before if only_noise else torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
