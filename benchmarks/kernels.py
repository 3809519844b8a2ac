"""Counts what a sampler asks of its device: operations over tensors of the state's size, and over scalars apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FREE = {"detach", "alias", "empty", "empty_like", "empty_strided", "lift_fresh"}  # no kernel runs


SCALARS = 64  # elements up to which a tensor is a few numbers: a coefficient, a time for every sample


@dataclass(frozen=True)
class Kernels:
    """How many operations ran: `large` have an input or output of the state's size, `small` only a few numbers.

    Operations on parts of a state, as those of noise drawn in chunks, are added to `large` by their share of it.
    """

    large: float
    small: int
    names: dict[str, float]

    def per(self, steps: int) -> dict[str, float]:
        """Per step."""
        return {"large": self.large / steps, "small": self.small / steps}


class _Counting(TorchDispatchMode):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.small = size, 0
        self.large: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if not func.is_view and name not in FREE:
            leaves = tree_leaves((args, kwargs, result))
            elements = max((leaf.numel() for leaf in leaves if isinstance(leaf, Tensor)), default=0)
            if elements <= SCALARS:
                self.small += 1
            else:
                self.large[name] += min(1.0, elements / self.size)
        return result


def count_kernels(run: Callable[[], Any], size: int) -> Kernels:
    """Count the operations of a run on a state of `size` elements."""
    with torch.no_grad(), _Counting(size) as counting:
        run()
    return Kernels(sum(counting.large.values()), counting.small, dict(counting.large))
