"""DPM-Solver-v3 against its paper's formulas, and its statistics against closed forms and differences along trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from methods_cases import MIXTURE, bent, compiled, geometric, order_of, run
from methods_published import Array, assert_close, exact, numbers, start, urns
from scipy.integrate import quad

import urn
from urn.coefficients.exponential import EPSILON, X0, integral_weights
from urn.coefficients.model_statistics import Curve, ModelStatistics
from urn.conformance.targets import exact_end, states_at
from urn.exact import Gaussian
from urn.loops.model_statistics import model_statistics, noised_states
from urn.nodes import Nodes
from urn.plan import Plan
from urn.processes import VE, VP, Flow
from urn.schemes.multistep import multistep

# l, s and b are straight lines in lambda, (value at 0, slope) for each of two coordinates
LINES = {"l": ([0.6, 0.4], [-0.1, 0.05]), "s": ([0.2, -0.3], [-0.15, 0.1]), "b": ([0.1, -0.2], [0.05, 0.1])}
KNOTS = np.array([-3.0, 4.0])


def line(name: str, l: Any) -> Array:
    value, slope = (np.array(numbers_) for numbers_ in LINES[name])
    return value + slope * np.asarray(l)[..., None]


def line_integral(name: str, start_: Any, end: Any) -> Array:
    value, slope = (np.array(numbers_) for numbers_ in LINES[name])
    start_, end = np.asarray(start_)[..., None], np.asarray(end)[..., None]
    return value * (end - start_) + slope * (end**2 - start_**2) / 2


STRAIGHT = ModelStatistics(*(KNOTS, *(line(name, KNOTS) for name in "lsb")))  # type: ignore[arg-type]


@pytest.mark.parametrize("process", [VP.linear(), Flow()], ids=repr)
@pytest.mark.parametrize(
    ("name", "order"), [("dpm_solver_v3", 2), ("dpm_solver_v3", 3), ("dpm_solver_v3_published", 3)]
)
@pytest.mark.parametrize("correct", ["always", "half", "never"])
def test_dpm_solver_v3_by_the_papers_integrals(process: Any, name: str, order: int, correct: str) -> None:
    """x_t = alpha_t e^(-L) (x_s/alpha_s - int E B - sum_k g^(k) int E (lambda - lambda_s)^k/k!), E = e^(L + S).

    The derivatives solve the paper's linear system of differences; the integrals are sums over 400 points.
    """
    alpha, sigma, lambda_, _ = numbers(process)
    points, weights = np.polynomial.legendre.leggauss(400)
    inner_points, inner_weights = np.polynomial.legendre.leggauss(30)

    def on(a: float, b: float) -> tuple[Array, Array]:
        return a + (b - a) * (points + 1) / 2, weights * (b - a) / 2

    def big_b(ls: float, l: Array) -> Array:
        l = np.atleast_1d(l)[:, None]
        r, w = ls + (l - ls) * (inner_points + 1) / 2, inner_weights * (l - ls) / 2
        return (w[..., None] * np.exp(-line_integral("s", ls, r)) * line("b", r)).sum(1)

    def update(x: Array, s: float, t: float, known: list[tuple[float, Array]]) -> Array:
        ls, lt = lambda_(s), lambda_(t)
        q, w = on(ls, lt)
        kernel = w[:, None] * np.exp(line_integral("l", ls, q) + line_integral("s", ls, q))
        g = [np.exp(-line_integral("s", ls, m)) * f - big_b(ls, m)[0] for m, f in known]
        total = (kernel * big_b(ls, q)).sum(0)
        places = np.array([m - ls for m, _ in known])
        matrix = places[:, None] ** np.arange(len(known))
        for k, row in enumerate(np.linalg.inv(matrix)):
            derivative = sum(c * value for c, value in zip(row, g, strict=True))
            total = total + (kernel * (q[:, None] - ls) ** k).sum(0) * derivative
        return alpha(t) * np.exp(-line_integral("l", ls, lt)) * (x / alpha(s) - total)

    def f_at(x: Array, t: float) -> tuple[float, Array]:
        return lambda_(t), (sigma(t) * exact(process, "epsilon")(x, t) - line("l", lambda_(t)) * x) / alpha(t)

    times = geometric(process, 6).tolist()
    published, middle = name.endswith("published"), (process.t_start + process.t_end) / 2
    x = start(process, times)
    known = [f_at(x, times[0])]
    for i in range(6):
        s, t = times[i], times[i + 1]
        used = known[: min(order, 6 - i) if published else order]
        predicted = update(x, s, t, used)
        if i == 5:
            x = predicted
            break
        here = f_at(predicted, t)
        corrected = correct == "always" or (correct == "half" and t <= middle) or (len(used) < order and not published)
        with_here = [here, *used][: len(used)] if published else [here, *used]
        x = update(x, s, t, with_here) if corrected and len(with_here) > 1 else predicted
        known.insert(0, here)
    assert_close(urns(name, process, times, order=order, statistics=STRAIGHT, correct=correct), x)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("process", [VP.linear(), VE(), Flow()], ids=repr)
@pytest.mark.parametrize(("form", "l", "s"), [(X0, 1.0, 0.0), (EPSILON, 0.0, -1.0)], ids=["data", "noise"])
def test_constant_statistics_are_data_and_noise_prediction(
    order: int, process: Any, form: Any, l: float, s: float
) -> None:
    def plain(nodes: Nodes, x: str) -> Any:
        return (yield from multistep(nodes, x, form, order, integral_weights, correct=integral_weights))

    times = bent(process, 7)
    ours = compiled("dpm_solver_v3", process, times, order=order, statistics=ModelStatistics.constant(l, s, 0.0))
    assert (difference := ours.diff(compiled(plain, process, times), 1e-11)) == "", difference
    if l == 1.0:
        assert compiled("dpm_solver_v3", process, times, order=order).rows == ours.rows


def test_of_order_one_without_correction_they_are_ddim() -> None:
    times = bent(Flow(), 5)
    for l, s in ((1.0, 0.0), (0.0, -1.0)):
        chosen = ModelStatistics.constant(l, s, 0.0)
        ours = compiled("dpm_solver_v3", Flow(), times, order=1, statistics=chosen, correct="never")
        assert torch.allclose(run(ours), run(compiled("ddim", Flow(), times)), rtol=1e-12, atol=1e-12)


LAMBDAS = torch.linspace(-1.6, 2.6, 43, dtype=torch.float64)


def measured(process: Any, count: int = 400, probes: int | None = None, predicts: str = "v") -> ModelStatistics:
    states = noised_states(process, MIXTURE.sample(count, 1), LAMBDAS)
    return model_statistics(MIXTURE.model(process, predicts), LAMBDAS, states, probes=probes)


@pytest.fixture(scope="module")
def of_mixture() -> ModelStatistics:
    return measured(VP.linear())


def test_statistics_are_the_same_on_every_process_and_prediction(of_mixture: ModelStatistics) -> None:
    other = measured(VE(), predicts="x0")
    for name in "lsb":
        assert getattr(other, name).values == pytest.approx(getattr(of_mixture, name).values, rel=1e-9, abs=1e-10)


def test_statistics_of_an_axis_aligned_gaussian_are_known_and_make_one_step_exact() -> None:
    """epsilon = sigma (x - alpha m)/v with v = alpha^2 c + sigma^2: l = sigma^2/v, f = -sigma^2 m/v, s = 0, b = f'."""
    process, mean, variances = VP.linear(), torch.tensor([1.5, -0.7]), torch.tensor([1.8, 0.1])
    data = Gaussian(mean, variances)
    knots = torch.linspace(-1.6, 2.6, 141, dtype=torch.float64)
    found = model_statistics(data.model(process), knots, noised_states(process, data.sample(8, 1), knots), probes=None)
    ratio = (2 * knots).exp().unsqueeze(1) * variances.double()
    assert found.l.values == pytest.approx((1 / (1 + ratio)).numpy(), rel=1e-12)
    assert not found.s.values.any()
    inner = slice(14, -14)  # the natural spline's ends bend l's slope
    b = (2 * ratio * mean.double() / (1 + ratio) ** 2).numpy()
    assert found.b.values[inner] == pytest.approx(b[inner], abs=1e-4)
    times = process.t_of_lambda(torch.tensor([-1.0, 2.0], dtype=torch.float64))
    x = states_at(process, float(times[0]), 20, data)
    plan = compiled("dpm_solver_v3", process, times, order=1, statistics=found)
    assert plan.nfe == 1
    assert float((run(plan, x, target=data) - data.flow(x, process, *times.tolist())).abs().max()) < 1e-4
    assert float((run(compiled("ddim", process, times), x, target=data) - run(plan, x, target=data)).abs().max()) > 0.1


def test_s_and_b_are_the_regression_of_differences_along_trajectories(of_mixture: ModelStatistics) -> None:
    process, place, step = VP.linear(), 20, 1e-3
    states = noised_states(process, MIXTURE.sample(400, 1), LAMBDAS)[place]
    here = LAMBDAS[place]
    t = process.t_of_lambda(here)

    def f_at(l: torch.Tensor) -> torch.Tensor:
        there = process.t_of_lambda(l)
        x = states if l == here else exact_end(process, states, float(t), float(there))
        epsilon = MIXTURE.epsilon(x, process, float(there))
        return (process.sigma(there) * epsilon - of_mixture.curves[0](l.reshape(1)) * x) / process.alpha(there)

    f, slope = f_at(here).numpy(), ((f_at(here + step) - f_at(here - step)) / (2 * step)).numpy()
    for coordinate in range(2):
        s, b = np.polyfit(f[:, coordinate], slope[:, coordinate], 1)
        assert of_mixture.s.values[place, coordinate] == pytest.approx(s, rel=1e-4)
        assert of_mixture.b.values[place, coordinate] == pytest.approx(b, rel=1e-4, abs=1e-6)


def test_random_signs_estimate_the_diagonal(of_mixture: ModelStatistics) -> None:
    chosen = LAMBDAS[::14]
    states = noised_states(VP.linear(), MIXTURE.sample(400, 1), chosen)
    estimated = model_statistics(MIXTURE.model(VP.linear()), chosen, states, probes=20)
    # off-diagonal elements are below 1/4, so each mean of 400 x 20 is off by less than 1/4 / 89, at one sigma
    assert abs(estimated.l.values - of_mixture.l.values[::14]).max() < 4 / 4 / 89


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_is_kept_with_statistics(order: int) -> None:
    options: dict[str, Any] = {"order": order, "statistics": STRAIGHT, "correct": "never"}
    assert order_of("dpm_solver_v3", VP.linear(), (24, 48, 96), **options) > order - 0.25


def test_the_order_is_kept_with_measured_statistics(of_mixture: ModelStatistics) -> None:
    assert order_of("dpm_solver_v3", VP.linear(), (24, 48, 96), statistics=of_mixture, correct="never") > 2.75


def test_curves_are_integrated_and_differentiated() -> None:
    knots = np.array([-1.0, -0.2, 0.5, 2.0])
    curve = Curve(knots, np.array([[1.0], [0.3], [0.8], [-0.5]]))

    def at(l: float) -> float:
        return float(curve(torch.tensor([l], dtype=torch.float64)))

    for l in (-1.7, -0.6, 0.1, 1.9, 3.0):
        end = torch.tensor([l], dtype=torch.float64)
        whole = quad(at, -1.0, l, points=[p for p in knots if min(-1, l) < p < max(-1, l)] or None)[0]
        assert float(curve.integral(end)) == pytest.approx(whole, abs=1e-9)
        if -1 < l < 2:
            assert float(curve.slope(end)) == pytest.approx((at(l + 1e-5) - at(l - 1e-5)) / 2e-5, abs=1e-6)


def test_statistics_and_their_plans_are_written_and_read(tmp_path: Path, of_mixture: ModelStatistics) -> None:
    of_mixture.save(tmp_path / "statistics.npz")
    again = ModelStatistics.load(tmp_path / "statistics.npz")
    assert again == of_mixture
    assert hash(again) == hash(of_mixture)
    plan = compiled("dpm_solver_v3", VP.linear(), bent(VP.linear(), 4), statistics=of_mixture)
    assert Plan.from_json(plan.to_json()) == plan
    x = states_at(VP.linear(), float(plan.times[0]), 3)
    assert torch.equal(run(Plan.from_json(plan.to_json()), x), run(plan, x))
    assert run(plan, x.float()).dtype == torch.float32


def test_gradients_in_the_times_pass_through_the_statistics(of_mixture: ModelStatistics) -> None:
    process = VP.linear()
    times = bent(process, 4)
    x = states_at(process, float(times[0]), 3)

    def value(t: torch.Tensor) -> torch.Tensor:
        return run(compiled("dpm_solver_v3", process, t, statistics=of_mixture), x).sum()

    moving = times.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(moving), moving)
    change = torch.zeros_like(times)
    change[2] = 1e-6
    difference = (value(times + change) - value(times - change)) / 2e-6
    assert float(slope[2]) == pytest.approx(float(difference), rel=1e-5)


def test_bad_statistics_are_refused() -> None:
    one = np.ones(2)
    for name, arguments in (
        ("lambdas", ([1.0, 0.0], one, one, one)),
        ("shapes", ([0.0, 1.0], one, one, np.ones(3))),
        ("b must be finite", ([0.0, 1.0], one, one, one * np.nan)),
    ):
        with pytest.raises(ValueError, match=name):
            ModelStatistics(*arguments)  # type: ignore[arg-type]
    model, states = MIXTURE.model(Flow()), torch.zeros(2, 4, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="states="):
        model_statistics(model, [0.0, 1.0, 2.0], states)
    with pytest.raises(ValueError, match="probes=0"):
        model_statistics(model, [0.0, 1.0], states, probes=0)
    whole = urn.Model(lambda x, t: x, Flow(), integer_times=True)
    with pytest.raises(ValueError, match="integer_times"):
        model_statistics(whole, [0.0, 1.0], states)
