"""Align Your Steps on a network: the estimate against the closed form on Gaussian data, the times, gains."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from searches import held_out, plane, search_on

import urn
from urn.exact import Gaussian
from urn.grids.computed import step_divergence
from urn.processes import VE, VP, Flow
from urn.tuning import TuningError, tuners
from urn.tuning.tuners.ays import Bound, aligned, ays, log_ratio, subdivided

VARIANCES = torch.tensor([1.0] * 6 + [0.05] * 26, dtype=torch.float64)
LAW = Gaussian(torch.zeros(32, dtype=torch.float64), VARIANCES)


@pytest.mark.parametrize(
    ("process", "predicts"), [(VE(0.002, 80.0), "x0"), (VP.linear(), "v"), (Flow(), "velocity")], ids=str
)
def test_the_estimate_is_the_closed_form_on_gaussian_data(process, predicts):
    times = urn.grids.karras(process, 5)
    bound = Bound(LAW.model(process, predicts), LAW.sample(4096, 0), 8)
    logs = log_ratio(process, times).tolist()
    for i in range(5):
        exact = step_divergence(process, times[i : i + 2], VARIANCES)
        assert bound.of_step(logs[i], logs[i + 1]) == pytest.approx(exact, rel=0.03)
    assert bound.evaluations == 5 * 2 * 4096


def test_s_is_drawn_with_the_integrand_s_density():
    """With the data's own variance every draw gives the same: the integral, (r - log(1 + r))/2."""
    bound = Bound(LAW.model(VE(0.002, 80.0), "x0"), LAW.sample(64, 0), 16)
    v, cur, next = bound.variance, 3.0, 0.1
    logs, density = bound.drawn(np.log(cur), np.log(next))
    square = torch.exp(2 * logs)
    integrand = v**2 * (cur**2 - square) / (square * (v + square) * (v + cur**2))
    r = v * (cur**2 - next**2) / (next**2 * (v + cur**2))
    np.testing.assert_allclose((integrand / density).numpy(), (r - np.log1p(r)) / 2, rtol=0.02)
    assert float((integrand / density).mean()) == pytest.approx((r - np.log1p(r)) / 2, rel=0.005)


def test_a_step_s_divergence_is_its_formula_on_its_own_noise():
    """On N(0, 0.3 I), where D(x, s) = 0.3 x/(0.3 + s^2), with the draws that it says it takes."""
    process, v = VP.linear(), 0.3
    law = Gaussian(torch.zeros(3, dtype=torch.float64), torch.full((3,), v, dtype=torch.float64))
    bound = Bound(law.model(process, "v"), normals(1, 9, 3), 4)
    assert bound.variance == pytest.approx(float(bound.x0.var(0).mean()), rel=1e-12)
    cur, next = math.log(1.7), math.log(0.2)
    logs, density = bound.drawn(cur, next)
    first, second = bound.noises
    held = v * (bound.x0 + 1.7 * first) / (v + 1.7**2)
    total = 0.0
    for log, p, part in zip(logs.tolist(), density.tolist(), torch.arange(9).tensor_split(4), strict=True):
        s = math.exp(log)
        mean, std = s**2 / 1.7**2, s * math.sqrt(1 - s**2 / 1.7**2)  # of x_s less x0, given x_{s_cur} less x0
        x = bound.x0[part] + mean * 1.7 * first[part] + std * second[part]
        missed = (v * x / (v + s**2) - held[part]).square().sum(1).mean()
        total += float(missed) / (s**2 * p * 4)
    assert bound.of_step(cur, next) == pytest.approx(total, rel=1e-9)


def test_draws_are_quantiles_of_equal_shares():
    bound = Bound(LAW.model(VE(0.002, 80.0), "x0"), LAW.sample(64, 0), 16)
    v, cur, next = bound.variance, 0.9, -1.3
    edges = np.linspace(next, cur, 201)
    square = np.exp(edges[:-1] + edges[1:])  # s^2 in the middle of a cell
    mass = (math.exp(2 * cur) - square) / (square * (v + square))
    whole = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    logs, density = bound.drawn(cur, next)
    places = bound.places.numpy()
    inside = torch.rand(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    np.testing.assert_allclose(places, (np.arange(16) + inside) / 16, rtol=1e-14)
    np.testing.assert_allclose(logs.numpy(), np.interp(places, whole, edges), atol=1e-12)
    cells = np.searchsorted(whole, places) - 1
    np.testing.assert_allclose(density.numpy(), mass[cells] / mass.sum() * 200 / (cur - next), rtol=1e-12)


def test_conditions_go_with_their_samples():
    """A network that shifts its data by a label of each sample: on data shifted alike every step is as it was without."""
    v, shift = 0.3, torch.linspace(-3, 3, 9, dtype=torch.float64)[:, None].expand(9, 2).clone()
    x0 = normals(1, 9, 2)

    def net(x, t, shift=None, scale=None):
        moved = 0 * x if shift is None else shift
        return moved + v * (x - moved) / (v + t[:, None] ** 2)

    process = VE(0.002, 80.0)
    model = urn.Model(net, process, "x0", shape=(2,))
    plain, shifted = Bound(model, x0, 4), Bound(model, x0 + shift, 4, 0, {"shift": shift, "scale": torch.ones(3)})
    shifted.variance = plain.variance
    assert shifted.of_step(0.5, -1.0) == pytest.approx(plain.of_step(0.5, -1.0), rel=1e-9)


class Squares:
    """Stands for a bound: the divergence of a step is the square of its length, so that even steps are best."""

    def of_step(self, cur, next):
        return (cur - next) ** 2


def normals(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sweeps(*points, most=20):
    made = aligned(Squares(), torch.tensor(points, dtype=torch.float64), most)
    return [swept.tolist() for swept in made]


def test_each_time_is_moved_to_the_best_of_five_places():
    """By hand: 3 to 2.1, the half of 0.6 of the gap below; then the reach is halved twice before a place is better."""
    assert [one[1] for one in sweeps(4.0, 3.0, 0.0)] == pytest.approx([2.1, 1.9425])
    assert sweeps(4.0, 3.0, 0.0, most=3) == [pytest.approx([4.0, 2.1, 0.0])]
    assert sweeps(6.0, 5.0, 1.0, 0.0, most=1) == [pytest.approx([6.0, 3.8, 1.84, 0.0])]
    assert sweeps(0.0, -3.0, -4.0, most=1) == [pytest.approx([0.0, -2.1, -4.0])]
    assert sweeps(0.0, -10.0, -10.5, most=1) == [pytest.approx([0.0, -4.0, -10.5])]  # the whole of a reach
    assert sweeps(10.5, 10.0, 0.0, most=1) == [pytest.approx([10.5, 4.0, 0.0])]


def test_the_times_are_nearly_the_best():
    process = VE(0.002, 80.0)
    bound = Bound(LAW.model(process, "x0"), LAW.sample(256, 0), 8)
    times = process.t_of_lambda(-list(aligned(bound, log_ratio(process, urn.grids.karras(process, 6)), 30))[-1])
    first, best = (step_divergence(process, grid(process, 6), VARIANCES) for grid in (urn.grids.karras, _exact))
    assert step_divergence(process, times, VARIANCES) < 1.1 * best
    assert first > 2 * best


def _exact(process, steps):
    return urn.grids.ays(process, steps, VARIANCES)


def test_other_numbers_of_steps_are_log_linear():
    logs = torch.tensor([3.0, 1.0, 0.5, -4.0], dtype=torch.float64)
    assert torch.equal(subdivided(logs, 3), logs)
    np.testing.assert_allclose(subdivided(logs, 6).numpy(), [3, 2, 1, 0.75, 0.5, -1.75, -4], atol=1e-14)
    np.testing.assert_allclose(subdivided(logs, 2).numpy(), [3, 0.75, -4], atol=1e-14)


@pytest.mark.parametrize("calls", [6, 14])
def test_it_tries_its_grid_with_methods_and_never_loses(calls):
    search = search_on(plane(), calls, 96)
    ays(search, methods=("adams_pc_2", "dpmpp_2m"), samples=32, draws=2, sweeps=2)
    made = [one for one in search.tried if one.label.startswith("ays")]
    assert made[-1].label == "ays, dpmpp_2m"
    steps = [int(one.label.split()[1]) for one in made if "steps" in one.label]
    assert set(steps) == ({10} if calls == 6 else {10, 20})
    assert sorted(steps) == steps
    assert all(one.plan.nfe == calls for one in made)
    assert search.best.value <= search.best_untuned.value
    assert held_out(search)[0] < 2 * held_out(search)[1]


def test_what_is_refused():
    search = search_on(plane(), 5, 16)
    with pytest.raises(ValueError, match="samples=0"):
        ays(search, samples=0)
    search.task.model = replace(plane(), integer_times=True)
    with pytest.raises(TuningError, match="integer_times=True"):
        ays(search)
    assert {"ays", "gits", "ld3", "s4s", "amed", "epd"} <= set(tuners())
