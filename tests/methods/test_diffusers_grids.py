"""Grids and the labels shown to a network in the installed diffusers."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch
from methods_cases import (
    gap,
)
from methods_diffusers import drive, float64
from methods_diffusers_pairs import (
    CLEAN,
    EXACT,
    POINT,
    TABLE,
    scheduler_class,
    table_pair,
)
from torch import Tensor

import urn
from urn.conformance.targets import states_at
from urn.processes import VP, Flow


@pytest.mark.parametrize(
    ("name", "method", "config"),
    [
        ("DPMSolverMultistep", "dpmpp_2m", {"use_karras_sigmas": True}),
        ("DPMSolverMultistep", "dpmpp_2m", {"use_exponential_sigmas": True}),
        ("DPMSolverMultistep", "dpmpp_2m", {"use_beta_sigmas": True}),
        ("DPMSolverMultistep", "dpmpp_2m", {"use_lu_lambdas": True}),
        ("UniPCMultistep", "unipc_lower_final", {"use_karras_sigmas": True, "options": {"order": 2}, "end": -1.0}),
        ("UniPCMultistep", "unipc_lower_final", {"use_exponential_sigmas": True, "options": {"order": 2}, "end": -1.0}),
    ],
)
def test_other_sigmas_agree_where_the_network_is_shown_their_own_time(name: str, method: str, config: Any) -> None:
    """The schedulers round or cut the times to integers. With the time of the noise level they are Urn's plan; with the
    integers a point mass, which every method here reproduces exactly, is missed."""

    def level(scheduler: Any, process: Any) -> Tensor:
        return process.t_of_lambda(-torch.log(scheduler.sigmas[:-1].double()))

    assert gap(*table_pair(name, 12, method, times=level, **config)) < 1e-7
    cls = scheduler_class(name)
    with float64(cls):
        scheduler = cls(**TABLE, **{key: value for key, value in config.items() if key.startswith("use")})
        scheduler.set_timesteps(12)
        process = VP.from_betas(scheduler.betas)
        x = states_at(process, float(level(scheduler, process)[0]), 12, POINT)
        right, shown = level(scheduler, process), scheduler.timesteps.clone()
        assert float((right - shown).abs().max()) > 0.3
        # a sub-grid that does not end at sigma 0, for the last step to it makes any error vanish on a point
        y = drive(_without_last(scheduler), lambda y, t: POINT.prediction(y, process, t, "epsilon"), x)
    sigma, alpha = (f(right[-1]) for f in (process.sigma, process.alpha))
    noise_there = (x - process.alpha(right[0]) * POINT.mean) / process.sigma(right[0])
    assert float(((y - alpha * POINT.mean) / sigma - noise_there).abs().max()) > 1e-3


def _without_last(scheduler: Any) -> Any:
    scheduler.sigmas, scheduler.timesteps = scheduler.sigmas[:-1], scheduler.timesteps[:-1]
    return scheduler


@pytest.mark.parametrize("name", ["EulerDiscrete", "HeunDiscrete", "EulerAncestralDiscrete"])
def test_sigma_between_integers_is_linear_there_and_log_linear_here(name: str) -> None:
    """Seven points of linspace fall on halves. The scheduler's own inverse, _sigma_to_t, is log-linear as Urn is."""
    method = {"EulerDiscrete": "euler", "HeunDiscrete": "heun"}.get(name, "euler_a")
    y, expected = table_pair(name, 7, method, **(CLEAN | {"timestep_spacing": "linspace", "over_alpha": True}))
    assert 1e-7 < gap(y, expected) < 1e-4

    def level(scheduler: Any, process: Any) -> Tensor:
        kept = torch.unique(scheduler.sigmas[scheduler.sigmas > 0]).flip(0).double()
        return process.t_of_lambda(-torch.log(kept)).clamp(max=999.0)

    settings = CLEAN | {"timestep_spacing": "linspace", "over_alpha": True, "times": level}
    assert gap(*table_pair(name, 7, method, **settings)) < EXACT


def test_eulers_last_step_does_nothing_to_sigma_min_on_linspace() -> None:
    with float64(diffusers.EulerDiscreteScheduler):
        scheduler = diffusers.EulerDiscreteScheduler(**TABLE, final_sigmas_type="sigma_min")
        scheduler.set_timesteps(10)
    assert scheduler.sigmas[-1] == scheduler.sigmas[-2] > 0


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "UniPCMultistep"])
def test_zero_terminal_snr_is_not_quite_zero_in_multistep_schedulers(name: str) -> None:
    cls = scheduler_class(name)
    with float64(cls):
        scheduler = cls(**TABLE, rescale_betas_zero_snr=True, timestep_spacing="trailing")
        scheduler.set_timesteps(10)
    assert float(scheduler.sigmas[0]) == pytest.approx(math.sqrt(2**24 - 1))
    ours = VP.from_betas(scheduler.betas)
    assert float(ours.alpha(999.0)) < 1e-7


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"])
def test_a_flow_matching_shift_is_applied_twice_to_the_smallest_sigma(name: str) -> None:
    cls = scheduler_class(name)
    with float64(cls):
        scheduler = cls(shift=3.0)
        scheduler.set_timesteps(10)
    sigmas = torch.unique(scheduler.sigmas).flip(0)

    def shift(s: Any) -> Any:
        return 3 * s / (1 + 2 * s)

    once, twice = shift(0.001), shift(shift(0.001))
    assert float(sigmas[-2]) == pytest.approx(twice)
    expected = shift(
        torch.linspace(1.0, once, 10, dtype=torch.float64)
    )  # an even grid down to the shifted smallest one
    assert gap(sigmas[:-1], expected) < 1e-12
    ours = urn.grids.shifted(3.0, [*torch.linspace(1.0, 0.001, 10).tolist(), 0.0])(Flow(), 10)
    assert float((sigmas - ours).abs().max()) > 1e-3
