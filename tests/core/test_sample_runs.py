"""sample when something goes wrong half way: nan from the network, an interrupt; and the bar and the watch beside it."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from tiny_plans import END, FLOW, plan

import urn
from urn import Model, SamplingError, SamplingInterrupted, sample, sample_seeds
from urn.plan import Combine, Evaluate

WALK = urn.compile_plan("ddim", FLOW, grid=[1.0, 0.75, 0.5, 0.25, 0.0], eta=1.0)


def clean(x, t):
    return x * 0.5


def model(net=clean, **fields):
    return Model(net, FLOW, **{"predicts": "v", "shape": (3,), **fields})


def spoiled(value, at, who):
    """A network that returns `value` for samples whose first coordinate `who` picks, at time `at`."""

    def net(x, t):
        out = x * 0.5
        if float(t[0]) == at:
            out[who(x)] = value
        return out

    return net


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("at", "step"), [(1.0, 0), (0.5, 2), (0.25, 3)])
def test_what_is_not_finite_is_named_with_row_and_time(value, at, step):
    whole = sample(model(), WALK, (6, 3), seed=1)
    bad = torch.tensor([False, True, False, False, True, False])
    with pytest.raises(SamplingError) as error:
        sample(model(spoiled(value, at, lambda x: bad)), WALK, (6, 3), seed=1)
    message = str(error.value)
    assert message.startswith("2 of 6 samples (first: 1) are not finite; ")
    name = f"d{step + 1}"  # both of a call's predictions are spoiled, x0 comes first
    assert f"step {step} at t = {at:g}: the model returned x0 as {name}, which is nan or infinite" in message
    assert torch.equal(error.value.finite, ~bad)
    assert torch.equal(error.value.samples[~bad], whole[~bad])
    assert not bool(torch.isfinite(error.value.samples[bad]).any())


def test_earlier_batches_are_kept():
    """Of batches of two the third is spoiled; what comes after it was not drawn."""
    whole = sample(model(), WALK, (8, 3), seed=1)
    batch = [0]

    def net(x, t):
        batch[0] += float(t[0]) == 1.0
        out = x * 0.5
        if batch[0] in (3, 4):  # the third, and once more when the row is looked for
            out[1] = math.nan
        return out

    with pytest.raises(SamplingError, match=r"1 of 2 samples \(first: 5\) are not finite; step 0 at t = 1: ") as error:
        sample(model(net), WALK, (8, 3), seed=1, batch_size=2)
    assert error.value.finite.tolist() == [True, True, True, True, True, False]
    assert torch.equal(error.value.samples[:5], whole[:5])


def test_a_sum_that_overflows_is_named_too():
    large = plan(
        Combine("y1", ((3e38, "x"),)),
        Combine("y2", ((4.0, "y1"),), step=1),
        Combine("x1", ((0.0, "y2"), (1.0, "y2")), END, 2),
    )
    with pytest.raises(SamplingError, match="step 1: combine y2, which is nan or infinite"):
        sample(model(), large, start=torch.ones(2, 3))


def test_a_network_that_fails_once_is_said_to():
    calls = []

    def net(x, t):
        calls.append(t)
        return x * math.nan if len(calls) == 2 else x * 0.5

    with pytest.raises(SamplingError, match="it did not come up again on a second run: the model is not deterministic"):
        sample(model(net), WALK, (2, 3))


def test_gradients_do_not_hinder_the_report():
    weight = torch.tensor(math.nan, requires_grad=True)
    with pytest.raises(SamplingError, match="2 of 2 samples") as error:
        sample(model(lambda x, t: weight * x), WALK, (2, 3))
    assert error.value.finite.tolist() == [False, False]


@pytest.mark.parametrize(("interrupted_at", "kept"), [(1, 0), (4, 0), (5, 2), (11, 4)])
def test_an_interrupt_keeps_the_finished_batches(interrupted_at, kept):
    """Four calls a batch of two. The rest, drawn with their seeds, are what they would have been."""
    whole = sample(model(), WALK, (7, 3), seed=9)
    calls = []

    def net(x, t):
        calls.append(t)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt
        return x * 0.5

    with pytest.raises(SamplingInterrupted) as error:
        sample(model(net), WALK, (7, 3), seed=9, batch_size=2)
    assert isinstance(error.value, KeyboardInterrupt)
    done = error.value.samples
    if kept == 0:
        assert done is None
    else:
        assert torch.equal(done, whole[:kept])
    rest = sample(model(), WALK, seeds=sample_seeds(9, 7 - kept, first=kept), batch_size=2)
    assert torch.equal(rest, whole[kept:])


def test_errors_of_the_network_come_through():
    def net(x, t):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        sample(model(net), WALK, (2, 3))


class Bar:
    """Stands in for tqdm: notes what it is told."""

    made: ClassVar[list] = []

    def __init__(self, **fields):
        self.fields, self.ticks, self.closed = fields, 0, False
        Bar.made.append(self)

    def update(self):
        self.ticks += 1

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.closed = True


@pytest.mark.parametrize(("batch_size", "batches"), [(None, 1), (2, 3), (5, 1)])
def test_the_bar_ticks_once_a_model_call(monkeypatch, batch_size, batches):
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    Bar.made.clear()
    calls = []
    counted = model(lambda x, t: calls.append(t) or x * 0.5)
    plain = sample(counted, WALK, (5, 3), batch_size=batch_size)
    assert not Bar.made
    calls.clear()
    with_bar = sample(counted, WALK, (5, 3), batch_size=batch_size, progress=True)
    (bar,) = Bar.made
    assert bar.fields["total"] == bar.ticks == len(calls) == WALK.nfe * batches
    assert bar.closed
    assert torch.equal(with_bar, plain)


def test_the_bar_is_closed_when_interrupted(monkeypatch):
    monkeypatch.setattr("tqdm.auto.tqdm", Bar)
    Bar.made.clear()

    def net(x, t):
        raise KeyboardInterrupt

    with pytest.raises(SamplingInterrupted):
        sample(model(net), WALK, (2, 3), progress=True)
    (bar,) = Bar.made
    assert bar.closed
    assert bar.ticks == 0


def test_the_watch_sees_every_row_of_every_batch():
    seen = []
    whole = sample(model(), WALK, (3, 3), seed=2)
    watched = sample(model(), WALK, (3, 3), seed=2, batch_size=2, watch=lambda row, registers: seen.append(row))
    assert seen == list(WALK.rows) * 2
    assert torch.equal(watched, sample(model(), WALK, (3, 3), seed=2, watch=lambda row, registers: None))
    torch.testing.assert_close(watched, whole)
    # progress and watch together
    seen.clear()
    sample(model(), WALK, (3, 3), watch=lambda row, registers: seen.append(row), progress=True)
    assert sum(isinstance(row, Evaluate) for row in seen) == WALK.nfe


def test_intermediate_predictions_can_be_read_by_a_watch():
    """A preview: the clean prediction at each step, of the shape of the state."""
    previews = []

    def look(row, registers):
        if isinstance(row, Evaluate):
            register = next(register for register, wanted in row.outs if wanted == "x0")
            previews.append((row.t, registers[register].clone()))

    sample(model(), WALK, (2, 3), watch=look)
    assert [t for t, _ in previews] == [1.0, 0.75, 0.5, 0.25]
    assert all(preview.shape == (2, 3) for _, preview in previews)


def test_gradients_are_kept_only_when_asked_for() -> None:
    """A network's parameters require gradients as a rule; the graph of a run would hold every model call's memory."""
    weight = torch.tensor(0.3, requires_grad=True)
    model = urn.Model(lambda x, t: weight * x, urn.VP.linear(), predicts="epsilon", shape=(2,))
    assert not urn.sample(model, "ddim", steps=3).requires_grad
    x = urn.sample(model, "ddim", steps=3, gradients=True)
    (slope,) = torch.autograd.grad(x.sum(), weight)
    moved = [urn.Model(lambda x, t, w=w: w * x, urn.VP.linear(), shape=(2,)) for w in (0.299, 0.301)]
    low, high = (float(urn.sample(one, "ddim", steps=3).sum()) for one in moved)
    assert float(slope) == pytest.approx((high - low) / 0.002, rel=1e-3)


# --- a plan that calls several models ---------------------------------------------------------------------------------


def test_every_call_goes_to_the_model_that_it_names():
    """Two networks in turn: the samples of a network that looks at the time itself, in parts and with a bar as well."""

    def either(x, t):
        return x * (0.5 if float(t[0]) in (1.0, 0.5) else 0.3)

    times = [1.0, 0.75, 0.5, 0.25, 0.0]
    plan_of_two = urn.compile_plan("usf", FLOW, grid=times, models=("main", "other", "main", "other"))
    both = urn.compile_plan("usf", FLOW, grid=times)
    other = {"other": model(lambda x, t: x * 0.3)}
    found = sample(model(), plan_of_two, (5, 3), models=other)
    assert torch.equal(found, sample(model(either), both, (5, 3)))
    assert torch.equal(found, sample(model(), plan_of_two, (5, 3), models=other, batch_size=2, progress=True))
    with pytest.raises(urn.PlanError, match="the plan calls model 'other'; given: main"):
        sample(model(), plan_of_two, (5, 3))
