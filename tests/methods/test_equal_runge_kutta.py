"""Runge-Kutta methods: what they are by other names, the orders that rounds give, and plans whose stages are independent."""

from __future__ import annotations

import pytest
import torch
from methods_cases import assert_same_rows, bent, compiled, gap, order_of, run, start_states

from urn.conformance.targets import MIXTURE
from urn.processes import VE, VP, Flow


@pytest.mark.parametrize(
    ("one", "options", "other"),
    [
        ("runge_kutta", {"tableau": "heun"}, "heun"),
        ("runge_kutta", {"tableau": "rk4"}, "deis_rho_rk4"),
        ("runge_kutta", {"tableau": "kutta_3"}, "deis_rho_kutta_3"),
        ("runge_kutta", {"tableau": "heun", "clock": "t"}, "probability_flow_heun"),
        ("runge_kutta", {"tableau": "rk4", "clock": "t"}, "probability_flow_rk4"),
        ("implicit_runge_kutta", {"tableau": "lobatto_iiia_2", "rounds": 1}, "heun"),
    ],
)
@pytest.mark.parametrize("process", [VP.linear(), Flow(), VE()], ids=repr)
def test_is(one: str, options: dict[str, str], other: str, process: object) -> None:
    from urn.methods.runge_kutta import implicit_runge_kutta, runge_kutta

    method = {"runge_kutta": runge_kutta, "implicit_runge_kutta": implicit_runge_kutta}[one]
    assert_same_rows(compiled(method, process, bent(process, 4), **options), compiled(other, process, bent(process, 4)))


@pytest.mark.parametrize(("rounds", "order"), [(1, 2), (2, 3), (3, 4), (4, 4)])
def test_every_round_gains_an_order(rounds: int, order: int) -> None:
    from urn.methods.runge_kutta import implicit_runge_kutta

    method = implicit_runge_kutta.with_options(tableau="gauss_legendre_2", rounds=rounds)
    assert method.order == order
    assert order_of(method, VP.linear()) == pytest.approx(order, abs=0.25)


def test_the_stages_of_a_round_are_independent() -> None:
    plan = compiled("gauss_legendre_3", Flow(), bent(Flow(), 2))
    assert plan.nfe == 2 * (1 + 5 * 3)
    assert plan.rounds == 2 * (1 + 5)


def test_gauss_legendre_by_its_equations() -> None:
    """Stages solved to the end of rounding satisfy y_i = y + step sum_j a_ij slope_j, in sigma."""
    root, sigmas = 3**0.5 / 6, (1.5, 1.2)
    a = torch.tensor([[1 / 4, 1 / 4 - root], [1 / 4 + root, 1 / 4]], dtype=torch.float64)
    step, at = sigmas[1] - sigmas[0], [sigmas[0] + (sigmas[1] - sigmas[0]) * c for c in (1 / 2 - root, 1 / 2 + root)]
    plan = compiled("gauss_legendre_2", VE(), torch.tensor(sigmas, dtype=torch.float64), rounds=30)
    x = start_states(plan)
    stages = [x, x]
    for _ in range(200):
        slopes = [MIXTURE.prediction(y, VE(), s, "epsilon") for y, s in zip(stages, at, strict=True)]
        stages = [x + step * sum(a[i, j] * slopes[j] for j in (0, 1)) for i in (0, 1)]
    assert gap(run(plan, x), x + step * sum(slopes) / 2) < 1e-13
