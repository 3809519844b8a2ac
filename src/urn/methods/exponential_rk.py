"""Exponential Runge-Kutta methods, ETDRK, in lambda: the semilinear ODEs of x/alpha with x0, of x/sigma with epsilon.

In dy/dlambda = -y + x0 (y = x/alpha) the literature's L is -1, its N is x0, and with h = lambda_next - lambda_cur its z is -h:

    x_next = (sigma_next/sigma_cur) x + alpha_next h sum_i b_i(-h) x0_i

and the same with epsilon (see urn.schemes.exponential_runge_kutta). The tableaus are in urn.coefficients.exponential_tableaus.
ETD1 is `ddim`. `res_2s` and `dpmpp_2s` differ in phi_2 against phi_1/2, and agree to order two; `res_3s` at c2 = 1/3, c3 = 2/3
is `dpmpp_3s`, and with prediction="epsilon" it is `dpm_solver_3`.

**Orders** are classical, as everywhere in Urn. The stiff ones, which hold for any L, are in each docstring; of a tableau
said to be weakened the last conditions hold with b_i(0) in the place of b_i(z). Steps at alpha = 0 or sigma = 0 are
singlestep of order three at most.

RES4LYF has most of these. Several of its tableaus are misread, and lose their order; here a name of RES4LYF's stands for the
published method (tests/methods/test_published_exponential.py shows the orders of both).

Sources: Hochbruck & Ostermann 2005, SIAM J. Numer. Anal. 43, and 2010, Acta Numerica 19; Minchev & Wright 2005, NTNU preprint
2/2005; Zhang, Cheng, Yue, Chen 2023, arXiv 2308.02157 (diffusion models); and those of each method.
"""

from __future__ import annotations

from functools import partial

import urn.coefficients.exponential_tableaus as tableaus
from urn.method import Steps, method, number
from urn.nodes import Nodes
from urn.plan import Register
from urn.schemes.exponential_runge_kutta import exponential_runge_kutta

HOCHBRUCK = "Hochbruck & Ostermann 2005, Explicit Exponential Runge-Kutta Methods, SIAM J. Numer. Anal. 43"
COX = "Cox & Matthews 2002, Exponential Time Differencing for Stiff Systems, J. Comput. Phys. 176"
CELLEDONI = "Celledoni, Marthinsen, Owren 2003, Commutator-free Lie Group Methods, Future Gener. Comput. Syst. 19"
MINCHEV = "Minchev & Wright 2005, A Review of Exponential Integrators for First Order Semi-linear Problems, NTNU 2/2005"
KROGSTAD = "Krogstad 2005, Generalized Integrating Factor Methods for Stiff PDEs, J. Comput. Phys. 203"
LUAN = "Luan 2021, Efficient Exponential Runge-Kutta Methods of High Order, BIT Numer. Math. 61"
LUAN_ALHSMY = "Luan & Alhsmy 2023, Sixth-order Exponential Runge-Kutta Methods for Stiff Systems, arXiv 2311.08600"


@method(order=2, nfe=2, exact_for=("point",), source=HOCHBRUCK)
def res_2s(nodes: Nodes, x: Register, prediction: str = "x0", c2: float = 0.5) -> Steps:
    """Two stages, at 0 and c2, weights in phi_2; of stiff order 2. c2 = 1 is Cox & Matthews' ETD2RK, `etdrk2`."""
    number("c2", c2, 1e-3, 1)
    return (yield from exponential_runge_kutta(nodes, x, prediction, 2, partial(tableaus.etd2, c2=c2)))


@method(order=2, nfe=2, exact_for=("point",), source=MINCHEV)
def rkmk_2e(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """RKMK2e, Heun's as a Lie group method: `dpmpp_2s` with r = 1; of stiff order 2 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 2, partial(tableaus.etd2_halved, c2=1.0)))


@method(order=3, nfe=3, exact_for=("point",), source=HOCHBRUCK)
def res_3s(nodes: Nodes, x: Register, prediction: str = "x0", c2: float = 0.5, c3: float = 1.0) -> Steps:
    """Three stages, at 0, c2 and c3, of stiff order 3 (weakened); c2 is neither 2/3 nor c3."""
    number("c2", c2, 1e-3, 1)
    number("c3", c3, 1e-3, 1)
    if abs(c2 - 2 / 3) < 1e-3 or abs(c2 - c3) < 1e-3:
        raise ValueError(f"c2={c2!r} must be neither 2/3 nor c3={c3!r}: there the order conditions have no solution")
    return (yield from exponential_runge_kutta(nodes, x, prediction, 3, partial(tableaus.etd3, c2=c2, c3=c3)))


@method(order=3, nfe=3, exact_for=("point",), source=COX)
def etdrk3(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """ETD3RK: Kutta's third-order method, exponential; of stiff order 2."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 3, tableaus.cox_matthews_3))


@method(
    order=3,
    nfe=3,
    exact_for=("point",),
    source="Fu, Shen, Yang 2024, Higher-Order Energy-Decreasing ETDRK Methods for Gradient Flows, arXiv 2402.15142",
)
def etdrk3_a(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """The first of two that let the energy of a gradient flow decrease; the other, `etdrk3_b`, is `res_3s` at 4/9 and 2/3.

    Of stiff order 3 (weakened).
    """
    return (yield from exponential_runge_kutta(nodes, x, prediction, 3, tableaus.fu_shen_yang_3))


@method(order=3, nfe=3, exact_for=("point",), source=CELLEDONI)
def res_3s_lie(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """ETD2CF3, from a commutator-free Lie group method, at 0, 1/3, 2/3; of stiff order 3 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 3, tableaus.celledoni_3))


@method(order=2, nfe=3, exact_for=("point",), source=HOCHBRUCK)
def res_3s_strehmel_weiner(nodes: Nodes, x: Register, prediction: str = "x0", c2: float = 0.5) -> Steps:
    """Strehmel and Weiner's with three stages, at 0, c2 and 1; of order 2, stiffly too, for its b misses sum b_i c_i^2."""
    number("c2", c2, 1e-3, 1)
    return (yield from exponential_runge_kutta(nodes, x, prediction, 2, partial(tableaus.strehmel_weiner_3, c2=c2)))


@method(order=4, nfe=4, exact_for=("point",), source=COX)
def etdrk4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """ETD4RK: the classical fourth-order method, exponential; of stiff order 2."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.cox_matthews_4))


@method(order=4, nfe=4, exact_for=("point",), source=KROGSTAD)
def krogstad_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """Krogstad's ETDRK4-B; of stiff order 3."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.krogstad_4))


@method(order=4, nfe=4, exact_for=("point",), source="Strehmel & Weiner 1992, Linear-implizite Runge-Kutta-Methoden")
def strehmel_weiner_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """Strehmel and Weiner's with four stages; of stiff order 3."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.strehmel_weiner_4))


@method(order=4, nfe=4, exact_for=("point",), source="Friedli 1978, Verallgemeinerte Runge-Kutta Verfahren, LNM 631")
def friedli_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """Friedli's, England's Runge-Kutta method at z = 0; of stiff order 3."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.friedli_4))


@method(order=4, nfe=4, exact_for=("point",), source=MINCHEV)
def minchev_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """Minchev's; of stiff order 2."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.minchev_4))


@method(order=4, nfe=4, exact_for=("point",), source="Munthe-Kaas 1999, High Order Runge-Kutta Methods on Manifolds")
def munthe_kaas_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """RKMK4t, a Lie group method with affine action; of stiff order 2 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.munthe_kaas_4))


@method(order=4, nfe=4, exact_for=("point",), source=CELLEDONI)
def cfree_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """CFREE4, a commutator-free Lie group method; of stiff order 2 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.commutator_free_4))


@method(order=4, nfe=5, exact_for=("point",), source=HOCHBRUCK)
def hochbruck_ostermann_5s(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """Hochbruck and Ostermann's with five stages; of stiff order 4 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, tableaus.hochbruck_ostermann_4))


@method(
    order=5,
    nfe=8,
    exact_for=("point",),
    source="Luan & Ostermann 2014, Explicit Exponential Runge-Kutta Methods of High Order, J. Comput. Appl. Math. 256",
)
def luan_ostermann_5(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """expRK5s8, eight stages; of stiff order 5 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 5, tableaus.luan_ostermann_5))


@method(order=4, nfe=6, exact_for=("point",), source=LUAN)
def luan_4(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """expRK4s6, six stages of which two pairs can be made in parallel; of stiff order 4 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 4, _layered(tableaus.LUAN_4)))


@method(order=5, nfe=10, exact_for=("point",), source=LUAN)
def luan_5(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """expRK5s10, ten stages in five layers; of stiff order 5 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 5, _layered(tableaus.LUAN_5)))


@method(order=6, nfe=15, exact_for=("point",), source=LUAN_ALHSMY)
def luan_alhsmy_6_15s(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """expRK6s15, fifteen stages in six layers; of stiff order 6 (weakened)."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 6, _layered(tableaus.LUAN_ALHSMY_6_15)))


@method(order=6, nfe=16, exact_for=("point",), source=LUAN_ALHSMY)
def luan_alhsmy_6(nodes: Nodes, x: Register, prediction: str = "x0") -> Steps:
    """expRK6s16, sixteen stages in six layers; of stiff order 6."""
    return (yield from exponential_runge_kutta(nodes, x, prediction, 6, _layered(tableaus.LUAN_ALHSMY_6)))


def _layered(layers: tuple[tuple[float, ...], ...]) -> tableaus.Rule:
    return lambda p: tableaus.layered(p, *layers)
