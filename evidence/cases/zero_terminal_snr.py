"""Zero terminal SNR: the brightness that a start from N(0, I) loses, what gives it back, and the rescale of guidance."""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.measure import mean_interval, shown
from urn.exact import Gaussian, digits_mixture
from urn.nets import digits, load_digits
from urn.plan import Plan
from urn.processes import VP, Tabulated, scaled_linear_betas

PUBLISHED = VP.from_betas(scaled_linear_betas())  # Stable Diffusion's
RESCALED = PUBLISHED.with_zero_terminal_snr()
SCALE, RESCALE = 7.5, 0.7  # the paper's
BUDGETS = (10, 25, 50)


@case(
    "Common Diffusion Noise Schedules and Sample Steps are Flawed",
    "Lin, Liu, Li & Yang 2024, Common Diffusion Noise Schedules and Sample Steps are Flawed, arXiv 2305.08891",
)
def run(full: bool) -> list[Finding]:
    """Stable Diffusion's table of 1000 betas, and it with zero terminal SNR; DDIM from N(0, I). The mean of what a plan
    makes of Gaussian data is exact, without samples; brightness is the mean over pixels."""
    targets = {"N(2, 1.5) in one dimension": Gaussian([2.0], [1.5]), "the digits' Gaussian": digits_gaussian()}
    count = 1000 if full else 60
    labels = torch.arange(count) % 10
    guided = {
        "digits mixture, zero terminal SNR, trailing": (digits_mixture().model(RESCALED, "v"), "trailing", -1),
        "digits network, quadratic grid": (load_digits(), "quadratic", 10),
    }
    return [
        *(_lost(where, data) for where, data in targets.items()),
        *(_given_back(where, data) for where, data in targets.items()),
        *(_leading(where, data) for where, data in targets.items()),
        *(_guidance(where, model, grid, labels, null) for where, (model, grid, null) in guided.items()),
    ]


def digits_gaussian() -> Gaussian:
    """One Gaussian with the mean and covariance of the digits that are trained on."""
    pixels = digits("train")[0].flatten(1).double()
    return Gaussian(pixels.mean(0), torch.cov(pixels.T))


def exact_bias(data: Gaussian, process: Tabulated) -> Tensor:
    """By how much the mean of the exact flow from N(0, I) misses that of the data: in an eigendirection of variance v,
    -alpha_T m sqrt(v/(alpha_T^2 v + sigma_T^2)). The flow is affine, so the mean of its ends is the end of the mean."""
    centre = torch.zeros(1, len(data.mean), dtype=torch.float64)
    return data.flow(centre, process, process.t_start, process.t_end)[0] - data.mean


def bias(data: Gaussian, process: Tabulated, steps: int, grid: str, method: str = "ddim") -> Tensor:
    """The same of a plan from its own start."""
    plan = _plan(method, process, steps, grid)
    mean, _ = urn.exact.moments(plan, data, start="prior")
    return mean - data.mean


@lru_cache
def _plan(method: str, process: Tabulated, steps: int, grid: str) -> Plan:
    plan: Plan = urn.compile_plan(method, process, steps, grid)
    return plan


def relative(missing: Tensor, data: Gaussian) -> float:
    """A bias of the brightness as a share of it: negative is towards zero."""
    return float(missing.mean() / data.mean.mean())


def _lost(where: str, data: Gaussian) -> Finding:
    exact, found = (relative(b, data) for b in (exact_bias(data, PUBLISHED), bias(data, PUBLISHED, 1000, "trailing")))
    holds = exact < 0 and abs(found / exact - 1) < 0.02
    reason = "" if holds else f"DDIM's own error: unipc_3 over the same times comes to {_finer(data):+.3%}"
    few = ", ".join(f"{relative(bias(data, PUBLISHED, n, 'trailing'), data):+.2%} in {n}" for n in BUDGETS)
    return Finding(
        f"a start from N(0, I) at a terminal SNR above zero takes the brightness towards zero: {where}",
        "towards zero, and by the closed form's amount within 2 % of it, DDIM over all 1000 times",
        f"{found:+.3%} of the brightness, closed form {exact:+.3%}; DDIM by trailing steps {few}",
        holds,
        reason,
    )


def _finer(data: Gaussian) -> float:
    return relative(bias(data, PUBLISHED, 1000, "trailing", "unipc_3"), data)


def _given_back(where: str, data: Gaussian) -> Finding:
    left = [abs(relative(bias(data, RESCALED, n, "trailing"), data)) for n in BUDGETS]
    return Finding(
        f"zero terminal SNR with trailing steps keeps the brightness: {where}",
        f"off by less than 1e-9 of it in {', '.join(map(str, BUDGETS))} steps",
        f"off by at most {max(left):.1e}",
        max(left) < 1e-9,
    )


def _leading(where: str, data: Gaussian) -> Finding:
    left = [relative(bias(data, RESCALED, n, "leading"), data) for n in BUDGETS]
    holds = all(b < -0.01 for b in left)
    published = [relative(bias(data, PUBLISHED, n, "leading"), data) for n in BUDGETS]
    return Finding(
        f"with leading steps zero terminal SNR does not: {where}",
        f"more than 1 % of the brightness still lost in each of {', '.join(map(str, BUDGETS))} steps",
        f"{', '.join(f'{b:+.2%}' for b in left)}; the published table {', '.join(f'{b:+.2%}' for b in published)}",
        holds,
        ""
        if holds
        else "these data hardly vary in brightness, and a flow draws a wrong start into a narrow law: so small is the published "
        "table's loss too",
    )


def _guidance(where: str, model: urn.Model, grid: str, labels: Tensor, null: int) -> Finding:
    unconditional = {"label": torch.full_like(labels, null)}
    plan = urn.compile_plan("ddim", model.process, 25, grid)

    def contrast(of: urn.Model) -> Tensor:
        with warnings.catch_warnings():  # guidance this strong does not look like any prediction
            warnings.simplefilter("ignore", urn.PredictionWarning)
            x = urn.sample(of, plan, (len(labels), 1, 8, 8), seed=3, conditioning={"label": labels})
        return x.flatten(1).std(1).double()

    plain = contrast(model)
    guided, rescaled, wholly = (
        contrast(urn.classifier_free_guidance(model, SCALE, unconditional, rescale)) - plain
        for rescale in (0.0, RESCALE, 1.0)
    )
    more, left, least = (mean_interval(rise.tolist()) for rise in (guided, rescaled, wholly))
    holds = more.low > 0 and max(abs(left.low), abs(left.high)) < more.estimate / 2
    return Finding(
        f"rescaling gives guided samples their std back: {where}",
        f"guidance {SCALE} raises a sample's std over pixels, and rescaling by {RESCALE} leaves less than half of the rise",
        f"std {float(plain.mean()):.3f} without guidance; with it {shown(more)} more, rescaled {shown(left)} more "
        f"(DDIM, 25 steps, {len(labels)} samples)",
        holds,
        ""
        if holds
        else f"{RESCALE} leaves in {1 - RESCALE:.0%} of what 1 takes out in every call; 1 leaves {shown(least)}",
    )
