"""A network that predicts something else than its model says is noticed, and one that does as it says never is."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch

import urn
from urn import Model, PredictionWarning, check_prediction, sample
from urn.exact import Gaussian, GaussianMixture
from urn.prediction import PREDICTIONS
from urn.processes import VE, VP, Flow, linear_betas

PROCESSES = {
    "vp": VP.linear(),
    "cosine": VP.cosine(),
    "table": VP.from_betas(linear_betas(1000)),
    "flow": Flow(),
    "ve": VE(),
}
DATA = Gaussian([0.42, -0.35, 0.14], [0.24, 0.15, 0.05])
SKEWED = GaussianMixture([0.7, 0.3], [[1.2, 0.1], [-1.5, 0.6]], [[0.3, 0.02], [0.1, 0.4]])

# A network is looked at through the slope of its output on x at the noise end and at the data end. In (noise, data):
#   epsilon (1, 0), x0 (0, 1), score (-1, small), velocity of a flow (1, -1), v under VP and on a flow (0, 0).
# What is not told apart, as (what the network predicts, what is declared):
#   VE    epsilon and velocity are the same function. v = epsilon - sigma x0 is of size sigma at the noise end, where
#         chance moves its slope on x by as much as epsilon's slope is, so that those three pass for a declared v and a v
#         for one of them; and the mean that an x0 network gives there passes for a score, whose slope is -1/sigma^2.
#   VP    velocity's slopes are about 0 at both ends, as v's are; and an x0's of 1 at the data end is small beside
#         beta alpha^2 / (2 sigma), the size of a velocity there.
V_LIKE = {("epsilon", "v"), ("velocity", "v"), ("v", "epsilon"), ("v", "velocity")}
VP_ALIKE = {("v", "velocity"), ("velocity", "v"), ("x0", "velocity")}
ALIKE = {
    "vp": VP_ALIKE,
    "cosine": VP_ALIKE,
    "table": VP_ALIKE,
    "flow": set(),
    "ve": {("epsilon", "velocity"), ("velocity", "epsilon"), ("x0", "score"), ("v", "score"), *V_LIKE},
}
# A run does not tell a v or a velocity from the x0 that is declared: its x at the data end is what such a sampler made.
RUN_ALIKE = {("v", "x0"), ("velocity", "x0")}
PAIRS = list(itertools.product(PREDICTIONS, PREDICTIONS))


def declared_as(predicts, declared, process, data=DATA):
    return Model(data.model(process, predicts=predicts).net, process, predicts=declared, shape=data.shape)


def warnings_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(warning.category, PredictionWarning) for warning in caught)
    return caught


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize(("predicts", "declared"), PAIRS)
def test_a_look_at_clean_data(predicts, declared, name):
    process = PROCESSES[name]
    x0 = DATA.sample(400, seed=0)
    found = warnings_of(lambda: check_prediction(declared_as(predicts, declared, process), x0))
    if predicts == declared:
        assert not found
    elif (predicts, declared) not in ALIKE[name]:
        (warning,) = found
        assert warning.filename == __file__
        groups = {"ve": {"epsilon", "velocity"}, "flow": {predicts}}
        same = groups.get(name, {"v", "velocity"})
        looks = same if predicts in same else {predicts}
        ending = f", not like the {declared!r} that the model declares"
        assert any(f"look like {look!r}{ending}" in str(warning.message) for look in looks)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize(("predicts", "declared"), PAIRS)
def test_the_first_run_is_looked_at_without_a_call_more(predicts, declared, name):
    process = PROCESSES[name]
    model = declared_as(predicts, declared, process)
    plan = urn.compile_plan("ddim", process, 8, "lambda")
    calls = []
    inner = model.net
    counted = Model(lambda x, t: calls.append(1) or inner(x, t), process, predicts=declared, shape=(3,))
    found = warnings_of(lambda: sample(counted, plan, (400, 3)))
    assert len(calls) == plan.nfe
    if predicts == declared:
        assert not found
    elif (predicts, declared) not in ALIKE[name] | (RUN_ALIKE if name in ("vp", "cosine", "table") else set()):
        (warning,) = found
        assert warning.filename == __file__
        assert f"not like the {declared!r} that the model declares" in str(warning.message)
    assert not warnings_of(lambda: sample(counted, plan, (4, 3)))  # a model is looked at once


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.parametrize("count", [1, 7, 300])
def test_a_right_declaration_is_never_warned_about(predicts, name, count):
    """On data far from the origin, of unequal scales, few or many, with few steps or noise."""
    process = PROCESSES[name]
    for data in (SKEWED, Gaussian([1.5, -1.0, 0.5, 0.2], [0.1, 1.0, 2.0, 0.2]), Gaussian([0.0, 0.0], [0.3, 0.2])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_prediction(declared_as(predicts, predicts, process, data), data.sample(count, seed=1))
            for method, steps in (("ddim", 1), ("ddim", 6), ("euler_ancestral", 3)):
                model = declared_as(predicts, predicts, process, data)
                sample(model, method, (count, *data.shape), steps=steps, grid="lambda", seed=2)


def test_scaled_inputs_are_seen_as_x():
    """An epsilon network of VE that is shown x / sqrt(1 + sigma^2), as Stable Diffusion's in sigma are."""
    process = VE(0.01, 20.0)
    inner = DATA.model(process, predicts="epsilon").net

    def scale(t):
        return (1 + t**2) ** -0.5

    def net(x, t):
        return inner(x / scale(t)[:, None], t)

    def model(declared):
        return Model(net, process, predicts=declared, shape=(3,), input_scale=scale)

    assert not warnings_of(lambda: sample(model("epsilon"), "ddim", (400, 3), steps=8, grid="lambda"))
    assert warnings_of(lambda: sample(model("x0"), "ddim", (400, 3), steps=8, grid="lambda"))


def test_what_says_nothing_is_not_judged():
    """A start of zeros has no slope, and a network of zeros fits whatever is declared better than twice as well."""
    zeros = Model(lambda x, t: torch.zeros_like(x), Flow(), predicts="v", shape=(3,))
    assert not warnings_of(lambda: sample(zeros, "ddim", (4, 3), steps=3))
    still = Model(lambda x, t: 0.5 * x, Flow(), predicts="epsilon", shape=(3,))
    assert not warnings_of(lambda: sample(still, "ddim", start=torch.zeros(2, 3), grid=[0.5, 0.2]))


def test_gradients_are_not_in_the_way():
    weight = torch.tensor(0.1, requires_grad=True)
    times = torch.tensor([0.9, 0.4, 0.1], dtype=torch.float64, requires_grad=True)
    model = Model(lambda x, t: weight * x, Flow(), predicts="v", shape=(3,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = sample(model, urn.compile_plan("ddim", Flow(), grid=times), (4, 3), gradients=True)
    assert all(bool(torch.isfinite(grad).all()) for grad in torch.autograd.grad(out.sum(), (weight, times)))


def test_the_answer_is_also_returned():
    model = declared_as("epsilon", "x0", VP.linear())
    with pytest.warns(PredictionWarning) as caught:
        answer = check_prediction(model, DATA.sample(100, seed=0))
    assert answer == str(caught[0].message)
    assert check_prediction(declared_as("x0", "x0", VP.linear()), DATA.sample(100, seed=0)) is None
