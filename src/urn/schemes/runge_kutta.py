"""Explicit Runge-Kutta steps, for the ODE in rho = sigma/alpha and for the ODE in t.

```
d(x/alpha)/d rho = epsilon,  rho = sigma/alpha       in rho: EDM's Heun on x/alpha, DEIS rhoRK
d(x/sigma)/d r   = x0,       r = alpha/sigma         the same from alpha = 0, where rho is infinite
dx/dt            = velocity                          in t: the probability-flow ODE as it stands
```

A step that ends at sigma = 0 does not evaluate there: an x0 or epsilon network has no slope at that point. Stages at the
end of such a step are left out by taking Euler where the method is Heun (EDM's rule), and else the midpoint rule. In rho, a
single step from alpha = 0 to sigma = 0 is a jump to the estimate of x0: no share of it has a middle.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch

from urn.coefficients.tableaus import EULER, HEUN, MIDPOINT, Tableau
from urn.method import combine, evaluate
from urn.nodes import Nodes
from urn.plan import Node, Register


def reachable(tableau: Tableau, next: Node) -> Tableau:
    """The tableau, or the one taken in its place in a step that ends at sigma = 0."""
    if not bool(next.sigma == 0) or all(share < 1 for share in tableau.c):
        return tableau
    return EULER if tableau is HEUN else MIDPOINT


def ratio_step(nodes: Nodes, tableau: Tableau, cur: Node, next: Node, x: Register) -> Generator[Any, Any, Register]:
    """One step in rho, or in r from alpha = 0."""
    tableau = reachable(tableau, next)
    in_r = bool(cur.alpha == 0)
    if in_r and bool(next.sigma == 0):
        return str((yield combine(next, (next.alpha, (yield evaluate(x, cur, "x0"))))))
    start, end = (n.alpha / n.sigma if in_r else n.sigma / n.alpha for n in (cur, next))
    slopes: list[Register] = []
    here, y = cur, x
    for row, share in zip((*tableau.a[1:], tableau.b), (*tableau.c[1:], 1), strict=True):
        slopes.append((yield evaluate(y, here, "x0" if in_r else "epsilon")))
        if share == 1:
            here = next
        else:
            ratio = torch.lerp(start, end, float(share))
            here = nodes.at_lambda(torch.log(ratio) if in_r else -torch.log(ratio))
        scale, from_scale = (here.sigma, cur.sigma) if in_r else (here.alpha, cur.alpha)
        weights = [(scale * (end - start) * float(a), slope) for a, slope in zip(row, slopes, strict=True)]
        y = yield combine(here, (scale / from_scale, x), *weights)
    return str(y)


def time_step(nodes: Nodes, tableau: Tableau, cur: Node, next: Node, x: Register) -> Generator[Any, Any, Register]:
    """One step in t."""
    tableau = reachable(tableau, next)
    slopes: list[Register] = []
    here, y = cur, x
    for row, share in zip((*tableau.a[1:], tableau.b), (*tableau.c[1:], 1), strict=True):
        slopes.append((yield evaluate(y, here, "velocity")))
        here = next if share == 1 else nodes.at(torch.lerp(cur.t, next.t, float(share)))
        weights = [((next.t - cur.t) * float(a), slope) for a, slope in zip(row, slopes, strict=True)]
        y = yield combine(here, (1.0, x), *weights)
    return str(y)
