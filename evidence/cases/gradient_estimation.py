"""Gradient estimation: DDIM with an extrapolated prediction, where it wins and where it stops."""

from __future__ import annotations

from functools import partial

from evidence.book import Finding, case
from evidence.findings import Pairs, contest, same_ends
from evidence.measure import Course, digits_course, lambda_times, plane_course
from urn.methods.gradient_estimation import gradient_estimation


@case(
    "Interpreting and Improving Diffusion Models Using the Euclidean Distance Function",
    "Permenter & Yuan 2024, Interpreting and Improving Diffusion Models Using the Euclidean Distance Function, "
    "arXiv 2306.04848",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3, steps even in log sigma/alpha as the paper's; errors against the exact
    end of the same trajectory."""
    courses = {
        "2-D mixture": plane_course(1024 if full else 256),
        "digits mixture": digits_course(256 if full else 32),
    }
    return [
        same_ends("With gamma = 1 it is DDIM", gradient_estimation.with_options(gamma=1.0), "ddim"),
        *(finding for where, data in courses.items() for finding in _contests(where, data)),
    ]


def _contests(where: str, data: Course) -> list[Finding]:
    pairs = partial(_pairs, data)
    return [
        contest(f"At 5, 8 and 10 evaluations it is better than DDIM: {where}", "DDIM", pairs("ddim", (5, 8, 10))),
        contest(f"At 5 and 8 evaluations it is better than DPM-Solver++(2M): {where}", "2M", pairs("dpmpp_2m", (5, 8))),
        contest(
            f"At 20 and 40 evaluations DPM-Solver++(2M) is better, since its order is one: {where}",
            "2M",
            pairs("dpmpp_2m", (20, 40)),
            above=True,
        ),
    ]


def _pairs(data: Course, rival: str, counts: tuple[int, ...]) -> Pairs:
    return {
        f"{steps}:": (data.errors("gradient_estimation", lambda_times(steps)), data.errors(rival, lambda_times(steps)))
        for steps in counts
    }
