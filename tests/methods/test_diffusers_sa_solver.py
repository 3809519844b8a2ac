"""SASolver of the installed diffusers: the same plan on any grid, its lower final orders included.

Its orders count the point at the step's end for the corrector; its default is (2, 2). Every step draws noise, also where tau
is 0. At order three of the predictor and four of the corrector the weights are the exact ones, from a ramped start.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from methods_cases import MIXTURE, Listed, bent, compiled, gap, normals
from methods_diffusers import drive, float64, on_grid
from methods_diffusers_pairs import PROCESS, scheduler_class
from torch import Tensor

import urn
from urn.conformance.targets import states_at

STEPS = 12


def theirs(times: Tensor, x: Tensor, draws: Tensor, tau: Any, **config: Any) -> Tensor:
    cls = scheduler_class("SASolver")
    with float64(cls, draws):
        scheduler = on_grid(cls(tau_func=tau, **config), torch.exp(-PROCESS.lambda_(times)), times[:-1])
        return drive(scheduler, lambda y, t: MIXTURE.prediction(y, PROCESS, t, "epsilon"), x)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize(("order", "corrector"), [(1, 1), (2, 2), (2, 3), (3, 4), (3, 2)])
def test_sa_solver_with_constant_tau(order: int, corrector: int, lower: bool) -> None:
    times, draws = bent(PROCESS, STEPS), normals(STEPS)
    x = states_at(PROCESS, float(times[0]), 12)
    orders = {"predictor_order": order, "corrector_order": corrector}
    y = theirs(times, x, draws, lambda t: torch.tensor(0.7), lower_order_final=lower, **orders)
    name = "sa_solver_published" + ("_lower_final" if lower else "")
    plan = compiled(name, PROCESS, times, order=order, corrector=corrector, tau=0.7)
    assert gap(y, urn.execute(plan, MIXTURE.model(PROCESS), {"x": x}, Listed(draws))["x"]) < 1e-9


def test_sa_solver_with_a_window() -> None:
    """tau_func is of the time at which a step starts; a window in sigma/alpha is one."""
    times, draws = bent(PROCESS, STEPS), normals(STEPS)
    x = states_at(PROCESS, float(times[0]), 12)
    ratio = torch.exp(-PROCESS.lambda_(times))
    inside = {float(t): bool(0.3 <= r <= 1.7) for t, r in zip(times, ratio, strict=True)}
    y = theirs(times, x, draws, lambda t: torch.tensor(0.9 * inside[float(t)]), lower_order_final=False)
    kept = [draw for draw, t in zip(draws, times[:-1].tolist(), strict=True) if inside[t]]
    assert 2 < len(kept) < STEPS
    plan = compiled("sa_solver_published", PROCESS, times, tau=(0.9, 0.3, 1.7))
    assert gap(y, urn.execute(plan, MIXTURE.model(PROCESS), {"x": x}, Listed(kept))["x"]) < 1e-9


def test_their_order_two_is_not_the_papers_integral() -> None:
    times, draws = bent(PROCESS, STEPS), normals(STEPS)
    one, other = (
        compiled(name, PROCESS, times, order=2, corrector=2, tau=0.7) for name in ("sa_solver", "sa_solver_published")
    )
    x = states_at(PROCESS, float(times[0]), 12)
    ends = [urn.execute(plan, MIXTURE.model(PROCESS), {"x": x}, Listed(draws))["x"] for plan in (one, other)]
    assert gap(*ends) > 1e-4
    assert math.isfinite(float(ends[0].sum()))
