"""ER-SDE-Solvers: their special cases, their orders at 20 evaluations, and noise scales against each other."""

from __future__ import annotations

import urn
from evidence.book import Finding, case
from evidence.findings import same_ends
from evidence.line_samples import floor, w2
from evidence.measure import TIMES, shown
from urn.methods import METHODS
from urn.metrics import Interval
from urn.plan import Combine, Plan
from urn.processes import VE, VP


@case(
    "Elucidating the solution space of extended reverse-time SDE for diffusion models",
    "Cui, Zhang, Bao & Liao 2023, Elucidating the solution space of extended reverse-time SDE for diffusion models, "
    "arXiv 2309.06169",
)
def run(full: bool) -> list[Finding]:
    """W2 on a line, on VE from sigma = 80 on EDM's grid and to clean data, with exact scores. The noise scale is the paper's
    ER-SDE 5 where none is named; the third order is the paper's Taylor terms."""
    size = 40_000 if full else 6000
    names = {"order 1": "er_sde_1", "order 2": "er_sde_2", "order 3": "er_sde_3_published"}
    found = {nfe: {label: _w2(name, nfe, size) for label, name in names.items()} for nfe in (20, 50)}
    rivals = {nfe: _w2("dpmpp_2m_sde", nfe, size) for nfe in (20, 50)}
    return [
        same_ends("With phi = sigma, order 1 is DDIM", METHODS["er_sde_1"].with_options(phi="ode"), "ddim"),
        _ancestral(),
        _below("Order 3 is better than order 2 at 20 evaluations", found[20], "order 3", "order 2", size),
        _below("Order 2 is better than order 1 at 20 evaluations", found[20], "order 2", "order 1", size),
        _scales(size),
        *(
            _below(
                f"ER-SDE-Solver-3 is better than SDE-DPM-Solver++(2M) at {nfe} evaluations",
                {"order 3": found[nfe]["order 3"], "SDE-2M": rivals[nfe]},
                "order 3",
                "SDE-2M",
                size,
            )
            for nfe in (20, 50)
        ),
    ]


def _w2(name: str, nfe: int, size: int, **options: str) -> Interval:
    return w2(urn.compile_plan(name, VE(), nfe - 1, "karras", final="x0", **options), size=size)


def _below(claim: str, found: dict[str, Interval], one: str, other: str, size: int) -> Finding:
    return Finding(
        claim,
        f"W2 of {one} below that of {other}, by 95 % intervals",
        ", ".join(f"{label} {shown(interval)}" for label, interval in found.items())
        + f"; exact draws {shown(floor(size=size))}",
        found[one].high < found[other].low,
        "" if found[one].low > found[other].high else f"the difference is within the noise of 6 x {size} samples",
    )


def _scales(size: int) -> Finding:
    found = {phi: _w2("er_sde_3_published", 20, size, phi=phi) for phi in ("sde", "er_sde_5")}
    return _below(
        "ER-SDE 5's noise scale is better than the reverse SDE's, phi = sigma^2, at 20 evaluations (order 3)",
        found,
        "er_sde_5",
        "sde",
        size,
    )


def _ancestral() -> Finding:
    def on_x0(plan: Plan) -> list[tuple[float, ...]]:
        return [tuple(float(w) for w, _ in row.weights) for row in plan.rows if isinstance(row, Combine)]

    gaps = []
    for times in TIMES.values():
        plans = (
            urn.compile_plan(name, VP.linear(), grid=times(10), **options)
            for name, options in (("er_sde_1", {"phi": "sde"}), ("ddpm", {}))
        )
        one, other = map(on_x0, plans)
        gaps += [abs(a - b) for row, same in zip(one, other, strict=True) for a, b in zip(row, same, strict=True)]
    return Finding(
        "With phi = sigma^2, order 1 is DDPM's ancestral step",
        "coefficients of x, x0 and noise equal to 1e-12 in 10 steps on every grid",
        f"largest difference {max(gaps):.1e} ({', '.join(TIMES)} grids)",
        max(gaps) < 1e-12,
    )
