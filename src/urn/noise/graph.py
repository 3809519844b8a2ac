"""Noise of undirected graphs: a symmetric adjacency matrix beside the features of the nodes.

    e = (a | f),    a_ij = a_ji ~ N(0, 1) for i < j,  a_ii = 0,    f ~ N(0, I)

A pair of nodes has one number, that at (i, j) with i < j of the source beneath. Start and noise are then symmetric, and so are
the states of every plan whose network gives symmetric predictions with a zero diagonal for symmetric states: a network that is
equivariant to the order of the nodes, with its diagonal masked. Predictions convert as ever: "epsilon" is e, and "score", the
-e/sigma of plans, is the gradient in the numbers of the pairs, written at both of their places.

Source: Jo, Lee, Hwang 2022, Score-based Generative Modeling of Graphs via the System of Stochastic Differential Equations,
arXiv 2202.02514, whose noise on adjacency matrices is this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from urn.plan import Rows

from .sources import Interval, NoiseSource, in_kind, make_source


class GraphNoise:
    """A noise source for states (B, N, N + F), the adjacency matrix first: `noise=` of `urn.sample`, start included.

    Args:
        source: "seeded", "brownian" or "fast", whose seeds `sample` gives; or a source, to use this one in `urn.execute`.

    Sample i depends on its seed alone where that is so of the source, bit for bit; the features' noise is the source's own.

    Example:
        >>> graphs = urn.processes.Blocks((urn.VP.linear(), urn.VP.linear(0.1, 1.0)), (9, 4))  # nine nodes, four features
        >>> model = urn.Model(lambda x, t: torch.zeros_like(x), graphs, predicts="v")
        >>> x = urn.sample(model, "s4", (16, 9, 13), steps=10, grid="uniform", noise=GraphNoise(), seed=0)
        >>> torch.equal(x[:, :, :9], x[:, :, :9].mT)
        True
    """

    def __init__(self, source: str | NoiseSource = "seeded") -> None:
        self.source = source

    def normal(self, interval: Interval, stream: int, like: Any) -> Any:
        """See `NoiseSource`; `like` has shape (B, N, N + F).

        Raises:
            ValueError: another shape, or no source to draw from.
        """
        self.check(tuple(like.shape))
        if isinstance(self.source, str):
            raise ValueError(f"source={self.source!r} is made by urn.sample from its seeds; elsewhere pass a source")
        wide = like if isinstance(like, Tensor) else torch.empty(like.shape, dtype=torch.float64)
        z = self.source.normal(interval, stream, wide)
        nodes = like.shape[1]
        pairs = torch.triu(z[..., :nodes], 1)
        return in_kind(torch.cat([pairs + pairs.mT, z[..., nodes:]], -1), like)

    def for_batch(self, seeds: Sequence[int], plan: Rows, device: torch.device, part: slice) -> GraphNoise:
        """The source of a part of the samples, with these seeds."""
        return GraphNoise(make_source(self.source, seeds, plan, device, part))

    def check(self, shape: tuple[int, ...], predicts: str | None = None) -> None:
        """Refuse states that are no graphs.

        Raises:
            ValueError: naming the shape.
        """
        if len(shape) != 3 or shape[2] < shape[1]:
            raise ValueError(
                f"states of shape {shape}: graphs have (B, N, N + F), the adjacency matrix of N nodes first"
            )
