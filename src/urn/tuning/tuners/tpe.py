"""TPE: Optuna's tree-structured Parzen estimator over the space of plans, the general black-box tuner.

Parameters are drawn where the density of the better trials is large beside that of the others, both by kernels; here over
all parameters together. The untuned plans are told to the study first. A plan that is among the worse ones on the first
starts is given up there.

Sources: Bergstra, Bardenet, Bengio, Kegl 2011, Algorithms for Hyper-Parameter Optimization, NeurIPS; Akiba, Sano, Yanase,
Ohta, Koyama 2019, Optuna: A Next-generation Hyperparameter Optimization Framework, arXiv 1907.10902.
"""

from __future__ import annotations

import warnings

from urn.method import at_least_one, number
from urn.tuning.evolution import given_plan, seeds_in
from urn.tuning.search import Search
from urn.tuning.space import space_of
from urn.tuning.tuners import tuner

SOURCE = "Bergstra, Bardenet, Bengio, Kegl 2011, NeurIPS; Akiba et al. 2019, Optuna, arXiv 1907.10902"


@tuner(source=SOURCE)
def tpe(search: Search, most: int = 1000, etas: float = 0.0, labels: float = 0.0) -> None:
    """Optuna's TPE over times and every choice of every step, seeded with the untuned plans.

    Args:
        most: plans tried in all.
        etas: the largest noise of a step; 0 for deterministic plans.
        labels: the largest share by which times shown to the network may be moved, at most 0.5.
    """
    import optuna

    at_least_one("most", most)
    number("etas", etas, 0)
    number("labels", labels, 0, 0.5)
    space = space_of(search, etas=etas, labels=labels)
    study, distributions = search.study, space.distributions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=search.seed + len(study.get_trials(deepcopy=False))
        )
    values = {one.label: one.value for one in search.tried if one.untuned and one.value < float("inf")}
    told = {one.user_attrs.get("seed") for one in study.get_trials(deepcopy=False)}
    for label, candidate in seeds_in(search, space).items():
        if label in values and label not in told:
            study.add_trial(
                optuna.trial.create_trial(
                    params=space.parameters(candidate),
                    distributions=distributions,
                    value=values[label],
                    user_attrs={"seed": label},
                )
            )
    while (
        not search.is_over and sum("gap_0" in one.params and "tried" in one.user_attrs for one in study.trials) < most
    ):
        trial = search.ask(distributions)
        plan = given_plan(search, space, trial)
        if plan is not None:
            search.try_plan(plan, f"tpe {trial.number}", trial=trial, prune=True)
