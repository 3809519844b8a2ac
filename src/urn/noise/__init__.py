"""Where randomness comes from.

```
sources.py     standard normals for (interval, stream), one seed per sample: seeded, Brownian, fast
correlated.py  noise that is a random function of time, on series observed at irregular times
graph.py       symmetric noise for the adjacency matrices of undirected graphs
fractional.py  fractional Brownian motion by a few Ornstein-Uhlenbeck processes
```
"""

from .correlated import CorrelatedNoise, Correlation, GaussianProcess, OrnsteinUhlenbeck, rbf
from .fractional import FractionalBrownianMotion, FractionalPath
from .graph import GraphNoise
from .sources import (
    BrownianNoise,
    FastNoise,
    Interval,
    NoiseSource,
    SeededNoise,
    StructuredNoise,
    check_seeds,
    identity,
    make_source,
    sample_seeds,
)

__all__ = [
    "BrownianNoise",
    "CorrelatedNoise",
    "Correlation",
    "FastNoise",
    "FractionalBrownianMotion",
    "FractionalPath",
    "GaussianProcess",
    "GraphNoise",
    "Interval",
    "NoiseSource",
    "OrnsteinUhlenbeck",
    "SeededNoise",
    "StructuredNoise",
    "check_seeds",
    "identity",
    "make_source",
    "rbf",
    "sample_seeds",
]
