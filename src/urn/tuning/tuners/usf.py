"""USF's search: evolution of whole plans, seeded with the usual ones, with a learned predictor of the figure.

A plan is a grid and, for every step, an order, a prediction, a scheme of differences, a corrector or none, and the node that
it starts from (`urn.methods.usf`, `urn.tuning.space`). The population is seeded with the untuned plans; children are crossed
and mutated; a regressor fitted to all that was measured ranks them, so that only the most promising are sampled. A child that
is among the worse ones on the first starts is given up there.

The paper's predictor is a network trained with a ranking loss on some thousand plans; here it is a Gaussian process on the
logarithm of the figure, which has enough to learn from after a dozen.

Source: Liu, Ning, Lin, Yang, Wang 2024, A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models,
arXiv 2312.07243, section 5 and algorithm 2.
"""

from __future__ import annotations

from urn.method import number
from urn.tuning.arguments import check_settings
from urn.tuning.evolution import evolve
from urn.tuning.search import Search
from urn.tuning.space import space_of
from urn.tuning.tuners import tuner

SOURCE = (
    "Liu, Ning, Lin, Yang, Wang 2024, A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models, "
    "arXiv 2312.07243"
)


@tuner(source=SOURCE)
def usf(
    search: Search,
    population: int = 12,
    brood: int = 32,
    measured: int = 4,
    most: int = 1000,
    predictor: bool = True,
    etas: float = 0.0,
    labels: float = 0.0,
) -> None:
    """Evolution of plans free in every step, seeded with the untuned ones; a regressor chooses what is measured.

    Args:
        population: how many of the best are parents.
        brood, measured: children made in a round, and how many of them are measured.
        most: children measured in all.
        predictor: whether the regressor chooses, or chance.
        etas: the largest noise of a step; 0 for deterministic plans.
        labels: the largest share by which times shown to the network may be moved, at most 0.5.
    """
    check_settings(population=population, brood=brood, measured=measured, most=most)
    number("etas", etas, 0)
    number("labels", labels, 0, 0.5)
    space = space_of(search, etas=etas, labels=labels)
    evolve(
        search,
        space,
        population=population,
        brood=brood,
        measured=measured,
        most=most,
        predictor=predictor,
        label="usf",
    )
