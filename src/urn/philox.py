"""Standard normals from a counter, the same bits everywhere: Philox 4x64-10 and a Box-Muller transform in plain arithmetic.

The transform uses only operations that IEEE 754 rounds exactly (+, -, *, /, sqrt) and integers, one at a time, with its own
polynomials for log, sin and cos. Library versions of these differ in the last bit between instruction sets, and fused
multiply-adds differ from separate ones; both would change samples from machine to machine. It runs in float64 for states
of float64, else in float32, each to its own rounding.

Sources: Salmon, Moraes, Dror, Shaw 2011, Parallel Random Numbers: As Easy as 1, 2, 3; Box & Muller 1958.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
CHUNK = 1 << 16  # words at once on a CPU: what is made of them then stays near it
# with so many counters a sample, or so few samples, NumPy's generator, row by row, is faster than torch's integers
MANY, FEW = 64, 256

_OF_THREAD = threading.local()  # NumPy's generator, set to a counter and key before each use


@dataclass(frozen=True)
class _Format:
    """How a float is laid out, and the terms that log, cos and sin take to be right in it."""

    integers: torch.dtype
    mantissa: int  # bits
    one: int  # the bits of 1
    root: int  # the bits of sqrt(1/2)
    terms: tuple[int, int, int]


FORMATS = {
    torch.float32: _Format(torch.int32, 23, 0x3F800000, 0x3F3504F3, (5, 6, 5)),
    torch.float64: _Format(torch.int64, 52, 0x3FF0000000000000, 0x3FE6A09E667F3BCD, (10, 9, 8)),
}


def standard_normals(
    seeds: Sequence[int],
    identity: tuple[int, int, int],
    count: int,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """`count` normals for each seed, of shape (len(seeds), count).

    Elements 2j and 2j + 1 of a row are made of word j, which is word j % 4 of counter (1 + j // 4, *identity) under the
    row's seed, so any part can be drawn alone.

    Args:
        seeds: integers in [0, 2^64), the key of each row.
        identity: three words.
        count: elements a row.
        device: where to compute; the result is the same.
        dtype: float64 or float32.
    """
    pairs = -(-count // 2)
    blocks = -(-pairs // 4)
    out = torch.empty((len(seeds), pairs, 2), dtype=dtype, device=device)
    chunk = CHUNK if device.type == "cpu" else 4 * blocks * len(seeds)
    rows = max(1, chunk // (4 * blocks))
    alone = device.type == "cpu" and (blocks >= MANY or len(seeds) <= FEW)
    for row in range(0, len(seeds), rows):
        keys = _words(*seeds[row : row + rows])
        if alone:
            words = torch.from_numpy(_words_of_rows(keys, identity, 4 * blocks))
        else:
            counter = torch.arange(1, blocks + 1, device=device).expand(len(keys), blocks)
            along = torch.from_numpy(keys.view(np.int64)).to(device)[:, None]
            words = torch.stack(philox(counter, identity, along), -1).flatten(1)
        for first in range(0, pairs, chunk):
            part = out[row : row + rows, first : first + chunk]
            box_muller(words[:, first : first + part.shape[1]], part)
    return out.reshape(len(seeds), -1)[:, :count]


def _words_of_rows(keys: Any, identity: tuple[int, int, int], count: int) -> Any:
    """`count` words for each key by NumPy's generator, as int64."""
    if not hasattr(_OF_THREAD, "generator"):
        _OF_THREAD.generator = np.random.Philox(0)
        _OF_THREAD.state = _OF_THREAD.generator.state
    generator, state = _OF_THREAD.generator, _OF_THREAD.state
    numbers = state["state"]
    numbers["counter"][:] = (0, *identity)
    words = np.empty((len(keys), count), dtype=np.uint64)
    for key, row in zip(keys, words, strict=True):
        numbers["key"][:] = (key, 0)
        generator.state = state
        row[:] = generator.random_raw(count)
    return words.view(np.int64)


def philox(counter: Tensor, identity: tuple[int, int, int], keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox 4x64-10: four 64-bit words, held in int64, for every counter (counter, *identity) and key (key, 0).

    Args:
        counter: first words, shape (B, n); keys: (B, 1).
    """
    k0, k1 = keys, 0
    c0, (c1, c2, c3) = counter, (torch.full_like(counter, _signed(word)) for word in identity)
    for _ in range(10):
        high0, high1 = high_word(c0, MULTIPLIERS[0]), high_word(c2, MULTIPLIERS[1])
        low0, low1 = c0 * _signed(MULTIPLIERS[0]), c2 * _signed(MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ _signed(k1), low0
        k0, k1 = k0 + _signed(WEYL[0]), (k1 + WEYL[1]) & 0xFFFFFFFFFFFFFFFF
    return c0, c1, c2, c3


def high_word(a: Tensor, b: int) -> Tensor:
    """The upper 64 bits of the product of 64-bit words, by halves; int64 wraps, so that the lower bits are always right."""
    a0, a1, b0, b1 = a & MASK, (a >> 32) & MASK, b & MASK, b >> 32
    cross, other = a0 * b1, a1 * b0
    carry = (((a0 * b0) >> 32) & MASK) + (cross & MASK) + (other & MASK)
    return a1 * b1 + ((cross >> 32) & MASK) + ((other >> 32) & MASK) + (carry >> 32)


def box_muller(words: Tensor, out: Tensor) -> None:
    """sqrt(-2 log u) (cos, sin)(2 pi w), u = (a + 1/2) / 2^32 and w = b / 2^32 of the halves a + 2^32 b of 64-bit words.

    Args:
        words: int64, (..., n); out: float64 or float32, (..., n, 2).
    """
    radius = _sqrt_(log_of_fraction(words & MASK, out.dtype).mul_(-2.0))
    cosine, sine = cos_sin_of_turn((words >> 32).to(torch.int32), out.dtype)
    torch.mul(cosine, radius, out=out[..., 0])
    torch.mul(sine, radius, out=out[..., 1])


def log_of_fraction(a: Tensor, dtype: torch.dtype) -> Tensor:
    """log u of u = (a + 1/2) / 2^32 = m 2^e, log m = 2 artanh((m - 1)/(m + 1)), m in [0.7, 1.4]; to about 2 units in the last
    place, near u = 1 too, where m - 1 is made of the integer."""
    form = FORMATS[dtype]
    bits = _fraction(a, dtype).view(form.integers) + (form.one - form.root)
    e = (bits >> form.mantissa).sub_(form.one >> form.mantissa).to(dtype)
    m = bits.bitwise_and_((1 << form.mantissa) - 1).add_(form.root).view(dtype)
    near = (e + 1).clamp_(min=0)  # 1 where e = 0: there m - 1 = u - 1
    s = (m - 1).mul_(1 - near).sub_(_fraction(a ^ MASK, dtype).mul_(near)).div_(m.add_(1))
    series = _horner(s * s, [2.0 / (2 * k + 1) for k in range(form.terms[0])])
    return series.mul_(s).add_(e.mul_(math.log(2.0)))


def _fraction(a: Tensor, dtype: torch.dtype) -> Tensor:
    return a.to(dtype).add_(0.5).mul_(2.0**-32)


def cos_sin_of_turn(b: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(cos, sin) of 2 pi b / 2^32 of int32 words: the nearest quarter turn is taken off in integers, the rest is within pi/4."""
    terms = FORMATS[dtype].terms
    quarter = (b + (1 << 29)) >> 30  # -2 for 2: int32 wraps, here and below
    angle = (b - (quarter << 30)).to(dtype).mul_(math.pi / (1 << 31))
    square = angle * angle
    cosine = _horner(square, [(-1.0) ** k / math.factorial(2 * k) for k in range(terms[1])])
    sine = _horner(square, [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(terms[2])]).mul_(angle)
    odd, sign = (quarter & 1).to(dtype), 1 - (quarter & 2).to(dtype)
    on_even, on_odd = (1 - odd).mul_(sign), odd.mul_(sign)  # one of them is 0, the other 1 or -1
    return cosine * on_even - sine * on_odd, cosine.mul_(on_odd).add_(sine.mul_(on_even))


def _sqrt_(x: Tensor) -> Tensor:
    """sqrt in place, rounded as IEEE 754 has it. On a CPU torch's may be MKL's, which is a last bit off here and there."""
    if x.device.type != "cpu":
        return x.sqrt_()
    values = x.numpy()
    np.sqrt(values, out=values)
    return x


def _horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total.add_(coefficient).mul_(x)
    return total.add_(coefficients[0])


def _words(*words: int) -> Any:
    return np.array(words, dtype=np.uint64)


def _signed(word: int) -> int:
    """A 64-bit word as int64 holds it."""
    return word - (1 << 64) if word >> 63 else word
