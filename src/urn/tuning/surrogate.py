"""Surrogates: a Gaussian mixture in a network's place, to search on where the network is slow or has no gradient.

The mixture is fitted to data, or to a few hundred samples drawn from the model by a fine plan; its predictions are known in
closed form on the model's own process. What ranks plans on it need not rank them on the network: `rank_transfer` says how
well it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from urn.exact import GaussianMixture
from urn.model import Model
from urn.plan import Plan
from urn.sampling import sample
from urn.tuning.task import Task
from urn.tuning.untuned import plan_within

DRAWN = 400
FINE = 50  # calls of the plan that draws them
REGULAR = 1e-3  # variance added to every coordinate's, of the data's mean one


def surrogate(
    model: Model,
    data: Tensor | None = None,
    *,
    samples: int = DRAWN,
    components: int = 10,
    calls: int = FINE,
    seed: int = 0,
    conditioning: Mapping[str, Any] | None = None,
) -> Model:
    """The exact model of a Gaussian mixture fitted to data or to the model's own samples.

    Components have full covariances, REGULAR of the mean variance added to every coordinate's; with fewer samples than
    coordinates that is what makes them of full rank.

    Args:
        model: it must know its shape.
        data: (N, *S); None to draw samples.
        samples, calls: how many to draw, and the calls of the plan that draws them.
        components: Gaussians of the mixture.
        seed: of the samples and of the fit.
        conditioning: keyword arguments of the network for the samples, tensors of `samples` entries or for all alike.

    Returns:
        A model of the same process and shape that predicts v. It takes no conditioning.

    Raises:
        ValueError: no shape, data of another shape, or fewer of them than components.
        ImportError: scikit-learn is not installed.

    Example:
        >>> exact = surrogate(load_digits(), digits("train")[0], components=20)
        >>> plan, record = urn.tune(exact, steps=8)
    """
    try:
        from sklearn.mixture import GaussianMixture as Fit
    except ImportError as error:
        raise ImportError("surrogate needs scikit-learn: pip install 'urn-samplers[digits]'") from error
    if model.shape is None:
        raise ValueError("model: it does not know the shape of a sample: Model(..., shape=(...))")
    for name, value in (("samples", samples), ("components", components), ("calls", calls)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer of at least 1")
    if data is None:
        plan = plan_within(model.process, "dpmpp_2m", calls, "trailing" if model.integer_times else None)
        data = sample(model, plan, shape=(samples, *model.shape), seed=seed, conditioning=dict(conditioning or {}))
    if tuple(data.shape[1:]) != model.shape:
        raise ValueError(f"data: {tuple(data.shape)}; this model's samples have shape {model.shape}")
    if len(data) < 2 * components:
        raise ValueError(f"data: {len(data)} of them are too few for components={components}")
    flat = data.detach().flatten(1).double().cpu()
    added = REGULAR * float(flat.var(0).mean())
    fit = Fit(components, covariance_type="full", reg_covar=added, random_state=seed).fit(flat.numpy())
    found = GaussianMixture(fit.weights_ / fit.weights_.sum(), fit.means_, fit.covariances_, shape=model.shape)
    return found.model(model.process, "v")


class Transfer(NamedTuple):
    """How plans rank on two models.

    Attributes:
        correlation: Spearman's, 1 where the order is the same.
        first, second: the plans' values on either, in the order of the plans.
    """

    correlation: float
    first: tuple[float, ...]
    second: tuple[float, ...]


def rank_transfer(first: Task, second: Task, plans: Sequence[Plan], count: int | None = None) -> Transfer:
    """Whether plans that are good on one task are good on another: Spearman's rank correlation of their values.

    Args:
        first, second: the tasks.
        plans: at least 3.
        count: training starts to value them on; None for all.

    Raises:
        ValueError: fewer than 3 plans.

    Example:
        >>> rank_transfer(on_mixture, on_network, [plan for _, plan in untuned_plans(process, 8)]).correlation
        0.97
    """
    if len(plans) < 3:
        raise ValueError(f"plans: {len(plans)} are too few for a rank correlation; at least 3 are needed")
    values = [tuple(task.value(plan, count) for plan in plans) for task in (first, second)]
    return Transfer(spearman(*values), *values)


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """The rank correlation of two lists of numbers, ties sharing their mean rank."""
    from scipy.stats import rankdata

    ranks = torch.stack([torch.from_numpy(rankdata(values)) for values in (one, other)]).double()
    return float(torch.corrcoef(ranks)[0, 1])
