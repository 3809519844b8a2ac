"""Runge-Kutta methods on the probability flow, explicit and implicit, in rho = sigma/alpha or in t.

    d(x/alpha)/d rho = epsilon        clock "rho", as k-diffusion and RES4LYF have it
    dx/dt            = velocity       clock "t", as flow-matching libraries have it

    y_i = y + step sum_j a_ij slope_j,      y_next = y + step sum_i b_i slope_i

An implicit method solves for its stages by fixed-point rounds, from all slopes equal to that at cur: every round gains one
order, so `order - 1` of them give the method's own; the default is that, but five at most, which is order six. Fewer give
less, and cost less. The stages of a round are
independent: `plan.rounds` counts them once. Nothing here is stiff enough to need Newton's method.

Steps beside the ends of a process are as in EDM: from alpha = 0 on x/sigma in 1/rho; to sigma = 0 a tableau with a stage
there gives way to the midpoint rule. Special cases: Euler's is `ddim` in rho, Heun's `heun`; in t see `probability_flow`.

Sources: Butcher 2016, Numerical Methods for Ordinary Differential Equations; Hairer & Wanner 1996, Solving Ordinary
Differential Equations II; for each tableau see `urn.coefficients.tableaus` and `implicit_tableaus`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from urn.coefficients import implicit_tableaus as implicit
from urn.coefficients import tableaus as explicit
from urn.coefficients.implicit_tableaus import Implicit
from urn.coefficients.tableaus import Tableau
from urn.method import Steps, at_least_one, method, one_of
from urn.nodes import Nodes
from urn.plan import Register
from urn.schemes.runge_kutta import ratio_step, time_step

SOURCE = "Butcher 2016, Numerical Methods for Ordinary Differential Equations"
IMPLICIT_SOURCE = "Hairer & Wanner 1996, Solving Ordinary Differential Equations II"
MOST_ROUNDS = 5
CLOCKS = {"rho": ratio_step, "t": time_step}
EXPLICIT: dict[str, Tableau] = {
    found.name: found for found in vars(explicit).values() if isinstance(found, Tableau) and found.order > 1
}
FAMILIES: dict[str, Callable[[int], Implicit]] = {
    made.__wrapped__.__name__: made
    for made in (
        implicit.gauss_legendre,
        implicit.radau_ia,
        implicit.radau_iia,
        implicit.lobatto_iiia,
        implicit.lobatto_iiib,
        implicit.lobatto_iiic,
        implicit.lobatto_iiic_star,
    )
}
DIAGONAL: dict[str, Implicit] = {found.name: found for found in vars(implicit).values() if isinstance(found, Implicit)}


def _explicit_facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = EXPLICIT[one_of("tableau", options["tableau"], EXPLICIT)]
    return {"order": chosen.order, "nfe": chosen.stages - (chosen.b[-1] == 0), "exact_for": _exact(options)}


def _implicit_facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    chosen = implicit_tableau(options["tableau"])
    rounds = _rounds(chosen, options["rounds"])
    solved = [j for j, row in enumerate(chosen.a) if any(row)]  # the others are the start itself
    passed_on = sum(any(row[j] for row in chosen.a) for j in solved)
    calls = 1 + (rounds - 1) * passed_on + sum(chosen.b[j] != 0 for j in solved)
    return {"order": min(rounds + 1, chosen.order), "nfe": calls, "exact_for": _exact(options)}


def _exact(options: Mapping[str, Any]) -> tuple[str, ...]:
    return ("point",) if one_of("clock", options["clock"], CLOCKS) == "rho" else ("straight",)


@method(order=4, nfe=4, exact_for=("point",), source=SOURCE, facts=_explicit_facts)
def runge_kutta(nodes: Nodes, x: Register, tableau: str = "rk4", clock: str = "rho") -> Steps:
    """An explicit Runge-Kutta method by the name of its tableau."""
    chosen, step = EXPLICIT[one_of("tableau", tableau, EXPLICIT)], CLOCKS[one_of("clock", clock, CLOCKS)]
    for cur, next in nodes.steps():
        x = yield from step(nodes, chosen, cur, next, x)
    return x


@method(order=4, nfe=7, exact_for=("point",), source=IMPLICIT_SOURCE, facts=_implicit_facts)
def implicit_runge_kutta(
    nodes: Nodes, x: Register, tableau: str = "gauss_legendre_2", clock: str = "rho", rounds: int | None = None
) -> Steps:
    """An implicit Runge-Kutta method by the name of its tableau, its stages found by a fixed number of rounds."""
    chosen, step = implicit_tableau(tableau), CLOCKS[one_of("clock", clock, CLOCKS)]
    count = _rounds(chosen, rounds)
    for cur, next in nodes.steps():
        x = yield from step(nodes, chosen, cur, next, x, count)
    return x


def _rounds(tableau: Implicit, rounds: Any) -> int:
    return min(tableau.order - 1, MOST_ROUNDS) if rounds is None else at_least_one("rounds", rounds)


def implicit_tableau(name: str) -> Implicit:
    """A diagonally implicit tableau, or that of a family and its stages: "radau_iia_3".

    Raises:
        ValueError: there is none of the name.
    """
    if isinstance(name, str) and name in DIAGONAL:
        return DIAGONAL[name]
    family, _, stages = str(name).rpartition("_")
    least = {"gauss_legendre": 1, "lobatto_iiib": 3}.get(
        family, 2
    )  # of two, IIIB's stages are not where their times say
    if family in FAMILIES and stages.isdecimal() and least <= int(stages) <= 12:
        return FAMILIES[family](int(stages))
    known = ", ".join([*(f"{known}_<stages>" for known in FAMILIES), *DIAGONAL])
    raise ValueError(f"tableau={name!r} must be one of {known}, with 2 to 12 stages (lobatto_iiib: from 3)")
