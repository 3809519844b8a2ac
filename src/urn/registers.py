"""Registers: where the executor keeps the tensors of a run.

By name in general. Tensors of one shape on a CPU, where no gradients are kept, lie in one block of memory, one row a register:
a Mix is then one product of a small matrix with that block, in which states and the history that is still needed are read
once and written once, however many sums it has. Half precision is held in float32 there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from itertools import repeat
from sys import getrefcount
from typing import Any

import torch
from torch import Tensor

from urn.arithmetic import HALF, weighted_sum
from urn.binding import Product, Program, Sum
from urn.plan import Register

COLUMNS = 16  # a block has a multiple of these: of 1 or 2 columns products are rounded otherwise than of many
LARGE = 1 << 17  # columns from which a block may be mixed by tiles
TILES = 3 << 16  # numbers in a tile, which stay in a cache
# how many tensors and others hold a storage, in Python or not, views among them
HOLDERS: Callable[[int], int] = getattr(torch._C, "_storage_Use_Count", lambda cdata: 0)


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


class Memory:
    """Rows of a run's own, and the views of them that it works with."""

    def __init__(self, block: Tensor, like: Tensor) -> None:
        self.block, self.address = block, block.data_ptr()
        self.rows = block.as_strided((len(block), *like.shape), (block.shape[1], *like.stride())).unbind()
        self.heads = {len(block): block}  # its first rows
        self.storage = block.untyped_storage()
        self.cdata = self.storage._cdata
        self.own, self.named = HOLDERS(self.cdata), getrefcount(self.storage)

    def head(self, rows: int) -> Tensor:
        """The first rows."""
        if rows not in self.heads:
            self.heads[rows] = self.block[:rows]
            self.own += 1
        return self.heads[rows]

    def is_free(self) -> bool:
        """Whether nobody else holds the memory or a view of it, and it was not moved to be shared with another process."""
        is_own = HOLDERS(self.cdata) == self.own > 0 and getrefcount(self.storage) == self.named
        return is_own and self.block.data_ptr() == self.address


class Block:
    """One row of a matrix for each register. Memory is used again, but not while anybody else holds some of it.

    A Mix makes the whole block anew, in the memory of the one before. Of a large state of which much would only be copied, it
    makes a tile of columns at a time, while that is in the processor's cache, and writes it over what nothing reads any more.
    """

    def __init__(self, program: Program, inputs: Mapping[str, Tensor]) -> None:
        like = inputs["x"]
        self.like = like if like.is_contiguous() else like.contiguous()
        self.half = like.dtype if like.dtype in HALF else None
        self.dtype = torch.float32 if self.half else like.dtype
        self.columns = -(-like.numel() // COLUMNS) * COLUMNS
        self.places, self.height = program.places, program.height
        self.memory = self._memory()
        self.spare = None if self.columns >= LARGE and program.copies_much else self._memory()
        self.late: tuple[int, Tensor] | None = None  # what the next Mix is to put in its place
        self.following = iter(program.products(self.dtype, self.spare is not None))
        for name in program.inputs:
            self[name] = inputs[name]

    def __getitem__(self, name: Register) -> Tensor:
        if self.late:
            self._settle()
        row = self.memory.rows[self.places[name]]
        return row.to(self.half) if self.half else row.data  # a tensor of its own: whoever keeps it is counted

    def __setitem__(self, name: Register, value: Tensor) -> None:
        if (place := self.places.get(name)) is None:  # nothing reads it
            return
        if self.spare or value.numel() < self.columns:
            self.memory.rows[place].copy_(value)
        else:
            self._settle()
            self.late = place, value

    def mix(self, sums: tuple[Sum, ...]) -> None:
        """Make the next Mix's sums, and keep what is read after it."""
        product = next(self.following)
        if self.spare is None:
            self._mix_tiles(product)
            return
        old, new = self.memory, self.spare if self.spare.is_free() else self._memory()
        read, made = product.read, product.height
        torch.mm(product.matrix, old.head(read), out=new.head(made))
        self.memory, self.spare = new, old

    def drop(self, names: tuple[Register, ...]) -> None:
        """Nothing: their rows are written over."""

    def handed_out(self, name: Register) -> Tensor:
        """A register for the caller, who need not keep the block."""
        return self[name].clone()

    def _memory(self) -> Memory:
        return Memory(torch.empty(self.height, self.columns, dtype=self.dtype), self.like)

    def _settle(self) -> None:
        if self.late:
            place, value = self.late
            self.memory.rows[place].copy_(value)
            self.late = None

    def _mix_tiles(self, product: Product) -> None:
        if not self.memory.is_free():
            self.memory = Memory(self.memory.block.clone(), self.like)
        block, width = self.memory.block, TILES // self.height // COLUMNS * COLUMNS
        scratch = torch.empty(product.height, width, dtype=self.dtype)
        parts = partial(torch.split, split_size_or_sections=width, dim=-1)
        late: Iterable[Any] = repeat(None)
        if self.late:
            late = zip(parts(block[self.late[0]]), parts(self.late[1].reshape(-1)), strict=True)
        places = [parts(block[place]) for place in product.made]
        for tile, copied, *rows in zip(parts(block[: product.read]), late, *places, strict=False):
            if copied:
                copied[0].copy_(copied[1])
            made = scratch[:, : tile.shape[1]]
            torch.mm(product.matrix, tile, out=made)
            for row, place in zip(made, rows, strict=False):
                place.copy_(row)
        self.late = None


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
                part = block[:, columns]
                apart = (torch.mm(matrix, part.contiguous()), torch.mm(matrix, part))
                few = torch.mm(matrix[: max(2, rows // 2)], part)
                if not all(torch.equal(found, whole[: len(found), columns]) for found in (*apart, few)):
                    return False
    return True
