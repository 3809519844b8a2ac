"""Every "equals" of DEIS."""

from __future__ import annotations

from typing import Any

import pytest
from methods_cases import (
    assert_same_rows,
    bent,
    compiled,
    gap,
    run,
)
from methods_equalities import on_every_grid, on_every_process

from urn.method import combine, evaluate
from urn.processes import VE, VP, Flow


@pytest.mark.parametrize("p", [2, 3, 4])
@on_every_grid
def test_deis_in_t_is_deis_in_rho_on_ve(p: int, grid: Any) -> None:
    times = grid(VE(), 7)
    assert_same_rows(
        compiled("deis_3_ramped", VE(), times, order=p), compiled("deis_rho_3_ramped", VE(), times, order=p)
    )
    lift = compiled("deis_3", VE(), times, order=p), compiled("deis_rho_3", VE(), times, order=p)
    assert_same_rows(*lift, tolerance=1e-11)


def test_deis_in_t_is_not_deis_in_rho_elsewhere() -> None:
    times = bent(VP.linear(), 7)
    plans = compiled("deis_3", VP.linear(), times), compiled("deis_rho_3", VP.linear(), times)
    assert gap(run(plans[0]), run(plans[1])) > 1e-4


@on_every_process
def test_deis_rho_heun_is_heun(process: Any) -> None:
    def rho_heun(nodes, x):  # d(x/alpha)/d rho = epsilon
        for cur, next in nodes.steps():
            step = next.sigma / next.alpha - cur.sigma / cur.alpha
            one = yield evaluate(x, cur, "epsilon")
            y = yield combine(next, (next.alpha / cur.alpha, x), (next.alpha * step, one))
            two = yield evaluate(y, next, "epsilon")
            half = next.alpha * step / 2
            x = yield combine(next, (next.alpha / cur.alpha, x), (half, one), (half, two))
        return x

    times = bent(process, 6)
    assert_same_rows(compiled("heun", process, times), compiled(rho_heun, process, times))


@on_every_process
@pytest.mark.parametrize("p", [2, 3, 4])
def test_adams_is_deis_and_dpmpp_and_unip(process: Any, p: int) -> None:
    times = bent(process, 7)

    def adams(prediction: str, variable: str) -> Any:
        return compiled("adams_3", process, times, order=p, prediction=prediction, variable=variable)

    assert_same_rows(adams("epsilon", "t"), compiled("deis_3", process, times, order=p))
    assert_same_rows(adams("epsilon", "ratio"), compiled("deis_rho_3", process, times, order=p))
    if p > 2:  # there UniP takes its shortcut, and does not start with a block
        assert_same_rows(adams("x0", "lambda"), compiled("unip_3", process, times, order=p))
    if p == 3:
        assert_same_rows(adams("x0", "lambda"), compiled("dpmpp_3m", process, times))


@pytest.mark.parametrize("name", ["adams_3", "adams_pc_3"])
def test_on_a_flow_share_is_t(name: str) -> None:
    plans = [compiled(name, Flow(), bent(Flow(), 7), variable=variable) for variable in ("share", "t")]
    assert_same_rows(*plans)


@on_every_process
def test_adams_with_a_corrector_in_lambda_is_unipc_4(process: Any) -> None:
    times = bent(process, 8)
    pair = compiled("adams_pc_4", process, times, prediction="x0", variable="lambda")
    assert_same_rows(pair, compiled("unipc_4", process, times))
