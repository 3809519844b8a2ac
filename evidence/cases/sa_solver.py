"""SA-Solver: its orders without noise, its marginals for any tau, and noise against a model that errs."""

from __future__ import annotations

import urn
from evidence.book import Finding, case
from evidence.findings import orders, same_ends, step_counts
from evidence.line_samples import floor, perturbed, w2
from evidence.measure import WHOLE, lambda_times, listed, shown, slope
from urn.conformance.targets import GAUSSIAN
from urn.exact import moments
from urn.methods import METHODS
from urn.processes import VP

SA = METHODS["sa_solver"]
TAUS = (0.4, 1.0, 1.6)


@case(
    "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models",
    "Xue, Yi, Luo, Zhang, Sun, Li & Ma 2023, SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models, "
    "arXiv 2309.05019",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3. P and C are the predictions of predictor and corrector; without noise
    the start is of the rule's own order. W2 is on a line, to clean data."""
    quiet = {
        **{f"P{p}": (SA.with_options(order=p, corrector=0, tau=0.0), p) for p in (1, 2, 3)},
        **{f"P{p}C{p + 1}": (SA.with_options(order=p, tau=0.0), p + 1) for p in (1, 2)},
    }
    return [
        orders("Without noise a predictor of s steps has order s, a corrector on it s + 1", quiet, "log-SNR", full),
        same_ends("The 1-step predictor with tau = 0 is DDIM", SA.with_options(order=1, corrector=0, tau=0.0), "ddim"),
        _marginals(full),
        *(_against_errors(nfe, noise_wins, 40_000 if full else 3000) for nfe, noise_wins in ((6, False), (40, True))),
    ]


def _marginals(full: bool) -> Finding:
    counts, process = step_counts(full), VP.linear()
    mean, covariance = GAUSSIAN.moments(process, WHOLE[1])
    fits, last = [], []
    for tau in TAUS:
        errors = []
        for steps in counts:
            plan = urn.compile_plan(SA, process, grid=lambda_times(steps), order=3, tau=tau)
            found = moments(plan, GAUSSIAN)
            errors.append(float((found[0] - mean).norm() + (found[1] - covariance).norm()))
        fits.append(slope(errors, counts))
        last.append(errors[-1])
    return Finding(
        "Every tau gives the marginals of the data: P3C4, log-SNR grid",
        f"on Gaussian data the exact error in mean and covariance falls with slope at least 0.75 (the paper proves strong order "
        f"1 in the noise) between {counts[0]} and {counts[-1]} steps, for tau = {listed(TAUS)}",
        f"slopes {listed(fits)}, errors at the last {listed(last)}",
        all(fit >= 0.75 for fit in fits),
    )


def _against_errors(nfe: int, noise_wins: bool, size: int) -> Finding:
    process = VP.linear()
    found = {}
    for tau in (0.0, 1.0):
        plan = urn.compile_plan(SA, process, grid=lambda_times(nfe - 1), final="x0", order=3, tau=tau)
        found[tau] = w2(plan, perturbed, size=size)
    better, worse = (1.0, 0.0) if noise_wins else (0.0, 1.0)
    return Finding(
        f"With a score that errs, tau = 1 is {'better' if noise_wins else 'worse'} than tau = 0 at {nfe} evaluations",
        f"W2 of tau = {better:g} below that of tau = {worse:g}, by 95 % intervals",
        f"tau = 0: {shown(found[0.0])}, tau = 1: {shown(found[1.0])}; exact draws {shown(floor(size=size))}",
        found[better].high < found[worse].low,
    )
