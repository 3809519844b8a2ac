"""Score-SDE: likelihood by the probability flow, ODE against SDE, predictor-corrector, and encoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.measure import distances, listed, mean_interval, normals, power_times, rms, shown
from urn.conformance.targets import MIXTURE, states_at
from urn.exact import GaussianMixture, digits_mixture
from urn.metrics import Interval, mmd, wasserstein
from urn.plan import Apply, Plan, register_function
from urn.processes import VE, VP, Process, SubVP

EXPLODING = VE(0.01, 50.0)
SOURCE = "Song et al. 2021, Score-Based Generative Modeling through Stochastic Differential Equations, arXiv 2011.13456"


@case("Score-Based Generative Modeling through Stochastic Differential Equations", SOURCE)
def run(full: bool) -> list[Finding]:
    """Exact scores of the skewed 2-D mixture, and of the digits mixture for the corrector, whose step is made for many
    dimensions. W2 is between sets of points, so it is compared with that between two sets of exact draws."""
    return [
        *_likelihood(512 if full else 24),
        *_marginals(*((16, 512, 500) if full else (16, 256, 150))),
        *_correctors(full),
        *(_round_trip(process, 256 if full else 32) for process in (VP.linear(), EXPLODING)),
    ]


def _likelihood(count: int) -> list[Finding]:
    processes: tuple[Process, ...] = (VP.linear(), SubVP(), EXPLODING)
    exact, gaussian = zip(*(likelihood_gaps(process, count) for process in processes), strict=True)
    expected = f"the largest gap over {count} points below 1e-4 nats on VP, sub-VP and VE, 100 Runge-Kutta steps"
    holds = max(exact) < 1e-4
    finer = [] if holds else [likelihood_gaps(process, count, 200)[0] for process in processes]
    carried = "the law at the noise end still holds a little of the data; taken as it is, the gaps are those above"
    return [
        Finding(
            "the ODE's log-likelihood is that of the model: the exact marginal as the law at the noise end",
            expected,
            f"largest gaps {listed(exact)}",
            holds,
            "" if holds else f"the Runge-Kutta method's own error: with 200 steps the gaps are {listed(finer)}",
        ),
        Finding(
            "the same with the paper's Gaussian as the law at the noise end",
            expected,
            f"largest gaps {listed(gaussian)}",
            max(gaussian) < 1e-4,
            "" if max(gaussian) < 1e-4 else carried,
        ),
    ]


def likelihood_gaps(process: Process, count: int, steps: int = 100) -> tuple[float, float]:
    """The largest errors of the log-likelihood with the exact law, and with the Gaussian, at the noise end."""
    first, last = process.t_finite
    x = states_at(process, last, count)
    ends: list[Tensor] = []

    def prior(y: Tensor) -> Tensor:
        ends.append(y)
        return MIXTURE.log_density(y, process, first)

    exact = urn.log_likelihood(MIXTURE.model(process), x, steps, prior=prior) - MIXTURE.log_density(x, process, last)
    normal = torch.distributions.Normal(0.0, float(process.prior_std(first))).log_prob(ends[0]).sum(1)
    return float(exact.abs().max()), float((exact - prior(ends[0]) + normal).abs().max())


def _marginals(batches: int, size: int, steps: int) -> Iterator[Finding]:
    vp = VP.linear()
    yield from _legs("VP", vp, power_times(steps, 1), vp.t_of_lambda(0.0), batches, size)
    yield from _legs("VE", EXPLODING, falling(steps), torch.tensor(1.0).double(), batches, size)


def _legs(name: str, process: Process, times: Tensor, middle: Tensor, batches: int, size: int) -> Iterator[Finding]:
    """Noise to a middle time and on to data, so that two marginals are seen."""
    place = int((times - middle).abs().argmin())
    count, std = batches * size, float(process.prior_std(times[0]))
    ode, sde = std * normals(3, count, 2), std * normals(4, count, 2)
    for leg in (times[: place + 1], times[place:]):
        plans = [urn.compile_plan(m, process, grid=leg) for m in ("probability_flow_heun", "reverse_diffusion")]
        ode, sde = (urn.sample(MIXTURE.model(process), p, start=x) for p, x in zip(plans, (ode, sde), strict=True))
        exact = [states(process, float(leg[-1]), count, seed) for seed in (7, 8)]
        found, floor = (
            mean_interval([wasserstein(*pair) for pair in zip(*(x.split(size) for x in sets), strict=True)])
            for sets in ((ode, sde), exact)
        )
        where = f"{name} at lambda = {float(process.lambda_(leg[-1])):.1f}"
        yield _agreement(where, found, floor, f"{batches} times {size}", len(times) - 1)


def _agreement(where: str, found: Interval, floor: Interval, sizes: str, steps: int) -> Finding:
    return Finding(
        f"ODE and SDE have the same marginals: {where}",
        f"W2 between {sizes} samples of each at most 10 % above that between as many exact draws",
        f"W2 {shown(found)}, between exact draws {shown(floor)} ({steps} steps in all)",
        found.estimate < 1.1 * floor.estimate,
    )


def states(process: Process, t: float, count: int, seed: int, target: GaussianMixture = MIXTURE) -> Tensor:
    """Draws from the target's law at time t."""
    x0 = target.sample(count, seed)
    return process.alpha(t) * x0 + process.sigma(t) * normals(seed + 1000, *x0.shape)


def falling(steps: int) -> Tensor:
    """Levels of VE that fall geometrically, as the paper's."""
    return torch.from_numpy(np.geomspace(EXPLODING.sigma_max, EXPLODING.sigma_min, steps + 1))


def _correctors(full: bool) -> Iterator[Finding]:
    """Urn takes the corrector's norms per sample, the paper's for large batches are means over the batch."""
    exact = "with exact scores the steps' own error is all there is to correct, and more steps do as much against it or more"
    steep = (
        "in two dimensions a sample's score is often near 0, its step then far too long; next row: the batch's norms"
    )
    digits_size, plane_size = ((8, 320), (8, 512)) if full else ((4, 192), (4, 192))
    few, more = ((25, 100), (25, 100, 400)) if full else ((25,), (25,))
    yield _corrector("digits mixture", digits_mixture(), "langevin_correction", digits_size, few, exact)
    yield _corrector("2-D mixture", MIXTURE, "langevin_correction", plane_size, more, steep)
    published = "2-D mixture, norms averaged over the batch"
    yield _corrector(published, MIXTURE, "batch_langevin_correction", plane_size, more, exact)


@register_function("batch_langevin_correction")
def batch_langevin_correction(x: Tensor, score: Tensor, noise: Tensor, snr: float = 0.16, scale: float = 1.0) -> Tensor:
    """Langevin correction with the norms averaged over the batch, as the paper's appendix G has it for large ones."""
    of_noise, of_score = (value.flatten(1).norm(dim=1).mean() for value in (noise, score))
    e = 2 * scale * (snr * of_noise / of_score) ** 2
    return x + e * score + (2 * e).sqrt() * noise


def predictor_corrector(steps: int, correction: str = "langevin_correction") -> Plan:
    """Urn's plan, with the corrections by that function."""
    plan = urn.compile_plan("predictor_corrector", EXPLODING, grid=falling(steps))
    rows = (replace(row, function=correction) if isinstance(row, Apply) else row for row in plan.rows)
    return replace(plan, rows=tuple(rows))


def _corrector(
    where: str, target: GaussianMixture, correction: str, sizes: tuple[int, int], budgets: tuple[int, ...], reason: str
) -> Finding:
    batches, size = sizes
    gaps, shares = [], []
    for n in budgets:
        one = mmds(predictor_corrector(n, correction), target, sizes)
        two = mmds(urn.compile_plan("reverse_diffusion", EXPLODING, grid=falling(2 * n)), target, sizes)
        gaps.append(mean_interval([a - b for a, b in zip(one, two, strict=True)]))
        shares.append(f"N = {n}: {np.mean(one):.2g} against {np.mean(two):.2g}, difference {shown(gaps[-1])}")
    holds = all(gap.high < 0 for gap in gaps)
    return Finding(
        f"N predictor and N corrector steps are better than 2 N predictor steps on VE: {where}",
        f"MMD^2 lower by the 95 % interval over {batches} batches of {size}, N = {', '.join(map(str, budgets))}",
        "; ".join(shares),
        holds,
        "" if holds else reason,
    )


@lru_cache
def mmds(plan: Plan, target: GaussianMixture, sizes: tuple[int, int]) -> list[float]:
    """MMD^2 between a plan's samples and the data, batch by batch."""
    batches, size = sizes
    data = states(EXPLODING, EXPLODING.sigma_min, batches * size, 9, target)
    start = EXPLODING.sigma_max * normals(10, batches * size, *target.shape)
    x = urn.sample(target.model(EXPLODING), plan, start=start)
    return [mmd(ours, theirs) for ours, theirs in zip(x.split(size), data.split(size), strict=True)]


def _round_trip(process: Process, count: int) -> Finding:
    (first, last), model = process.t_finite, MIXTURE.model(process)
    x = states(process, last, count, 12)
    tolerances, errors = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6), []
    for tolerance in tolerances:
        settings = {"rtol": tolerance, "atol": tolerance}
        code = urn.sample_adaptive(model, "dormand_prince", x, t_from=last, t_to=first, **settings).x
        back = urn.sample_adaptive(model, "dormand_prince", code, **settings).x
        errors.append(rms(distances(back, x)))
    return Finding(
        f"what is encoded and decoded comes back, the nearer the smaller the tolerance: {process}",
        "the rms error falls with each tolerance, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, adaptive Runge-Kutta 5(4)",
        f"errors {listed(errors)}",
        errors == sorted(errors, reverse=True),
    )
