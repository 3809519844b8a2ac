"""Every pair (what the network predicts, what the plan wants): exact inside, and at the ends what the limit allows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from core_cases import PROCESSES

from urn import Model, PlanError, execute
from urn.plan import Array, Combine, Evaluate, Law, Node, Plan
from urn.prediction import PREDICTIONS, conversion
from urn.processes import Flow

PAIRS = list(itertools.product(PREDICTIONS, PREDICTIONS))
INSIDE = {
    "vp linear": (0.9, 0.4, 0.05),
    "vp scaled linear": (0.9, 0.05),
    "vp cosine": (0.98, 0.5, 0.05),
    "sub-vp": (0.8, 0.3),
    "ve": (80.0, 1.0, 0.002),
    "flow": (0.999, 0.5, 0.001),
    "flow shifted": (0.9, 0.2),
    "table linear": (990.0, 400.3, 3.0),
    "table zero snr": (998.5, 400.3, -0.5),
}
GENERATOR = np.random.default_rng(7)
X0, EPSILON = GENERATOR.normal(size=(2, 4, 3))


def prediction_of(kind, process, t, x0=X0, epsilon=EPSILON):
    """The prediction itself, from x0 and epsilon, by its definition."""
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    if kind == "velocity":
        d_alpha, d_sigma = (float(d) for d in process.velocity_weights(t))
        return d_alpha * x0 + d_sigma * epsilon
    return {
        "epsilon": lambda: epsilon,
        "x0": lambda: x0,
        "v": lambda: alpha * epsilon - sigma * x0,
        "score": lambda: -epsilon / sigma,
    }[kind]()


def node_at(process, t):
    return Node(t, float(process.alpha(t)), float(process.sigma(t)))


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize(("network", "wanted"), PAIRS)
def test_every_pair_is_exact_inside(network, wanted, name):
    process = PROCESSES[name]
    for t in INSIDE[name]:
        node = node_at(process, t)
        x = node.alpha * X0 + node.sigma * EPSILON
        on_x, on_output = conversion(network, wanted, node, process)
        output = prediction_of(network, process, t)
        found = on_x * x + on_output * output
        expected = prediction_of(wanted, process, t)
        # 1e-12 of what is summed: epsilon from x0 at a small sigma is a difference of large numbers
        summed = np.abs(on_x * x).max() + np.abs(on_output * output).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(summed, 1.0))


# What has a limit at the ends. With output = p x0 + q epsilon, x and the output give x0 and epsilon if their determinant
# alpha q - sigma p is not 0: alpha for epsilon, -sigma for x0, not 0 at either end for v and, on flows and tables, velocity.
#   alpha = 0: x = sigma epsilon gives epsilon and the score whatever the network says. x0, and with it v = -sigma x0 and the
#              velocity alpha' x0 + ..., must come from one that knows x0: not from epsilon or score.
#   sigma = 0: x = alpha x0 says nothing of epsilon, and an x0 network no more. A score network does: where the data have a
#              density its score is finite, so epsilon = -sigma score = 0. The score of any other network is -epsilon/sigma,
#              which has no weights.
def has_limit_at_zero_alpha(network, wanted):
    return network == wanted or wanted in ("epsilon", "score") or network not in ("epsilon", "score")


def has_limit_at_zero_sigma(network, wanted):
    return network == wanted or (network != "x0" and wanted != "score")


def check(network, wanted, process, t, allowed):
    node = node_at(process, t)
    if not allowed:
        with pytest.raises(
            PlanError,
            match=f"a network that predicts '{network}' gives no finite '{wanted}' at t = {t}.*shorten the grid",
        ):
            conversion(network, wanted, node, process)
        return
    on_x, on_output = conversion(network, wanted, node, process)
    assert math.isfinite(on_x)
    assert math.isfinite(on_output)
    if network != wanted:
        x = node.alpha * X0 + node.sigma * EPSILON
        no_noise = network == "score" and node.sigma == 0  # a finite score: epsilon is 0
        output = EPSILON if no_noise else prediction_of(network, process, t)
        expected = prediction_of(wanted, process, t, epsilon=0 * EPSILON if no_noise else EPSILON)
        np.testing.assert_allclose(on_x * x + on_output * output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["flow", "flow shifted", "table zero snr"])
@pytest.mark.parametrize(("network", "wanted"), PAIRS)
def test_pairs_at_alpha_zero(network, wanted, name):
    process = PROCESSES[name]
    check(network, wanted, process, process.t_start, has_limit_at_zero_alpha(network, wanted))


@pytest.mark.parametrize("name", ["flow", "flow shifted", "table linear", "table zero snr"])
@pytest.mark.parametrize(("network", "wanted"), PAIRS)
def test_pairs_at_sigma_zero(network, wanted, name):
    process = PROCESSES[name]
    check(network, wanted, process, process.t_end, has_limit_at_zero_sigma(network, wanted))


@pytest.mark.parametrize("name", ["vp linear", "vp cosine"])
@pytest.mark.parametrize("other", PREDICTIONS)
def test_an_infinite_velocity_is_refused(name, other):
    """Where sigma' is infinite, as at t = 0 of VP, nothing becomes a velocity, and a velocity becomes nothing."""
    for network, wanted in (("velocity", other), (other, "velocity")):
        check(network, wanted, PROCESSES[name], 0.0, network == wanted)


@pytest.mark.parametrize(("network", "wanted"), [pair for pair in PAIRS if pair[0] != pair[1]])
def test_the_limit_is_what_the_weights_approach(network, wanted):
    """At an end with a limit the weights are continuous: 1e-9 beside it they are the same to 1e-6."""
    for t, beside, allowed in (
        (1.0, 1 - 1e-9, has_limit_at_zero_alpha(network, wanted)),
        (0.0, 1e-9, has_limit_at_zero_sigma(network, wanted)),
    ):
        if allowed:
            at_end = conversion(network, wanted, node_at(Flow(), t), Flow())
            np.testing.assert_allclose(conversion(network, wanted, node_at(Flow(), beside), Flow()), at_end, atol=1e-6)


@pytest.mark.parametrize(("network", "wanted"), PAIRS)
def test_arrays_are_converted_element_by_element(network, wanted):
    process = PROCESSES["vp linear"]
    times = (0.9, 0.4, 0.05)
    t = torch.tensor(times, dtype=torch.float64)
    on_x, on_output = conversion(
        network, wanted, Node(Array(t), Array(process.alpha(t)), Array(process.sigma(t))), process
    )
    for i, single in enumerate(times):
        x, output = conversion(network, wanted, node_at(process, single), process)
        if network != wanted:
            assert on_x.values[i] == pytest.approx(x, rel=1e-13, abs=1e-15)
            assert on_output.values[i] == pytest.approx(output, rel=1e-13)


@pytest.mark.parametrize(("network", "wanted"), PAIRS)
def test_binding_folds_the_conversion_into_the_plan(network, wanted):
    """A plan that wants one prediction runs on a network of any other, and hands out the wanted one."""
    process, t = PROCESSES["vp cosine"], 0.37
    node = node_at(process, t)
    plan = Plan(
        (("x", Law(node)),),
        (Evaluate((("p", wanted),), ("x",), t, node), Combine("out", ((2.0, "p"),), node)),
        (("x", "out", node),),
        "by hand",
        process,
        (t, 0.0),
    )
    x = torch.from_numpy(node.alpha * X0 + node.sigma * EPSILON)
    output = torch.from_numpy(prediction_of(network, process, t))
    seen = []

    def net(x, t):
        seen.append((x, t))
        return output

    out = execute(plan, Model(net, process, predicts=network), {"x": x})["x"]
    np.testing.assert_allclose(out.numpy(), 2 * prediction_of(wanted, process, t), rtol=0, atol=1e-11)
    assert len(seen) == 1
    assert torch.equal(seen[0][0], x)
    assert torch.equal(seen[0][1], torch.full((4,), t, dtype=torch.float64))


def test_a_refused_pair_is_named_before_the_network_is_called():
    from urn import compile_plan, sample

    plan = compile_plan("ddim", Flow(), 3, "uniform")
    calls = []
    model = Model(lambda x, t: calls.append(t), Flow(), predicts="epsilon", shape=(2,))
    with pytest.raises(
        PlanError, match=r"predicts 'epsilon' gives no finite 'x0' at t = 1\.0 \(alpha = 0\.0, sigma = 1\.0\)"
    ):
        sample(model, plan)
    assert not calls
