"""Lawson's integrating factors, generalized ones, and exponential predictor-correctors, as exponential tableaus.

Lawson applies a Runge-Kutta method (a, b, c) to v = e^(-l L) y, whose right side is e^(-l L) N:

    a_ij(z) = a_ij e^((c_i - c_j) z),    b_i(z) = b_i e^((1 - c_i) z)

so a constant N is not integrated exactly, and the stiff order is one. Krogstad's generalized integrating factor takes out of
N the polynomial P through the predictions at cur and at earlier nodes, integrates it exactly, and leaves N - P to Lawson:

    y_i = e^(c_i z) y + h int_0^(c_i) e^((c_i - u) z) P(u) du + h sum_j a_ij e^((c_i - c_j) z) (N_j - P(c_j))

EXPINT calls it GenLawson4q, q the number of predictions in P; q = 0 is Lawson's. In the modified one (ModGenLawson) the
weight of the last stage is such that polynomials through it too are integrated exactly. The papers have equal steps; here P
is through the nodes where they are. Each row has the weights of earlier predictions, newest first, before the stages'.

Sources: Lawson 1967, Generalized Runge-Kutta Processes for Stable Systems with Large Lipschitz Constants, SIAM J. Numer. Anal.
4; Ehle & Lawson 1975; Krogstad 2005, Generalized Integrating Factor Methods for Stiff PDEs, J. Comput. Phys. 203;
Ostermann, Thalhammer & Wright 2006, A Class of Explicit Exponential General Linear Methods, BIT 46.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from urn.coefficients.exponential_tableaus import ExponentialTableau, Phi, Place, Weight, integrals, lagrange
from urn.coefficients.tableaus import Tableau


def lawson(p: Phi, tableau: Tableau) -> ExponentialTableau:
    """The Runge-Kutta method behind an integrating factor."""
    c = [float(share) for share in tableau.c]
    a = tuple(_carried(p, row, c, share) for row, share in zip(tableau.a, c, strict=True))
    return ExponentialTableau(tuple(c), a, _carried(p, tableau.b, c, 1.0))


def generalized_lawson(p: Phi, past: Sequence[Place], tableau: Tableau, modified: bool = False) -> ExponentialTableau:
    """Krogstad's: P through the current prediction and those at the places `past`."""
    plain = lawson(p, tableau)
    known = [0.0, *past]
    b = list(plain.b)
    if modified:
        points = [*known, 1.0]
        last = len(known)
        left = sum(w * lagrange(points, last, share) for w, share in zip(b[1:-1], plain.c[1:-1], strict=True))
        b[-1] = integrals(p, points, 1.0)[last] - left

    def row(weights: Sequence[Weight], share: float) -> tuple[Weight, ...]:
        exact = integrals(p, known, share)
        rest = list(zip(weights[1:], plain.c[1:], strict=False))
        on_known = [exact[k] - sum(w * lagrange(known, k, at) for w, at in rest) for k in range(len(known))]
        return (*on_known[1:], on_known[0], *weights[1:])

    a = [row(weights, share) for weights, share in zip(plain.a[1:], plain.c[1:], strict=True)]
    return ExponentialTableau(plain.c, ((), *a), row(b, 1.0))


def predictor_corrector(p: Phi, past: Sequence[Place], corrections: int = 1) -> ExponentialTableau:
    """Adams-Bashforth through cur and `past`, then Adams-Moulton through these and the last estimate at next, repeated.

    EXPINT's PEC423 (one correction) and PECEC433 (two) with two earlier predictions.
    """
    known = [0.0, *past]
    first, *earlier = integrals(p, known, 1.0)
    first_too, *earlier_too, last = integrals(p, [*known, 1.0], 1.0)
    unused = [0.0] * (corrections - 1)
    correct = [(*earlier_too, first_too, *unused[:i], last) for i in range(corrections)]
    return ExponentialTableau((0.0, *[1.0] * corrections), ((), (*earlier, first), *correct[:-1]), correct[-1])


def _carried(p: Phi, row: Sequence[Fraction], c: Sequence[float], share: float) -> tuple[Weight, ...]:
    return tuple(float(a) * p(0, share - at) if a else 0.0 for a, at in zip(row, c, strict=False))
