"""Drafts: plans whose coefficients carry gradients, against finite differences, and frozen to plans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from core_cases import PROCESSES

import urn
from urn import Draft, Model, Plan, compile_plan, execute
from urn.method import combine, evaluate, noise
from urn.noise import SeededNoise
from urn.plan import Array, Combine, Noise

X = torch.tensor([[0.7, -1.2, 0.4], [2.0, 0.1, -0.3]], dtype=torch.float64)
GRIDS = {
    "vp linear": [1.0, 0.55, 0.2, 0.05],
    "vp cosine": [1.0, 0.55, 0.2, 0.0],  # alpha = 0 at the start, sigma = 0 at the end
    "sub-vp": [1.0, 0.55, 0.2, 0.0],
    "flow": [1.0, 0.55, 0.2, 0.0],
    "flow shifted": [1.0, 0.55, 0.2, 0.0],
    "ve": [3.0, 1.1, 0.4, 0.1],
    "table linear": [999.0, 650.4, 200.3, -1.0],
    "table zero snr": [999.0, 650.4, 200.3, -1.0],
}


def net(x, t):
    """A smooth network that sees its time; v is finite everywhere."""
    return torch.sin(1.3 * x + 0.2 * t[:, None] / (1 + t[:, None].abs())) - 0.4 * x


def run(method, process, times, predicts="v", **options):
    plan = compile_plan(method, process, grid=times, **options)
    model = Model(net, process, predicts=predicts)
    return plan, execute(plan, model, {"x": X}, SeededNoise([1, 2]))["x"]


def ab2(nodes, x):
    """Adams-Bashforth of order two in lambda on x0, where lambda is finite, and Euler steps where it is not."""
    last = None
    for cur, next in nodes.steps():
        d = yield evaluate(x, cur, "x0")
        weight = next.sigma / cur.sigma
        rest = next.alpha - weight * cur.alpha
        if last is None or bool(next.sigma == 0):
            x = yield combine(next, (weight, x), (rest, d))
        else:
            r = 0.5 * (next.t - cur.t) / (cur.t - last[0].t)
            x = yield combine(next, (weight, x), (rest * (1 + r), d), (-rest * r, last[1]))
        last = (cur, d)
    return x


@pytest.mark.parametrize("method", ["ddim", ab2], ids=["ddim", "ab2"])
@pytest.mark.parametrize("name", GRIDS)
def test_gradients_in_the_times_are_those_of_finite_differences(name, method):
    process, times = PROCESSES[name], torch.tensor(GRIDS[name], dtype=torch.float64)
    direction = torch.tensor([[1.0, -0.5, 2.0], [0.3, 1.0, -1.0]], dtype=torch.float64)

    def loss(inner):
        grid = torch.cat([times[:1], inner, times[-1:]])
        plan, out = run(method, process, grid)
        assert isinstance(plan, Draft if inner.requires_grad else Plan)
        return (out * direction).sum()

    inner = times[1:-1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(inner), inner)
    h = 1e-5 * float(times[0].clamp(max=10))
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = h
        at = inner.detach()
        # order four
        values = [float(loss(at + k * step)) for k in (-2, -1, 1, 2)]
        difference = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        assert float(gradient[i]) == pytest.approx(difference, rel=2e-6, abs=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_gradients_are_finite_with_both_ends_learned(name):
    times = torch.tensor(GRIDS[name], dtype=torch.float64, requires_grad=True)
    _, out = run("ddim", PROCESSES[name], times)
    (whole,) = torch.autograd.grad(out.sum(), times)
    assert bool(torch.isfinite(whole).all())
    inner = times.detach()[1:-1].requires_grad_()
    _, out = run("ddim", PROCESSES[name], torch.cat([times.detach()[:1], inner, times.detach()[-1:]]))
    (inside,) = torch.autograd.grad(out.sum(), inner)
    assert torch.equal(whole[1:-1], inside)


@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("name", GRIDS)
def test_a_frozen_draft_is_the_plan_compiled_directly(name, eta):
    process, times = PROCESSES[name], torch.tensor(GRIDS[name], dtype=torch.float64)
    direct, out = run("ddim", process, times, eta=eta)
    draft, drafted = run("ddim", process, times.clone().requires_grad_(), eta=eta)
    assert isinstance(draft, Draft)
    frozen = draft.freeze()
    assert isinstance(frozen, Plan)
    assert frozen == direct
    assert hash(frozen) == hash(direct)
    assert frozen.to_json() == direct.to_json()
    assert frozen.diff(direct) == ""
    # up to the rounding of a network that is shown its time by another route
    np.testing.assert_allclose(drafted.detach().numpy(), out.numpy(), rtol=1e-13, atol=1e-14)


def test_a_draft_can_be_run_and_frozen_and_nothing_else():
    draft, _ = run("ddim", PROCESSES["flow"], torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64, requires_grad=True))
    same, _ = run("ddim", PROCESSES["flow"], torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64, requires_grad=True))
    assert draft != same
    assert len({draft, same, draft}) == 2
    for name in ("to_json", "diff", "nfe"):
        assert not hasattr(draft, name)


def test_gradients_in_an_option():
    process = PROCESSES["vp linear"]
    eta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    draft, out = run("ddim", process, GRIDS["vp linear"], eta=eta)
    assert isinstance(draft, Draft)
    assert draft.options == (("eta", 0.5),)
    (gradient,) = torch.autograd.grad(out.sum(), eta)
    h = 1e-5
    up, down = (float(run("ddim", process, GRIDS["vp linear"], eta=0.5 + sign * h)[1].sum()) for sign in (1, -1))
    assert float(gradient) == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_noise_is_identified_by_plain_numbers_in_a_draft():
    """Its interval says which noise it is; gradients go through its weight."""
    times = torch.tensor(GRIDS["vp linear"], dtype=torch.float64, requires_grad=True)
    draft, out = run("ddim", PROCESSES["vp linear"], times, eta=1.0)
    rows = [row for row in draft.rows if isinstance(row, Noise)]
    assert [row.interval for row in rows] == [(1.0, 0.55), (0.55, 0.2), (0.2, 0.05)]
    assert all(type(t) is float for row in rows for t in row.interval)
    (gradient,) = torch.autograd.grad(out.sum(), times)
    assert bool((gradient != 0).all())


def test_learned_weights_stay_where_they_are_zero():
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def nudged(nodes, x):
        d = yield evaluate(x, nodes[0], "x0")
        return (yield combine(nodes[-1], (1.0, d), (weight, x)))

    draft, out = run(nudged, PROCESSES["flow"], [1.0, 0.0])
    (gradient,) = torch.autograd.grad(out.sum(), weight)
    assert float(gradient) == pytest.approx(float(X.sum()))
    assert [register for _, register in draft.rows[-1].weights] == ["d1", "x"]
    assert draft.freeze().rows[-1].weights == ((1.0, "d1"),)  # as a plan compiled at 0 has it


def test_weights_of_every_coordinate_are_learned():
    weight = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)

    def weighted(nodes, x):
        z = yield noise(nodes[0], nodes[1])
        return (yield combine(nodes[-1], (1.0, x), (weight, z)))

    draft, out = run(weighted, PROCESSES["flow"], [1.0, 0.0])
    (gradient,) = torch.autograd.grad(out.sum(), weight)
    drawn = SeededNoise([1, 2]).normal((1.0, 0.0), 0, X)
    np.testing.assert_allclose(gradient.numpy(), drawn.sum(0).numpy(), rtol=1e-14)
    assert draft.freeze().rows[-1].weights[1][0] == Array([0.5, 1.0, 2.0])
    assert isinstance(draft.freeze().rows[-1], Combine)


def test_sampling_a_draft_carries_the_gradient_of_the_first_time_too():
    """On VE the start has std sigma_max, so a learned first time moves it."""
    process = urn.VE()
    model = Model(net, process, predicts="v", shape=(3,))

    def last(first):
        grid = torch.cat([first.reshape(1), torch.tensor([1.0, 0.2], dtype=torch.float64)])
        plan = compile_plan("ddim", process, grid=grid)
        # the seeded noise of the start depends on the time as a name: give the same noise at any first time
        return urn.sample(model, plan, (2, 3), dtype=torch.float64, noise=SameNoise(), gradients=True).sum()

    first = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(last(first), first)
    h = 1e-5
    with torch.no_grad():
        difference = (float(last(first.detach() + h)) - float(last(first.detach() - h))) / (2 * h)
    assert float(gradient) == pytest.approx(difference, rel=1e-6)


class SameNoise:
    """One fixed tensor whatever is asked for."""

    def normal(self, interval, stream, like):
        return torch.linspace(-1, 1, like.numel(), dtype=like.dtype).reshape(like.shape)
