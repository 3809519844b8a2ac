"""A finite data set as the target: the mixture of its points, which a perfectly trained network would reproduce.

Where ``x0`` is one of ``y_1 ... y_N`` with equal probability, the noisy data are a mixture of equal Gaussians, and

    p(n | x)       ~ exp(-|x - alpha y_n|^2 / (2 sigma^2))
    E[x0 | x]      = sum_n p(n | x) y_n
    E[epsilon | x] = (x - alpha E[x0 | x]) / sigma
    score          = -(x - alpha E[x0 | x]) / sigma^2

(Karras et al. 2022, Elucidating the Design Space of Diffusion-Based Generative Models, arXiv 2206.00364, appendix B.3.)
The sums run over chunks of the data with a running maximum, so memory holds one chunk and no (B, N, d). The logits are
as large as d / sigma^2 and only their differences matter, so all is computed in float64 whatever the state's dtype.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from urn.processes import Process
from urn.processes.process import Times

from .contract import Level, closed_form_model, event_shape, level_at, prediction_weights, rows
from .mixture import admits, as_label, as_labels

if TYPE_CHECKING:
    from urn.model import Model


class Empirical:
    """x0 ~ one of N points, each with probability 1/N.

    Args:
        data: y, (N, *S) or (N, d). Floats of 32 or 64 bits are kept as they are, and not copied; others become float64.
        shape: S, the shape of one sample, of d elements; by default that of `data` without its first axis.
        chunk: how many points are held in float64 at a time, >= 1; memory grows as chunk (B + d).
        neighbours: k, 1 <= k < N: only the k points nearest to x / alpha keep their weight, see `truncation_bound`; any
            k at alpha = 0, where all are equally near. Densities are those of the part kept. By default all count.
        labels: the class of each point, (N,) integers >= 0. With them every method takes `label`, (B,) integers: the
            points of that class only; negative, or no label, means all.

    At sigma = 0, x0 is the limit: the nearest point. There is no density or score there. A derivative with respect to
    x keeps the logits of all points, (B, N), or (B, k), for the backward pass.

    Raises:
        ValueError: data that are empty or not finite, or other arguments that are not so.
    """

    def __init__(
        self,
        data: Any,
        shape: Sequence[int] | None = None,
        chunk: int = 4096,
        neighbours: int | None = None,
        labels: Any = None,
    ) -> None:
        points = torch.as_tensor(data, device="cpu")
        points = points if points.dtype in (torch.float32, torch.float64) else points.double()
        # The extremes of data with a nan are nan; `isfinite` on all of it would hold a copy.
        if points.ndim < 2 or points.numel() == 0 or not bool(torch.stack(points.aminmax()).isfinite().all()):
            raise ValueError(f"data has shape {tuple(points.shape)}; allowed: (N, *S) with N >= 1, finite")
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; allowed: 1 or more")
        if neighbours is not None and not 1 <= neighbours < len(points):
            raise ValueError(f"neighbours is {neighbours}; allowed: None, or 1 to {len(points) - 1}")
        self.data = points.flatten(1)
        self.shape = event_shape(points.shape[1:] if shape is None else shape, self.data.shape[1])
        self.chunk, self.neighbours = chunk, neighbours
        self.labels = as_labels(labels, len(points))
        self._moved: dict[torch.device, Tensor] = {}

    def sample(self, count: int, seed: int, dtype: torch.dtype = torch.float64, label: Tensor | None = None) -> Tensor:
        """`count` points drawn with replacement, (count, *S), of the classes `label` (count,) if given."""
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        first, size = self._ranges(as_label(label, self.labels, count), count)
        order = torch.arange(len(self.data)) if self.labels is None else self.labels.argsort(stable=True)
        return self.data[order[first + (uniform * size).long()]].reshape(count, *self.shape).to(dtype)

    def x0(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """E[x0 | x_t = x], of x's shape."""
        return self.prediction(x, process, t, "x0", label)

    def epsilon(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """E[epsilon | x_t = x], of x's shape; zero at sigma = 0."""
        return self.prediction(x, process, t, "epsilon", label)

    def score(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """The gradient of log p(x_t) at x, of x's shape."""
        return self.prediction(x, process, t, "score", label)

    def prediction(self, x: Tensor, process: Process, t: Times, kind: str, label: Tensor | None = None) -> Tensor:
        """The prediction `kind`, one of the five, of x's shape: a E[x0 | x] + b (x - alpha E[x0 | x]) / sigma^2."""
        flat, level, wanted = self._read(x, process, t, label)
        a, b = prediction_weights(kind, process, level)
        mean, _ = self._average(flat, level, wanted)
        result = a * mean + b * ((flat - level.alpha * mean) / level.variance)
        return result.reshape(x.shape).to(x.dtype)

    def log_density(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """log p(x_t = x), or log p(x_t = x | label), (B,)."""
        flat, level, wanted = self._read(x, process, t, label)
        _, log_mass = self._average(flat, level, wanted)
        constant = self.data.shape[1] / 2 * (2 * math.pi * level.variance[:, 0]).log()
        _, size = self._ranges(wanted, len(x))
        return (log_mass - constant - size.to(flat).log()).to(x.dtype)

    def posterior(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean (B, d) and covariance (B, d, d) of x0 given x_t = x, in two passes over the data."""
        flat, level, wanted = self._read(x, process, t, label)
        mean, log_mass = self._average(flat, level, wanted)
        covariance = flat.new_zeros(*flat.shape, flat.shape[1])
        for points, logits in self._terms(flat, level, wanted):
            share = (logits - log_mass.unsqueeze(1)).exp()
            stacked = points.expand(len(flat), *points.shape[-2:])
            parts = [(y - m).T @ (p.unsqueeze(1) * (y - m)) for y, m, p in zip(stacked, mean, share, strict=True)]
            covariance = covariance + torch.stack(parts)
        return mean.to(x.dtype), covariance.to(x.dtype)

    def truncation_bound(self, x: Tensor, process: Process, t: Times, label: Tensor | None = None) -> Tensor:
        """A bound on |x0_k - x0|, (B,): how far E[x0 | x] moves by keeping only the k = `neighbours` nearest points.

        Let d_1 <= d_2 <= ... be the distances |x - alpha y_n|, S = sum_{n <= k} exp(-d_n^2 / (2 sigma^2)), and delta
        the probability of the points left out. Then x0 = (1 - delta) x0_k + delta x0_rest, where x0_k and x0_rest lie
        in the convex hull of the data, so

            |x0_k - x0| = delta |x0_k - x0_rest| <= delta D,   D >= the diameter of the data,
            delta / (1 - delta) <= (N - k) exp(-d_{k+1}^2 / (2 sigma^2)) / S = rho,

        and the bound is D rho / (1 + rho). Since S >= exp(-d_1^2 / (2 sigma^2)), delta is at most
        (N - k) exp(-(d_{k+1}^2 - d_1^2) / (2 sigma^2)). Zero where `neighbours` is None.
        """
        flat, level, wanted = self._read(x, process, t, label)
        if self.neighbours is None:
            return x.new_zeros(len(x))
        nearest, _ = self._nearest(flat, level, wanted, self.neighbours + 1)
        _, size = self._ranges(wanted, len(x))
        left_out = (size.to(flat) - self.neighbours).clamp(min=0.0)
        log_rho = left_out.log() + nearest[:, -1] - nearest[:, :-1].logsumexp(1)
        return (self.diameter_bound * log_rho.sigmoid()).to(x.dtype)

    @functools.cached_property
    def diameter_bound(self) -> float:
        """At least the largest distance between two points: the smaller of twice a radius and a box's diagonal."""
        parts = [self.data[start : start + self.chunk] for start in range(0, len(self.data), self.chunk)]
        centre = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(self.data)
        radius = torch.stack([(part.double() - centre).square().sum(1).amax() for part in parts]).amax().sqrt()
        box = (self.data.amax(0).double() - self.data.amin(0).double()).square().sum().sqrt()
        return float(torch.minimum(2 * radius, box))

    def model(self, process: Process, predicts: str = "v") -> Model:
        """The exact network for `process`; it takes `label=` (B,) where the points have labels.

        Of the five kinds only "v" is finite at both ends of every process.
        """
        return closed_form_model(self, process, predicts)

    def _read(self, x: Tensor, process: Process, t: Times, label: Tensor | None) -> tuple[Tensor, Level, Tensor | None]:
        """The states as rows (B, d), float64; the level at t; the labels asked for."""
        flat = rows(x, self.shape).double()
        return flat, level_at(process, t, flat), as_label(label, self.labels, len(x))

    def _average(self, x: Tensor, level: Level, wanted: Tensor | None) -> tuple[Tensor, Tensor]:
        """sum_n p(n | x) y_n (B, d), and log sum_n exp(-|x - alpha y_n|^2 / (2 sigma^2)) (B,)."""
        top = x.new_full((len(x), 1), torch.finfo(x.dtype).min)
        mass, total = torch.zeros_like(top), torch.zeros_like(x)
        for points, logits in self._terms(x, level, wanted):
            # The result does not depend on the running maximum, so neither does its derivative.
            higher = torch.maximum(top, logits.detach().amax(1, keepdim=True))
            rescale, share = (top - higher).exp(), (logits - higher).exp()
            mass = mass * rescale + share.sum(1, keepdim=True)
            total = total * rescale + (share.unsqueeze(1) @ points).squeeze(1)
            top = higher
        return total / mass, (top + mass.log()).squeeze(1)

    def _terms(self, x: Tensor, level: Level, wanted: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Points (n, d) or (B, n, d) and their logits -|x - alpha y_n|^2 / (2 sigma^2), (B, n), a chunk at a time."""
        if self.neighbours is None:
            yield from self._chunks(x, level, wanted)
            return
        with torch.no_grad():
            nearest, index = self._nearest(x, level, wanted, self.neighbours)
        points = self._on(x.device)[index].to(x)
        distance = (x.unsqueeze(1) - level.alpha.unsqueeze(2) * points).square().sum(2)
        yield points, (distance / (-2 * level.variance)).masked_fill(nearest == -torch.inf, -torch.inf)

    def _chunks(self, x: Tensor, level: Level, wanted: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """All points (n, d) and their logits (B, n), -inf outside the class asked for, a chunk at a time."""
        square = x.square().sum(1, keepdim=True)
        data = self._on(x.device)
        for start in range(0, len(data), self.chunk):
            points = data[start : start + self.chunk].to(x)
            distance = square - 2 * level.alpha * (x @ points.T) + level.alpha.square() * points.square().sum(1)
            logits = distance / (-2 * level.variance)
            if wanted is not None and self.labels is not None:
                inside = admits(wanted, self.labels[start : start + self.chunk])
                logits = logits.masked_fill(~inside.to(x.device), -torch.inf)
            yield points, logits

    def _nearest(self, x: Tensor, level: Level, wanted: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
        """Logits, in decreasing order, and indices of the `count` nearest points, (B, count)."""
        best = x.new_full((len(x), 0), -torch.inf)
        index = torch.zeros_like(best, dtype=torch.long)
        for number, (_, logits) in enumerate(self._chunks(x, level, wanted)):
            here = torch.arange(logits.shape[1], device=x.device) + number * self.chunk
            best, index = torch.cat([best, logits], 1), torch.cat([index, here.expand(len(x), -1)], 1)
            best, place = best.topk(min(count, best.shape[1]), dim=1)
            index = index.gather(1, place)
        return best, index

    def _ranges(self, wanted: Tensor | None, batch: int) -> tuple[Tensor, Tensor]:
        """Where in the data sorted by label the points that each sample asks for begin, and how many they are, (B,)."""
        first, size = torch.zeros(batch, dtype=torch.long), torch.full((batch,), len(self.data))
        if wanted is None or self.labels is None:
            return first, size
        sizes = self.labels.bincount()
        everything, label = wanted < 0, wanted.clamp(min=0)
        return torch.where(everything, first, (sizes.cumsum(0) - sizes)[label]), torch.where(
            everything, size, sizes[label]
        )

    def _on(self, device: torch.device) -> Tensor:
        """The data where x is, moved once."""
        if device not in self._moved:
            with torch.inference_mode(False):
                self._moved[device] = self.data.to(device)
        return self._moved[device]
