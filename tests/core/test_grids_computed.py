"""Computed grids: the errors that they are made of against closed forms, the searches against trying everything, and what
the grids do on data of their spectrum, exactly."""

from __future__ import annotations

import doctest
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import urn
from urn import grids
from urn.exact import Gaussian
from urn.exact.affine import moments
from urn.grids import grid_times
from urn.grids.computed import _slopes, _step_divergences, cheapest, flow_errors, nearest, step_divergence
from urn.grids.spectra import distinct
from urn.grids.step_errors import step_gains, total_variances
from urn.processes import VE, VP, Blocks, Bridge, Flow, scaled_linear_betas

FLOW, VP_LINEAR, EDM = Flow(), VP.linear(), VE(0.002, 80.0)
TABLE = VP.from_betas(scaled_linear_betas(1000))
PHOTOGRAPHS = grids.natural_spectrum(16)
AXES = torch.tensor([2.0, 0.3, 0.01], dtype=torch.float64)


def paths(count, steps):
    return [(0, *inner, count - 1) for inner in itertools.combinations(range(1, count - 1), steps - 1)]


@pytest.mark.parametrize("process", [FLOW, VP_LINEAR, EDM, TABLE], ids=str)
@pytest.mark.parametrize("method", ["ddim", "dpm_solver_2", "dpmpp_2s", "heun", "ralston_3", "res_2s"])
def test_gains_of_single_steps_are_those_of_plans(process, method):
    times = grids.arctan(process, 5, 0.5)
    gains = step_gains(process, times, AXES, method, "gits")
    before = total_variances(process, times, AXES)
    for cur, next in itertools.combinations(range(6), 2):
        plan = urn.compile_plan(method, process, grid=times[[cur, next]])
        law = Gaussian([0.0] * 3, AXES)
        _, covariance = moments(plan, law)
        np.testing.assert_allclose(
            (gains[cur, next] ** 2 * before[cur]).numpy(), covariance.diagonal().numpy(), rtol=1e-8, atol=1e-14
        )


def test_a_step_of_ddim_in_closed_form():
    times = grids.arctan(VP_LINEAR, 6, 0.5)
    alpha, sigma = VP_LINEAR.alpha(times)[:, None], VP_LINEAR.sigma(times)[:, None]
    gains = step_gains(VP_LINEAR, times, AXES, "ddim", "gits")
    total = alpha**2 * AXES + sigma**2
    for cur, next in itertools.combinations(range(7), 2):
        expected = (alpha[next] * alpha[cur] * AXES + sigma[next] * sigma[cur]) / total[cur]
        np.testing.assert_allclose(gains[cur, next].numpy(), expected.numpy(), rtol=1e-13)
        error = ((expected - (total[next] / total[cur]).sqrt()) ** 2 * total[cur] * torch.tensor([1.0, 4.0, 9.0])).sum()
        costs = flow_errors(VP_LINEAR, times, AXES, torch.tensor([1.0, 4.0, 9.0]), gains)
        assert float(costs[cur, next]) == pytest.approx(float(error.sqrt() / alpha[next]), rel=1e-11)


def summed_costs(costs, discount, path):
    return sum(discount**k * float(costs[a, b]) for k, (a, b) in enumerate(itertools.pairwise(path)))


@pytest.mark.parametrize("discount", [1.0, 1.3])
def test_the_cheapest_path_is_that_of_trying_all(discount):
    for seed in range(5):
        costs = torch.rand(9, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for steps in range(1, 9):
            found = tuple(cheapest(costs, steps, discount).tolist())
            assert found == min(paths(9, steps), key=partial(summed_costs, costs, discount))


def test_the_discount_to_a_hundredth():
    """0, 1, 3 costs 1 + d and 0, 2, 3 costs 1.5 + 0.503 d: they change places at d = 1.006."""
    costs = torch.full((4, 4), 9.0, dtype=torch.float64)
    costs[0, 1], costs[1, 3], costs[0, 2], costs[2, 3] = 1.0, 1.0, 1.5, 0.503
    assert cheapest(costs, 2, 1.0).tolist() == [0, 1, 3]
    assert cheapest(costs, 2, 1.01).tolist() == [0, 2, 3]


def whole_error(path, gains, exact, weights):
    factor = math.prod((gains[a, b] for a, b in itertools.pairwise(path)), start=torch.ones(gains.shape[-1]))
    return float((weights * (factor - exact[path[-1]]) ** 2).sum())


@pytest.mark.parametrize("process", [FLOW, EDM], ids=str)
@pytest.mark.parametrize("method", ["ddim", "dpm_2"])
def test_optimal_steps_are_the_best_of_all_on_one_axis(process, method):
    times = grids.arctan(process, 9, 0.3)
    variance = torch.tensor([0.4], dtype=torch.float64)
    gains = step_gains(process, times, variance, method, "optimal_steps")
    total = total_variances(process, times, variance)
    exact = torch.sqrt(total / total[0])
    for steps in (1, 2, 3, 5):
        found = nearest(gains, exact, total[0], steps).tolist()
        best = min(paths(10, steps), key=lambda path: whole_error(path, gains, exact, total[0]))
        if method == "ddim":  # its factors all err to one side, so what is nearest on the way is nearest at the end
            assert tuple(found) == best
        assert whole_error(found, gains, exact, total[0]) >= whole_error(best, gains, exact, total[0])


def test_optimal_steps_keep_the_nearest_state_at_every_time():
    """The paper's search, state by state."""
    last = 25
    times = grids.arctan(FLOW, last, 0.3)
    gains = step_gains(FLOW, times, AXES, "dpmpp_2s", "optimal_steps")
    total = total_variances(FLOW, times, AXES)
    exact, weights = torch.sqrt(total / total[0]), total[0] * torch.tensor([1.0, 5.0, 20.0])
    for steps in (1, 2, 3, 4, 6, 9):
        kept = {0: ((0,), torch.ones(3, dtype=torch.float64))}
        for _ in range(steps):
            new = {}
            for place in range(1, last + 1):
                tried = [((*path, place), state * gains[at, place]) for at, (path, state) in kept.items() if at < place]
                if tried:
                    new[place] = min(tried, key=lambda pair: float((weights * (pair[1] - exact[place]) ** 2).sum()))
            kept = new
        assert tuple(nearest(gains, exact, weights, steps).tolist()) == kept[last][0]


def test_the_nearest_state_to_a_hundredth():
    gains = torch.ones(4, 4, 1, dtype=torch.float64)
    gains[1, 3], gains[2, 3] = 1.004, 0.998
    one = torch.ones(1, dtype=torch.float64)
    assert nearest(gains, torch.ones(4, 1, dtype=torch.float64), one, 2).tolist() == [0, 2, 3]
    gains[2, 3] = 0.995
    assert nearest(gains, torch.ones(4, 1, dtype=torch.float64), one, 2).tolist() == [0, 1, 3]


def test_on_one_axis_eulers_best_grid_is_even_in_the_angle():
    """Align Your Steps, theorem 3.1: a step of Euler multiplies by the cosine of its angle, arctan(sigma / (alpha std))."""
    for process in (FLOW, EDM):
        for steps in (2, 3, 4, 6):
            made = partial(grids.optimal_steps, variances=[0.25], data_std=0.5, candidates=12)
            expected = grids.arctan(process, steps, 0.5)
            np.testing.assert_allclose(
                grid_times(process, steps, made).numpy(), expected.numpy(), rtol=1e-9, atol=1e-12
            )


@pytest.mark.parametrize(
    ("high", "low", "v"), [(80.0, 5.0, 0.25), (2.0, 0.7, 0.25), (0.9, 0.05, 3.0), (0.01, 0.002, 1e-3)]
)
def test_a_steps_divergence_is_girsanovs_integral(high, low, v):
    """E|x0(x_s, s) - x0(x_cur, s_cur)|^2 / s^3, with x0(x, s) = v x / (v + s^2) and x_cur = x_s + more noise."""

    def integrand(s):
        gain, held = v / (v + s**2), v / (v + high**2)
        return (gain**2 * (v + s**2) + held**2 * (v + high**2) - 2 * gain * held * (v + s**2)) / s**3

    expected, _ = quad(integrand, low, high, epsabs=0, epsrel=1e-11, limit=500)
    cur, next = (torch.tensor(-math.log(s), dtype=torch.float64) for s in (high, low))
    one = torch.ones(1, dtype=torch.float64)
    found = _step_divergences(cur, next, v * one, one)
    assert float(found) == pytest.approx(expected, rel=1e-8)
    assert float(_step_divergences(cur, next, v * one, 7 * one)) == pytest.approx(7 * expected, rel=1e-8)


def test_the_slopes_of_the_divergence():
    points = torch.tensor([-3.0, -1.0, 0.2, 1.5, 4.0], dtype=torch.float64)
    counts = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)

    def total(inner):
        moved = torch.cat([points[:1], inner, points[-1:]])
        return _step_divergences(moved[:-1], moved[1:], AXES, counts).sum()

    gradient, hessian = _slopes(points, AXES, counts)
    inner = points[1:-1].clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(inner), inner)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    second = torch.autograd.functional.hessian(total, points[1:-1])
    torch.testing.assert_close(hessian, second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", [FLOW, VP_LINEAR, EDM, TABLE], ids=str)
@pytest.mark.parametrize("variances", [[0.25], AXES, PHOTOGRAPHS], ids=["one", "three", "photographs"])
def test_align_your_steps_is_at_a_minimum(process, variances):
    for steps in (2, 5, 12):
        times = grid_times(process, steps, partial(grids.ays, variances=variances))
        assert times[[0, -1]].tolist() == list(process.t_finite)
        least = step_divergence(process, times, variances)
        lambdas = process.lambda_(times)
        for place in range(1, steps):
            for change in (-0.01, 0.01):
                moved = lambdas.clone()
                moved[place] += change
                moved_times = torch.cat([times[:1], process.t_of_lambda(moved[1:-1]), times[-1:]])
                assert step_divergence(process, moved_times, variances) > least
        for other in ("lambda", "karras", grids.arctan):
            if other is not grids.arctan:
                assert least < step_divergence(process, grid_times(process, steps, other), variances)


def test_align_your_steps_is_the_best_of_all_few_steps():
    fine = torch.linspace(*(float(EDM.lambda_(t)) for t in EDM.t_finite), 81, dtype=torch.float64)
    for variances in ([0.25], AXES, PHOTOGRAPHS):
        v, counts = distinct(variances)
        costs = _step_divergences(fine[:, None], fine[None, :], v, counts)
        best = min(float(costs[0, a] + costs[a, b] + costs[b, -1]) for a, b in itertools.combinations(range(1, 80), 2))
        found = step_divergence(EDM, grids.ays(EDM, 3, variances), variances)
        assert best * 0.97 < found <= best


def drawn_divergence(process, times, variances):
    """KL of the exact law at the end from the one that DPM-Solver++(1) with noise draws, by exact moments."""
    plan = urn.compile_plan("dpmpp_1_sde", process, grid=times)
    _, covariance = moments(plan, Gaussian(torch.zeros(len(variances)), variances))
    ratio = total_variances(process, times[-1], variances) / covariance.diagonal()
    return float((ratio - 1 - ratio.log()).sum() / 2)


def test_the_divergence_bounds_that_of_the_law_that_is_drawn():
    """The bound is lowest on its own grid, but at few steps the law itself is nearer on others."""
    one = torch.tensor([0.25], dtype=torch.float64)
    for steps in (3, 6, 12, 48):
        for variances in (one, AXES):
            made = {"ays": grids.ays(EDM, steps, variances)}
            made |= {name: grid_times(EDM, steps, name) for name in ("karras", "lambda", "arctan")}
            drawn = {name: drawn_divergence(EDM, times, variances) for name, times in made.items()}
            for name, times in made.items():
                assert drawn[name] < step_divergence(EDM, times, variances)
            if steps == 48 and len(variances) == 1:
                assert drawn["ays"] < drawn["karras"]
            if steps <= 12:
                assert drawn["ays"] > drawn["karras"]


def error(process, method, times, variances):
    """The rms distance from the exact flow's end, over the std of the law there, exactly."""
    v, counts = distinct(variances)
    law = Gaussian(torch.zeros(len(v)), v)
    model = law.model(process, "v")
    start = torch.eye(len(v), dtype=torch.float64)
    made = urn.sample(model, method, start=start, grid=times).diagonal()
    before, after = (total_variances(process, times[place], v) for place in (0, -1))
    missed = (counts * before * (made - torch.sqrt(after / before)) ** 2).sum()
    return math.sqrt(float(missed / (counts * after).sum()))


@pytest.mark.parametrize("process", [FLOW, VP_LINEAR, EDM, TABLE], ids=str)
@pytest.mark.parametrize("method", ["ddim", "dpm_2", "dpmpp_2s"])
def test_on_its_spectrum_optimal_steps_is_better_than_grids_made_for_none(process, method):
    for steps in (5, 8, 20):
        made = partial(grids.optimal_steps, method=method, variances=PHOTOGRAPHS)
        found = error(process, method, grid_times(process, steps, made), PHOTOGRAPHS)
        for other in ("uniform", "karras_clean", "kl_optimal"):
            assert found < error(process, method, grid_times(process, steps, other), PHOTOGRAPHS), (steps, other)


@pytest.mark.parametrize("process", [FLOW, VP_LINEAR, EDM], ids=str)
@pytest.mark.parametrize("method", ["ddim", "dpm_2", "dpmpp_2s"])
def test_on_its_spectrum_gits_is_better_than_grids_made_for_none(process, method):
    for steps in (5, 8):
        made = partial(grids.gits, method=method, variances=PHOTOGRAPHS)
        found = error(process, method, grid_times(process, steps, made), PHOTOGRAPHS)
        for other in ("uniform", "karras_clean", "kl_optimal"):
            assert found < error(process, method, grid_times(process, steps, other), PHOTOGRAPHS), (steps, other)


def test_the_errors_of_single_steps_do_not_add_up_to_the_runs():
    """On Stable Diffusion's table with DPM-Solver++(2S) even steps are a little better than GITS', whose sum is lower."""
    found, even = grids.gits(TABLE, 8, "dpmpp_2s", PHOTOGRAPHS), grid_times(TABLE, 8, "uniform")
    v, counts = distinct(PHOTOGRAPHS)

    def summed(times):
        costs = flow_errors(TABLE, times, v, counts, step_gains(TABLE, times, v, "dpmpp_2s", "gits"))
        return float(costs.diagonal(1).sum())

    assert summed(found) < summed(even)
    assert error(TABLE, "dpmpp_2s", found, PHOTOGRAPHS) > error(TABLE, "dpmpp_2s", even, PHOTOGRAPHS)


def test_grids_depend_on_the_method_and_on_the_spectrum():
    for grid in (grids.gits, grids.optimal_steps):
        made = {
            (method, v): tuple(grid(EDM, 6, method=method, variances=[v, 1.0]).tolist())
            for method in ("ddim", "dpm_2")
            for v in (0.01, 0.5)
        }
        assert len(set(made.values())) == 4
    assert not torch.allclose(grids.ays(EDM, 6, [0.01, 1.0]), grids.ays(EDM, 6, [0.5, 1.0]), rtol=0.01)


def test_a_discount_takes_error_from_later_steps():
    early, late = (grids.gits(EDM, 8, variances=PHOTOGRAPHS, discount=d) for d in (0.8, 1.3))
    assert bool((late[1:-1] < early[1:-1]).all())


def test_photographs_have_a_power_law():
    variances = grids.natural_spectrum(32, 1.5, 0.3).reshape(32, 32)
    assert float(variances.mean()) == pytest.approx(0.09, rel=1e-12)
    assert float(variances[0, 8] / variances[0, 4]) == pytest.approx(0.5**1.5, rel=1e-12)
    assert float(variances[3, 4] / variances[0, 5]) == pytest.approx(1.0, rel=1e-12)
    assert float(variances[0, 0] / variances[0, 1]) == 1
    assert float(variances[31, 0] / variances[1, 0]) == 1
    assert torch.equal(grids.gits(FLOW, 5), grids.gits(FLOW, 5, variances=grids.natural_spectrum()))
    # in pixels: a random field of those variances has the std
    noise = torch.randn(400, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field = torch.fft.ifft2(torch.fft.fft2(noise) * grids.natural_spectrum(16).reshape(16, 16).sqrt()).real
    assert float(field.std()) == pytest.approx(0.5, rel=0.02)


def test_the_examples_run():
    for module, examples in ((grids.computed, 2), (grids.spectra, 3)):
        names = {"torch": torch, **vars(module)}
        assert doctest.testmod(module, globs=names) == (0, examples)


def test_a_spectrum_is_measured():
    noise = torch.randn(3000, 2, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([grids.natural_spectrum(8), 4 * grids.natural_spectrum(8, 1.0)]).reshape(2, 8, 8)
    fields = 5.0 + torch.fft.ifft2(torch.fft.fft2(noise) * expected.sqrt()).real
    found = grids.measured_spectrum(fields.float()).reshape(2, 8, 8)
    torch.testing.assert_close(found, expected, rtol=0.15, atol=0)
    assert float(found.mean()) == pytest.approx(float(fields.var(dim=(0, -2, -1), correction=0).mean()), rel=1e-5)


@pytest.mark.parametrize(
    "samples",
    [torch.zeros(3, 8, 8), torch.zeros(8, 8), torch.zeros(2, 1, 4, 4).long(), torch.full((1, 2, 2), math.inf), [1.0]],
)
def test_samples_without_a_spectrum_are_refused(samples):
    with pytest.raises(ValueError, match="samples"):
        grids.measured_spectrum(samples)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (partial(grids.gits, method="dpmpp_2m"), "method='dpmpp_2m' looks back on earlier ones.*such as 'ddim'"),
        (partial(grids.optimal_steps, method="unipc_3"), "method='unipc_3' looks back"),
        (partial(grids.gits, method="euler_ancestral"), "deterministic method; method='euler_ancestral' draws noise"),
        (partial(grids.gits, method="eular"), "method='eular' is unknown; did you mean euler"),
        (partial(grids.gits, candidates=7), "grid='gits': candidates=7 must be an integer of at least steps=8"),
        (partial(grids.optimal_steps, candidates=64.0), r"candidates=64\.0 must be an integer"),
        (partial(grids.gits, discount=0), "discount=0 must be a positive finite number"),
        (partial(grids.gits, data_std=0), "data_std=0 must be a positive finite number"),
        (partial(grids.ays, exponent=-1), "exponent=-1 must be a positive finite number"),
        (partial(grids.ays, variances=[]), r"variances=\[\] must be the variances of data"),
        (partial(grids.ays, variances=[0.0]), "not all 0"),
        (partial(grids.ays, variances=[1.0, -1.0]), "none negative"),
        (partial(grids.optimal_steps, variances=[math.nan]), "variances=.* must be the variances of data"),
    ],
)
def test_wrong_use_is_refused(grid, message):
    with pytest.raises(ValueError, match=message):
        grid_times(FLOW, 8, grid)


@pytest.mark.parametrize("name", ["ays", "gits", "optimal_steps"])
@pytest.mark.parametrize("process", [Bridge(VE()), Blocks((FLOW, Flow(2.0)), (2, 1))], ids=["y", "b"])
def test_processes_of_another_kind_are_refused(name, process):
    with pytest.raises(ValueError, match=f"grid='{name}' is computed for x = alpha x0"):
        grid_times(process, 4, name)


@pytest.mark.parametrize("size", [1, 0, 2.0, True])
def test_a_spectrum_of_no_size_is_refused(size):
    with pytest.raises(ValueError, match=f"size={size!r} must be an integer of at least 2"):
        grids.natural_spectrum(size)
