"""Flow-matching and EDM schedulers of the installed diffusers."""

from __future__ import annotations

import math
from typing import Any

import diffusers
import pytest
import torch
from methods_cases import (
    MIXTURE,
    Listed,
    compiled,
    gap,
    normals,
    run,
)
from methods_diffusers import drive, float64
from methods_diffusers_pairs import (
    EXACT,
    SDE_PP,
    scheduler_class,
)
from torch import Tensor

import urn
from urn.conformance.targets import states_at
from urn.processes import VE, Flow


def flow_pair(
    name: str, steps: int, method: str, options: dict[str, Any] | None = None, own_times: bool = False, **config: Any
) -> tuple[Tensor, Tensor, Any]:
    """A scheduler on a flow, its sigmas the grid; the network is shown sigma, or `own_times` the scheduler's timesteps."""
    cls, flow = scheduler_class(name), Flow()
    with float64(cls):
        scheduler = cls(**config)
        scheduler.set_timesteps(steps)
        times = torch.unique(scheduler.sigmas).flip(0).double()
        x = states_at(flow, float(times[0]), 12)
        kept = scheduler.sigmas.tolist()

        def network(y: Tensor, t: float) -> Tensor:
            sigma = t / 1000 if own_times else kept[scheduler.step_index or 0]
            return MIXTURE.prediction(y, flow, sigma, "velocity")

        y = drive(scheduler, network, x)
    plan = compiled(method, flow, times, **options or {})
    return y, run(plan, x, predicts="velocity"), scheduler


FLOW_PREDICTION = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "method", "options"),
    [
        ("FlowMatchEulerDiscrete", "euler", {}),
        ("FlowMatchEulerDiscrete", "probability_flow", {}),
        ("FlowMatchHeunDiscrete", "probability_flow_heun", {}),
        ("DPMSolverMultistep", "dpmpp_2m_lower_final", {}),
        ("UniPCMultistep", "unipc_lower_final", {"order": 2}),
        ("UniPCMultistep", "unipc_lower_final", {"order": 3}),
    ],
)
def test_a_flow_scheduler_is_the_plan(name: str, method: str, options: dict[str, Any], shift: float) -> None:
    matching = name.startswith("FlowMatch")
    config = {"shift": shift} if matching else {**FLOW_PREDICTION, "flow_shift": shift}
    config |= {"solver_order": options["order"]} if options else {}
    y, expected, _ = flow_pair(name, 10, method, options, own_times=matching, **config)
    assert gap(y, expected) < EXACT


def edm_pair(name: str, method: str, steps: int, seed: int = 0, **config: Any) -> tuple[Tensor, Tensor]:
    """A scheduler that preconditions its network as EDM does: F with D = c_skip x + c_out F(c_in x)."""
    cls, process, draws = scheduler_class(name), VE(), normals(steps, seed=seed)
    data, predicts = 0.5, config.get("prediction_type", "epsilon")
    with float64(cls, draws):
        scheduler = cls(sigma_data=data, **config)
        scheduler.set_timesteps(steps)
        times = scheduler.sigmas.double()
        x = states_at(process, float(times[0]), 12)

        def network(scaled: Tensor, t: float) -> Tensor:
            sigma = float(times[scheduler.step_index or 0])
            root = math.hypot(sigma, data)
            y = scaled * root
            c_out = (1 if predicts == "epsilon" else -1) * sigma * data / root
            return (MIXTURE.prediction(y, process, sigma, "x0") - (data / root) ** 2 * y) / c_out

        y = drive(scheduler, network, x)
    end = {"final": "x0"} if "sde" in method or method.endswith("published") else {}
    plan = compiled(method, process, times[:-1] if end else times, **end)
    return y, urn.execute(plan, MIXTURE.model(process, "x0"), {"x": x}, Listed(draws))["x"]


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("name", "method", "steps", "config"),
    [
        ("EDMEuler", "euler", 10, {}),
        ("EDMDPMSolverMultistep", "ddim", 10, {"solver_order": 1}),
        ("EDMDPMSolverMultistep", "dpmpp_2m_lower_final", 10, {}),
        ("EDMDPMSolverMultistep", "dpmpp_3m_published_lower_final", 10, {"solver_order": 3}),
        ("EDMDPMSolverMultistep", "dpmpp_3m_published", 20, {"solver_order": 3}),
        ("EDMDPMSolverMultistep", "dpmpp_2m_sde", 10, SDE_PP),
    ],
)
def test_an_edm_scheduler_is_the_plan(
    name: str, method: str, steps: int, config: dict[str, Any], predicts: str, schedule: str
) -> None:
    settings = {**config, "prediction_type": predicts, "sigma_schedule": schedule}
    assert gap(*edm_pair(name, method, steps, **settings)) < EXACT


def test_urns_karras_grid_is_edms() -> None:
    cls = diffusers.EDMEulerScheduler
    with float64(cls):
        scheduler = cls()
        scheduler.set_timesteps(12)
    assert gap(urn.grids.karras(VE(), 11), scheduler.sigmas[:-1]) < 1e-12
