"""Fitted orders of the installed diffusers' schedulers beside Urn's, on any grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import diffusers
import pytest
import torch
from methods_cases import (
    MIXTURE,
    bent,
    compiled,
    exact_states,
    fitted,
    gap,
    law_order_of,
    normals,
    order_of,
    rms,
    run,
)
from methods_diffusers import drive, float64
from methods_diffusers_pairs import (
    CLEAN,
    EXACT,
    PROCESS,
    SDE,
    SDE_PP,
    SMALLEST,
    TABLE,
    on_bent,
    same_on_bent,
    table_pair,
    with_wrong_third,
)
from torch import Tensor

import urn
from urn.coefficients.exponential import (
    EPSILON,
    X0,
    Form,
    halved_weights,
    integral_weights,
    published_third,
)
from urn.conformance.targets import states_at
from urn.methods.dpmpp import published_weights
from urn.processes import VP, Flow
from urn.schemes.multistep import multistep


def order_there(name: str, steps: Sequence[int] = (24, 48, 96), **config: Any) -> float:
    ends = bent(PROCESS, 1)
    x, end = exact_states(PROCESS, float(ends[0]), float(ends[-1]))
    return fitted([rms(on_bent(name, n, x, **config) - end) for n in steps], steps)


def multistep_of(form: Form, order: int, weights: Any, **given: Any) -> Any:
    def method(nodes, x):
        return (yield from multistep(nodes, x, form, order, weights, **given))

    return method


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
@pytest.mark.parametrize(("algorithm", "form"), [("dpmsolver++", X0), ("dpmsolver", EPSILON)])
def test_dpm_solver_multistep_of_order_3_halves_the_second_difference(solver: str, algorithm: str, form: Form) -> None:
    config = {"solver_order": 3, "algorithm_type": algorithm, "solver_type": solver, **SMALLEST}
    weights = published_weights if solver == "midpoint" else published_third
    assert same_on_bent("DPMSolverMultistep", multistep_of(form, 3, weights), **config) < EXACT
    assert order_there("DPMSolverMultistep", **config) < 2.4
    here = "dpmpp_3m" if form is X0 else "unip_3_epsilon"
    assert order_of(here, PROCESS) > 2.75


def test_half_of_the_loss_is_the_start_and_half_the_weights() -> None:
    """Exact weights from a ramped start, and halved ones from a lifted start: either alone leaves order two."""
    from urn.schemes.multistep import lifted

    orders = {
        "published": order_of("dpmpp_3m_published", PROCESS, (48, 96, 192)),
        "only the start": order_of(multistep_of(X0, 3, integral_weights), PROCESS, (48, 96, 192)),
        "only the weights": order_of(multistep_of(X0, 3, published_third, start=lifted), PROCESS, (48, 96, 192)),
        "neither": order_of("dpmpp_3m", PROCESS, (48, 96, 192)),
    }
    assert all(1.75 < orders[name] < 2.4 for name in ("published", "only the start", "only the weights")), orders
    assert orders["neither"] > 2.75


def test_sde_dpm_solver_plus_plus_of_order_3_has_a_wrong_sign() -> None:
    config = {"solver_order": 3, **SDE_PP, **SMALLEST}
    wrong = multistep_of(SDE, 3, with_wrong_third)
    assert same_on_bent("DPMSolverMultistep", wrong, **config) < EXACT
    assert same_on_bent("DPMSolverMultistep", "dpmpp_3m_sde_published", **config) > 0.01
    assert law_order_of(wrong, PROCESS, (48, 96, 192)) < 1.25
    assert law_order_of("dpmpp_3m_sde_published", PROCESS, (48, 96, 192)) > 1.75
    assert law_order_of("dpmpp_3m_sde", PROCESS, (48, 96, 192)) > 1.6


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "EDMDPMSolverMultistep"])
def test_other_sde_rules_of_order_3_do_not_run(name: str) -> None:
    config = {"algorithm_type": "sde-dpmsolver", **SMALLEST} if name == "DPMSolverMultistep" else SDE_PP
    with pytest.raises(UnboundLocalError):
        on_bent(name, 20, torch.zeros(2, 2, dtype=torch.float64), normals(20, 2), solver_order=3, **config)


@pytest.mark.parametrize(("p", "here"), [(2, "unipc_2"), (3, "unipc_3")])
def test_unipc_ends_with_lower_orders(p: int, here: str) -> None:
    assert same_on_bent("UniPCMultistep", "unipc_lower_final", options={"order": p}, solver_order=p) < EXACT
    assert same_on_bent("UniPCMultistep", here, solver_order=p) > 1e-4
    assert same_on_bent("UniPCMultistep", here, solver_order=p, lower_order_final=False) < EXACT
    assert order_there("UniPCMultistep", (48, 96, 192), solver_order=p) < 2.4
    assert order_of(here, PROCESS) > 2.75


def test_unipc_with_its_whole_order_fails_at_sigma_0() -> None:
    pair = partial(table_pair, "UniPCMultistep", 20, "unipc_3", solver_order=3, lower_order_final=False)
    with pytest.raises(torch.linalg.LinAlgError):
        pair()
    process = VP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    times = urn.grids.trailing(process, 20)
    assert bool(torch.isfinite(run(compiled("unipc_3", process, times))).all())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_with_bh1_is_nan_at_sigma_0(order: int) -> None:
    """B(h) = h is infinite there, times a sum of nothing."""
    y, expected = table_pair("UniPCMultistep", 10, "unipc_lower_final", **(CLEAN | {"solver_order": order}))
    assert gap(y, expected) < 1.0
    settings = CLEAN | {"solver_order": order, "solver_type": "bh1", "options": {"order": order, "size": "bh1"}}
    y, expected = table_pair("UniPCMultistep", 10, "unipc_lower_final", **settings)
    assert bool(y.isnan().all())
    assert bool(torch.isfinite(expected).all())


def test_unipc_of_order_4_gains_nothing_over_3_there() -> None:
    def even(process: Any, steps: int) -> Tensor:
        return process.t_of_lambda(torch.linspace(0.0, 2.5, steps + 1, dtype=torch.float64))

    config = {"solver_order": 4, "lower_order_final": False}
    ramped = multistep_of(X0, 4, halved_weights, correct=halved_weights)
    assert same_on_bent("UniPCMultistep", ramped, **config) < EXACT
    assert order_of(ramped, PROCESS, (64, 128, 256), even) < 3.6
    assert order_of("unipc_4", PROCESS, (64, 128, 256), even) > 3.75


def test_deis_is_in_log_rho_and_ramped() -> None:
    assert same_on_bent("DEISMultistep", "deis_log_rho_ramped", solver_order=3) < EXACT
    for name in ("deis_3_ramped", "deis_rho_3_ramped", "deis_3", "deis_rho_3"):
        assert same_on_bent("DEISMultistep", name, solver_order=3) > 1e-4
    assert order_there("DEISMultistep", (48, 96, 192), solver_order=3) < 2.5
    lifted = {"prediction": "epsilon", "variable": "lambda"}
    assert order_of("adams_3", PROCESS, (48, 96, 192), **lifted) > 2.75
    assert order_of("deis_3", PROCESS, (48, 96, 192)) > 2.75


@pytest.mark.parametrize(
    "sigmas", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas"]
)
def test_deis_last_step_does_nothing_on_other_sigmas(sigmas: str) -> None:
    """The last sigma stands twice. Urn's plan over the distinct ones is the same with one call less."""
    cls = diffusers.DEISMultistepScheduler
    with float64(cls):
        scheduler = cls(**TABLE, **{sigmas: True})
        scheduler.set_timesteps(20)
        assert scheduler.sigmas[-1] == scheduler.sigmas[-2] > 0
        process = Flow() if sigmas == "use_flow_sigmas" else VP.from_betas(scheduler.betas)
        given = scheduler.sigmas[:-1]
        times = given if sigmas == "use_flow_sigmas" else process.t_of_lambda(-torch.log(given))
        x = states_at(process, float(times[0]), 12)
        scheduler.timesteps = times.clone()
        y = drive(scheduler, lambda y, t: MIXTURE.prediction(y, process, t, "epsilon"), x)
    plan = compiled("deis_log_rho_ramped", process, times, order=2)
    assert gap(y, run(plan, x)) < 1e-7
    assert plan.nfe == 19 == len(scheduler.timesteps) - 1
