"""Adams-Bashforth's weights for even steps, as PNDM uses them on steps that need not be.

The series is A(nabla) = 1 + nabla/2 + 5 nabla^2/12 + 3 nabla^3/8 + ..., nabla the backward difference; cut off after p terms
it gives the p weights of the p-step rule, newest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

from torch import Tensor

from urn.coefficients.exponential import Form
from urn.plan import Node

SERIES = (1.0, 1 / 2, 5 / 12, 3 / 8)


def from_differences(series: Sequence[float]) -> tuple[float, ...]:
    """Weights of the last values, newest first, of sum_k series_k nabla^k."""
    terms = range(len(series))
    return tuple(sum(series[k] * (-1) ** j * comb(k, j) for k in terms if k >= j) for j in terms)


def adams_bashforth(order: int) -> tuple[float, ...]:
    """The weights of order 1 to 4, newest first: (1), (3/2, -1/2), (23, -16, 5)/12, (55, -59, 37, -9)/24."""
    return from_differences(SERIES[:order])


def even_weights(form: Form, cur: Node, next: Node, points: Sequence[Node]) -> list[Tensor]:
    """The step's total weight times Adams-Bashforth's weights for even steps."""
    total = form.total(cur, next)
    return [total * weight for weight in adams_bashforth(len(points))]
