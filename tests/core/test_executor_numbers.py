"""The executor's arithmetic: against the rows evaluated by hand, in every precision, with gradients, on other arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from core_cases import PROCESSES
from tiny_plans import END, FLOW, X, plan

import urn
from urn import Model, compile_plan, execute
from urn.arithmetic import weighted_sum
from urn.exact import Gaussian
from urn.exact.affine import output_law
from urn.noise import SeededNoise
from urn.plan import Apply, Array, Combine, Evaluate, Law, Node, Noise
from urn.processes import VP

START = np.random.default_rng(3).normal(size=(3, 5))
SEEDS = (5, 6, 7)


def two_stage(nodes, x):
    """Noise, two evaluations a step, all five predictions, and states off the grid."""
    from urn.method import combine, evaluate, noise

    for cur, next in nodes.steps():
        d, e = yield evaluate(x, cur, "x0", "epsilon")
        middle = nodes.between(cur, next, 0.4)
        y = yield combine(middle, (middle.alpha, d), (middle.sigma, e))
        d2, s, u, v = yield evaluate(y, middle, "x0", "score", "velocity", "v")
        z = yield noise(cur, next)
        x = yield combine(
            next,
            (next.alpha / 2, d),
            (next.alpha / 2, d2),
            (-0.3 * middle.sigma, s),
            (0.01, u),
            (0.02, v),
            (0.1, z),
            (0.2, e),
        )
    return x


PLANS = {
    "ddim": lambda process, grid: compile_plan("ddim", process, grid=grid),
    "ddim with noise": lambda process, grid: compile_plan("ddim", process, grid=grid, eta=0.8),
    "two stages": lambda process, grid: compile_plan(two_stage, process, grid=grid),
    "final": lambda process, grid: compile_plan("ddim", process, grid=grid, final="x0"),
}
GRIDS = {
    "vp linear": [1.0, 0.6, 0.2],
    "ve": [20.0, 3.0, 0.5],
    "flow": [0.95, 0.5, 0.1],
    "table linear": [999.0, 500.5, 10.0],
}


def network(library, process, predicts):
    """A smooth network of x and t in the given library, of the size of what it predicts: a velocity is one per time."""
    size = 1 / process.t_start if predicts == "velocity" else 1.0
    return lambda x, t: (library.sin(1.1 * x) * 0.5 + 0.1 * t[:, None] / (1 + t[:, None])) * size


def by_hand(rows, process, predicts, x, noise):
    """The rows in NumPy, each prediction from x0 and epsilon, which solve x = a x0 + s eps, output = p x0 + q eps."""
    registers, net = {"x": x}, network(np, process, predicts)
    for row in rows.rows:
        if isinstance(row, Combine):
            registers[row.out] = sum(weight * registers[name] for weight, name in row.weights)
        elif isinstance(row, Noise):
            registers[row.out] = noise.normal(row.interval, row.stream, x)
        else:
            state = registers[row.inputs[0]]
            alpha, sigma = row.node.alpha, row.node.sigma
            slopes = [float(slope) for slope in process.velocity_weights(row.node.t)]
            pairs = {
                "x0": (1, 0),
                "epsilon": (0, 1),
                "v": (-sigma, alpha),
                "velocity": slopes,
                "score": (0, -1 / sigma),
            }
            output = net(state, np.full(len(x), row.t))
            both = np.linalg.solve([[alpha, sigma], pairs[predicts]], np.stack([state.ravel(), output.ravel()]))
            for register, wanted in row.outs:
                registers[register] = (np.array(pairs[wanted]) @ both).reshape(x.shape)
    return registers[rows.outputs[0][1]]


@pytest.mark.parametrize("predicts", ["epsilon", "x0", "v", "velocity", "score"])
@pytest.mark.parametrize("made", PLANS)
@pytest.mark.parametrize("name", GRIDS)
def test_rows_are_what_they_say(name, made, predicts):
    process = PROCESSES[name]
    rows = PLANS[made](process, GRIDS[name])
    expected = by_hand(rows, process, predicts, START, SeededNoise(SEEDS))
    scale = np.abs(expected).max()

    def run(kind, library=torch):
        model = Model(network(library, process, predicts), process, predicts=predicts)
        return execute(rows, model, {"x": kind(START)}, SeededNoise(SEEDS))["x"]

    double = run(torch.from_numpy)
    assert double.dtype == torch.float64
    np.testing.assert_allclose(double.numpy(), expected, rtol=0, atol=1e-10 * scale)
    single = run(lambda x: torch.from_numpy(x).float())
    assert single.dtype == torch.float32
    # the sums cancel where a prediction has large weights: 1e-5 of the largest number that occurs, not of the result
    np.testing.assert_allclose(single.numpy(), expected, rtol=0, atol=1e-5 * largest(rows, process, predicts))
    plain = run(np.asarray, np)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_allclose(plain, expected, rtol=0, atol=1e-10 * scale)
    assert run(lambda x: x.astype(np.float32), np).dtype == np.float32


def largest(rows, process, predicts):
    """The largest number that occurs in a run, terms of sums and of conversions included."""
    from urn.prediction import conversion

    top = [1.0]

    def look(row, registers):
        if isinstance(row, Combine):
            top.extend(abs(w) * float(registers[name].abs().max()) for w, name in row.weights)
        elif isinstance(row, Evaluate):
            for _, wanted in row.outs:
                a, b = conversion(predicts, wanted, row.node, process)
                top.extend((abs(a) * float(registers[row.inputs[0]].abs().max()), abs(b)))

    model = Model(network(torch, process, predicts), process, predicts=predicts)
    execute(rows, model, {"x": torch.from_numpy(START)}, SeededNoise(SEEDS), watch=look)
    return max(top)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)])
@pytest.mark.parametrize("made", ["ddim", "ddim with noise", "final"])
def test_half_precision_rounds_each_register_once(made, dtype, unit):
    """With |net| <= c |x| linear, a rounding of register r by u |r| reaches the output times the gain of r.

    Gains run back through the rows: a sum passes |w|, a call |a| + |b| c with its conversion a x + b output, and rounds
    twice, the output and the prediction. What is summed up is first order in u, so 5 % are added, and 1e-5 for float32.
    """
    process, c = PROCESSES["vp linear"], 0.625
    rows = PLANS[made](process, [1.0, 0.8, 0.6, 0.4, 0.2])
    model = Model(lambda x, t: x * c, process, predicts="v")
    seen: dict[str, float] = {}

    def look(row, registers):
        for name, value in registers.items():
            seen[name] = max(seen.get(name, 0.0), float(value.abs().max()))
            seen[f"{row} {name}"] = float(value.abs().max())

    exact = execute(rows, model, {"x": torch.from_numpy(START)}, SeededNoise(SEEDS), watch=look)["x"]
    from urn.prediction import conversion

    gain = dict.fromkeys(seen, 0.0)
    gain[rows.outputs[0][1]] = 1.0
    bound = 0.0
    for row in reversed(rows.rows):
        for name in row.defines:
            bound += gain[name] * unit * seen[name]
        if isinstance(row, Combine):
            for weight, name in row.weights:
                gain[name] += abs(weight) * gain[row.out]
        elif isinstance(row, Evaluate):
            for name, wanted in row.outs:
                a, b = conversion("v", wanted, row.node, process)
                bound += gain[name] * abs(b) * unit * c * seen[row.inputs[0]]
                gain[row.inputs[0]] += (abs(a) + abs(b) * c) * gain[name]
    bound += gain["x"] * unit * seen["x"]
    half = execute(rows, model, {"x": torch.from_numpy(START).to(dtype)}, SeededNoise(SEEDS))["x"]
    assert half.dtype == dtype
    error = float((half.double() - exact).abs().max())
    assert unit / 100 < error < 1.05 * bound + 1e-5  # above: it is a run in half precision


@pytest.mark.parametrize(("dtype", "large", "small"), [(torch.float16, 2048.0, 0.75), (torch.bfloat16, 256.0, 0.5)])
@pytest.mark.parametrize("kind", ["number", "array", "learned"])
def test_half_precision_is_summed_in_float32(kind, dtype, large, small):
    """large + small - large: in half precision large + small is large, and nothing is left."""
    assert torch.tensor(large, dtype=dtype) + torch.tensor(small, dtype=dtype) == large
    registers = {
        name: torch.full((2, 3), value, dtype=dtype) for name, value in (("a", large), ("b", small), ("c", large))
    }
    make = {
        "number": float,
        "array": lambda w: Array([w] * 3),
        "learned": lambda w: torch.tensor(w, dtype=torch.float64, requires_grad=True),
    }[kind]
    total = weighted_sum(((make(1.0), "a"), (make(1.0), "b"), (make(-1.0), "c")), registers)
    assert total.dtype == dtype
    assert bool((total == small).all())
    # products too: 1/3 of 3.001 is 1 to 2^-11, and what is left of 1/3 x - 1 is lost if that is rounded
    registers["d"], registers["e"] = (torch.full((2, 3), value, dtype=dtype) for value in (3.015625, 1.0))
    for terms in (((make(1 / 3), "d"), (make(-1.0), "e")), ((make(-1.0), "e"), (make(1 / 3), "d"))):
        left = float(weighted_sum(terms, registers)[0, 0].detach())
        assert left == pytest.approx(float(registers["d"][0, 0]) / 3 - 1, rel=2.0**-7)


def test_registers_are_not_written_into():
    """A sum of one register with weight one is that register; no later sum may change it."""
    given = torch.full((2, 3), 3.0)
    doubled = plan(
        Combine("y1", ((1.0, "x"),)),
        Combine("y2", ((1.0, "y1"), (2.0, "x"))),
        Combine("y3", ((1.0, "y2"), (1.0, "y1"))),
        outputs=(("x", "y3", END), ("same", "y1", END)),
    )
    out = execute(doubled, Model(lambda x, t: x, FLOW), {"x": given})
    assert bool((out["x"] == 12.0).all())
    assert out["same"] is given  # no copy is made
    assert bool((given == 3.0).all())


def test_gradients_in_the_start_and_in_the_networks_parameters():
    process = PROCESSES["vp linear"]
    rows = compile_plan(two_stage, process, grid=GRIDS["vp linear"])
    weight = torch.tensor([[0.3, -0.2], [0.5, 0.1]], dtype=torch.float64, requires_grad=True)
    start = torch.tensor([[0.4, -1.0], [1.5, 0.2]], dtype=torch.float64, requires_grad=True)

    def loss(weight, start):
        model = Model(lambda x, t: torch.tanh(x @ weight) + 0.1 * t[:, None], process, predicts="v")
        return (execute(rows, model, {"x": start}, SeededNoise((1, 2)))["x"] ** 2).sum()

    assert torch.autograd.gradcheck(loss, (weight, start), eps=1e-6, atol=1e-7, rtol=1e-7)


def test_jax_arrays():
    jnp = pytest.importorskip("jax.numpy")
    process = PROCESSES["vp linear"]
    rows = compile_plan(two_stage, process, grid=GRIDS["vp linear"])
    expected = by_hand(rows, process, "v", START, SeededNoise(SEEDS))
    model = Model(network(jnp, process, "v"), process, predicts="v")
    out = execute(rows, model, {"x": jnp.asarray(START)}, SeededNoise(SEEDS))["x"]
    assert type(out).__module__.startswith("jax")
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(out), expected, atol=1e-5 * largest(rows, process, "v"))
    coordinates = plan(Combine("x1", ((Array([1.0, 2.0, 3.0, 4.0, 5.0]), "x"), (-1.0, "x")), END))
    out = execute(coordinates, Model(lambda x, t: x, FLOW), {"x": jnp.asarray(START)})["x"]
    np.testing.assert_allclose(np.asarray(out), START * np.arange(5), atol=1e-6)


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_array_coefficients_broadcast_against_the_state(kind):
    weight = Array([[1.0], [2.0], [-0.5]])  # one a frame
    rows = plan(Combine("x1", ((weight, "x"), (0.5, "x"), (Array([1.0, 0.0]), "x")), END))
    state = np.random.default_rng(0).normal(size=(2, 3, 2))
    out = np.asarray(execute(rows, Model(lambda x, t: x, FLOW), {"x": kind(state)})["x"])
    np.testing.assert_allclose(out, state * (weight.values + 0.5 + np.array([1.0, 0.0])), rtol=1e-15)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_affine_numbers_are_the_matrices_of_a_run(eta):
    """A plan on exact Gaussian data is affine in start and noises: its matrices by running it on unit vectors."""
    process = PROCESSES["vp linear"]
    data = Gaussian([1.5, -0.4], [[1.3, -0.6], [-0.6, 0.5]])
    rows = compile_plan("ddim", process, 4, "lambda", eta=eta)
    law = output_law(rows, data, start="prior")
    model = data.model(process, predicts="v")
    identities = [(row.interval, row.stream) for row in rows.rows if isinstance(row, Noise)]

    class Unit:
        def __init__(self, which=None, j=0):
            self.which, self.j = which, j

        def normal(self, interval, stream, like):
            value = torch.zeros_like(like)
            value[:, self.j] = float((interval, stream) == self.which)
            return value

    def run(start, noise):
        return execute(rows, model, {"x": torch.tensor([start], dtype=torch.float64)}, noise)["x"][0]

    mean = run([0.0, 0.0], Unit())
    np.testing.assert_allclose(law.mean.numpy(), mean.numpy(), rtol=1e-11)
    parts = {"x": torch.stack([run(unit, Unit()) - mean for unit in ([1.0, 0.0], [0.0, 1.0])], 1)}
    for identity in identities:
        parts[identity] = torch.stack([run([0.0, 0.0], Unit(identity, j)) - mean for j in (0, 1)], 1)
    assert set(law.parts) == set(parts)
    for name, matrix in parts.items():
        np.testing.assert_allclose(law.parts[name].numpy(), matrix.numpy(), rtol=0, atol=1e-11)
    assert len(identities) == (4 if eta else 0)


def test_a_law_with_an_array_std_starts_each_coordinate_with_its_own():
    stds = Array([0.5, 1.0, 2.0])
    start = Node(1.0, 0.0, stds, 0)
    rows = plan(Combine("x1", ((2.0, "x"),), END), inputs=(("x", Law(start, stds)),))
    plain = plan(Combine("x1", ((2.0, "x"),), END), inputs=(X,))
    model = Model(lambda x, t: x, FLOW, shape=(3,))
    np.testing.assert_allclose(
        urn.sample(model, rows, (4, 3), seed=1).numpy(),
        urn.sample(model, plain, (4, 3), seed=1).numpy() * [0.5, 1, 2],
        rtol=1e-6,
    )


def test_maps_are_called_with_their_options():
    rows = plan(Apply("y", "clip", ("x",), (("high", 0.5), ("low", -0.25))), Combine("x1", ((1.0, "y"),), END))
    out = execute(rows, Model(lambda x, t: x, VP.linear()), {"x": torch.tensor([[-1.0, 0.1, 1.0]])})["x"]
    assert out.tolist() == [[-0.25, pytest.approx(0.1), 0.5]]
