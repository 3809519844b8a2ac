"""A network with some of its blocks skipped: what a call costs without them, and models under names that say which.

A skipped block hands on its input; a block with a submodule `skip`, as a residual block that changes the number of channels,
its skip connection. The network itself is not changed, and the weights are shared.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from urn.model import Model
from urn.prediction import as_tensor


class Skipped(nn.Module):
    """In a block's place: its first input, or its skip connection."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        skip = getattr(block, "skip", None)
        self.skip = skip if isinstance(skip, nn.Module) else nn.Identity()

    def forward(self, x: Tensor, *others: Any, **conditioning: Any) -> Tensor:
        handed: Tensor = self.skip(x)
        return handed


def without(model: Model, blocks: Sequence[str]) -> Model:
    """The model with the named submodules of its network skipped.

    Raises:
        ValueError: the network is no `torch.nn.Module`, or has no submodule of a name.

    Example:
        >>> thin = without(load_digits(), ["coarse_block_2"])
    """
    return replace(model, net=_skipping(_module(model), blocks))


def skippable(
    model: Model, blocks: Sequence[str], most: int = 1, conditioning: Mapping[str, Any] | None = None
) -> dict[str, tuple[Model, float]]:
    """Models with up to `most` of the blocks skipped, by names such as "without up_block", and what each call costs beside one
    of the whole model, by multiplications.

    Args:
        blocks: names of submodules whose output has the shape of their input, or that have a `skip`.
        most: how many are skipped at once.
        conditioning: keyword arguments of the network for one sample.

    Raises:
        ValueError: no such block, `most` below 1, a model without a shape, or a block that cannot be skipped.
    """
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= len(blocks):
        raise ValueError(f"most={most!r} must be an integer from 1 to the {len(blocks)} blocks")
    whole = multiplications(model, conditioning)
    found = {}
    for count in range(1, most + 1):
        for chosen in combinations(blocks, count):
            thin = without(model, chosen)
            try:
                cost = multiplications(thin, conditioning) / whole
            except RuntimeError as error:
                raise ValueError(f"blocks={list(chosen)!r} cannot be skipped: {error}") from error
            found["without " + " ".join(chosen)] = (thin, cost)
    return found


def multiplications(model: Model, conditioning: Mapping[str, Any] | None = None) -> int:
    """Those of one call for one sample, in matrix products and convolutions.

    Raises:
        ValueError: the model does not know its shape.
    """
    if model.shape is None:
        raise ValueError("model: it does not know the shape of a sample: Model(..., shape=(...))")
    parameter = next(_module(model).parameters(), torch.zeros(()))
    x = torch.zeros((1, *model.shape), dtype=parameter.dtype, device=parameter.device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(x, t=float(as_tensor(model.process.t_start)), **(conditioning or {}))
    return counter.get_total_flops() // 2


def _module(model: Model) -> nn.Module:
    if not isinstance(model.net, nn.Module):
        raise ValueError(f"model: blocks can be skipped in a torch.nn.Module, not in {type(model.net).__name__}")
    return model.net


def _skipping(net: nn.Module, blocks: Sequence[str]) -> nn.Module:
    names = dict(net.named_modules())
    for block in blocks:
        if not block or block not in names:
            raise ValueError(f"blocks: the network has no submodule {block!r}; it has {', '.join(filter(None, names))}")
    for block in blocks:
        net = _replaced(net, block.split("."))
    return net


def _replaced(net: nn.Module, path: Sequence[str]) -> nn.Module:
    """A shallow copy of a network with the submodule at a path skipped."""
    made = copy.copy(net)
    made._modules = dict(net._modules)
    inner = net._modules[path[0]]
    if isinstance(inner, nn.Module):
        made._modules[path[0]] = Skipped(inner) if len(path) == 1 else _replaced(inner, path[1:])
    return made
