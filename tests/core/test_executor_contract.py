"""What the executor promises beside numbers: registers freed, errors before calls, models, conditioning, no global state."""

from __future__ import annotations

import gc
import random
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_plans import END, FLOW, MIDDLE, NOISY, START, X, call, plan

import urn
from urn import Model, PlanError, compile_plan, execute
from urn.binding import bind
from urn.noise import SeededNoise
from urn.plan import Apply, Combine, Evaluate, Law, Noise
from urn.processes import VP, Flow, linear_betas

STATE = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
V_NET = Model(lambda x, t: x * 0.5, FLOW, predicts="v")


class Refusing:
    """A noise source that must not be asked."""

    def normal(self, interval, stream, like):
        pytest.fail(f"noise was drawn for {interval}, stream {stream}")


class Recording:
    """A noise source that notes what it is asked, and gives ones."""

    def __init__(self):
        self.asked = []

    def normal(self, interval, stream, like):
        self.asked.append((interval, stream, tuple(like.shape), like.dtype))
        return torch.ones_like(like)


def heun(nodes, x):
    from urn.method import combine, evaluate

    for cur, next in nodes.steps():
        u = yield evaluate(x, cur, "velocity")
        y = yield combine(next, (1.0, x), (next.t - cur.t, u))
        w = yield evaluate(y, next, "velocity")
        x = yield combine(next, (1.0, x), ((next.t - cur.t) / 2, u), ((next.t - cur.t) / 2, w))
    return x


@pytest.mark.parametrize("method", ["ddim", heun], ids=["ddim", "heun"])
def test_registers_are_freed_after_their_last_use(method):
    grid = [0.95, 0.8, 0.6, 0.3, 0.1]  # at t = 1 epsilon is the start itself
    rows = compile_plan(method, FLOW, grid=grid, **({"eta": 0.5} if method == "ddim" else {}))
    born: dict[str, weakref.ref] = {}
    most, dead = [], []

    def look(row, registers):
        live = [name for name in registers if not name.startswith("output")]
        most.append(len(live))
        for name, reference in born.items():
            if name not in registers:
                assert reference() is None, f"{name} outlived its last use"
                dead.append(name)
        for name in live:
            if name != "x":  # the caller holds the start
                born[name] = weakref.ref(registers[name])

    gc.disable()  # by reference counts alone
    try:
        out = execute(
            rows, Model(lambda x, t: x * 0.5, FLOW, predicts="v"), {"x": STATE}, SeededNoise([1, 2]), watch=look
        )
        assert max(most) == rows.registers
        last = rows.outputs[0][1]
        assert born[last]() is out["x"]
        assert [name for name, reference in born.items() if reference() is not None] == [last]
        assert set(dead) >= set(born) - {last, *rows.rows[-1].reads}
    finally:
        gc.enable()


def test_raw_outputs_are_freed_with_their_row():
    kept = []

    def net(x, t):
        out = x * 0.5
        kept.append(weakref.ref(out))
        return out

    def look(row, registers):
        assert ("output 0" in registers) is isinstance(row, Evaluate)
        assert sum(reference() is not None for reference in kept) == isinstance(row, Evaluate)

    rows = compile_plan("ddim", FLOW, 3, "uniform")  # x0 and epsilon from v: neither is the output itself
    execute(rows, Model(net, FLOW, predicts="v"), {"x": STATE}, watch=look)
    assert len(kept) == 3


def test_the_watch_sees_every_row_with_what_it_defines():
    seen = []

    def look(row, registers):
        seen.append(row)
        assert set(row.defines) <= set(registers)
        assert set(row.reads) <= set(registers)

    execute(NOISY, V_NET, {"x": STATE}, SeededNoise([1, 2]), watch=look)
    assert tuple(seen) == NOISY.rows


def test_a_plan_that_draws_needs_a_source():
    with pytest.raises(PlanError, match="step 0: the plan draws noise; pass a noise source"):
        execute(NOISY, V_NET, {"x": STATE})


def test_a_deterministic_plan_draws_nothing():
    rows = compile_plan("ddim", FLOW, 3, "uniform")
    expected = execute(rows, V_NET, {"x": STATE})["x"]
    assert torch.equal(execute(rows, V_NET, {"x": STATE}, Refusing())["x"], expected)
    with torch.no_grad():
        expected = execute(rows, V_NET, {"x": STATE})["x"]
    assert torch.equal(urn.sample(V_NET, rows, start=STATE, noise=Refusing()), expected)


def test_noise_is_asked_by_identity_in_the_shape_of_the_start():
    rows = plan(
        Noise("z1", (1.0, 0.5), 0),
        Noise("z2", (1.0, 0.5), 2),
        Noise("z3", (0.5, 1.0), 1),
        Combine("x1", ((1.0, "x"), (1.0, "z1"), (2.0, "z2"), (4.0, "z3")), END),
    )
    source = Recording()
    out = execute(rows, V_NET, {"x": STATE.float()}, source)["x"]
    assert source.asked == [
        ((1.0, 0.5), 0, (2, 3), torch.float32),
        ((1.0, 0.5), 2, (2, 3), torch.float32),
        ((0.5, 1.0), 1, (2, 3), torch.float32),
    ]
    assert torch.equal(out, STATE.float() + 7)


@pytest.mark.parametrize(
    ("process", "other"),
    [(FLOW, Flow(2.0)), (FLOW, VP.linear()), (VP.from_betas(linear_betas(10)), VP.from_betas(linear_betas(11)))],
)
def test_a_model_of_another_process_is_refused(process, other):
    calls = []
    rows = compile_plan("ddim", process, 2, "uniform")
    with pytest.raises(PlanError, match=r"the plan is for .*, model 'main' is of .*: compile it for that") as error:
        execute(rows, Model(lambda x, t: calls.append(t), other, predicts="v"), {"x": STATE})
    assert repr(process) in str(error.value)
    assert repr(other) in str(error.value)
    assert not calls
    equal = Model(lambda x, t: x, type(process)(**vars(process)) if process is FLOW else process, predicts="v")
    execute(rows, equal, {"x": STATE})  # an equal process is the same


def test_inputs_that_are_missing_are_named():
    rows = plan(Combine("x1", ((1.0, "x"), (1.0, "mask")), END), inputs=(X, ("mask", Law(None)), ("y", Law(None))))
    with pytest.raises(PlanError, match="the plan needs mask, y beside the inputs given: x"):
        execute(rows, V_NET, {"x": STATE})
    out = execute(rows, V_NET, {"x": STATE, "mask": 2 * STATE, "y": STATE})["x"]
    assert torch.equal(out, 3 * STATE)
    with pytest.raises(PlanError, match="the plan needs mask, y"):
        urn.sample(Model(lambda x, t: x, FLOW, shape=(3,)), rows)


def test_several_models_take_their_rows():
    rows = plan(
        call("d1", "x"),
        call("d2", "x", model="weak"),
        call("d3", "x", MIDDLE, model="weak", wanted="epsilon"),
        Combine("x1", ((2.0, "d1"), (-1.0, "d2"), (0.5, "d3")), END),
    )
    seen = []

    def net(name, factor):
        def called(x, t):
            seen.append((name, float(t[0])))
            return factor * x

        return called

    models = {"main": Model(net("main", 3.0), FLOW, predicts="x0"), "weak": Model(net("weak", 5.0), FLOW, predicts="v")}
    out = execute(rows, models, {"x": STATE})["x"]
    # weak at t = 1, where alpha 0 and sigma 1: v = -x0, so x0 = -5 x. At t = 0.5: v = (eps - x0)/2 and x = (x0 + eps)/2,
    # so eps = x + v = 6 x.
    np.testing.assert_allclose(out.numpy(), ((2 * 3 + 5 + 0.5 * 6) * STATE).numpy(), rtol=1e-14)
    assert seen == [("main", 1.0), ("weak", 1.0), ("weak", 0.5)]
    with pytest.raises(PlanError, match="step 0: the plan calls model 'weak'; given: main"):
        execute(rows, models["main"], {"x": STATE})
    with pytest.raises(PlanError, match=r"model 'weak' is of Flow\(shift=2\.0\)"):
        execute(rows, {**models, "weak": Model(net("weak", 1.0), Flow(2.0), predicts="v")}, {"x": STATE})


def test_further_outputs_are_taken_by_name():
    """A learned variance beside epsilon: one call gives both, and a plan that asks for it of a plain network is refused."""
    rows = plan(
        Evaluate((("eps", "epsilon"), ("var", "variance"), ("d", "x0")), ("x",), 0.5, MIDDLE),
        Apply("s", "interpolated_noise", ("eps", "var"), (("log_high", 0.0), ("log_low", -2.0))),
        Combine("x1", ((1.0, "s"), (1.0, "d")), END),
    )
    calls = []

    def net(x, t):
        calls.append(t)
        return 2 * x, torch.ones_like(x) * 0.5

    out = execute(rows, Model(net, FLOW, predicts=("epsilon", "variance")), {"x": STATE})["x"]
    # fraction (0.5 + 1)/2 = 0.75: log std = (-2 + 0.75 * 2)/2 = -0.25; and x0 = 2 (x - eps/2) = 0
    np.testing.assert_allclose(out.numpy(), (2 * STATE * np.exp(-0.25)).numpy(), rtol=1e-14)
    assert len(calls) == 1
    with pytest.raises(PlanError, match=r"step 0: the plan wants 'variance'; model 'main' returns \('epsilon',\)"):
        execute(rows, Model(net, FLOW, predicts="epsilon"), {"x": STATE})
    with pytest.raises(ValueError, match=r"the network returned 2 outputs, the model says \('epsilon',\)"):
        execute(compile_plan("ddim", FLOW, grid=[0.5, 0.0]), Model(net, FLOW), {"x": STATE})


def test_conditioning_reaches_every_network_as_it_is():
    label, seen = object(), []

    def net(x, t, **conditioning):
        seen.append(conditioning)
        return x

    rows = compile_plan("ddim", FLOW, 2, "uniform")
    execute(rows, Model(net, FLOW, predicts="v"), {"x": STATE}, conditioning={"label": label, "scale": 2})
    assert seen == [{"label": label, "scale": 2}] * 2
    assert seen[0]["label"] is label


def test_calls_of_two_inputs_are_converted_by_the_first():
    rows = plan(
        Evaluate((("d", "x0"),), ("x", "source"), 0.5, MIDDLE),
        Combine("x1", ((1.0, "d"),), END),
        inputs=(X, ("source", Law(None))),
    )
    # v = source: x0 = x - v at alpha = sigma = 1/2, where x = (x0 + eps)/2 and v = (eps - x0)/2
    out = execute(rows, Model(lambda x, source, t: source, FLOW, predicts="v"), {"x": STATE, "source": 0.25 * STATE})[
        "x"
    ]
    np.testing.assert_allclose(out.numpy(), (0.75 * STATE).numpy(), rtol=1e-14)


def test_inputs_are_not_consumed():
    inputs = {"x": STATE.clone()}
    execute(NOISY, V_NET, inputs, SeededNoise([1, 2]))
    assert set(inputs) == {"x"}
    assert torch.equal(inputs["x"], STATE)


def test_no_global_random_state_is_touched():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    model = Model(lambda x, t: x, FLOW, predicts="v", shape=(3,))
    for noise in ("seeded", "brownian", "fast"):
        urn.sample(model, "ddim", (2, 3), steps=3, eta=1.0, noise=noise)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert random.getstate() == states[2]


def test_binding_is_cached_and_does_not_keep_networks_alive():
    rows = compile_plan("ddim", FLOW, 3, "uniform")

    class Net:
        def __call__(self, x, t):
            return x

    net = Net()
    model = Model(net, FLOW, predicts="v")
    assert bind(rows, {"main": model}) is bind(rows, {"main": Model(lambda x, t: x, FLOW, predicts="v")})
    assert bind(rows, {"main": model}) is not bind(rows, {"main": Model(net, FLOW, predicts="velocity")})
    urn.sample(model, rows, (1, 3))
    reference = weakref.ref(net)
    del net, model
    gc.collect()
    assert reference() is None


def test_the_network_is_shown_the_time_of_the_row_for_every_sample():
    shown = []
    rows = plan(call("d1", "x"), replace(call("d2", "x"), t=0.25), Combine("x1", ((1.0, "d1"), (1.0, "d2")), END))
    execute(rows, Model(lambda x, t: shown.append(t) or x, FLOW, predicts="v"), {"x": STATE})
    assert [t.tolist() for t in shown] == [[1.0, 1.0], [0.25, 0.25]]
    assert rows.rows[1].node == START  # what converts its output stays the node's
