"""sample: what each argument does, and how a bad one is refused, by name and before any model call."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from core_cases import PROCESSES
from tiny_plans import END, FLOW, MIDDLE, plan

import urn
from urn import Model, PlanError, sample, sample_seeds
from urn.noise import SeededNoise
from urn.plan import Combine, Law
from urn.processes import VE, VP


class Net:
    """A network that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, t, **conditioning):
        self.calls += 1
        return x * 0.5


def model(**fields):
    return Model(Net(), FLOW, **{"predicts": "v", "shape": (3,), **fields})


STATE = torch.zeros(2, 3)
UP = urn.compile_plan("ddim", FLOW, grid=[0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": Net()}, "model=<.*Net object.*> must be a Model: urn.Model"),
        ({"model": None}, "model=None must be a Model"),
        ({"models": model()}, "models=Model.* must be a mapping of names to Models"),
        ({"models": {"main": model()}}, r"models\['main'\]=.* must be a Model under another name than 'main'"),
        ({"models": {"thin": Net()}}, r"models\['thin'\]=<.*Net object.*> must be a Model"),
        ({"plan": "dimm"}, "method='dimm' is unknown; did you mean .*ddim"),
        ({"plan": 3}, "method=3 must be a name in urn.METHODS, a Method, or a generator function"),
        ({"plan": None}, "method=None must be"),
        ({"shape": (2, 4)}, r"shape=\(2, 4\): this model's samples have shape \(3,\), so \(B, 3,\)"),
        ({"shape": (3,)}, r"shape=\(3,\) must be \(B, \*S\)"),
        ({"shape": (0, 3)}, r"shape=\(0, 3\) must be a tuple of positive integers"),
        ({"shape": (2, -3)}, r"shape=\(2, -3\) must be a tuple of positive integers"),
        ({"shape": (2.5, 3)}, r"shape=\(2\.5, 3\) must be a tuple of positive integers"),
        ({"shape": 2}, "shape=2 must be a tuple of positive integers"),
        ({"shape": "ab"}, "shape='ab' must be a tuple"),
        ({"shape": None, "model": model(shape=None)}, "shape=None, and the model does not know its own"),
        ({"seed": -1}, "seed: -1 must be an integer of at least 0 and below"),
        ({"seed": 1.5}, r"seed: 1\.5 must be an integer"),
        ({"seed": True}, "seed: True must be an integer"),
        ({"seed": None}, "seed: None must be an integer"),
        ({"seeds": [0, 2**64]}, "seeds: 18446744073709551616 must be an integer"),
        ({"seeds": [0, "1"]}, "seeds: '1' must be an integer"),
        ({"seeds": 7}, "seeds=7 must be a sequence of integers, one per sample"),
        ({"seeds": []}, r"seeds=\[\] must have at least one"),
        ({"seeds": [1, 2, 3]}, "seeds: 3 given for a batch of 2 samples; one each is needed"),
        ({"start": [[0.0] * 3]}, r"start=list must be a floating-point tensor of shape \(B, \*S\)"),
        (
            {"start": torch.zeros(2, 3, dtype=torch.long)},
            r"start=torch.int64 of shape \(2, 3\) must be a floating-point",
        ),
        ({"start": torch.zeros(3)}, r"start=torch.float32 of shape \(3,\) must be"),
        ({"start": torch.zeros(4, 3)}, r"shape=\(2, 3\) differs from that of start, \(4, 3\)"),
        ({"start": torch.zeros(2, 4), "shape": None}, r"start=\(2, 4\): this model's samples have shape \(3,\)"),
        ({"start": torch.zeros(0, 3), "shape": None}, r"start.shape=\(0, 3\) must be a tuple of positive integers"),
        ({"steps": 0}, "steps=0 must be an integer of at least 1"),
        ({"steps": None}, "steps=None must be an integer of at least 1"),
        ({"steps": 2.5}, r"steps=2\.5 must be an integer"),
        ({"grid": "karass"}, "grid='karass' is unknown; did you mean karras"),
        ({"grid": [0.5, 1.5], "steps": None}, r"grid\[1\]=1\.5 is outside the process Flow"),
        ({"final": "clean"}, "final='clean' must be None or 'x0'"),
        ({"etaa": 1.0}, r"method 'ddim' has no option etaa=1\.0; its options: eta"),
        ({"noise": "gaussian"}, "noise='gaussian' must be 'seeded', 'brownian', 'fast', or a source"),
        ({"noise": None}, "noise=None must be 'seeded'"),
        ({"conditioning": ["label"]}, r"conditioning=\['label'\] must be a mapping of names to values"),
        ({"batch_size": 0}, "batch_size=0 must be an integer of at least 1"),
        ({"batch_size": 1.5}, r"batch_size=1\.5 must be an integer"),
        ({"batch_size": True}, "batch_size=True must be an integer"),
        ({"dtype": torch.int32}, "dtype=torch.int32 must be a floating-point type"),
        ({"dtype": "float32"}, "dtype='float32' must be a floating-point type"),
        ({"device": "gpu"}, "device='gpu': Expected one of cpu, cuda"),
        ({"watch": 3}, r"watch=3 must be callable as watch\(row, registers\)"),
        ({"plan": urn.compile_plan("ddim", FLOW, 2)}, "steps: given beside a compiled plan; pass them to compile_plan"),
        (
            {"plan": urn.compile_plan("ddim", FLOW, 2), "steps": None, "eta": 1.0, "final": "x0"},
            "eta, final: given beside a compiled plan",
        ),
        ({"plan": UP, "steps": None}, "start=None: this plan runs from data to noise"),
        ({"plan": urn.compile_plan("ddim", VP.linear(), 2), "steps": None}, "the plan is for VP.linear"),
        ({"model": model(predicts="epsilon"), "grid": "uniform"}, "predicts 'epsilon' gives no finite 'x0' at t = 1.0"),
        ({"model": model(integer_times=True), "grid": [1.0, 0.5, 0.0]}, r"takes integer times and would be shown 0\.5"),
    ],
)
def test_bad_arguments_are_named_before_any_model_call(arguments, message):
    given = {"model": model(), "plan": "ddim", "shape": (2, 3), "steps": 2, **arguments}
    with pytest.raises(ValueError, match=message):
        sample(**given)
    if isinstance(given["model"], Model):
        assert given["model"].net.calls == 0
    elif isinstance(given["model"], Net):
        assert given["model"].calls == 0


def test_errors_of_plans_are_plan_errors():
    with pytest.raises(PlanError):
        sample(model(), urn.compile_plan("ddim", VP.linear(), 2))
    assert issubclass(PlanError, ValueError)


def test_shape_by_default():
    assert sample(model(), "ddim", steps=2).shape == (1, 3)
    assert sample(model(), "ddim", steps=2, seeds=[4, 5]).shape == (2, 3)
    assert sample(model(), "ddim", start=STATE, steps=2).shape == (2, 3)
    assert sample(model(shape=(2, 5)), "ddim", steps=2, shape=[4, 2, 5]).shape == (4, 2, 5)
    assert sample(model(shape=None), "ddim", steps=2, shape=(2, 7)).shape == (2, 7)


def test_the_same_in_one_line():
    one = sample(model(), "ddim", (2, 3), steps=4, grid="uniform", final=None, eta=0.5, seed=9)
    plan = urn.compile_plan("ddim", FLOW, 4, "uniform", eta=0.5)
    assert torch.equal(sample(model(), plan, (2, 3), seed=9), one)
    assert torch.equal(sample(model(), urn.METHODS["ddim"], (2, 3), steps=4, grid="uniform", eta=0.5, seed=9), one)
    assert torch.equal(sample(model(), urn.Plan.from_json(plan.to_json()), (2, 3), seed=9), one)


@pytest.mark.parametrize("noise", ["seeded", "brownian"])
def test_sample_i_is_the_same_in_whatever_batch(noise):
    plan = urn.compile_plan("ddim", FLOW, 5, "uniform", eta=1.0)

    def draw(**arguments):
        return sample(model(), plan, noise=noise, **arguments)

    whole = draw(shape=(7, 3), seed=3)
    assert len({tuple(row) for row in whole.tolist()}) == 7
    for size in (1, 2, 3, 7, 100):
        assert torch.equal(draw(shape=(7, 3), seed=3, batch_size=size), whole)
    assert torch.equal(draw(shape=(4, 3), seed=3), whole[:4])
    seeds = sample_seeds(3, 7)
    assert torch.equal(draw(seeds=seeds), whole)
    assert torch.equal(draw(seeds=[seeds[5], seeds[0]]), whole[[5, 0]])
    assert torch.equal(draw(seeds=sample_seeds(3, 2, first=5)), whole[5:])
    assert not torch.equal(draw(shape=(7, 3), seed=4), whole)


def test_seeds_may_be_numpys():
    seeds = np.array([5, 6], dtype=np.uint64)
    assert torch.equal(sample(model(), "ddim", seeds=seeds, steps=2), sample(model(), "ddim", seeds=[5, 6], steps=2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_start_is_the_prior_in_the_states_type(dtype):
    """Noise of the process's std at the first node, of identity ((t, t), 0), float64 rounded once before the std."""
    ve = VE(0.002, 80.0)
    plan = urn.compile_plan("ddim", ve, grid=[25.0, 1.0])
    seen = []
    net = Model(lambda x, t: seen.append(x.clone()) or x * 0, ve, predicts="v", shape=(3,))
    sample(net, plan, seeds=[1, 2], dtype=dtype)
    expected = SeededNoise([1, 2]).normal((25.0, 25.0), 0, torch.empty(2, 3, dtype=dtype)) * 25.0
    assert seen[0].dtype == dtype
    assert torch.equal(seen[0], expected)


def test_a_start_is_taken_as_it_is():
    start = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = []
    net = Model(lambda x, t: seen.append(x) or x * 0.5, FLOW, predicts="v")
    up = sample(net, UP, start=start)
    assert torch.equal(seen[0], start)
    assert up.dtype == torch.float64
    for size in (1, 2):
        assert torch.equal(sample(net, UP, start=start, batch_size=size), up)
    # noise goes by the seeds, so a start of its own does not change it
    plan = urn.compile_plan("ddim", FLOW, grid=[0.8, 0.4, 0.1], eta=1.0)
    zeros, ones = (sample(net, plan, start=value * torch.ones(1, 3), seed=1) for value in (0.0, 1.0))
    again = sample(net, plan, start=torch.zeros(1, 3), seeds=sample_seeds(1, 1))
    assert torch.equal(zeros, again)
    assert not torch.equal(zeros, ones)


def test_a_plan_that_starts_from_another_input_needs_that_input():
    mean = plan(Combine("x1", ((1.0, "x"),), END), inputs=(("x", Law(MIDDLE, 0.5, ((0.5, "y"),))), ("y", Law(None))))
    with pytest.raises(PlanError, match="the plan needs y beside the inputs given: x"):
        sample(model(), mean)
    ones = {"y": torch.ones(4, 3)}
    apart = sample(model(), mean, (4, 3), inputs={"y": 3 * ones["y"]}) - sample(model(), mean, (4, 3), inputs=ones)
    torch.testing.assert_close(apart, torch.ones(4, 3))


def test_conditioning_is_split_with_the_batch():
    labels, shared, name = torch.arange(5), torch.ones(7), "a"
    seen = []

    def net(x, t, label, table, style):
        seen.append((label.tolist(), table, style))
        return 0.1 * x * label[:, None]

    conditional = Model(net, FLOW, predicts="v", shape=(3,))
    given = {"label": labels, "table": shared, "style": name}
    whole = sample(conditional, "ddim", (5, 3), steps=1, grid="uniform", conditioning=given)
    assert seen == [([0, 1, 2, 3, 4], shared, "a")]
    seen.clear()
    parts = sample(conditional, "ddim", (5, 3), steps=1, grid="uniform", conditioning=given, batch_size=2)
    assert [call[0] for call in seen] == [[0, 1], [2, 3], [4]]
    assert all(call[1] is shared for call in seen)
    assert torch.equal(parts, whole)


@pytest.mark.parametrize("name", PROCESSES)
def test_the_model_is_called_as_often_as_the_plan_says(name):
    process = PROCESSES[name]
    for steps, final in ((1, "x0"), (2, None)):
        plan = urn.compile_plan("ddim", process, steps, "lambda", final=final)
        net = Net()
        sample(Model(net, process, predicts="v", shape=(3,)), plan, (4, 3))
        assert net.calls == plan.nfe
        sample(Model(net, process, predicts="v", shape=(3,)), plan, (4, 3), batch_size=2)
        assert net.calls == 3 * plan.nfe


def test_half_precision_samples():
    for dtype in (torch.float16, torch.bfloat16):
        out = sample(model(), "ddim", (2, 3), steps=4, dtype=dtype)
        assert out.dtype == dtype
        exact = sample(model(), "ddim", (2, 3), steps=4, dtype=torch.float64)
        assert float((out.double() - exact).abs().max()) < 8 * torch.finfo(dtype).eps * float(exact.abs().max())


def test_a_source_of_ones_own():
    class Ones:
        def normal(self, interval, stream, like):
            return torch.ones_like(like)

    out = sample(model(), plan(Combine("x1", ((2.0, "x"),), END)), (2, 3), noise=Ones())
    assert torch.equal(out, torch.full((2, 3), 2.0))
    assert math.isfinite(float(out.sum()))
