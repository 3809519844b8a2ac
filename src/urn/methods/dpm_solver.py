"""DPM-Solver: singlestep exponential integrators of the noise prediction in lambda.

With s the point at the share r1 of the step h = lambda_next - lambda_cur (the paper's t_{i-1} and t_i are cur and next,
its s_i, u_i the stage's time and state, its hat-sigma and hat-epsilon in lambda are ours):

    u      = (alpha_s/alpha_cur) x - sigma_s (e^(r1 h) - 1) epsilon_cur
    x_next = (alpha_next/alpha_cur) x - sigma_next (e^h - 1) epsilon_cur
             - sigma_next/(2 r1) (e^h - 1) (epsilon_s - epsilon_cur)                                  DPM-Solver-2

DPM-Solver-1 is `ddim`. Where a step touches alpha = 0 or sigma = 0 the stage is placed, and the prediction interpolated,
in sigma/(alpha + sigma).

Source: Lu et al. 2022, DPM-Solver, arXiv 2206.00927, algorithms 1, 2 and appendix C.
"""

from __future__ import annotations

from functools import partial

from urn.coefficients.exponential import EPSILON
from urn.method import Steps, method, number
from urn.nodes import Nodes
from urn.plan import Register
from urn.schemes.singlestep import ORDERS, second_order, singlestep, third_order

SOURCE = "Lu et al. 2022, DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling, arXiv 2206.00927"


@method(order=2, nfe=2, exact_for=("point",), source=SOURCE)
def dpm_solver_2(nodes: Nodes, x: Register, r: float = 0.5) -> Steps:
    """DPM-Solver-2: two evaluations a step, the second at the share r of it."""
    number("r", r, 0, 1, ends=False)
    return (yield from singlestep(nodes, x, EPSILON, partial(second_order, r=r)))


@method(order=3, nfe=3, exact_for=("point",), source=SOURCE)
def dpm_solver_3(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver-3: three evaluations a step, at 0, 1/3 and 2/3 of it."""
    return (yield from singlestep(nodes, x, EPSILON, third_order))


@method(order=None, nfe="1 per interval", exact_for=("point",), source=SOURCE)
def dpm_solver_fast(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver-fast: steps of order three over three intervals each, ended by lower orders so that nfe = intervals.

    Of N intervals, N mod 3 = 0 ends with orders 2, 1; 1 with 1; 2 with 2 (appendix C.3; there the outer points are evenly
    spaced in lambda, here they are the grid's own).
    """
    for first, order in fast_orders(len(nodes) - 1):
        x = yield from ORDERS[order](EPSILON, nodes, nodes[first], nodes[first + order], x)
    return x


def fast_orders(intervals: int) -> list[tuple[int, int]]:
    """(first interval, order) of each step of DPM-Solver-fast."""
    orders = [3] * (intervals // 3 - (intervals % 3 == 0)) + {0: [2, 1], 1: [1], 2: [2]}[intervals % 3]
    return [(sum(orders[:i]), order) for i, order in enumerate(orders)]
