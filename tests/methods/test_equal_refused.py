"""What has no plan, or another one than its name suggests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods_cases import (
    GAUSSIAN,
    compiled,
    law_order_of,
)
from torch import Tensor

from urn.exact.affine import moments
from urn.method import apply, combine, evaluate
from urn.methods import METHODS
from urn.plan import PlanError
from urn.processes import VP, Flow


def test_annealed_langevin_needs_an_inside() -> None:
    for times in ([1.0, 0.5], [0.5, 0.0]):
        with pytest.raises(PlanError, match="at every node"):
            compiled("annealed_langevin", Flow(), times)


def test_annealed_langevins_default_is_the_papers_step() -> None:
    assert METHODS["annealed_langevin"].defaults == {"step_ratio": pytest.approx(2e-5 / 0.01**2), "repeats": 100}


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "dpmpp_2s_ancestral"])
def test_the_law_of_second_order_sde_methods_is_of_order_two_from_another_grid(name: str) -> None:
    def even(process: Any, steps: int) -> Tensor:
        return process.t_of_lambda(torch.linspace(-1.0, 1.5, steps + 1, dtype=torch.float64))

    assert law_order_of(name, Flow(), (24, 48, 96), even) > 1.75


def test_a_stage_with_noise_of_its_own_leaves_dpmpp_sde_at_order_one() -> None:
    assert law_order_of("dpmpp_sde", VP.linear(), (24, 48, 96)) == pytest.approx(1, abs=0.2)


def test_apply_rows_keep_their_law_out_of_moments() -> None:
    """predictor_corrector and iddpm have nonlinear rows, so no exact moments: they say so."""

    def written(nodes, x):
        cur, next = nodes[0], nodes[1]
        x0 = yield evaluate(x, cur, "x0")
        x0 = yield apply("clip", x0)
        return (yield combine(next, (next.alpha, x0)))

    with pytest.raises(PlanError, match="clip is not linear"):
        moments(compiled(written, Flow(), [0.5, 0.2]), GAUSSIAN)
