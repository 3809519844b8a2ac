"""GITS on a network: costs and grids against the closed form on Gaussian data, gains."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from searches import held_out, plane, search_on

import urn
from urn.conformance.targets import MIXTURE
from urn.exact import Gaussian
from urn.grids.computed import cheapest, flow_errors
from urn.grids.step_errors import step_gains, total_variances
from urn.noise import FastNoise
from urn.plan import Combine, Evaluate
from urn.processes import VE, VP, Flow
from urn.tuning.tuners.gits import REFERENCE, flow_costs, gits, trajectory_costs

VARIANCES = torch.tensor([1.0] * 4 + [0.05] * 12, dtype=torch.float64)


@pytest.mark.parametrize(
    ("process", "predicts"), [(VE(0.002, 80.0), "x0"), (VP.linear(), "v"), (Flow(), "velocity")], ids=str
)
def test_costs_and_grids_are_the_closed_form_s_on_gaussian_data(process, predicts):
    """The states are drawn from the exact law and turned so that their covariance is exact too: what is left is the
    reference's own error."""
    times = urn.grids.arctan(process, 20, 0.5)
    raw = FastNoise(0).normal((1.0, 0.0), 0, torch.zeros(256, 16, dtype=torch.float64))
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(raw.T @ raw / 256), raw.T, upper=False).T
    x = white * total_variances(process, times[0], VARIANCES).sqrt()
    law = Gaussian(torch.zeros(16, dtype=torch.float64), VARIANCES)
    costs = flow_costs(law.model(process, predicts), times, x, substeps=6)
    gains = step_gains(process, times, VARIANCES, "ddim", "gits")
    exact = flow_errors(process, times, VARIANCES, torch.ones(16, dtype=torch.float64), gains)
    far = torch.ones_like(exact).triu(3) > 0
    np.testing.assert_allclose(costs[far].numpy(), exact[far].numpy(), rtol=0.02)
    for steps in (3, 5, 8):
        grid = urn.grids.gits(process, steps, "ddim", VARIANCES, candidates=20)
        np.testing.assert_allclose(times[cheapest(costs, steps)].numpy(), grid.numpy())


@pytest.mark.parametrize("substeps", [1, 3])
def test_costs_are_ddim_s_misses_of_the_reference_s_states(substeps):
    """States and predictions made by plans of their own, the step written out."""
    process, model = VP.linear(), plane()
    times = urn.grids.arctan(process, 5, 0.5)
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    angles = torch.atan2(process.sigma(times), process.alpha(times)).tolist()
    even = [a + (b - a) * k / substeps for a, b in pairwise(angles) for k in range(substeps)]
    fine = [float(process.t_of_lambda(-torch.log(torch.tan(torch.tensor(a, dtype=torch.float64))))) for a in even]
    fine = [float(times[k // substeps]) if k % substeps == 0 else t for k, t in enumerate(fine)] + [float(times[-1])]

    def ends(method, grid, x):
        return urn.execute(urn.compile_plan(method, process, grid=grid), model, {"x": x})["x"]

    costs = flow_costs(model, times, x, substeps=substeps)
    assert float(costs.tril().abs().max()) == 0
    # each step of the reference is ended by a corrector, but for the last, so a state is that of a plan one step longer
    states = [
        x,
        *(_corrected(process, model, fine[: substeps * j + 2], x) for j in range(1, 5)),
        ends(REFERENCE, fine, x),
    ]
    calls = []

    def watch(row, registers):
        if isinstance(row, Evaluate):
            calls.append(registers[{wanted: out for out, wanted in row.outs}["x0"]])

    urn.execute(urn.compile_plan(REFERENCE, process, grid=fine), model, {"x": x}, watch=watch)
    alphas, sigmas = process.alpha(times), process.sigma(times)
    for i in range(5):
        x0 = calls[substeps * i]
        for j in range(i + 1, 6):
            ddim = sigmas[j] / sigmas[i] * states[i] + (alphas[j] - alphas[i] * sigmas[j] / sigmas[i]) * x0
            expected = float((ddim - states[j]).square().sum(1).mean().sqrt() / alphas[j])
            assert float(costs[i, j]) == pytest.approx(expected, rel=1e-8), (i, j)


def test_costs_of_a_search_are_from_its_own_starts_at_the_prior_s_std():
    process = VE(0.002, 5.0)
    search = search_on(MIXTURE.model(process, "v"), 5, 16)
    times = urn.grids.arctan(process, 6, 0.5)
    std = float(process.prior_std(times[0]))
    assert std > 4
    x = std * search.task.train.normals[:9]
    assert torch.equal(trajectory_costs(search, times, 9), flow_costs(search.task.model, times, x))


def _corrected(process, model, grid, x):
    """The state at the last but one of a grid's times."""
    seen = {}

    def watch(row, registers):
        if isinstance(row, Combine) and row.node is not None:
            seen[row.node.t] = registers[row.out]

    urn.execute(urn.compile_plan(REFERENCE, process, grid=grid), model, {"x": x}, watch=watch)
    return seen[grid[-2]]


def test_it_tries_its_grids_and_gains():
    search = search_on(plane(), 5, 256)
    gits(search, methods=("adams_pc_2", "dpmpp_2m", "deis_2"), discounts=(1.0, 1.15))
    made = [one.label for one in search.tried if not one.untuned]
    assert made[0] == "gits, gamma 1, adams_pc_2"
    assert made[-1] == "gits, gamma 1.15, deis_2"
    assert search.best.value <= search.best_untuned.value
    assert held_out(search)[0] < 1.2 * held_out(search)[1]


def test_what_it_costs_is_counted():
    search = search_on(plane(), 5, 64)
    before = search.task.evaluations
    gits(search, candidates=30, starts=32, discounts=(1.0,), methods=("ddim",))
    assert search.task.evaluations - before == 30 * 32 + 5 * 64


def test_what_is_refused():
    search = search_on(plane(), 5, 16)
    for options, words in (
        ({"candidates": 4}, "candidates=4 must be at least the 5 calls"),
        ({"starts": 0}, "starts=0"),
        ({"discounts": (0.0,)}, "discounts=0.0"),
        ({"data_std": -1.0}, "data_std=-1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            gits(search, **options)
