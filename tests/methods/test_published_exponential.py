"""Exponential Runge-Kutta methods against their papers' tableaus. z = -h in the x0 form and h in the epsilon form."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from methods_cases import geometric
from methods_exponential import PUBLISHED, Tableau, res_2s, res_3s, res_3s_strehmel_weiner
from methods_published import Array, assert_close, exact, numbers, start, urns

from urn.processes import VE, VP, Flow


def diffuse(process: Any, times: Any, tableau: Callable[[float], Tableau], prediction: str) -> Array:
    """y = x/alpha, y' = -y + x0; or y = x/sigma, y' = y - epsilon: the derivative is in lambda."""
    alpha, sigma, lambda_, t_of_lambda = numbers(process)
    scale, sign, made = (
        (alpha, 1, exact(process, "x0")) if prediction == "x0" else (sigma, -1, exact(process, prediction))
    )
    x = start(process, times)
    for s, t in pairwise(times.tolist()):
        h = lambda_(t) - lambda_(s)
        z = -sign * h
        c, a, b = tableau(z)
        n: list[Array] = []
        y = x / scale(s)
        for row, share in zip([*a, b], [*c, 1.0], strict=True):
            at = s if share == 0 else t if share == 1 else t_of_lambda(lambda_(s) + share * h)
            stage = math.exp(share * z) * y + sum((h * w * sign * m for w, m in zip(row, n, strict=True)), 0 * y)
            if len(n) < len(c):
                n.append(made(scale(at) * stage, at))
        x = scale(t) * stage
    return x


@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
@pytest.mark.parametrize("process", [VP.linear(), Flow(), VE()], ids=["vp", "flow", "ve"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_tableau(name: str, process: Any, prediction: str) -> None:
    times = geometric(process, 3)
    found = urns(name, process, times, prediction=prediction)
    assert_close(found, diffuse(process, times, PUBLISHED[name], prediction))


@pytest.mark.parametrize(("c2", "c3"), [(0.3, 0.8), (1.0, 0.25), (4 / 9, 2 / 3)])
def test_the_nodes_are_free(c2: float, c3: float) -> None:
    process = VP.linear()
    times = geometric(process, 3)
    assert_close(urns("res_2s", process, times, c2=c2), diffuse(process, times, lambda z: res_2s(z, c2), "x0"))
    assert_close(
        urns("res_3s", process, times, c2=c2, c3=c3), diffuse(process, times, lambda z: res_3s(z, c2, c3), "x0")
    )
    other = diffuse(process, times, lambda z: res_3s_strehmel_weiner(z, c2), "x0")
    assert_close(urns("res_3s_strehmel_weiner", process, times, c2=c2), other)


def test_nodes_without_a_solution_are_refused() -> None:
    for options in ({"c2": 2 / 3}, {"c2": 0.5, "c3": 0.5}):
        with pytest.raises(ValueError, match=r"c2=.* must be neither 2/3 nor c3"):
            urns("res_3s", VP.linear(), geometric(VP.linear(), 3), **options)
