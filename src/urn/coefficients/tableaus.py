"""Butcher tableaus of explicit Runge-Kutta methods, as data that check themselves."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

Numbers = tuple[Fraction, ...]


@dataclass(frozen=True)
class Tableau:
    """y_i = y + step sum_j a_ij f(y_j), y_next = y + step sum_i b_i f(y_i), stage i at the share c_i of the step.

    Raises:
        ValueError: a row of a does not sum to its c, or the tableau is not of the order it claims (checked up to four).
    """

    name: str
    order: int
    a: tuple[Numbers, ...]
    b: Numbers
    c: Numbers

    def __post_init__(self) -> None:
        for row, share in zip(self.a, self.c, strict=True):
            if sum(row) != share:
                raise ValueError(f"tableau {self.name}: a row {row} sums to {sum(row)}, its c is {share}")
        for order, residual in self.residuals():
            if order <= self.order and residual:
                raise ValueError(f"tableau {self.name}: a condition of order {order} is missed by {residual}")

    @property
    def stages(self) -> int:
        return len(self.b)

    def residuals(self) -> list[tuple[int, Fraction]]:
        """(order, what it is missed by) of the order conditions up to four. Hairer, Norsett, Wanner 1993, table II.2.1."""
        n = range(len(self.b))
        a = [[*row, *[Fraction(0)] * (len(self.b) - len(row))] for row in self.a]
        ac = [sum(a[i][j] * self.c[j] for j in n) for i in n]
        acc = [sum(a[i][j] * self.c[j] ** 2 for j in n) for i in n]
        aac = [sum(a[i][j] * ac[j] for j in n) for i in n]
        values = [
            (1, [Fraction(1)] * len(n), Fraction(1)),
            (2, self.c, Fraction(1, 2)),
            (3, [c**2 for c in self.c], Fraction(1, 3)),
            (3, ac, Fraction(1, 6)),
            (4, [c**3 for c in self.c], Fraction(1, 4)),
            (4, [prod(pair) for pair in zip(self.c, ac, strict=True)], Fraction(1, 8)),
            (4, acc, Fraction(1, 12)),
            (4, aac, Fraction(1, 24)),
        ]
        return [(order, sum(b * v for b, v in zip(self.b, at, strict=True)) - target) for order, at, target in values]


def tableau(name: str, order: int, rows: str, weights: str) -> Tableau:
    """A tableau from text: rows of a below each other, separated by commas; c is their sums."""
    a = tuple(_numbers(row) for row in ("", *rows.split(","))) if rows else ((),)
    return Tableau(name, order, a, _numbers(weights), tuple(sum(row, Fraction(0)) for row in a))


def _numbers(text: str) -> Numbers:
    return tuple(Fraction(word) for word in text.split())


EULER = tableau("euler", 1, "", "1")
MIDPOINT = tableau("midpoint", 2, "1/2", "0 1")
HEUN = tableau("heun", 2, "1", "1/2 1/2")
KUTTA_3 = tableau("kutta_3", 3, "1/2, -1 2", "1/6 2/3 1/6")
RK4 = tableau("rk4", 4, "1/2, 0 1/2, 0 0 1", "1/6 1/3 1/3 1/6")
DORMAND_PRINCE = tableau(
    "dormand_prince",
    5,
    "1/5, 3/40 9/40, 44/45 -56/15 32/9, 19372/6561 -25360/2187 64448/6561 -212/729, "
    "9017/3168 -355/33 46732/5247 49/176 -5103/18656, 35/384 0 500/1113 125/192 -2187/6784 11/84",
    "35/384 0 500/1113 125/192 -2187/6784 11/84 0",
)
DORMAND_PRINCE_ERROR = _numbers(
    "71/57600 0 -71/16695 71/1920 -17253/339200 22/525 -1/40"
)  # b less the embedded b of order 4
