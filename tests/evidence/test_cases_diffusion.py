"""Evidence cases on schedules, grids and SDEs: each runs, says something, and gets right what is known beforehand."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

import urn
from evidence.book import Finding, Result, all_cases, run_case
from evidence.cases import annealed_langevin, beta_sampling, iddpm, score_sde, zero_terminal_snr
from urn.exact import Gaussian
from urn.plan import FUNCTIONS
from urn.processes import VP

TITLES = {
    "annealed_langevin": "Generative Modeling by Estimating Gradients of the Data Distribution",
    "beta_sampling": "Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models using "
    "Stepwise Spectral Analysis",
    "iddpm": "Improved Denoising Diffusion Probabilistic Models",
    "score_sde": "Score-Based Generative Modeling through Stochastic Differential Equations",
    "zero_terminal_snr": "Common Diffusion Noise Schedules and Sample Steps are Flawed",
}
CERTAIN = {  # beginnings of claims that are theorems, or far from failing
    "annealed_langevin": ("Langevin dynamics from a uniform start", "annealed Langevin dynamics gives"),
    "beta_sampling": ("low frequencies change early",),
    "iddpm": ("for data of variance at most 1", "the exact variances give a better", "sampling t by importance"),
    "score_sde": ("the ODE's log-likelihood is that", "what is encoded and decoded comes back"),
    "zero_terminal_snr": (
        "a start from N(0, I) at a terminal SNR above zero takes the brightness towards zero: N(2, 1.5)",
        "zero terminal SNR with trailing steps keeps the brightness",
        "with leading steps zero terminal SNR does not: N(2, 1.5)",
    ),
}


@lru_cache
def quick(title: str) -> Result:
    (one,) = (one for one in all_cases() if one.title == title)
    return run_case(one, full=False)


@pytest.mark.parametrize("name", TITLES)
def test_a_case_runs_and_what_is_certain_holds(name: str) -> None:
    result = quick(TITLES[name])
    assert re.search(r" \d{4}, .*arXiv \d{4}\.\d{5}$", result.case.source)
    for finding in result.findings:
        check_words(finding)
    json.dumps(result.to_json())
    for beginning in CERTAIN[name]:
        found = [finding for finding in result.findings if finding.claim.startswith(beginning)]
        assert found, beginning
        assert all(finding.holds for finding in found), found
    assert len({finding.claim for finding in result.findings}) == len(result.findings)


def check_words(finding: Finding) -> None:
    """A row of a table: one line, no bars, figures measured, a truth value."""
    assert isinstance(finding.holds, bool)
    assert re.search(r"\d", finding.measured)
    assert "nan" not in finding.measured
    for words in (finding.claim, finding.expected, finding.measured):
        assert words.strip()
        assert "\n" not in words
        assert "|" not in re.sub(r"\|(E )?g\|", "", words)
    assert not (finding.holds and finding.reason)


# --- zero terminal SNR: the flow of a Gaussian ----------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "variance"), [(2.0, 1.5), (-0.7, 0.04), (3.0, 9.0)])
def test_the_bias_of_a_start_from_a_standard_normal(mean: float, variance: float) -> None:
    table = zero_terminal_snr.PUBLISHED
    squared = table.alphas_cumprod[-1]
    expected = -math.sqrt(squared) * mean * math.sqrt(variance / (squared * variance + 1 - squared))
    found = zero_terminal_snr.exact_bias(Gaussian([mean], [variance]), table)
    assert float(found) == pytest.approx(expected, rel=1e-9)
    assert float(zero_terminal_snr.exact_bias(Gaussian([mean], [variance]), zero_terminal_snr.RESCALED)) == 0.0


def test_brightness_is_lost_direction_by_direction() -> None:
    """One eigendirection of the digits' Gaussian at a time, each by its own variance."""
    data, squared = zero_terminal_snr.digits_gaussian(), zero_terminal_snr.PUBLISHED.alphas_cumprod[-1]
    values, vectors = torch.linalg.eigh(data.covariance)
    values = values.clamp(min=0)
    gains = (values / (squared * values + 1 - squared)).sqrt()
    expected = -math.sqrt(squared) * vectors @ (gains * (vectors.T @ data.mean))
    found = zero_terminal_snr.exact_bias(data, zero_terminal_snr.PUBLISHED)
    assert torch.allclose(found, expected, rtol=0, atol=1e-7)


def test_ddim_comes_to_the_closed_form_as_its_steps_grow() -> None:
    data, table = Gaussian([2.0], [1.5]), zero_terminal_snr.PUBLISHED
    exact = float(zero_terminal_snr.exact_bias(data, table))
    errors = [abs(float(zero_terminal_snr.bias(data, table, n, "trailing")) - exact) for n in (50, 200, 1000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0] / 10


# --- iDDPM: variances, and laws on a mesh ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", iddpm.TABLES)
def test_the_bounds_are_reached_by_a_point_and_by_a_standard_normal(name: str) -> None:
    table = iddpm.TABLES[name]
    for cur, next in ((999.0, 500.0), (300.0, 250.0), (20.0, 0.0)):
        of = {v: iddpm.spread(Gaussian([0.5], [v]), table, cur) for v in (0.0, 0.5, 1.0, 2.0)}
        small, large, at_point = iddpm.variances(table, cur, next, of[0.0])
        assert small < large
        assert torch.allclose(at_point, torch.full_like(at_point, small), rtol=1e-9)
        assert torch.allclose(
            iddpm.variances(table, cur, next, of[1.0])[2], torch.full_like(at_point, large), rtol=1e-9
        )
        inside, above = (iddpm.variances(table, cur, next, of[v])[2] for v in (0.5, 2.0))
        assert bool(((inside > small) & (inside < large)).all())
        assert bool((above > large).all())


def gaussian_law(mean: float, std: float) -> Tensor:
    law = torch.exp(-((iddpm.STATES - mean) / std).square() / 2)
    return law / law.sum()


def test_distances_of_laws_on_the_mesh() -> None:
    """Of two Gaussians: W2^2 = (m1 - m2)^2 + (s1 - s2)^2, KL = log(s2/s1) + (s1^2 + (m1 - m2)^2)/(2 s2^2) - 1/2."""
    one, two = gaussian_law(0.3, 0.5), gaussian_law(-0.4, 0.8)
    assert iddpm.w2(one, two) == pytest.approx(math.hypot(0.7, 0.3), rel=2e-3)
    nats = math.log(0.8 / 0.5) + (0.25 + 0.49) / (2 * 0.64) - 0.5
    assert iddpm.divergence(one, two) == pytest.approx(nats / math.log(2), rel=1e-6)
    assert iddpm.divergence(one, one) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method", ["iddpm", "ddpm", "ddpm_large"])
def test_the_law_on_the_mesh_is_that_of_the_samples(method: str) -> None:
    table, count = iddpm.TABLES["linear"], 20000
    times = iddpm.respaced(table, 4)
    law = iddpm.sampled_law(method, table, times)
    plan = urn.compile_plan(method, table, grid=times)
    x = urn.sample(iddpm.exact_model(table, times), plan, (count, 1), dtype=torch.float64, noise="fast")[:, 0]
    for power in (1, 2, 3):
        mean = float(law @ iddpm.STATES**power)
        error = float((x**power).std()) / count**0.5
        assert abs(float((x**power).mean()) - mean) < 4 * error


def test_the_noise_of_importance_sampling() -> None:
    """Exact second moments S: uniform gives mean S, chances p give sum S/p over levels^2, least at p ~ sqrt S."""
    second = torch.tensor([1.0, 4.0, 9.0, 100.0], dtype=torch.float64)
    squares = second[:, None].expand(-1, 3)
    uniform = torch.full((4,), 0.25, dtype=torch.float64)
    assert iddpm.noise_ratio(squares, uniform, 2.0).estimate == pytest.approx(1)
    best = second.sqrt() / second.sqrt().sum()
    ratio = iddpm.noise_ratio(squares, best, 2.0)
    assert ratio.estimate == pytest.approx((16.0**2 / 16 - 2) / (114 / 4 - 2))
    assert ratio.low == pytest.approx(ratio.high)


def test_the_terms_of_the_bound_are_the_divergences_of_its_steps() -> None:
    """A level's weight times |v - net|^2 is KL(q(x_next | x, x0) || p) of one variance, 1/(2 b^2) times the means' gap^2."""
    bound = iddpm.Bound(8)
    process = VP.linear()
    for level in range(1, 8):
        cur, next = float(bound.times[level]), level / 8
        alpha, sigma, sigma_cur = (float(f) for f in (process.alpha(next), process.sigma(next), process.sigma(cur)))
        a = float(process.alpha(cur)) / alpha
        variance = sigma_cur**2 - a**2 * sigma**2
        gap = alpha * variance / sigma_cur**2  # of the means, per unit of x0
        per_v = (gap * sigma_cur) ** 2 / (2 * variance)  # x0 = alpha x - sigma v
        assert float(bound.weights[level]) == pytest.approx(8 * per_v, rel=1e-9)


# --- Beta sampling: grids and spectra -------------------------------------------------------------------------------


def test_the_grids_are_what_their_shapes_say() -> None:
    assert beta_sampling.beta_plan((1.0, 1.0), 10).times == pytest.approx(np.linspace(1, 0, 11), abs=1e-12)
    steps = -np.diff(beta_sampling.beta_plan(beta_sampling.PUBLISHED, 10).times)
    assert steps[0] < steps[4] > steps[-1]
    assert steps == pytest.approx(steps[::-1], abs=1e-9)
    for plan in (beta_sampling.beta_plan((0.6, 0.8), 10), beta_sampling.lambda_plan(10)):
        assert plan.nfe == 10
        assert plan.outputs[0][2].sigma == 0
    assert beta_sampling.is_u_shaped((0.6, 0.9))
    assert not beta_sampling.is_u_shaped((0.6, 1.0))


def test_when_and_where_a_change_is() -> None:
    times = torch.tensor([0.9, 0.7, 0.5, 0.3, 0.1])
    assert beta_sampling.half_time(times, torch.tensor([1.0, 1.0, 2.0, 3.0, 1.0])) == pytest.approx(0.5)
    assert beta_sampling.half_time(times, torch.tensor([5.0, 1.0, 1.0, 1.0, 1.0])) == pytest.approx(0.9)
    assert beta_sampling.middle_share(times, torch.tensor([[2.0, 1.0, 1.0, 1.0, 3.0]])) == pytest.approx(3 / 8)


def test_the_changes_add_up_and_keep_their_energy() -> None:
    """Parseval: the frequencies' energies are 64 times the pixels'; and the radii are those of the waves."""
    times, energies, radii = beta_sampling.spectral_changes(2)
    model = urn.exact.Empirical(beta_sampling.digits("train")[0]).model(beta_sampling.PROCESS)
    same, jumps = beta_sampling.changes(model, beta_sampling.normals(3, 2, 1, 8, 8))
    assert torch.equal(times, same)
    assert bool((times.diff() < 0).all())
    assert torch.allclose(energies.sum((2, 3)), 64 * jumps.square().flatten(2).sum(2))
    for cycles in (0, 1, 3, 4):
        wave = torch.cos(2 * math.pi * cycles * torch.arange(8) / 8).expand(8, 8)
        energy = torch.fft.fft2(wave).abs().square()
        assert set(radii[energy > 1e-6].tolist()) == {float(cycles)}


# --- Score-SDE and annealed Langevin dynamics -----------------------------------------------------------------------


def test_a_batch_of_one_is_its_own_average() -> None:
    x, score, z = (score_sde.normals(seed, 1, 5) for seed in range(3))
    both = [FUNCTIONS[name].call(x, score, z) for name in ("langevin_correction", "batch_langevin_correction")]
    assert torch.allclose(*both, rtol=1e-12)
    assert torch.allclose(both[0], x + (e := 2 * (0.16 * z.norm() / score.norm()) ** 2) * score + (2 * e).sqrt() * z)


def test_the_published_correction_changes_nothing_else() -> None:
    own = urn.compile_plan("predictor_corrector", score_sde.EXPLODING, grid=score_sde.falling(3))
    assert score_sde.predictor_corrector(3) == own
    other = score_sde.predictor_corrector(3, "batch_langevin_correction")
    changed = [(a, b) for a, b in zip(own.rows, other.rows, strict=True) if a != b]
    assert [(a.function, b.function) for a, b in changed] == [("langevin_correction", "batch_langevin_correction")] * 3


def test_the_likelihoods_gap_is_that_of_the_prior() -> None:
    """With the exact law at the noise end only the integration's error is left, and that falls; the Gaussian's does not."""
    (coarse, _), (fine, gaussian) = (score_sde.likelihood_gaps(VP.linear(), 4, steps) for steps in (30, 60))
    assert coarse > 8 * fine
    assert gaussian > 3 * fine


def test_langevin_steps_widen_a_gaussian_by_a_known_factor() -> None:
    """About a point, x <- (1 - r/2) x + sqrt(r) sigma z: variances fall by (1 - r/2)^2 a step to sigma^2/(1 - r/4)."""
    point, r = Gaussian([5.0, -3.0], [[0.0, 0.0], [0.0, 0.0]]), annealed_langevin.STEP
    process, repeats = annealed_langevin.PROCESS, 12
    plain = urn.compile_plan(annealed_langevin.langevin, process, grid=[20.0, 1.0], repeats=repeats)
    annealed = urn.compile_plan("annealed_langevin", process, grid=[20.0, 1.0], step_ratio=r, repeats=repeats)
    for plan, levels in ((plain, [1.0]), (annealed, [20.0, 1.0])):
        expected, kept = 20.0**2, 1.0
        for sigma in levels:
            limit = sigma**2 / (1 - r / 4)
            expected = limit + (expected - limit) * (1 - r / 2) ** (2 * repeats)
            kept *= (1 - r / 2) ** repeats
        mean, covariance = urn.exact.moments(plan, point, start="prior")
        assert torch.allclose(mean, (1 - kept) * point.mean, rtol=1e-12)
        assert torch.allclose(covariance, expected * torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-9)


def test_both_kinds_of_langevin_dynamics_make_as_many_calls() -> None:
    for plan in (annealed_langevin.plain_plan(), annealed_langevin.annealed_plan()):
        assert plan.nfe == annealed_langevin.CALLS
