"""UniPC against its paper's linear system."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from methods_cases import compiled, geometric
from methods_published import Array, assert_close, exact, numbers, start, urns

import urn
from urn.processes import VP, Flow


def moments_of_h(h: float, count: int, data: bool) -> list[float]:
    """n! h^n phi_(n+1)(h), n = 1 ... count, of the noise form; n! h^n psi_(n+1)(h) of the data form: sums of series."""
    sign = -1 if data else 1
    return [
        math.factorial(n) * h**n * math.fsum((sign * h) ** j / math.factorial(j + n + 1) for j in range(40))
        for n in range(1, count + 1)
    ]


def unipc_update(
    x: Array, s: float, t: float, base: Array, others: list[tuple[float, Array]], process: Any, data: bool, size: str
) -> Array:
    """Zhao et al. 2023, equations 3 and 9 with appendix A: B(h) sum_m (c_m/r_m) (prediction_m - base), R(h) c B(h) = phi(h).

    R_kl = (r_l h)^(k-1). With one point of the others c is 1/2, without any the sum is empty.
    """
    alpha, sigma, lambda_, _ = numbers(process)
    h = lambda_(t) - lambda_(s)
    if data:
        factor, carried = alpha(t), sigma(t) / sigma(s) * x - alpha(t) * math.expm1(-h) * base
        b = h if size == "bh1" else -math.expm1(-h)
    else:
        factor, carried = -sigma(t), alpha(t) / alpha(s) * x - sigma(t) * math.expm1(h) * base
        b = h if size == "bh1" else math.expm1(h)
    if not others:
        return carried
    r = np.array([place for place, _ in others])
    matrix = np.stack([(r * h) ** k for k in range(len(r))])
    c = np.linalg.solve(matrix, moments_of_h(h, len(r), data)) / b if len(r) > 1 else np.array([0.5])
    return carried + factor * b * sum(
        weight / place * (made - base) for weight, (place, made) in zip(c, others, strict=True)
    )


@pytest.mark.parametrize("process", [VP.linear(), Flow()], ids=repr)
@pytest.mark.parametrize("size", ["bh1", "bh2"])
@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize(("order", "correct"), [(1, True), (2, False), (2, True), (3, True)])
def test_unipc_by_its_linear_system(process: Any, size: str, data: bool, order: int, correct: bool) -> None:
    """Algorithms 5 to 8 from a ramped start; the last step has no corrector."""
    lambda_ = numbers(process)[2]
    predict, times = exact(process, "x0" if data else "epsilon"), geometric(process, 7).tolist()
    x, made = start(process, times), [predict(start(process, times), times[0])]
    for i in range(7):
        s, t = times[i], times[i + 1]
        h = lambda_(t) - lambda_(s)
        p = min(order, i + 1)
        others = [((lambda_(times[i - m]) - lambda_(s)) / h, made[i - m]) for m in range(1, p)]
        predicted = unipc_update(x, s, t, made[i], others, process, data, size)
        if i == 6:
            x = predicted
            break
        made.append(predict(predicted, t))
        if correct:
            predicted = unipc_update(x, s, t, made[i], [*others, (1.0, made[i + 1])], process, data, size)
        x = predicted
    name, prediction = "unipc_3" if correct else "unip_2", "x0" if data else "epsilon"
    assert_close(urns(name, process, times, order=order, prediction=prediction, size=size), x, 1e-9)


@pytest.mark.parametrize("data", [True, False])
@pytest.mark.parametrize("points", [2, 3, 4])
def test_the_linear_system_of_any_order_gives_urns_weights(data: bool, points: int) -> None:
    """R(h) c B(h) = phi(h) solved for UniP of orders three to five, against a regular step's row."""
    process = VP.linear()
    times = geometric(process, 10).tolist()
    plan = compiled("unip_5", process, times, order=points + 1, prediction="x0" if data else "epsilon")
    weights = {register: weight for weight, register in plan.rows[-1].weights if not register.startswith("x")}
    lambda_ = numbers(process)[2]
    h = lambda_(times[-1]) - lambda_(times[-2])
    places = [(lambda_(times[-2 - m]) - lambda_(times[-2])) / h for m in range(1, points + 1)]
    one, zero = np.ones(1), np.zeros(1)

    def coefficient(which: int) -> float:  # 0 the newest, m the m-th older
        others = [(place, one if which == m + 1 else zero) for m, place in enumerate(places)]
        base = one if which == 0 else zero
        return float(unipc_update(zero, times[-2], times[-1], base, others, process, data, "bh2")[0])

    found = list(weights.values())
    assert found == pytest.approx([coefficient(which) for which in range(points + 1)], rel=1e-7)


def test_every_paper_is_cited_by_its_method() -> None:
    assert all(
        method.source and any(year in method.source for year in map(str, range(1950, 2030)))
        for method in urn.METHODS.values()
    )
