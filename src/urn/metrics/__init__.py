"""Distances between samples and data.

Every metric takes two tensors, ``samples`` of shape (N, *S) and ``data`` of shape (M, *S), flattens S, computes in
float64 on the device of ``samples`` and returns Python floats. None touches the global random state. None sees a
common translation of both sets.

====================  ==================================================  ==============  =========================
name                  what it compares                                    time            bias at N samples
====================  ==================================================  ==============  =========================
`frechet_distance`    mean and covariance only                            N d^2 + d^3     upwards, of order 1/N
`energy_distance`     whole laws; no parameter                            N^2 d           none
`mmd`                 whole laws, at the scale of its bandwidth           N^2 d           none, given a bandwidth
`sliced_wasserstein`  whole laws, by one-dimensional projections          P N (d + log N) upwards, of order 1/sqrt(N)
`wasserstein`         whole laws; memory N^2                              about N^3       upwards, N^(-1/d), d > 2p
`precision_recall`    supports: fidelity and variety apart                N^2 d           depends on N and k
`density_coverage`    the same, robust to outliers of the data            N^2 d           none on density
====================  ==================================================  ==============  =========================

(P is the number of projections. The order of a bias is for equal laws, where it hurts most.)
`bootstrap` puts an interval around any one of these numbers.
"""

from urn.metrics.coverage import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from urn.metrics.frechet import frechet_distance
from urn.metrics.intervals import Interval, bootstrap
from urn.metrics.kernels import energy_distance, mmd
from urn.metrics.transport import sliced_wasserstein, wasserstein

__all__ = [
    "DensityCoverage",
    "Interval",
    "PrecisionRecall",
    "bootstrap",
    "density_coverage",
    "energy_distance",
    "frechet_distance",
    "mmd",
    "precision_recall",
    "sliced_wasserstein",
    "wasserstein",
]
