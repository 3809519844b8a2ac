"""A model: what its network is shown, what it may return, what it refuses; and guidance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import urn
from urn import Model, PlanError, classifier_free_guidance, compile_plan, execute
from urn.processes import VP, Flow, linear_betas

FLOW = Flow()
TABLE = VP.from_betas(linear_betas(1000))
X = torch.linspace(-2, 2, 24).reshape(2, 3, 4)


def shown(x, t, **fields):
    """What the network of a model sees."""
    seen = []

    def net(x, t):
        seen.append((x, t))
        return x

    Model(net, fields.pop("process", FLOW), predicts="v", **fields)(x, t=t)
    return seen[0]


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (X, torch.float32),
        (X.double(), torch.float64),
        (X.half(), torch.float32),  # a time of 999.5 is none in half precision
        (X.bfloat16(), torch.float32),
    ],
)
def test_time_comes_once_a_sample_in_a_precise_type(x, dtype):
    _, t = shown(x, 999.5, process=TABLE)
    assert t.dtype == dtype
    assert t.tolist() == [999.5, 999.5]
    _, t = shown(x, torch.tensor(0.25, dtype=torch.float64))
    assert t.dtype == dtype
    assert t.tolist() == [0.25, 0.25]


def test_numpy_states_are_shown_numpy_times():
    _, t = shown(X.numpy(), 0.25)
    assert isinstance(t, np.ndarray)
    assert t.dtype == np.float32
    assert t.tolist() == [0.25, 0.25]


def test_label_and_input_scale():
    x, t = shown(X, 0.25, label=lambda t: 1000 * t, input_scale=lambda t: 1 / math.sqrt(1 + t * t))
    assert t.tolist() == [250.0, 250.0]
    np.testing.assert_allclose(x.numpy(), X.numpy() / math.sqrt(1.0625), rtol=1e-6)


def test_each_sample_may_have_a_time_of_its_own():
    times = torch.tensor([0.75, 0.25], dtype=torch.float64)
    x, t = shown(X, times, label=lambda t: 1000 * t, input_scale=lambda t: 1 + t)
    assert t.dtype == x.dtype == torch.float32
    assert t.tolist() == [750.0, 250.0]
    assert torch.equal(x, X * torch.tensor([1.75, 1.25]).reshape(2, 1, 1))


@pytest.mark.parametrize("library", ["torch", "numpy"])
def test_integer_times_are_rounded_not_cut(library):
    """100 * 0.57 is 56.99999999999999, and a cast would make it 56."""
    assert int(100 * 0.57) == 56
    _, t = shown(X if library == "torch" else X.numpy(), 0.57, label=lambda t: 100 * t, integer_times=True)
    assert t.tolist() == [57, 57]
    assert str(t.dtype).endswith("int64")
    learned = torch.tensor(0.57, dtype=torch.float64, requires_grad=True)
    assert shown(X, learned, label=lambda t: 100 * t, integer_times=True)[1].tolist() == [57, 57]


def test_fractional_times_are_refused_by_networks_of_integers():
    model = Model(lambda x, t: x, TABLE, predicts="v", integer_times=True)
    plan = compile_plan("ddim", TABLE, 7, "uniform")
    with pytest.raises(
        PlanError, match=r"takes integer times and would be shown 856\.1428.*grid='trailing', 'linspace'"
    ):
        execute(plan, model, {"x": X})
    for grid in ("trailing", "leading", "linspace", urn.grids.rounded("uniform"), [999.0, 400.0, -1.0]):
        execute(compile_plan("ddim", TABLE, None if isinstance(grid, list) else 7, grid), model, {"x": X})
    labelled = Model(lambda x, t: x, FLOW, predicts="v", integer_times=True, label=lambda t: 1000 * t)
    execute(compile_plan("ddim", FLOW, 10, "uniform"), labelled, {"x": X})
    with pytest.raises(PlanError, match=r"would be shown 666\.66"):
        execute(compile_plan("ddim", FLOW, 3, "uniform"), labelled, {"x": X})


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: x[:, :1], r"the network returned shape \(2, 1, 4\) for x of shape \(2, 3, 4\)"),
        (lambda x: x.sum(), r"the network returned shape \(\) for x"),
        (lambda x: None, r"the network returned NoneType for x of shape \(2, 3, 4\)"),
        (lambda x: (x, x), r"the network returned 2 outputs, the model says \('v',\)"),
        (lambda x: [], "the network returned 0 outputs"),
    ],
)
def test_what_is_no_prediction_is_refused(returned, message):
    with pytest.raises(ValueError, match=message):
        Model(lambda x, t: returned(x), FLOW, predicts="v")(X, t=0.5)


def test_outputs_come_back_in_the_states_type():
    model = Model(lambda x, t: (x.float(), x.double()), FLOW, predicts=("v", "variance"))
    assert [out.dtype for out in model(X.half(), t=0.5)] == [torch.float16, torch.float16]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"predicts": "noise"}, "predicts='noise' must be one of epsilon, x0, v, velocity, score"),
        ({"predicts": ("variance", "epsilon")}, "predicts='variance' must be one of"),
        ({"predicts": ()}, "predicts=None must be one of"),
        ({"net": 3}, r"net=3 must be callable as net\(x, t, \*\*conditioning\)"),
        ({"shape": (3, 0)}, r"shape=\(3, 0\) must be a tuple of positive integers"),
        ({"shape": 3}, "shape=3 must be a tuple of positive integers"),
        ({"shape": (2.5,)}, r"shape=\(2\.5,\) must be a tuple of positive integers"),
        ({"shape": ()}, r"shape=\(\) must be a tuple of positive integers"),
    ],
)
def test_bad_models_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Model(**{"net": lambda x, t: x, "process": FLOW, **fields})


def conditional(x, t, label, extra=0.0):
    """A network whose output is x tilted by its label; None is unconditional."""
    tilt = torch.zeros(()) if label is None else torch.as_tensor(label, dtype=x.dtype).reshape(-1, 1, 1)
    return torch.sin(x) * (1 + tilt) + tilt * x * x + extra


MODEL = Model(conditional, FLOW, predicts="v")
LABEL = torch.tensor([1.0, 2.0])


def guided(scale, rescale=0.0, **conditioning):
    model = classifier_free_guidance(MODEL, scale, {"label": None}, rescale)
    return model(X, t=0.5, label=LABEL, **conditioning)[0]


def test_guidance_of_one_zero_and_two():
    with_condition, without = MODEL(X, t=0.5, label=LABEL)[0], MODEL(X, t=0.5, label=None)[0]
    torch.testing.assert_close(guided(1.0), with_condition, rtol=1e-6, atol=1e-6)
    assert torch.equal(guided(0.0), without)
    torch.testing.assert_close(guided(2.0), 2 * with_condition - without, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(guided(-0.5), 1.5 * without - 0.5 * with_condition, rtol=1e-6, atol=1e-6)
    # what the unconditional input does not name is shared
    torch.testing.assert_close(guided(3.0, extra=0.25), guided(3.0) + 0.25, rtol=1e-5, atol=1e-5)


def test_rescale_brings_the_std_back():
    with_condition, plain = MODEL(X, t=0.5, label=LABEL)[0], guided(4.0)

    def std(x):
        return x.flatten(1).std(1)

    assert bool((std(plain) > 1.5 * std(with_condition)).all())
    torch.testing.assert_close(std(guided(4.0, 1.0)), std(with_condition), rtol=1e-6, atol=0)
    whole, half = guided(4.0, 1.0), guided(4.0, 0.5)
    torch.testing.assert_close(half, (whole + plain) / 2, rtol=1e-6, atol=1e-6)
    # a sample's factor is its own
    model = classifier_free_guidance(MODEL, 4.0, {"label": None}, 1.0)
    torch.testing.assert_close(model(X[1:], t=0.5, label=LABEL[1:])[0], whole[1:], rtol=1e-6, atol=1e-6)


def test_further_outputs_are_those_of_the_condition():
    def net(x, t, label):
        return x * (1 + label), torch.full_like(x, label)

    model = classifier_free_guidance(Model(net, FLOW, predicts=("v", "variance")), 2.0, {"label": 0.0})
    v, variance = model(X, t=0.5, label=1.0)
    torch.testing.assert_close(v, 3 * X)
    assert bool((variance == 1.0).all())
    assert model.outputs == ("v", "variance")


def test_guidance_does_not_depend_on_the_prediction():
    """u + w (c - u) of a network's v is that of its x0: conversions are affine with weights that no condition enters."""
    plan = compile_plan("ddim", FLOW, grid=[0.9, 0.5, 0.1])
    guide = classifier_free_guidance(MODEL, 3.0, {"label": None})
    by_v = execute(plan, guide, {"x": X.double()}, conditioning={"label": LABEL})["x"]

    def x0_net(x, t, label):  # x0 = x - t v on a flow, where v = (alpha eps - sigma x0) and velocity = eps - x0
        alpha, sigma = (1 - t).reshape(-1, 1, 1), t.reshape(-1, 1, 1)
        return (alpha * x - sigma * conditional(x, t, label)) / (alpha**2 + sigma**2)

    guide = classifier_free_guidance(Model(x0_net, FLOW, predicts="x0"), 3.0, {"label": None})
    by_x0 = execute(plan, guide, {"x": X.double()}, conditioning={"label": LABEL})["x"]
    torch.testing.assert_close(by_x0, by_v, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("scale", "rescale"), [(math.nan, 0.0), (math.inf, 0.0), (2.0, -0.1), (2.0, 1.1), (2.0, math.nan)]
)
def test_bad_guidance_is_refused(scale, rescale):
    with pytest.raises(ValueError, match=r"scale=.* must be a finite number|rescale=.* must be between 0 and 1"):
        classifier_free_guidance(MODEL, scale, {"label": None}, rescale)
