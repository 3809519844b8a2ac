"""DC-Solver: compensation ratios from ten starts, on other starts, with strong guidance."""

from __future__ import annotations

from functools import partial

import urn
from evidence.book import Finding, case
from evidence.findings import contest, same_ends
from evidence.fitted import ends, fitting_task, guided_course, on
from evidence.measure import TIMES, Course, distances, rms
from urn.tuning.trajectories import fine_states
from urn.tuning.tuners.dc_solver import RatioPolynomial, fitted_ratios

SCALE = 7.5


@case(
    "DC-Solver: Improving Predictor-Corrector Diffusion Sampler via Dynamic Compensation",
    "Zhao, Wang, Zhou, Lu 2024, DC-Solver: Improving Predictor-Corrector Diffusion Sampler via Dynamic Compensation, "
    "arXiv 2409.03755",
)
def run(full: bool) -> list[Finding]:
    """The exact digits mixture guided with scale 7.5 towards two of its components, on VP.linear() from t = 1 to 1e-3, steps even
    in t as the authors' for Stable Diffusion. Ratios are fitted on 10 starts; errors on others, against the exact ends."""
    data = guided_course(SCALE, 128 if full else 24)
    budgets = (5, 6, 8, 10) if full else (5, 8)
    pairs = {
        "UniPC-3": ("dc_unipc", "unipc_3"),
        "DPM-Solver++(2M)": ("dc_dpmpp", "dpmpp_2m"),
    }
    findings = [
        same_ends("With all ratios 1 it is UniPC", urn.METHODS["dc_unipc"].with_options(ratios=(1.0,) * 10), "unipc_3"),
        *(
            contest(
                f"Compensated {label} is closer than {label}, its ratios from 10 starts",
                label,
                {f"{n}:": (_tuned(data, name, n), data.errors(plain, TIMES["uniform"](n))) for n in budgets},
                reason=partial(_on_fitted_starts, data, name, budgets),
            )
            for label, (name, plain) in pairs.items()
        ),
    ]
    return [*findings, _predicted(data)] if full else findings


def _fit(data: Course, name: str, steps: int) -> tuple[float, ...]:
    task = fitting_task(data, steps, 10)
    return fitted_ratios(task, on(TIMES["uniform"](steps), name), urn.METHODS[name], task.train)


def _tuned(data: Course, name: str, steps: int):  # type: ignore[no-untyped-def]
    plan = on(TIMES["uniform"](steps), name, ratios=_fit(data, name, steps))
    return distances(data.run(plan), data.ends)


def _on_fitted_starts(data: Course, name: str, budgets: tuple[int, ...]) -> str:
    """The ratio of errors at the end on the 10 starts themselves, where every step is nearer by construction."""
    parts = []
    for n in budgets:
        task, ratios = fitting_task(data, n, 10), _fit(data, name, n)
        x = task.train.normals
        fine = fine_states(task, TIMES["uniform"](n), x, task.train)[-1]
        errors = [
            rms(distances(ends(data.model, on(TIMES["uniform"](n), name, ratios=one), x), fine))
            for one in (ratios, None)
        ]
        parts.append(f"{n}: {errors[0] / errors[1]:.3g}")
    return (
        f"each ratio is the best of its own step, not of the end; ratios of errors on the 10 starts: {'; '.join(parts)}"
    )


def _predicted(data: Course) -> Finding:
    """Ratios at 7 and 9 steps, from a polynomial fitted to those at 5, 6, 8 and 10."""
    found = partial(_fit, data, "dc_unipc")
    cascade = RatioPolynomial.fit([(SCALE, found(n)) for n in (5, 6, 8, 10)], (2, 0, 2))
    errors = {}
    for n in (7, 9):
        plan = on(TIMES["uniform"](n), "dc_unipc", ratios=cascade.ratios(SCALE, n))
        errors[f"{n}:"] = (distances(data.run(plan), data.ends), data.errors("unipc_3", TIMES["uniform"](n)))
    return contest("Ratios that the polynomial predicts for other numbers of steps gain as well", "UniPC-3", errors)
