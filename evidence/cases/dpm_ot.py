"""DPM-OT: starts on the way by optimal transport to a bank, modes that run into one another, and what the bank remembers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.fitted import ends
from evidence.measure import normals
from urn.exact import GaussianMixture
from urn.processes import VP
from urn.tuning import Transport, nearest, transport_starts

STD = 0.05
MIDDLE = 0.2  # t of the bank
PROCESS = VP.linear()


@case(
    "DPM-OT: A New Diffusion Probabilistic Model Based on Optimal Transport",
    "Li, Li, Wang, Lei, Luo, Gu 2023, DPM-OT: A New Diffusion Probabilistic Model Based on Optimal Transport, arXiv 2307.11308",
)
def run(full: bool) -> list[Finding]:
    """Eight Gaussians of std 0.05 on the unit circle, exact, on VP.linear(). The bank is data noised to t = 0.2; from there DDIM
    takes as many steps as DDIM from noise at t = 1, both even in t, to 1e-3. A sample is between modes where it is more than five
    stds from all of them. The paper's baseline is DDIM from noise at equal evaluations."""
    bank_size, count = (256, 4000) if full else (64, 1000)
    law = ring()
    data, model = law.sample(bank_size, 1), law.model(PROCESS, "v")
    alpha, sigma = (
        float(weight(torch.tensor(MIDDLE, dtype=torch.float64))) for weight in (PROCESS.alpha, PROCESS.sigma)
    )
    found = transport_starts(alpha * data + sigma * normals(2, bank_size, 2))
    draws = 1_000_000 if full else 200_000
    masses = found.masses(draws, seed=77)
    off = float((masses - 1 / bank_size).abs().sum() / 2)
    level = Transport(found.bank, 0 * found.heights)
    before = float((level.masses(draws, seed=77) - 1 / bank_size).abs().sum() / 2)
    findings = [
        Finding(
            "The cells have equal masses",
            "total variation between the cells' masses and equal ones at most 3 %",
            f"{100 * off:.2g} % over {draws} draws ({100 * before:.3g} % with heights 0), {bank_size} cells",
            off <= 0.03,
        )
    ]
    shares, plain_shares = {}, {}
    for steps in (5, 10):
        states, _ = found.starts(count, seed=5)
        ours = ends(model, _plan(MIDDLE, steps), states)
        plain = ends(model, _plan(1.0, steps), normals(6, count, 2))
        shares[steps], plain_shares[steps] = between_modes(ours), between_modes(plain)
    far, own = float(nearest(ours, data).median()), float(nearest(law.sample(count, 9), data).median())
    findings += [
        Finding(
            "Modes mix less than with DDIM from noise at equal evaluations",
            "a smaller share of samples between modes at 5 and at 10 evaluations, by twice the binomial deviation",
            "; ".join(f"{n}: {100 * shares[n]:.3g} % beside {100 * plain_shares[n]:.3g} %" for n in shares),
            all(plain_shares[n] - shares[n] > 2 * _deviation(shares[n], plain_shares[n], count) for n in shares),
        ),
        Finding(
            "The bank is finite: its samples are the ends of its states, and no nearer to its data than new draws are",
            "median distance to the bank's data at least 0.8 of that of new draws of the law",
            f"{far:.3g} beside {own:.3g}; {len(torch.unique(ours.round(decimals=9), dim=0))} different samples among {count}, "
            f"bank {bank_size}",
            far >= 0.8 * own,
        ),
    ]
    return findings


def ring() -> GaussianMixture:
    """Eight Gaussians on the unit circle."""
    angles = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    means = torch.stack([torch.cos(angles), torch.sin(angles)], 1)
    return GaussianMixture([1 / 8] * 8, means, torch.eye(2, dtype=torch.float64).expand(8, 2, 2) * STD**2)


def between_modes(x: Tensor) -> float:
    """The share of samples more than five stds from every mode."""
    angles = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    means = torch.stack([torch.cos(angles), torch.sin(angles)], 1)
    return float((torch.cdist(x, means).min(1).values > 5 * STD).double().mean())


def _plan(start: float, steps: int) -> urn.Plan:
    plan: urn.Plan = urn.compile_plan("ddim", PROCESS, grid=torch.linspace(start, 1e-3, steps + 1, dtype=torch.float64))
    return plan


def _deviation(a: float, b: float, count: int) -> float:
    return math.sqrt((a * (1 - a) + b * (1 - b)) / count)
