"""The same method on another process does the same."""

from __future__ import annotations

import pytest
import torch
from methods_cases import (
    PROCESSES,
    bent,
    compiled,
    gap,
    run,
    start_states,
)

import urn
from urn.processes import VE, VP, Flow

# fmt: off
IN_LAMBDA = [
    "ddim", "euler_ancestral", "ddpm", "heun", "edm", "annealed_langevin", "dpm_solver_2", "dpm_solver_3",
    "dpm_solver_fast", "amed", "epd", "s4s", "dpmpp_2s", "dpmpp_3s", "dpmpp_2m", "dpmpp_3m", "dpmpp_3m_published", "dpmpp_1_sde",
    "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "dpmpp_3m_sde_published", "dpmpp_sde", "dpmpp_2s_ancestral",
    "sde_dpm_solver_1", "sde_dpm_solver_2m", "deis_rho_2", "deis_rho_4", "deis_rho_4_ramped", "deis_rho_kutta_3",
    "deis_rho_rk4", "unip_3", "unipc_1", "unipc_3", "unipc_5", "unipc_3_bh1", "unipc_3_epsilon",
]


@pytest.mark.parametrize("name", IN_LAMBDA)
@pytest.mark.parametrize("process", ["vp", "flow shifted", "table"])
def test_methods_in_lambda_do_the_same_on_a_process_and_on_its_ve_image(name: str, process: str) -> None:
    """(x/alpha, sigma/alpha) of any process is VE, and such methods see lambda and ratios of alphas and sigmas alone."""
    forward = PROCESSES[process]
    times = bent(forward, 6)
    image = torch.exp(-forward.lambda_(times))
    options = {"repeats": 2} if name == "annealed_langevin" else {}
    plan, on_ve = compiled(name, forward, times, **options), compiled(name, VE(), image, **options)
    x = start_states(plan)
    y, y_ve = run(plan, x), run(on_ve, x / forward.alpha(times[0]))
    assert gap(y / forward.alpha(times[-1]), y_ve) < 1e-9


@pytest.mark.parametrize(
    "name", ["deis_3", "probability_flow_heun", "reverse_diffusion", "predictor_corrector", "ddpm_large"]
)
def test_methods_in_the_clock_or_with_the_forward_variance_do_not(name: str) -> None:
    """DDPM's large variance is that of the forward step, and a step of VP is not one of VE: beta is not their difference."""
    process = VP.linear()
    times = bent(process, 6)
    image = torch.exp(-process.lambda_(times))
    plan, on_ve = compiled(name, process, times), compiled(name, VE(), image)
    x = start_states(plan)
    y, y_ve = run(plan, x), run(on_ve, x / process.alpha(times[0]))
    assert gap(y / process.alpha(times[-1]), y_ve) > 1e-5


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m", "dpmpp_3m", "unipc_3", "probability_flow_heun"])
def test_an_even_grid_on_a_shifted_flow_is_the_shifted_grid_on_the_straight_one(name: str) -> None:
    times = torch.linspace(0.97, 0.05, 9, dtype=torch.float64)
    shifted = compiled(name, Flow(shift=3.0), times)
    straight = compiled(name, Flow(), 3 * times / (1 + 2 * times))
    x = start_states(shifted)
    difference = gap(run(shifted, x), run(straight, x))
    # in lambda they are one; the ODE in t is another one
    assert difference > 1e-4 if name.startswith("probability_flow") else difference < 1e-12
    uniform = urn.grids.uniform(Flow(), 8)
    assert gap(3 * uniform / (1 + 2 * uniform), urn.grids.shifted(3.0)(Flow(), 8)) < 1e-15
