"""Standard normals from a counter, the same bits everywhere: Philox 4x32-10 and a Box-Muller transform in plain float64.

The transform uses only operations that IEEE 754 rounds exactly (+, -, *, /, sqrt, frexp), one at a time, with its own
polynomials for log, sin and cos. Library versions of these differ in the last bit between instruction sets, and fused
multiply-adds differ from separate ones; both would change samples from machine to machine.

Sources: Salmon, Moraes, Dror, Shaw 2011, Parallel Random Numbers: As Easy as 1, 2, 3; Box & Muller 1958.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
CHUNK = 1 << 14  # counters at once on a CPU: the work then stays in its cache


def standard_normals(seeds: Sequence[int], identity: tuple[int, int, int], count: int, device: torch.device) -> Tensor:
    """`count` normals for each seed, float64, shape (len(seeds), count).

    Element e of a row is made of counter (e // 4, *identity) under that row's seed, so any part can be drawn alone.

    Args:
        seeds: integers in [0, 2^64), the key of each row.
        identity: three 32-bit words.
        count: elements a row, at most 2^34.
        device: where to compute; the result is the same.
    """
    blocks = -(-count // 4)
    wide = np.asarray(seeds, dtype=np.uint64)
    halves = np.stack([wide & np.uint64(MASK), wide >> np.uint64(32)], 1)
    keys = torch.from_numpy(halves.astype(np.int64)).to(device)
    out = torch.empty((len(seeds), blocks, 4), dtype=torch.float64, device=device)
    rows, columns = (max(1, CHUNK // blocks), CHUNK) if device.type == "cpu" else (max(1, len(seeds)), blocks)
    for row in range(0, len(seeds), rows):
        for column in range(0, blocks, columns):
            part = out[row : row + rows, column : column + columns]
            counter = torch.arange(column, column + part.shape[1], device=device)
            words = philox(counter.expand(part.shape[:2]), identity, keys[row : row + rows])
            for pair in (0, 2):
                part[..., pair], part[..., pair + 1] = box_muller(words[pair], words[pair + 1])
    return out.reshape(len(seeds), -1)[:, :count]


def philox(counter: Tensor, identity: tuple[int, int, int], keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox 4x32-10: four 32-bit words, held in int64, for every counter (counter, *identity).

    Args:
        counter: first words, shape (B, n); keys: (B, 2).
    """
    k0, k1 = keys[:, :1], keys[:, 1:]
    c0, (c1, c2, c3) = counter, (torch.full_like(counter, word) for word in identity)
    for _ in range(10):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # the low 64 bits are right whatever the sign
        high0, high1 = (p0 >> 32).bitwise_and_(MASK), (p1 >> 32).bitwise_and_(MASK)
        c0, c2 = high1.bitwise_xor_(c1).bitwise_xor_(k0), high0.bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = p1.bitwise_and_(MASK), p0.bitwise_and_(MASK)
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def box_muller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(-2 log u) (cos, sin)(2 pi w) with u = (a + 1/2) / 2^32 and w = b / 2^32, a and b 32-bit words."""
    radius = _sqrt_(log_of_fraction(a.double().add_(0.5).mul_(2.0**-32)).mul_(-2.0))
    cosine, sine = cos_sin_of_turn(b)
    return cosine.mul_(radius), sine.mul_(radius)


def log_of_fraction(u: Tensor) -> Tensor:
    """log u by u = m 2^e, log m = 2 artanh((m - 1)/(m + 1)), m in [0.7, 1.4]; to about 2 units in the last place."""
    m, e = torch.frexp(u)
    small = m < math.sqrt(0.5)
    m = torch.where(small, m * 2, m)
    e = e.to(torch.float64) - small.to(torch.float64)
    s = (m - 1) / (m + 1)
    series = _horner(s * s, [2.0 / (2 * k + 1) for k in range(10)])
    return series.mul_(s).add_(e.mul_(math.log(2.0)))


def cos_sin_of_turn(word: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin) of 2 pi word / 2^32: the nearest quarter turn is taken off in integers, the rest is within pi/4."""
    quarter = (word + (1 << 29)) >> 30
    angle = (word - (quarter << 30)).to(torch.float64).mul_(math.pi / (1 << 31))
    square = angle * angle
    cosine = _horner(square, [(-1.0) ** k / math.factorial(2 * k) for k in range(9)])
    sine = _horner(square, [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)]).mul_(angle)
    odd = (quarter & 1).bool()
    cos_sign = 1.0 - 2.0 * (((quarter + 1) >> 1) & 1).to(torch.float64)
    sin_sign = 1.0 - 2.0 * ((quarter >> 1) & 1).to(torch.float64)
    return torch.where(odd, sine, cosine).mul_(cos_sign), torch.where(odd, cosine, sine).mul_(sin_sign)


def _sqrt_(x: Tensor) -> Tensor:
    """sqrt in place, rounded as IEEE 754 has it. On a CPU torch's may be MKL's, which is a last bit off here and there."""
    if x.device.type != "cpu":
        return x.sqrt_()
    values = x.numpy()
    np.sqrt(values, out=values)
    return x


def _horner(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total.mul_(x).add_(coefficient)
    return total
