"""Where randomness comes from: sources of standard normals, each drawn for (interval, stream) and one seed per sample.

```
SeededNoise    the default: sample i depends on its own seed alone, bit for bit on every machine and device
BrownianNoise  the same, with stream 0 one Brownian path that coarse and fine grids share
FastNoise      the device's own generator: faster, and none of these promises
```
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from urn.philox import standard_normals
from urn.plan import Noise, Rows
from urn.processes import Process

Interval = tuple[float, float]


class NoiseSource(Protocol):
    """Anything that draws standard normals for Noise rows."""

    def normal(self, interval: Interval, stream: int, like: Any) -> Any:
        """One standard normal per element of `like`, the same again for the same interval and stream."""
        ...


@runtime_checkable
class StructuredNoise(NoiseSource, Protocol):
    """Noise whose elements hang together: its numbers are not independent, or it is made for states of one kind."""

    def for_batch(self, seeds: Sequence[int], plan: Rows, device: torch.device, part: slice) -> NoiseSource:
        """The source of a part of the samples, with these seeds."""
        ...

    def check(self, shape: tuple[int, ...], predicts: str | None = None) -> None:
        """Refuse states, or a network, that it does not suit.

        Raises:
            ValueError: naming the shape (B, *S), or what the network predicts.
        """
        ...


def sample_seeds(seed: int, count: int, first: int = 0) -> tuple[int, ...]:
    """The seeds of samples first ... first + count - 1 of a run that was given one seed.

    Example:
        >>> sample_seeds(0, 2) == (sample_seeds(0, 1)[0], sample_seeds(0, 1, first=1)[0])
        True
    """
    check_seeds("seed", [seed])
    return tuple(int.from_bytes(_digest(struct.pack("<Qq", seed, i), 8), "little") for i in range(first, first + count))


def check_seeds(name: str, seeds: Sequence[int]) -> tuple[int, ...]:
    """Seeds as a tuple of integers in [0, 2^64).

    Raises:
        ValueError: naming the argument and the first value that is none.
    """
    if not hasattr(seeds, "__len__") or isinstance(seeds, str):
        raise ValueError(f"{name}={seeds!r} must be a sequence of integers, one per sample")
    if not len(seeds):
        raise ValueError(f"{name}={seeds!r} must have at least one")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
            raise ValueError(f"{name}: {seed!r} must be an integer of at least 0 and below 2^64")
    return tuple(map(int, seeds))


class SeededNoise:
    """Counter-based noise: Philox 4x64-10 keyed by a sample's seed, counted by (interval, stream) and element.

    The integers, and the arithmetic that turns them into normals, are the same on every machine, device and thread count:
    float64 for states of float64, else float32, rounded to the state's dtype; the two differ by rounding alone. A sample's
    noise does not depend on the batch it is in.

    Args:
        seeds: one per sample.

    Source of the generator: Salmon, Moraes, Dror, Shaw 2011, Parallel Random Numbers: As Easy as 1, 2, 3.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = check_seeds("seeds", seeds)

    def normal(self, interval: Interval, stream: int, like: Any) -> Any:
        """See `NoiseSource`; refuses a batch of another size than the number of seeds."""
        if like.shape[0] != len(self.seeds):
            raise ValueError(
                f"seeds: {len(self.seeds)} given for a batch of {like.shape[0]} samples; one each is needed"
            )
        device = like.device if isinstance(like, Tensor) else torch.device("cpu")
        dtype = torch.float64 if str(getattr(like, "dtype", "float64")).endswith("float64") else torch.float32
        values = standard_normals(self.seeds, identity(interval, stream), math.prod(like.shape[1:]), device, dtype)
        return in_kind(values.reshape(like.shape), like)


class BrownianNoise:
    """Noise whose stream 0 is the increments of one Brownian path per sample, so that all grids see the same path.

    The increment over an interval is divided by the root of its length. The path is a binary tree of midpoints over
    [end, start], drawn as they are needed; an end of an interval is reached exactly by a last bridge.

    Args:
        seeds: one per sample.
        start, end: the times between which the path is asked for.
        depth: halvings of the tree; intervals shorter than 4 leaves, (start - end) / 2^(depth - 2), are refused.

    Source: Li et al. 2020, Scalable Gradients for Stochastic Differential Equations, arXiv 2001.01328, section 4.
    """

    def __init__(self, seeds: Sequence[int], start: float, end: float, depth: int = 24) -> None:
        if not (math.isfinite(start) and math.isfinite(end) and start > end):
            raise ValueError(f"start={start!r} must lie above end={end!r}, both finite")
        self.fresh = SeededNoise(seeds)
        self.start, self.end, self.depth = start, end, depth
        self._paths: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def normal(self, interval: Interval, stream: int, like: Any) -> Any:
        """See `NoiseSource`."""
        if stream != 0 or interval[0] == interval[1]:
            return self.fresh.normal(interval, stream, like)
        self.check(interval)
        cur, next = interval
        wide = like.double() if isinstance(like, Tensor) else torch.empty(like.shape, dtype=torch.float64)
        increment = (self._path(cur, wide) - self._path(next, wide)) / math.sqrt(cur - next)
        return in_kind(increment, like)

    def check(self, interval: Interval) -> None:
        """Refuse an interval that the path does not have.

        Raises:
            ValueError: it is outside the path's times, or too short for the tree.
        """
        cur, next = interval
        shortest = 4 * (self.start - self.end) / 2**self.depth
        if not (self.end <= next < cur <= self.start):
            raise ValueError(f"interval {interval} is outside the path's times, {self.start} to {self.end}")
        if cur - next < shortest:
            raise ValueError(f"interval {interval} is shorter than {shortest:.3g}: raise depth={self.depth}")

    def _path(self, t: float, like: Tensor) -> Tensor:
        """W(t), W(end) = 0: down the tree to the leaf that holds t, then a bridge to t itself."""
        low, high = self.end, self.start
        w_low, w_high = torch.zeros_like(like), self._draw((low, high), 1.0, like) * math.sqrt(high - low)
        for _ in range(self.depth):
            if t in (low, high):
                break
            middle = (low + high) / 2
            w_middle = self._bridge(low, high, middle, w_low, w_high, like)
            low, high, w_low, w_high = (
                (low, middle, w_low, w_middle) if t < middle else (middle, high, w_middle, w_high)
            )
        if t == low:
            return w_low
        return w_high if t == high else self._bridge(low, high, t, w_low, w_high, like)

    def _bridge(self, low: float, high: float, t: float, w_low: Tensor, w_high: Tensor, like: Tensor) -> Tensor:
        key = (low, high, t, like.shape, like.device)
        if key not in self._paths:
            share = (t - low) / (high - low)
            std = math.sqrt((t - low) * (high - t) / (high - low))
            between = w_low + share * (w_high - w_low)  # not lerp, which fuses or does not as the machine has it
            self._paths[key] = between + std * self._draw((low, high), t, like)
            if len(self._paths) > 3 * self.depth:
                self._paths.popitem(last=False)
        self._paths.move_to_end(key)
        value: Tensor = self._paths[key]
        return value

    def _draw(self, interval: Interval, t: float, like: Tensor) -> Tensor:
        node = int.from_bytes(_digest(struct.pack("<d", t), 7), "little") + 2**56  # apart from every row's stream
        value: Tensor = self.fresh.normal(interval, node, like)
        return value


class FastNoise:
    """The device's own generator: as fast as torch.randn, and all that it promises.

    What it gives up: a sample then depends on the batch it is drawn in and on its place in it, on the order of the rows,
    on the device, and on the PyTorch version; nothing can be entered midway.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.generator = torch.Generator(device).manual_seed(check_seeds("seed", [seed])[0])

    def normal(self, interval: Interval, stream: int, like: Any) -> Any:
        """Draws whatever comes next: interval and stream are not looked at."""
        if not isinstance(like, Tensor):
            raise ValueError("fast noise is torch's own generator: it needs a torch state")
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)


def identity(interval: Interval, stream: int) -> tuple[int, int, int]:
    """Three 32-bit words that stand for (interval, stream): equal numbers, equal words."""
    start, end = (float(t) + 0.0 for t in interval)  # -0.0 is 0.0
    words = struct.unpack("<3I", _digest(struct.pack("<ddQ", start, end, stream), 12))
    return words[0], words[1], words[2]


def _digest(content: bytes, size: int) -> bytes:
    return hashlib.blake2b(content, digest_size=size).digest()


def in_kind(values: Tensor, like: Any) -> Any:
    """Normals as an array of the kind and dtype of `like`."""
    if isinstance(like, Tensor):
        return values.to(like.dtype)
    if type(like).__module__.startswith("jax"):
        import jax.numpy as jnp

        return jnp.asarray(values.numpy(), dtype=like.dtype)
    return values.numpy().astype(like.dtype)


def make_source(
    noise: str | NoiseSource, seeds: Sequence[int], plan: Rows, device: torch.device, part: slice | None = None
) -> NoiseSource:
    """The source that `urn.sample` uses for its `noise` argument, for the samples `part` of the batch, whose seeds are given.

    A structured source has numbers of its own for each sample, and is asked for those of the part.

    Raises:
        ValueError: a name other than "seeded", "brownian" and "fast", or a step that the Brownian path does not have.
    """
    if isinstance(noise, StructuredNoise):
        return noise.for_batch(seeds, plan, device, slice(0, len(seeds)) if part is None else part)
    if not isinstance(noise, str) and hasattr(noise, "normal"):
        return noise
    if noise == "seeded":
        return SeededNoise(seeds)
    if noise == "fast":
        return FastNoise(seeds[0], device)
    if noise == "brownian":
        process: Process = plan.process  # type: ignore[attr-defined]
        walked = [row.interval for row in plan.rows if isinstance(row, Noise) and not row.stream]
        source = BrownianNoise(seeds, max([process.t_start, *(cur for cur, _ in walked)]), process.domain[0])
        for interval in walked:
            source.check(interval)
        return source
    raise ValueError(f"noise={noise!r} must be 'seeded', 'brownian', 'fast', or a source with a method `normal`")
