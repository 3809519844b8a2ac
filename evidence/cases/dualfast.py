"""DualFast: predictions mixed with earlier ones, with an exact model and with a trained network."""

from __future__ import annotations

from evidence.book import Finding, case
from evidence.digits_contest import closer
from evidence.findings import contest
from evidence.measure import TIMES, plane_course
from urn.schemes.epsilon_map import dualfast


@case(
    "DualFast: Dual-Speedup Framework for Fast Sampling of Diffusion Models",
    "Yu, Luo, Wang & Zhao 2025, DualFast: Dual-Speedup Framework for Fast Sampling of Diffusion Models, arXiv 2506.13058",
)
def run(full: bool) -> list[Finding]:
    """Each noise prediction is mixed with the one before it, whose share falls evenly from 0.25 to 0 over the steps. On an
    exact model there is no error of a network to gain on; on the digits network there is."""
    plane = plane_course(1024 if full else 256)
    bases = {"DDIM": "ddim", "DPM-Solver++(2M)": "dpmpp_2m"}
    return [
        *(
            contest(
                f"With an exact model nothing is gained on {label}: 2-D mixture, quadratic grid",
                label,
                {
                    f"{n}:": tuple(plane.errors(m, TIMES["quadratic"](n)) for m in (dualfast(base), base))  # type: ignore[misc]
                    for n in (5, 8)
                },
                above=True,
            )
            for label, base in bases.items()
        ),
        *(
            closer(
                f"On a trained network it improves {label} at 5 and 8 evaluations",
                dualfast(base),
                base,
                label,
                (5, 8),
                full,
            )
            for label, base in bases.items()
        ),
    ]
