"""DEIS: its orders, its zeroth order, and ten evaluations."""

from __future__ import annotations

import urn
from evidence.book import Finding, case
from evidence.measure import TIMES, Course, digits_course, listed, plane_course, ratio, rms, shown, slope
from urn.method import Method
from urn.methods.deis import deis, deis_ramped
from urn.processes import VP

STEPS = (160, 320, 640)


@case(
    "Fast Sampling of Diffusion Models with Exponential Integrator",
    "Zhang & Chen 2023, Fast Sampling of Diffusion Models with Exponential Integrator, arXiv 2204.13902",
)
def run(full: bool) -> list[Finding]:
    """Exact scores on VP.linear() from t = 1 to 1e-3; errors against the exact end of the same trajectory. The paper counts
    the degree r of the polynomial (tAB r); tAB r uses r + 1 predictions. Uniform and quadratic are even in t and sqrt t."""
    plane, digits = plane_course(1024 if full else 256), digits_course(256 if full else 32)
    tab3 = {"from the paper's start": "deis_4_ramped", "from a start of its own order": "deis_4"}
    return [
        *_orders(),
        _zeroth(plane),
        *(
            _ten_evaluations(where, data, grid, start, method)
            for where, data in (("2-D mixture", plane), ("digits mixture", digits))
            for grid in ("uniform", "quadratic")
            for start, method in tab3.items()
        ),
    ]


def _orders() -> list[Finding]:
    plane = plane_course(48, 1e-12)

    def fit(method: Method, order: int) -> float:
        errors = [rms(plane.errors(method, TIMES["quadratic"](steps), order=order)) for steps in STEPS]
        return slope(errors, STEPS)

    own = [fit(deis, p) for p in (1, 2, 3, 4)]
    published = [fit(deis_ramped, p) for p in (1, 2, 3, 4)]
    where = f"between {STEPS[0]} and {STEPS[-1]} steps, quadratic grid, 2-D mixture"
    return [
        Finding(
            "tAB r converges with order r + 1, from a start of its own order",
            f"slope at least r + 0.75 for r = 0, 1, 2, 3, {where}",
            f"slopes {listed(own)}",
            all(fitted >= p - 0.25 for p, fitted in enumerate(own, 1)),
        ),
        Finding(
            "tAB r converges with order r + 1, from the paper's start of lower orders",
            f"slope at least r + 0.75 for r = 0, 1, 2, 3, {where}",
            f"slopes {listed(published)}",
            all(fitted >= p - 0.25 for p, fitted in enumerate(published, 1)),
            "the first step is Euler's, of local error h^2, and the whole keeps that; the same rule from a start of its own "
            "order has the slopes above",
        ),
    ]


def _zeroth(plane: Course) -> Finding:
    times = TIMES["quadratic"](10)
    ends = [plane.run(urn.compile_plan(m, VP.linear(), grid=times)) for m in (deis.with_options(order=1), "ddim")]
    gap = float((ends[0] - ends[1]).abs().max())
    return Finding("tAB 0 is DDIM", "ends equal to 1e-12", f"largest difference {gap:.1e}", gap < 1e-12)


def _ten_evaluations(where: str, data: Course, grid: str, start: str, method: str) -> Finding:
    evaluations = {steps: urn.compile_plan(method, VP.linear(), grid=TIMES[grid](steps)).nfe for steps in (9, 10)}
    steps = max(steps for steps, nfe in evaluations.items() if nfe <= 10)  # a start of order four takes one more call
    ours, ddim = data.errors(method, TIMES[grid](steps)), data.errors("ddim", TIMES[grid](10))
    found = {name: ratio(ours, ddim, name) for name in ("rms", "median")}
    return Finding(
        f"tAB 3 {start} is better than DDIM at 10 evaluations: {where}, {grid} grid",
        f"rms and median error over {len(ddim)} starts below DDIM's, by 95 % intervals of the ratio",
        f"of DDIM's rms ({rms(ddim):.2g}) {shown(found['rms'])}, of its median "
        f"({float(ddim.median()):.2g}) {shown(found['median'])}",
        all(interval.high < 1 for interval in found.values()),
    )
