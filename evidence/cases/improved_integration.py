"""Improved integration approximation: DDIM's and Heun's coefficients by least squares, on starts that they have not seen."""

from __future__ import annotations

from torch import Tensor

from evidence.book import Finding, case
from evidence.findings import contest, same_ends
from evidence.fitted import fitting_task, on
from evidence.measure import TIMES, Course, digits_course, distances, plane_course, ratio, rms, shown
from urn.tuning.tuners.iia import Fit, fitted_coefficients

VARIANTS = {
    "DDIM": ("iia_ddim", "ddim", 1),
    "Heun": ("iia_heun", "heun", 2),
    "DPM-Solver++(2M)": ("iia_dpmpp", "dpmpp_2m", 1),
}


@case(
    "On Accelerating Diffusion-Based Sampling Process via Improved Integration Approximation",
    "Zhang, Niwa, Kleijn 2023, On Accelerating Diffusion-Based Sampling Process via Improved Integration Approximation, "
    "arXiv 2304.11328",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3, steps even in sqrt(t). Three coefficients a step are fitted on one batch of
    64 starts towards the fine flow from each state, as in the paper; errors on other starts, against the exact ends."""
    courses = {"2-D mixture": plane_course(1024 if full else 128)}
    if full:
        courses["digits mixture"] = digits_course(128)
    calls = (6, 10, 16, 24) if full else (6, 10)
    findings = [
        same_ends(f"Published coefficients are {label}", ours, plain) for label, (ours, plain, _) in VARIANTS.items()
    ]
    for where, data in courses.items():
        for label, (ours, plain, each) in VARIANTS.items():
            fits = {n: _fit(data, ours, n // each) for n in (*calls, 64)}
            pairs = {
                f"{n}:": (_errors(data, ours, n // each, fits[n]), data.errors(plain, _times(n // each))) for n in fits
            }
            few = {key: pair for key, pair in pairs.items() if key != "64:"}
            findings.append(
                contest(f"IIA is closer than {label} at {min(calls)} to {max(calls)} evaluations: {where}", label, few)
            )
            findings += [_residuals(f"{label}, {where}", list(fits.values())), _vanishes(f"{label}, {where}", pairs)]
    return findings


def _times(steps: int) -> Tensor:
    return TIMES["quadratic"](steps)


def _fit(data: Course, name: str, steps: int) -> Fit:
    task = fitting_task(data, 2 * steps, 64)
    return fitted_coefficients(task, on(_times(steps), name), name, task.train)


def _errors(data: Course, name: str, steps: int, fit: Fit) -> Tensor:
    return distances(data.run(on(_times(steps), name, coefficients=fit.numbers)), data.ends)


def _residuals(where: str, fits: list[Fit]) -> Finding:
    shares = [a / b for fit in fits for a, b in zip(fit.fitted, fit.published, strict=True) if b > 0]
    return Finding(
        f"The training residual of a step is never larger: {where}",
        "residual fitted over residual published at most 1 in every step",
        f"between {min(shares):.3g} and {max(shares):.6g} over {len(shares)} steps",
        max(shares) <= 1,
    )


def _vanishes(where: str, pairs: dict[str, tuple[Tensor, Tensor]]) -> Finding:
    least, most = ratio(*pairs["6:"]), ratio(*pairs["64:"])
    return Finding(
        f"The gain vanishes as evaluations grow: {where}",
        "the ratio of errors at 64 evaluations above that at 6, by 95 % intervals",
        f"{shown(least)} at 6, {shown(most)} at 64",
        most.low > least.high,
        "" if most.low > least.high else _as_differences(pairs),
    )


def _as_differences(pairs: dict[str, tuple[Tensor, Tensor]]) -> str:
    gains = {n: rms(pairs[n][1]) - rms(pairs[n][0]) for n in ("6:", "64:")}
    return (
        "fitted differences of predictions make a multistep method of higher order, so that the ratio falls; the rms gain itself "
        f"is {gains['6:']:.3g} at 6 and {gains['64:']:.3g} at 64"
    )
