"""DPMSolverSinglestep of the installed diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from methods_cases import (
    compiled,
    gap,
    law_order_of,
    order_of,
    run,
)
from methods_diffusers_pairs import (
    EXACT,
    PROCESS,
    SDE,
    SMALLEST,
    same_on_bent,
    with_wrong_third,
)

from urn.coefficients.exponential import (
    EPSILON,
    X0,
    Form,
    halved_weights,
    integral_weights,
)
from urn.conformance.targets import states_at
from urn.method import noise
from urn.schemes.multistep import predictions, step_row


def on_the_grids_points(form: Form, orders: Sequence[int], heun: bool, wrong_sign: bool = False) -> Any:
    """diffusers' singlestep: a block of p intervals is one step of order p whose stages are the grid's points, each of them
    integrated from the block's start, with noise of its own in the SDE form."""

    def method(nodes, x):
        block, begin, start = [], nodes[0], x
        for (cur, next), order in zip(nodes.steps(), orders, strict=True):
            here = yield from predictions(cur, x)
            if order == 1:
                block, begin, start = [], cur, x
            block.append(here)
            extra = [(form.noise_std(begin, next), (yield noise(begin, next)))] if form.rate > 1 else []
            points = block if heun or order < 3 else [block[0], block[2]]
            weights = integral_weights if heun or order == 3 else halved_weights
            if wrong_sign and len(points) == 3:
                weights = partial(with_wrong_third, exact=True)
            x = yield step_row(form, weights, begin, next, start, points, extra)
        return x

    return method


FORMS = {"dpmsolver++": X0, "dpmsolver": EPSILON, "sde-dpmsolver++": SDE}


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
@pytest.mark.parametrize("algorithm", FORMS)
@pytest.mark.parametrize(("order", "steps"), [(2, 18), (2, 19), (3, 18), (3, 19), (3, 20)])
def test_dpm_solver_singlestep_has_its_stages_on_the_grid(order: int, steps: int, algorithm: str, solver: str) -> None:
    lower = steps % order > 0
    orders = [1, 2, 3][:order] * (steps // order) + [1, 2][: steps % order]
    wrong = algorithm.startswith("sde") and order == 3 and solver == "heun"
    config = {"solver_order": order, "solver_type": solver, "algorithm_type": algorithm, **SMALLEST}
    method = on_the_grids_points(FORMS[algorithm], orders, solver == "heun", wrong)
    assert same_on_bent("DPMSolverSinglestep", method, steps, lower_order_final=lower, **config) < EXACT


def test_dpm_solver_singlestep_keeps_its_order_and_its_sde_form_does_not() -> None:
    def blocks(order: int, form: Form, heun: bool = False) -> Any:
        def method(nodes, x):
            orders = [1, 2, 3][:order] * ((len(nodes) - 1) // order)
            return (yield from on_the_grids_points(form, orders, heun)(nodes, x))

        return method

    assert order_of(blocks(3, X0), PROCESS) > 2.7
    assert order_of(blocks(3, EPSILON, heun=True), PROCESS) > 2.7
    assert order_of("dpmpp_3s", PROCESS) > 2.75
    for order in (2, 3):
        assert law_order_of(blocks(order, SDE), PROCESS, (48, 96, 192)) < 1.25
    assert law_order_of("dpmpp_2m_sde", PROCESS, (48, 96, 192)) > 1.75


def test_on_an_even_grid_in_lambda_singlestep_3_differs_from_the_paper_by_its_stage_alone() -> None:
    """There the grid's points are the thirds; with an exact stage (heun's) and the paper's last sum it is dpmpp_3s."""
    times = PROCESS.t_of_lambda(torch.linspace(-1.0, 2.0, 13, dtype=torch.float64))

    def exact_stage(nodes, x):
        for first in range(0, 12, 3):
            begin, block, u = nodes[first], [], x
            for place in (0, 1, 2):
                block.append((yield from predictions(nodes[first + place], u)))
                points = block if place < 2 else [block[0], block[2]]
                u = yield step_row(X0, integral_weights, begin, nodes[first + place + 1], x, points)
            x = u
        return x

    paper, there = compiled("dpmpp_3s", PROCESS, times[::3]), compiled(exact_stage, PROCESS, times)
    x = states_at(PROCESS, float(times[0]), 12)
    assert gap(run(paper, x), run(there, x)) < 1e-12
    halved = compiled(on_the_grids_points(X0, [1, 2, 3] * 4, heun=False), PROCESS, times)
    assert 1e-5 < gap(run(paper, x), run(halved, x)) < 1e-1
