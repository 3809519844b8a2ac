"""The cases of DDIM, DPM-Solver, DPM-Solver++ and UniPC at quick size, and what they are measured with.

A test runs its case once. Whether a claim holds is a finding, not a test, but for what is an identity or an order.
"""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch

import urn
from evidence.book import all_cases, run_case
from evidence.cases import ddim, dpm_solver, dpmpp, unipc
from evidence.findings import contest, fitted_order, ratios_below_one, same_ends
from evidence.line_law import scores, states_of, wasserstein_on_line
from evidence.measure import TIMES, WHOLE, lambda_times, plane_course, rms
from urn.exact import Gaussian, GaussianMixture, digits_mixture, moments
from urn.processes import VP, linear_betas

PAPERS = {
    "ddim": ("Denoising Diffusion Implicit Models", "arXiv 2010.02502"),
    "dpm_solver": (
        "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps",
        "arXiv 2206.00927",
    ),
    "dpmpp": (
        "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
        "arXiv 2211.01095",
    ),
    "unipc": (
        "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
        "arXiv 2302.04867",
    ),
}
# claims that are identities, or orders: nothing about the targets can make them fail
ALWAYS = {
    "ddim": ("is DDPM", "same marginals", "is of order 1", "back closer with more steps"),
    "dpm_solver": ("orders 1, 2 and 3", "is DDIM", "exactly in one step"),
    "dpmpp": ("2M and 2S converge", "in law", "it is DDIM"),
    "unipc": (
        "UniP-p converges with order p, from a start",
        "UniPC-p converges with order p + 1, from a start",
        "costs no",
        "UniP-2",
    ),
}
PARTS = {"ddim": 7, "dpm_solver": 21, "dpmpp": 15, "unipc": 14}


@pytest.mark.parametrize("name", PAPERS)
def test_case_at_quick_size(name: str) -> None:
    title, number = PAPERS[name]
    (case,) = [one for one in all_cases() if one.title == title]
    assert number in case.source
    assert title in case.source
    result = run_case(case, full=False)
    findings = result.findings
    assert len(findings) == PARTS[name]
    assert len({finding.claim for finding in findings}) == len(findings)
    for finding in findings:
        numbers = [float(text) for text in re.findall(r"-?\d+\.?\d*(?:e[+-]?\d+)?", finding.measured)]
        assert numbers, finding
        assert not re.search(r"\b(nan|inf)\b", finding.measured), finding
        assert finding.expected
        assert isinstance(finding.holds, bool)
        assert not (finding.holds and finding.reason), finding
    for text in ALWAYS[name]:
        found = [finding for finding in findings if text in finding.claim]
        assert found, text
        assert all(finding.holds for finding in found), found
    assert json.loads(json.dumps(result.to_json()))["title"] == title


# --- what they are measured with ------------------------------------------------------------------------------------


def test_a_contest_is_decided_by_the_intervals() -> None:
    theirs = torch.linspace(0.5, 1.5, 40, dtype=torch.float64)
    for factor, below, above in ((0.5, True, False), (1.0, False, False), (2.0, False, True)):
        pairs = {"10:": (factor * theirs, theirs)}
        assert contest("claim", "rival", pairs).holds is below
        assert contest("claim", "rival", pairs, above=True).holds is above
        assert bool(ratios_below_one("because", pairs)) is below
    mixed = {"5:": (0.5 * theirs, theirs), "10:": (2 * theirs, theirs)}
    assert contest("claim", "rival", mixed, reason=lambda: "why").reason == "why"
    assert contest("claim", "rival", {"5:": mixed["5:"]}, reason=lambda: 1 / 0).reason == ""


def test_same_ends_tells_methods_apart() -> None:
    assert not same_ends("claim", "ddim", "dpmpp_2m").holds


def test_coefficients_tell_eta_from_ddpm() -> None:
    betas = linear_betas(50)
    times = torch.arange(49, -2, -1)
    exact = ddim.posterior_coefficients(betas.numpy())
    for eta, equal in ((1.0, True), (0.99, False)):
        plan = urn.compile_plan("ddim", VP.from_betas(betas), grid=times, eta=eta)
        assert (np.abs(ddim.coefficients(plan) - exact).max() < 1e-12) is np.bool_(equal)


@pytest.mark.parametrize("eta", ddim.ETAS)
def test_the_law_on_a_line_is_that_of_moments(eta: float) -> None:
    """For Gaussian data W2 is that of two means and two stds."""
    plan = urn.compile_plan("ddim", VP.linear(), 12, "uniform", eta=eta)
    mean, variance = (float(found) for found in moments(plan, Gaussian([0.7], [0.2])))
    exact = math.hypot(mean - 0.7, math.sqrt(variance) - math.sqrt(0.2))
    assert exact > 0.01
    found = wasserstein_on_line(plan, GaussianMixture([1.0], [[0.7]], [[[0.2]]]), 400)
    assert found == pytest.approx(exact, rel=2e-3)


def test_the_states_of_a_mixture_on_a_line_have_its_moments() -> None:
    x, weights = states_of(ddim.LINE, 400, 0.6, 0.8), np.exp(-(scores(400) ** 2) / 2)
    mean = np.average(x, weights=weights)
    share, means = ddim.LINE.weights.numpy(), ddim.LINE.means[:, 0].numpy()
    variances = ddim.LINE.covariances[:, 0, 0].numpy()
    exact = 0.6 * share @ means
    assert mean == pytest.approx(exact, abs=1e-5)
    second = share @ (0.36 * (variances + means**2)) + 0.64
    assert np.average(x**2, weights=weights) == pytest.approx(second, rel=1e-4)


def test_points_with_the_moments_of_the_digits_mixture() -> None:
    mixture = digits_mixture()
    points = ddim.points_with_moments_of(mixture).flatten(1)
    draws = mixture.sample(40_000, 0).flatten(1)
    assert float((points.mean(0) - draws.mean(0)).abs().max()) < 0.02
    exact = torch.cov(points.T)
    assert float((exact - torch.cov(draws.T)).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize(("method", "order", "calls"), [(dpm_solver.rk2, 2, 2), (dpm_solver.rk45, 5, 6)])
def test_the_runge_kutta_rivals_have_their_orders(method: object, order: int, calls: int) -> None:
    assert fitted_order(method, "quadratic", (16, 32, 64))[0] > order - 0.25
    assert urn.compile_plan(method, VP.linear(), grid=TIMES["uniform"](3)).nfe == 3 * calls


@pytest.mark.parametrize(
    ("evaluations", "orders"), [(10, (3, 3, 3, 1)), (12, (3, 3, 3, 2, 1)), (20, (3, 3, 3, 3, 3, 3, 2))]
)
def test_the_fast_grid_has_equal_steps(evaluations: int, orders: tuple[int, ...]) -> None:
    times = dpm_solver.fast_times(evaluations)
    assert (float(times[0]), float(times[-1])) == WHOLE
    lengths = VP.linear().lambda_(times).diff()
    steps = [float(part.sum()) for part in lengths.split(orders)]
    assert steps == pytest.approx([steps[0]] * len(orders))
    assert [float(part.max() - part.min()) for part in lengths.split(orders)] == pytest.approx(
        [0] * len(orders), abs=1e-9
    )
    assert urn.compile_plan("dpm_solver_fast", VP.linear(), grid=times).nfe == evaluations


def test_a_guided_course_ends_where_small_steps_end() -> None:
    data = dpmpp.guided_plane(8, 7.5)
    assert rms(data.errors("dpm_solver_3", lambda_times(100))) < 1e-3
    plain = plane_course(8)
    assert float((data.ends - plain.ends).abs().max()) > 0.1  # it is guided


def test_the_state_before_the_last_step() -> None:
    data, times = plane_course(8), lambda_times(6)
    corrected = urn.compile_plan("unipc_2", VP.linear(), grid=times)
    plain = urn.compile_plan("dpmpp_2m", VP.linear(), grid=times)
    shorter = data.run(urn.compile_plan("dpmpp_2m", VP.linear(), grid=times[:-1]))
    assert torch.allclose(unipc.last_state_at(-2, plain, data), shorter, rtol=0, atol=1e-12)
    assert float((unipc.last_state_at(-2, corrected, data) - shorter).abs().max()) > 1e-3
    torch.testing.assert_close(unipc.last_state_at(-1, corrected, data), data.run(corrected), rtol=0, atol=1e-12)
