"""NumPy and JAX arrays as states: the same plan and the same noise as torch's, to rounding; and clear errors for mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import urn
from urn.arrays import empty, joined, library
from urn.plan import Noise
from urn.processes import VP, Flow

WEIGHT = np.random.default_rng(0).normal(size=(5, 5)) * 0.2
START = np.random.default_rng(1).normal(size=(6, 5))
PLANS = {
    "dpmpp_2m": urn.compile_plan("dpmpp_2m", VP.linear(), 6),
    "unipc_3 on a flow": urn.compile_plan("unipc_3", Flow(), 6),
    "euler_ancestral": urn.compile_plan("euler_ancestral", VP.linear(), 6),
    "sa_solver_3": urn.compile_plan("sa_solver_3", VP.linear(), 6),
}
ROUNDING = {"float64": 1e-13, "float32": 3e-6}


def on_torch(plan, dtype, **start):
    def net(x, t):
        return torch.tanh(x @ torch.from_numpy(WEIGHT).to(x)) + 0.1 * t[:, None]

    model = urn.Model(net, plan.process, predicts="v", shape=(5,))
    return urn.sample(model, plan, dtype=getattr(torch, dtype), **start).double().numpy()


def with_arrays(xp, plan):
    """A flax-style apply(params, x, t), its parameters filled in."""

    def apply(params, x, t):
        return xp.tanh(x @ params["w"].astype(x.dtype)) + xp.asarray(0.1 * t[:, None], dtype=x.dtype)

    params = {"w": xp.asarray(WEIGHT)}
    return urn.Model(lambda x, t: apply(params, x, t), plan.process, predicts="v", shape=(5,))


@pytest.fixture(params=["numpy", "jax"])
def xp(request):
    if request.param == "numpy":
        yield np
        return
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield jax.numpy
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", PLANS)
def test_samples_are_torchs(xp, name, dtype):
    plan, kind = PLANS[name], "numpy" if xp is np else "jax"
    model, seeds = with_arrays(xp, plan), [3, 1, 4, 1, 5, 9]
    given = START.astype(dtype)
    for options, theirs in (
        ({"start": xp.asarray(given)}, {"start": torch.from_numpy(given)}),
        ({"dtype": getattr(xp, dtype)}, {}),
        ({"dtype": getattr(xp, dtype), "batch_size": 4, "noise": "brownian"}, {"noise": "brownian"}),
    ):
        x = urn.sample(model, plan, seeds=seeds, **options)
        assert library(x) == kind
        assert x.dtype == np.dtype(dtype)
        expected = on_torch(plan, dtype, seeds=seeds, **theirs)
        np.testing.assert_allclose(
            np.asarray(x, np.float64), expected, rtol=0, atol=ROUNDING[dtype] * np.abs(expected).max()
        )


def test_the_noise_is_the_same_bit_for_bit(xp):
    """A start drawn for arrays, and what a network of zeros makes of the noise, equal torch's exactly."""
    plan = urn.compile_plan("euler_ancestral", VP.linear(), grid=[1.0, 0.5])
    seen = []
    model = urn.Model(lambda x, t: seen.append(np.asarray(x)) or 0 * x, plan.process, "v", shape=(5,))
    urn.sample(model, plan, dtype=xp.float64, seeds=[7, 8])
    by_torch = urn.Model(lambda x, t: seen.append(x.numpy()) or 0 * x, plan.process, "v", shape=(5,))
    urn.sample(by_torch, plan, dtype=torch.float64, seeds=[7, 8])
    np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_single(xp, dtype):
    """A sum whose terms cancel: in half precision it would be off by a unit in the last place of the large ones."""
    if not hasattr(xp, dtype):  # NumPy has no bfloat16
        return
    registers = {name: xp.full((1, 1), value, dtype=dtype) for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0**-7))}
    from urn.arithmetic import weighted_sum

    total = weighted_sum(((1000.3, "a"), (-1000.0, "b"), (1.0, "c")), registers)
    assert str(total.dtype) == dtype
    assert float(total[0, 0]) == pytest.approx(0.3 + 2.0**-7, rel=2.0**-8)
    shown = []
    model = urn.Model(lambda x, t: shown.append(t.dtype) or x, Flow(), "v")
    urn.sample(model, "euler", start=xp.full((1, 1), 1.0, dtype=dtype), steps=2)
    assert set(shown) == {np.dtype("float32")}  # a time of half precision has steps of 1/256


def test_a_whole_plan_is_one_compiled_jax_function():
    """Start and noise go in as arguments; other noise of the same shape is not compiled anew."""
    jax = pytest.importorskip("jax")
    jnp, plan = jax.numpy, PLANS["sa_solver_3"]
    model, like = with_arrays(jnp, plan), jnp.zeros((6, 5))
    rows = [row for row in plan.rows if isinstance(row, Noise)]
    assert rows
    traced = []

    class Given:
        def __init__(self, table):
            self.table = table

        def normal(self, interval, stream, like):
            return self.table[interval, stream]

    @jax.jit
    def run(x, drawn):
        traced.append(1)
        table = {(row.interval, row.stream): value for row, value in zip(rows, drawn, strict=True)}
        return urn.execute(plan, model, {"x": x}, Given(table))["x"]

    for seed in (0, 1):
        source = urn.noise.SeededNoise(urn.sample_seeds(seed, 6))
        drawn = [source.normal(row.interval, row.stream, like) for row in rows]
        x = jnp.asarray(START, jnp.float32)
        np.testing.assert_allclose(run(x, drawn), urn.sample(model, plan, start=x, seed=seed), atol=3e-6)
    assert len(traced) == 1


def test_gradients_go_through_a_plan_in_jax():
    """d samples / d start beside torch's."""
    jax = pytest.importorskip("jax")
    plan = PLANS["dpmpp_2m"]
    model = with_arrays(jax.numpy, plan)
    slope = jax.grad(lambda x: (urn.execute(plan, model, {"x": x})["x"] ** 2).sum())(
        jax.numpy.asarray(START, "float32")
    )
    x = torch.from_numpy(START).float().requires_grad_()

    def net(x, t):
        return torch.tanh(x @ torch.from_numpy(WEIGHT).float()) + 0.1 * t[:, None]

    out = urn.sample(urn.Model(net, plan.process, "v"), plan, start=x, gradients=True)
    (expected,) = torch.autograd.grad((out**2).sum(), x)
    np.testing.assert_allclose(slope, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_side_inputs_and_conditioning_are_arrays_too(xp):
    process = urn.processes.MeanReverting(Flow(), noise=0.5)
    y, label = xp.asarray(START), xp.asarray(np.arange(6.0))

    def model(convert):
        return urn.Model(lambda x, y, t, label: 0.3 * x - 0.1 * y + 0.01 * convert(label)[:, None], process, "x0")

    options = {"shape": (6, 5), "steps": 4, "seed": 0, "batch_size": 4}
    x = urn.sample(
        model(xp.asarray), "euler", inputs={"y": y}, conditioning={"label": label}, dtype=xp.float64, **options
    )
    theirs = {"y": torch.from_numpy(START)}, {"label": torch.arange(6.0, dtype=torch.float64)}
    expected = urn.sample(
        model(lambda v: v), "euler", inputs=theirs[0], conditioning=theirs[1], dtype=torch.float64, **options
    )
    np.testing.assert_allclose(np.asarray(x), expected.numpy(), atol=1e-12)
    with pytest.raises(ValueError, match=r"inputs\['y'\]: Tensor; a floating-point .* array, as the start is"):
        urn.sample(
            model(xp.asarray), "euler", inputs=theirs[0], conditioning={"label": label}, dtype=xp.float64, **options
        )


def test_a_network_of_another_library_is_told_so(xp):
    numpy_start, name = xp.asarray(START), "NumPy" if xp is np else "JAX"
    linear = torch.nn.Linear(5, 5).double()
    by_module = urn.Model(lambda x, t: linear(x), Flow(), "velocity")
    with pytest.raises(ValueError, match=f"was called with a {name} array and failed; states are of one library"):
        urn.sample(by_module, "euler", start=numpy_start, steps=2)
    by_tensor = urn.Model(lambda x, t: torch.zeros(x.shape), Flow(), "velocity")
    with pytest.raises(ValueError, match=f"called with a {name} array and returned a torch tensor"):
        urn.sample(by_tensor, "euler", start=numpy_start, steps=2)
    if xp is not np:
        arrays = urn.Model(lambda x, t: xp.tanh(x), Flow(), "velocity")
        with pytest.raises(ValueError, match="called with a torch tensor and failed; states are of one library"):
            urn.sample(arrays, "euler", start=torch.from_numpy(START), steps=2)


def test_bugs_of_a_torch_network_stay_what_they_are():
    model = urn.Model(lambda x, t: x.nothing, Flow(), "velocity")
    with pytest.raises(AttributeError, match="nothing"):
        urn.sample(model, "euler", start=torch.zeros(2, 3), steps=2)


def test_what_arrays_cannot_have(xp):
    model = with_arrays(xp, PLANS["dpmpp_2m"])
    with pytest.raises(ValueError, match="needs a torch state"):
        urn.sample(model, "euler_ancestral", start=xp.asarray(START), steps=2, noise="fast")
    with pytest.raises(ValueError, match="must be a floating-point tensor"):
        urn.sample(model, "euler", start=xp.zeros((2, 5), dtype="int32"), steps=2)
    for dtype in (xp.int32, "float32", None):
        with pytest.raises(ValueError, match="must be a floating-point type"):
            urn.sample(model, "euler", shape=(2, 5), steps=2, dtype=dtype)
    broken = urn.Model(lambda x, t: x / 0 * 0, VP.linear(), "v")
    with np.errstate(all="ignore"), pytest.raises(urn.SamplingError, match="the model returned x0 as") as caught:
        urn.sample(broken, "euler", start=xp.asarray(START), steps=2)
    assert library(caught.value.samples) == library(xp.asarray(START))


def test_sampling_inside_a_traced_function_is_refused():
    jax = pytest.importorskip("jax")
    model = with_arrays(jax.numpy, PLANS["dpmpp_2m"])
    with pytest.raises(ValueError, match=r"trace urn\.execute instead"):
        jax.jit(lambda x: urn.sample(model, "euler", start=x, steps=2))(jax.numpy.asarray(START))


def test_a_network_of_arrays_is_checked_on_data(xp):
    target = urn.exact.Gaussian([0.5, -0.3, 0.2], [0.2, 0.1, 0.05])
    exact = target.model(Flow(), "velocity")

    def net(x, t):
        return xp.asarray(exact.net(torch.from_numpy(np.array(x)), torch.from_numpy(t)).numpy())

    data = xp.asarray(target.sample(100, seed=0).numpy())
    assert urn.check_prediction(urn.Model(net, Flow(), "velocity"), data) is None
    with pytest.warns(urn.PredictionWarning, match="look like 'velocity'"):
        urn.check_prediction(urn.Model(net, Flow(), "epsilon"), data)


def test_empty_and_joined():
    assert library(empty((2,), np.dtype("float32"), "cpu")) == "numpy"
    assert joined([np.ones((1, 2)), np.zeros((2, 2))]).shape == (3, 2)
