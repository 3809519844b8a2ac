"""DPM-Solver against its paper's algorithms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from methods_cases import bent, compiled, geometric
from methods_published import CONTINUOUS, Array, assert_close, exact, numbers, start, urns

from urn.methods.dpm_solver import fast_orders
from urn.processes import VP, Flow


class DpmSolver:
    """Lu et al. 2022: algorithms 1 and 2 (DPM-Solver-2 and -3) and equation 3.7, from time s to time t."""

    def __init__(self, process: Any) -> None:
        self.alpha, self.sigma, self.lambda_, self.t_of_lambda = numbers(process)
        self.epsilon = exact(process, "epsilon")

    def linear(self, x: Array, s: float, t: float, e: Array) -> Array:
        h = self.lambda_(t) - self.lambda_(s)
        return self.alpha(t) / self.alpha(s) * x - self.sigma(t) * math.expm1(h) * e

    def step_1(self, x: Array, s: float, t: float) -> Array:
        return self.linear(x, s, t, self.epsilon(x, s))

    def step_2(self, x: Array, s: float, t: float, r: float = 0.5) -> Array:
        h = self.lambda_(t) - self.lambda_(s)
        middle = self.t_of_lambda(self.lambda_(s) + r * h)
        e = self.epsilon(x, s)
        u = self.linear(x, s, middle, e)
        d = self.epsilon(u, middle) - e
        return self.linear(x, s, t, e) - self.sigma(t) / (2 * r) * math.expm1(h) * d

    def step_3(self, x: Array, s: float, t: float) -> Array:
        r_1, r_2 = 1 / 3, 2 / 3
        h = self.lambda_(t) - self.lambda_(s)
        s_1, s_2 = (self.t_of_lambda(self.lambda_(s) + r * h) for r in (r_1, r_2))
        e = self.epsilon(x, s)
        u_1 = self.linear(x, s, s_1, e)
        d_1 = self.epsilon(u_1, s_1) - e
        bend = self.sigma(s_2) * r_2 / r_1 * (math.expm1(r_2 * h) / (r_2 * h) - 1)
        u_2 = self.linear(x, s, s_2, e) - bend * d_1
        d_2 = self.epsilon(u_2, s_2) - e
        return self.linear(x, s, t, e) - self.sigma(t) / r_2 * (math.expm1(h) / h - 1) * d_2


@CONTINUOUS
def test_dpm_solver_2_algorithm_1(process: Any) -> None:
    solver, times = DpmSolver(process), geometric(process, 5)
    for r in (0.5, 0.35):
        x = start(process, times)
        for s, t in pairwise(times.tolist()):
            x = solver.step_2(x, s, t, r)
        assert_close(urns("dpm_solver_2", process, times, r=r), x)


@CONTINUOUS
def test_dpm_solver_3_algorithm_2(process: Any) -> None:
    solver, times = DpmSolver(process), geometric(process, 5)
    x = start(process, times)
    for s, t in pairwise(times.tolist()):
        x = solver.step_3(x, s, t)
    assert_close(urns("dpm_solver_3", process, times), x)


@pytest.mark.parametrize("budget", [4, 5, 6, 9])
def test_dpm_solver_fast_over_its_outer_steps(budget: int) -> None:
    """Appendix C.3: steps of order three over the first outer points, ended by lower ones, the outer points the grid's."""
    process = VP.linear()
    solver, times = DpmSolver(process), bent(process, budget).tolist()
    x, place = start(process, times), 0
    orders = [3] * ((budget // 3 + 1) - (2 if budget % 3 == 0 else 1)) + {0: [2, 1], 1: [1], 2: [2]}[budget % 3]
    for order in orders:
        x = getattr(solver, f"step_{order}")(x, times[place], times[place + order])
        place += order
    plan = compiled("dpm_solver_fast", process, times)
    assert plan.nfe == budget
    assert_close(urns("dpm_solver_fast", process, times), x)


@pytest.mark.parametrize("budget", range(1, 31))
def test_dpm_solver_fast_spends_exactly_its_budget(budget: int) -> None:
    """K = N // 3 + 1 steps; N mod 3 = 0: K - 2 of order three, then 2, 1; 1: K - 1, then 1; 2: K - 1, then 2."""
    k = budget // 3 + 1
    expected = {0: [3] * (k - 2) + [2, 1], 1: [3] * (k - 1) + [1], 2: [3] * (k - 1) + [2]}[budget % 3]
    found = fast_orders(budget)
    assert [order for _, order in found] == expected
    assert [first for first, _ in found] == np.cumsum([0, *expected])[:-1].tolist()
    assert compiled("dpm_solver_fast", Flow(), bent(Flow(), budget)).nfe == budget == sum(expected)
