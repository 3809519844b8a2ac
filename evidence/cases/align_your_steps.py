"""Align Your Steps: the tangent grid in closed form, the bound and what it bounds, and the grid on data that are not Gaussian."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.findings import contest
from evidence.measure import WHOLE, digits_course, listed, plane_course
from urn.conformance.targets import MIXTURE
from urn.exact import Gaussian, digits_mixture, moments
from urn.grids.computed import step_divergence
from urn.processes import VE, VP

EDM = VE(0.002, 80.0)
STD = 0.5
SPECTRA = {
    "one std of 0.5": torch.full((1,), STD**2, dtype=torch.float64),
    "a power law": urn.grids.natural_spectrum(8),
}
BUDGETS = (5, 10, 20)
TITLE = "Align Your Steps: Optimizing Sampling Schedules in Diffusion Models"


@case(TITLE, f"Sabour, Fidler & Kreis 2024, {TITLE}, arXiv 2404.14507")
def run(full: bool) -> list[Finding]:
    """VE from sigma 80 to 0.002 and Gaussian data, everything exact; then VP.linear() between t = 1 and 0.001 on mixtures, the
    grid made for Gaussian data of their covariance. The paper fits its grids to networks, by Monte Carlo."""
    starts = 512 if full else 48
    courses = {
        "2-D mixture": (plane_course(starts), spectrum(MIXTURE.sample(100000, 0))),
        "digits mixture": (digits_course(starts), spectrum(digits_mixture().sample(20000, 0))),
    }
    transfers = [_transfer(name, data, variances) for name, (data, variances) in courses.items()]
    return [_cosines(), _tangent(), *(_bound(name) for name in SPECTRA), *transfers]


def spectrum(samples: Tensor) -> Tensor:
    """The eigenvalues of the samples' covariance."""
    values: Tensor = torch.linalg.eigvalsh(torch.cov(samples.flatten(1).T))
    return values.clamp(min=0)


@lru_cache
def law(method: str, times: tuple[float, ...], name: str) -> Tensor:
    """The variances of what a plan draws from the exact law at the start."""
    data = Gaussian(torch.zeros(len(SPECTRA[name])), SPECTRA[name])
    _, covariance = moments(urn.compile_plan(method, EDM, grid=times), data)
    return covariance.diagonal()


def divergence(method: str, times: Tensor, name: str) -> float:
    """KL of the exact law at the end from the drawn one."""
    ratio = (SPECTRA[name] + times[-1] ** 2) / law(method, tuple(times.tolist()), name)
    return float((ratio - 1 - ratio.log()).sum() / 2)


def tangent(steps: int) -> Tensor:
    return urn.grids.arctan(EDM, steps, STD)


def _cosines() -> Finding:
    gaps = []
    for steps in BUDGETS:
        times = tangent(steps)
        angle = (math.atan(80 / STD) - math.atan(0.002 / STD)) / steps
        std = law("ddim", tuple(times.tolist()), "one std of 0.5").sqrt()
        exact = torch.sqrt(STD**2 + times[-1] ** 2) * math.cos(angle) ** steps
        gaps.append(float((std / exact - 1).abs()))
    return Finding(
        "On Gaussian data of one std c, n steps of Euler even in arctan(sigma/c) end with cos(step)^n of the exact std",
        f"to 1e-12, in {', '.join(map(str, BUDGETS))} steps",
        f"off by at most {max(gaps):.1e}",
        max(gaps) < 1e-12,
    )


def _tangent() -> Finding:
    lower, figures = True, []
    for steps in BUDGETS:
        times = tangent(steps)
        best = divergence("ddim", times, "one std of 0.5")
        others = [divergence("ddim", urn.grids.karras(EDM, steps), "one std of 0.5")]
        figures.append(f"{steps}: {best:.3g} (EDM's grid {others[0]:.3g})")
        for place in range(1, steps):
            for change in (0.99, 1.01):
                moved = times.clone()
                moved[place] *= change
                others.append(divergence("ddim", moved, "one std of 0.5"))
        lower &= best < min(others)
    return Finding(
        "That grid has the lowest KL divergence that Euler's end can have",
        "lower than EDM's grid, and than after moving any sigma by 1 % either way",
        "KL " + ", ".join(figures),
        lower,
    )


def _bound(name: str) -> Finding:
    """Steps that hold the prediction, with the reverse SDE's noise: DPM-Solver++(1) with eta = 1, their stochastic DDIM."""
    drawn: dict[str, list[float]] = {}
    bounds: dict[str, list[float]] = {}
    for steps in BUDGETS:
        grids = {
            "AYS": urn.grids.ays(EDM, steps, SPECTRA[name]),
            "EDM's": urn.grids.karras(EDM, steps),
            "log-SNR": urn.grids.uniform_lambda(EDM, steps),
        }
        for label, times in grids.items():
            drawn.setdefault(label, []).append(divergence("dpmpp_1_sde", times, name))
            bounds.setdefault(label, []).append(step_divergence(EDM, times, SPECTRA[name]))
    best = all(ours == min(row) for ours, *row in zip(drawn["AYS"], *drawn.values(), strict=True))
    least = all(ours == min(row) for ours, *row in zip(bounds["AYS"], *bounds.values(), strict=True))
    return Finding(
        f"The grid with the lowest bound draws the nearest law: stochastic DDIM, Gaussian data of {name}",
        f"bound and KL of the law both below EDM's and the log-SNR grid's at {', '.join(map(str, BUDGETS))} steps",
        "KL (bound): "
        + "; ".join(
            f"{label} "
            + ", ".join(f"{kl:.3g} ({bound:.3g})" for kl, bound in zip(drawn[label], bounds[label], strict=True))
            for label in drawn
        ),
        best and least,
        ""
        if best and least
        else ("the bound is lowest on its grid, but it is of whole paths, and loose at few steps" if least else ""),
    )


def _transfer(name: str, data: Any, variances: Tensor) -> Finding:
    process, steps = VP.linear(), 10
    made = urn.grids.ays(process, steps, variances)
    pairs = {}
    for label, times in (
        ("EDM's grid", urn.grids.karras(process, steps)),
        ("uniform", torch.linspace(*WHOLE, steps + 1)),
    ):
        for method in ("ddim", "dpmpp_2m"):
            pairs[f"{method}, {label}"] = (data.errors(method, made), data.errors(method, times.double()))
    other = urn.grids.optimal_steps(process, steps, "ddim", variances, data_std=math.sqrt(float(variances.mean())))
    found = listed([float(data.errors("ddim", times).square().mean().sqrt()) for times in (made, other)])
    return contest(
        f"It is better than EDM's and the uniform grid for ODE methods too, 10 steps: {name}",
        "each",
        pairs,
        reason=lambda: (
            f"made for paths of the SDE; DDIM's rms error on it and on OptimalSteps' grid, which ends at t = 0: {found}"
        ),
    )
