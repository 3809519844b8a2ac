"""Butcher tableaus of explicit Runge-Kutta methods, as data that check themselves.

Sources: Butcher 2016, Numerical Methods for Ordinary Differential Equations, chapter 3; Ralston 1962; van der Houwen & Wray
in Kennedy, Carpenter, Lewis 2000; Shu & Osher 1988 and Spiteri & Ruuth 2002 (strong stability preserving); Bogacki &
Shampine 1996; Dormand & Prince 1980; Tsitouras 2011.
"""

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
            if order <= self.order and abs(residual) > 1e-13:  # published decimals are rounded
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


def rounded_tableau(name: str, order: int, shares: str, rows: str, weights: str) -> Tableau:
    """A tableau published in decimals: c is given, and the first column is what the others leave of c (of 1 in b)."""
    c = (Fraction(0), *_numbers(shares))
    a = tuple(_with_first(_numbers(row), share) for row, share in zip(rows.split(","), c[1:], strict=True))
    return Tableau(name, order, ((), *a), _with_first(_numbers(weights), Fraction(1)), c)


def _with_first(rest: Numbers, total: Fraction) -> Numbers:
    return (total - sum(rest, Fraction(0)), *rest)


def _numbers(text: str) -> Numbers:
    return tuple(Fraction(word) for word in text.split())


EULER = tableau("euler", 1, "", "1")
MIDPOINT = tableau("midpoint", 2, "1/2", "0 1")
HEUN = tableau("heun", 2, "1", "1/2 1/2")
RALSTON_2 = tableau("ralston_2", 2, "2/3", "1/4 3/4")
KUTTA_3 = tableau("kutta_3", 3, "1/2, -1 2", "1/6 2/3 1/6")
HEUN_3 = tableau("heun_3", 3, "1/3, 0 2/3", "1/4 0 3/4")
RALSTON_3 = tableau("ralston_3", 3, "1/2, 0 3/4", "2/9 1/3 4/9")
HOUWEN_WRAY_3 = tableau("houwen_wray_3", 3, "8/15, 1/4 5/12", "1/4 0 3/4")
SSPRK_3 = tableau("ssprk_3", 3, "1, 1/4 1/4", "1/6 1/6 2/3")
SSPRK_3_4S = tableau("ssprk_3_4s", 3, "1/2, 1/2 1/2, 1/6 1/6 1/6", "1/6 1/6 1/6 1/2")
RK4 = tableau("rk4", 4, "1/2, 0 1/2, 0 0 1", "1/6 1/3 1/3 1/6")
RK38 = tableau("rk38", 4, "1/3, -1/3 1, 1 -1 1", "1/8 3/8 3/8 1/8")
RALSTON_4 = rounded_tableau(  # of minimal error bound; the exact numbers are in Q(sqrt 5)
    "ralston_4",
    4,
    "0.4 0.45573725421878943 1",
    ", 0.15875964497103583, -3.05096514869293080 3.83286476046701010",
    "-0.55148066287873294 1.20553559939652350 0.17118478121951903",
)
BUTCHER_6 = tableau(
    "butcher_6",
    6,
    "1/3, 0 2/3, 1/12 1/3 -1/12, -1/16 9/8 -3/16 -3/8, 0 9/8 -3/8 -3/4 1/2, 9/44 -9/11 63/44 18/11 0 -16/11",
    "11/120 0 27/40 27/40 -4/15 -4/15 11/120",
)
BOGACKI_SHAMPINE_5 = tableau(
    "bogacki_shampine_5",
    5,
    "1/6, 2/27 4/27, 183/1372 -162/343 1053/1372, 68/297 -4/11 42/143 1960/3861, "
    "597/22528 81/352 63099/585728 58653/366080 4617/20480, "
    "174197/959244 -30942/79937 8152137/19744439 666106/1039181 -29421/29068 482048/414219",
    "587/8064 0 4440339/15491840 24353/124800 387/44800 2152/5985 7267/94080",
)
TSITOURAS_5 = rounded_tableau(
    "tsitouras_5",
    5,
    "0.161 0.327 0.9 0.9800255409045097 1",
    ", 0.335480655492357, -6.359448489975075 4.3622954328695815, "
    "-11.748883564062828 7.4955393428898365 -0.09249506636175525, "
    "-12.92096931784711 8.159367898576159 -0.071584973281401 -0.028269050394068383",
    "0.01 0.4798896504144996 1.379008574103742 -3.290069515436081 2.324710524099774",
)
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
