"""Schedulers of the installed diffusers that Urn's plans agree with to about 1e-14."""

from __future__ import annotations

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
)
from methods_diffusers import drive, float64
from methods_diffusers_pairs import (
    CLEAN,
    EXACT,
    FIRST,
    KEEP,
    SDE_PP,
    TABLE,
    table_pair,
)
from torch import Tensor

import urn
from urn.conformance.targets import states_at
from urn.processes import VP

Row = tuple[str, int, str, dict[str, Any]]


def agreeing() -> list[Row]:
    """(scheduler, steps, Urn's method, settings)."""
    rows: list[Row] = []
    for spacing, steps in (("leading", 10), ("leading", 7), ("trailing", 10)):
        grid = {"timestep_spacing": spacing}
        rows.append(("DDIM", steps, "ddim", CLEAN | KEEP | grid))
        for eta in (0.5, 1.0):
            rows.append(("DDIM", steps, "ddim", CLEAN | KEEP | grid | {"options": {"eta": eta}, "step": {"eta": eta}}))
    rows.append(("DDIM", 10, "ddim", CLEAN | KEEP | {"steps_offset": 1, "predicts": "v"}))
    snr = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "predicts": "v"}
    rows.append(("DDIM", 10, "ddim", CLEAN | KEEP | snr))
    for spacing, steps in (("leading", 10), ("trailing", 30), ("linspace", 10)):
        grid = {"timestep_spacing": spacing, "variance_type": "fixed_small"}
        rows.append(("DDPM", steps, "ddpm", CLEAN | KEEP | grid))
    rows.append(("DDPM", 10, "ddpm", CLEAN | KEEP | {"variance_type": "fixed_small_log"}))
    rows.append(("DDPM", 10, "ddpm_large", CLEAN | KEEP | {"variance_type": "fixed_large"}))
    rows.append(("DDPM", 10, "ddpm_large", CLEAN | KEEP | {"variance_type": "fixed_large", "predicts": "x0"}))
    for name, method in (("EulerDiscrete", "euler"), ("EulerAncestralDiscrete", "euler_a"), ("HeunDiscrete", "heun")):
        for spacing, steps in (("leading", 10), ("trailing", 7), ("linspace", 28)):
            rows.append((name, steps, method, CLEAN | {"timestep_spacing": spacing, "over_alpha": True}))
        rows.append((name, 10, method, CLEAN | {"over_alpha": True, "predicts": "v"}))
    rows.append(("EulerDiscrete", 10, "euler", FIRST | {"timestep_spacing": "trailing", "over_alpha": True}))
    for method, form, sde in (("dpmpp_2m", {}, False), ("dpmpp_2m_sde", {"algorithm_type": "sde-dpmsolver++"}, True)):
        for spacing in ("leading", "trailing", "linspace"):
            rows.append(("DPMSolverMultistep", 20, method, form | {"timestep_spacing": spacing}))
        rows.append(("DPMSolverMultistep", 10, method, form))
        rows.append(("DPMSolverMultistep", 20, method, form | FIRST))
        one = "dpmpp_1_sde" if sde else "dpmpp_1"
        rows.append(("DPMSolverMultistep", 20, one, form | {"solver_order": 1}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_2m_sde_heun", SDE_PP | {"solver_type": "heun"}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_2m", {"predicts": "v"}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_2m", {"predicts": "x0"}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_3m_published", {"solver_order": 3}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_3m_published", FIRST | {"solver_order": 3}))
    rows.append(("DPMSolverMultistep", 20, "unip_2_epsilon", FIRST | {"algorithm_type": "dpmsolver"}))
    rows.append(("DPMSolverMultistep", 20, "sde_dpm_solver_2m", FIRST | {"algorithm_type": "sde-dpmsolver"}))
    rows.append(
        ("DPMSolverMultistep", 20, "sde_dpm_solver_1", FIRST | {"algorithm_type": "sde-dpmsolver", "solver_order": 1})
    )
    for steps in (4, 10, 14):
        rows.append(("DPMSolverMultistep", steps, "dpmpp_2m_lower_final", FIRST))
        rows.append(("DPMSolverMultistep", steps, "dpmpp_3m_published_lower_final", CLEAN | {"solver_order": 3}))
    for order in (1, 2, 3, 4):
        for size in ("bh1", "bh2"):
            form = {"solver_order": order, "solver_type": size}
            given = {"order": order, "size": size}
            if size == "bh2":
                rows.append(("UniPCMultistep", 10, "unipc_lower_final", CLEAN | form | {"options": given}))
            rows.append(("UniPCMultistep", 20, "unipc_lower_final", FIRST | form | {"options": given}))
            given = given | {"prediction": "epsilon"}
            rows.append(
                ("UniPCMultistep", 20, "unipc_lower_final", FIRST | form | {"options": given, "predict_x0": False})
            )
            if order < 4:
                whole = FIRST | form | {"lower_order_final": False, "options": {"order": order, "size": size}}
                rows.append(("UniPCMultistep", 20, "unipc_3", whole))
    for order in (1, 2, 3):
        form = {"solver_order": order, "options": {"order": order}, "end": 0.0}
        rows.append(("DEISMultistep", 10, "deis_log_rho_lower_final", form))
        rows.append(("DEISMultistep", 20, "deis_log_rho_ramped", form))
        rows.append(("DEISMultistep", 10, "deis_log_rho_ramped", form | {"lower_order_final": False, "predicts": "v"}))
    rows.append(("DPMSolverSinglestep", 10, "ddim", FIRST | {"solver_order": 1}))
    return rows


AGREE = agreeing()


def label(row: Row) -> str:
    settings = ",".join(f"{k}={v}" for k, v in row[3].items() if k not in ("end", "options", "step", "clip_sample"))
    return f"{row[0]}-{row[1]}-{settings}={row[2]}"


@pytest.mark.parametrize("row", AGREE, ids=label)
def test_a_scheduler_is_the_plan(row: Row) -> None:
    name, steps, method, settings = row
    assert gap(*table_pair(name, steps, method, **settings)) < EXACT


@pytest.mark.parametrize("row", AGREE[:: max(1, len(AGREE) // 24)], ids=label)
def test_a_scheduler_as_it_is_in_float32_is_the_plan(row: Row) -> None:
    """That the float64 of the test above changes nothing but rounding."""
    name, steps, method, settings = row
    assert gap(*table_pair(name, steps, method, double=False, **settings)) < 1e-3


@pytest.mark.parametrize("double", [True, False])
def test_ddpms_learned_range_is_iddpm(double: bool) -> None:
    cls, draws = diffusers.DDPMScheduler, normals(10)
    with float64(cls, draws, only_noise=not double):
        scheduler = cls(**TABLE, clip_sample=False, variance_type="learned_range")
        scheduler.set_timesteps(10)
        process = VP.from_betas(scheduler.betas.double())
        times = scheduler.timesteps.double()

        def net(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return MIXTURE.prediction(x, process, float(t[0] if t.ndim else t), "epsilon"), torch.tanh(x)

        x = states_at(process, float(times[0]), 12)
        both = drive(scheduler, lambda x, t: torch.stack(net(x, torch.tensor(t)), dim=1), x)
    plan = compiled("iddpm", process, torch.cat([times, torch.tensor([-1.0])]))
    model = urn.Model(net, process, ("epsilon", "variance"))
    assert gap(both.double(), urn.execute(plan, model, {"x": x}, Listed(draws))["x"]) < (EXACT if double else 1e-3)


def test_the_zero_terminal_snr_tables_are_one() -> None:
    cls = diffusers.DDIMScheduler
    with float64(cls):
        plain, rescaled = cls(**TABLE), cls(**TABLE, rescale_betas_zero_snr=True)
    ours = VP.from_betas(plain.betas, zero_terminal_snr=True)
    assert float((torch.tensor(ours.alphas_cumprod, dtype=torch.float64) - rescaled.alphas_cumprod).abs().max()) < 1e-12
    assert ours.alphas_cumprod[-1] == 0.0
