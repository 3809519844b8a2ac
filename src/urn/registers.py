"""Registers: where the executor keeps the tensors of a run.

By name in general. Tensors of one shape on a CPU, where no gradients are kept, lie in one block of memory, one row a register:
a Mix is then one product of a small matrix with that block, in which states and the history that is still needed are read
once and written once, however many sums it has. Half precision is held in float32 there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from urn.arithmetic import HALF, weighted_sum
from urn.binding import Program, Sum
from urn.plan import Register

COLUMNS = 16  # a block has a multiple of these: of 1 or 2 columns products are rounded otherwise than of many
LARGE = 1 << 17  # columns from which a Mix does not write the rows that are to be filled after it


def registers_for(program: Program, inputs: Mapping[str, Any], *, keep: bool) -> Named | Block:
    """Registers that hold the inputs; `keep` says that somebody else looks at them by name."""
    values = [inputs[name] for name in program.inputs]
    if not keep and program.is_long and _fit_one_block(values) and program.has_numbers_only:
        return Block(program, inputs)
    return Named(inputs)


class Named(dict[str, Any]):
    """By name: whatever has `+` and `*` by a number."""

    def mix(self, sums: tuple[Sum, ...]) -> None:
        """Make weighted sums, in order."""
        for out, terms in sums:
            self[out] = weighted_sum(terms, self)

    def drop(self, names: tuple[Register, ...]) -> None:
        """Free what nothing reads any more."""
        for name in names:
            del self[name]

    def handed_out(self, name: Register) -> Any:
        """A register for the caller."""
        return self[name]


class Block:
    """One row of a matrix for each register. A Mix makes a new block, so that nobody's tensor is written to."""

    def __init__(self, program: Program, inputs: Mapping[str, Tensor]) -> None:
        like = inputs["x"]
        self.shape, self.dtype = like.shape, like.dtype
        self.columns = -(-like.numel() // COLUMNS) * COLUMNS
        self.strides = like.stride() if like.is_contiguous() else like.contiguous().stride()
        inner = torch.float32 if like.dtype in HALF else like.dtype
        self.is_half = inner != like.dtype
        self.places = program.places[0]
        self.following = iter(zip(program.matrices(inner), program.places[1:], strict=True))
        self.block = torch.zeros(len(self.places), self.columns, dtype=inner)
        for name in program.inputs:
            self[name] = inputs[name]

    def __getitem__(self, name: Register) -> Tensor:
        row = self.block.as_strided(self.shape, self.strides, self.places[name] * self.columns)
        return row.to(self.dtype) if self.is_half else row

    def __setitem__(self, name: Register, value: Tensor) -> None:
        self.block.as_strided(self.shape, self.strides, self.places[name] * self.columns).copy_(value)

    def mix(self, sums: tuple[Sum, ...]) -> None:
        """Make the next Mix's sums, and keep what is read after it."""
        (matrix, made), self.places = next(self.following)
        if self.columns < LARGE:
            self.block = torch.mm(matrix, self.block)
        else:
            block = torch.empty(len(matrix), self.columns, dtype=self.block.dtype)
            torch.mm(matrix[:made], self.block, out=block[:made])
            self.block = block

    def drop(self, names: tuple[Register, ...]) -> None:
        """Nothing: the next Mix leaves them out."""

    def handed_out(self, name: Register) -> Tensor:
        """A register for the caller, who need not keep the block."""
        return self[name].clone()


def _fit_one_block(values: list[Any]) -> bool:
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not products_go_by_column():
        return False
    like = values[0]
    return all(
        type(value) is Tensor
        and value.device.type == "cpu"
        and value.dtype == like.dtype
        and value.shape == like.shape
        and value.numel() > 0
        and value.is_floating_point()
        and not torch._C._functorch.is_functorch_wrapped_tensor(value)
        for value in values
    )


@lru_cache(maxsize=1)
def products_go_by_column() -> bool:
    """Whether this machine's matrix products give a column the same bits whatever columns stand beside it, as a sample that
    does not depend on its batch needs."""
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        for rows in range(2, 12):
            matrix = torch.randn(rows, rows, generator=generator, dtype=dtype)
            block = torch.randn(rows, 1024, generator=generator, dtype=dtype)
            whole = torch.mm(matrix, block)
            for columns in (slice(0, 16), slice(16, 48), slice(48, 560), slice(560, 1024)):
                if not torch.equal(torch.mm(matrix, block[:, columns].contiguous()), whole[:, columns]):
                    return False
    return True
