"""UrnScheduler: against Urn's executor on the same network, start and noise, and against the schedulers it stands in for."""

from __future__ import annotations

import copy
import logging
from typing import Any

import diffusers
import pytest
import torch
from adapters_loops import (
    drive,
    executed,
    gap,
    made,
    net,
    normal,
    per_sample,
    seeded,
)
from diffusers import DDPMPipeline, UNet2DModel

import urn
from urn.adapters.diffusers import UrnScheduler
from urn.method import combine, evaluate, noise

FLOW_SIGMAS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.fixture(autouse=True)
def quiet():
    diffusers.utils.logging.set_verbosity(logging.ERROR)


@pytest.mark.parametrize(
    ("method", "chosen"),
    [
        ("dpmpp_2m", {"grid": "quadratic"}),
        ("unipc_3", {"grid": "quadratic"}),
        ("adams_pc_3", {}),
        ("heun", {"grid": "trailing"}),
        ("deis_rho_rk4", {"grid": [999.0, 700.0, 333.0, 20.0, -1.0]}),
        ("dpmpp_sde", {}),
        ("sa_solver_3", {"grid": "uniform"}),
        ("dpmpp_2m", {"grid": "karras", "final": "x0"}),
        ("ddim", {"options": {"eta": 0.7}}),
        ("restart", {"grid": "karras"}),
    ],
)
@pytest.mark.parametrize("name", ["DDIM", "FlowMatchEulerDiscrete"])
def test_a_loop_over_steps_is_execute(name, method, chosen):
    if name.startswith("Flow") and isinstance(chosen.get("grid"), list):
        chosen = {"grid": [1.0, 0.6, 0.25, 0.0]}
    if name.startswith("Flow") and chosen.get("grid") == "trailing":
        chosen = {}
    settings = {} if name.startswith("Flow") else {"clip_sample": False}
    scheduler = UrnScheduler.from_config(made(name, **settings).config, method=method, **chosen)
    steps = len(chosen["grid"]) - 1 if isinstance(chosen.get("grid"), list) else 6
    x = normal(3, 2, 4, 4)
    found = drive(scheduler, x, steps, generator=seeded(7))
    assert gap(found, executed(scheduler, per_sample, x * scheduler.init_noise_sigma, seeded(7))) < 2e-6
    assert len(scheduler.timesteps) == scheduler.plan.nfe


SAME = [
    ("DDIM", {"clip_sample": False}, "ddim", {}, {}),
    ("DDIM", {"clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False}, "ddim", {}, {}),
    ("DDIM", {"clip_sample": False, "timestep_spacing": "trailing", "prediction_type": "sample"}, "ddim", {}, {}),
    ("DDIM", {"clip_sample": False, "beta_schedule": "squaredcos_cap_v2"}, "ddim", {"eta": 1.0}, {"eta": 1.0}),
    ("DDIM", {"clip_sample": False, "trained_betas": [0.001 + 0.00002 * i for i in range(1000)]}, "ddim", {}, {}),
    (
        "DDIM",
        {
            "clip_sample": False,
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            "prediction_type": "v_prediction",
        },
        "ddim",
        {},
        {},
    ),
    ("DDPM", {}, "ddpm", {}, {}),
    ("DDPM", {"clip_sample": False, "thresholding": True, "sample_max_value": 1.5}, "ddpm", {}, {}),
    ("DPMSolverMultistep", {}, "dpmpp_2m_lower_final", {}, {}),
    ("DPMSolverMultistep", {"thresholding": True, "sample_max_value": 1.5}, "dpmpp_2m_lower_final", {}, {}),
    ("DPMSolverMultistep", {"final_sigmas_type": "sigma_min"}, "dpmpp_2m_lower_final", {}, {}),
    ("DPMSolverMultistep", {"solver_order": 3}, "dpmpp_3m_published_lower_final", {}, {}),
    ("UniPCMultistep", {"solver_order": 3}, "unipc_lower_final", {"order": 3}, {}),
    ("UniPCMultistep", {"timestep_spacing": "leading", "steps_offset": 1}, "unipc_lower_final", {"order": 2}, {}),
    ("DEISMultistep", {"solver_order": 3}, "deis_log_rho_lower_final", {"order": 3}, {}),
    ("EulerDiscrete", {"timestep_spacing": "trailing"}, "euler", {}, {}),
    ("EulerDiscrete", {"timestep_spacing": "leading", "prediction_type": "v_prediction"}, "euler", {}, {}),
    ("EulerAncestralDiscrete", {"timestep_spacing": "trailing"}, "euler_a", {}, {}),
    ("HeunDiscrete", {"timestep_spacing": "trailing"}, "heun", {}, {}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0}, "euler", {}, {}),
    ("FlowMatchEulerDiscrete", {"shift_terminal": 0.1}, "euler", {}, {}),
    ("FlowMatchEulerDiscrete", {"use_karras_sigmas": True}, "euler", {}, {}),
    ("FlowMatchHeunDiscrete", {"shift": 3.0}, "probability_flow_heun", {}, {}),
]


@pytest.mark.parametrize(("name", "config", "method", "options", "step"), SAME)
def test_a_scheduler_of_the_same_method_gives_the_same(name, config, method, options, step):
    other = made(name, **config)
    scheduler = UrnScheduler.from_config(other.config, method=method, options=options)
    x = normal(2, 2, 4, 4)
    random = {"DDPM", "EulerAncestralDiscrete"}
    given = [{"generator": seeded(3)} if name in random or step else {} for _ in range(2)]
    expected = drive(other, x, 10, **given[0], **step)
    assert gap(drive(scheduler, x, 10, **given[1]), expected) < 3e-5
    assert torch.equal(scheduler.timesteps.double(), other.timesteps.double()) or torch.allclose(
        scheduler.timesteps.float(), other.timesteps.float(), rtol=1e-6
    )
    assert scheduler.order == other.order


@pytest.mark.parametrize("sigmas", ["karras", "exponential", "beta"])
def test_sigmas_of_their_own_are_taken_over(sigmas):
    """diffusers finds such a time by linear interpolation in log sigma on a float32 table: its network sees 1e-4 another t."""
    other = made("EulerDiscrete", timestep_spacing="trailing", **{f"use_{sigmas}_sigmas": True})
    scheduler = UrnScheduler.from_config(other.config, method="euler")
    x = normal(2, 2, 4, 4)
    assert gap(drive(scheduler, x, 8), drive(other, x, 8)) < 2e-4
    ratio = torch.exp(-scheduler.process.lambda_(torch.tensor(scheduler.plan.times[:-1])))
    assert torch.allclose(ratio.float(), other.sigmas[:-1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_dynamic_shifting_with_mu(kind):
    other = made("FlowMatchEulerDiscrete", use_dynamic_shifting=True, time_shift_type=kind)
    scheduler = UrnScheduler.from_config(other.config, method="euler")
    x = normal(2, 2, 4, 4)
    assert gap(drive(scheduler, x, 5, {"mu": 0.9}), drive(other, x, 5, {"mu": 0.9})) < 1e-5
    even = UrnScheduler.from_config(other.config, method="euler", grid="uniform")
    even.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=0.9)  # what pipelines of flows pass to say 4
    other.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=0.9)
    assert torch.allclose(even.timesteps, other.timesteps, rtol=1e-6)
    with pytest.raises(ValueError, match="mu=None"):
        scheduler.set_timesteps(5)


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "UniPCMultistep", "DPMSolverMultistep"])
def test_mu_that_nobody_asked_for_changes_nothing(name):
    """Flux hands it in to every scheduler."""
    settings = {} if name.startswith("FlowMatch") else FLOW_SIGMAS
    scheduler = UrnScheduler.from_config(made(name, **settings).config)
    scheduler.set_timesteps(5)
    plan = scheduler.plan
    scheduler.set_timesteps(5, mu=0.9)
    assert scheduler.plan == plan


def test_flow_sigmas_of_a_table_scheduler():
    """diffusers shows the network an integer; with a network that does not look at the time both are the same."""
    other = made("UniPCMultistep", **FLOW_SIGMAS, flow_shift=3.0)
    scheduler = UrnScheduler.from_config(other.config, method="unipc_lower_final", options={"order": 2})
    x = normal(2, 2, 4, 4)
    ends = []
    for one in (scheduler, other):
        one.set_timesteps(8)
        y = x
        for t in one.timesteps:
            y = one.step(net(y, 300.0), t, y).prev_sample
        ends.append(y)
    assert gap(*ends) < 1e-5
    assert torch.allclose(scheduler.timesteps, other.timesteps.float(), atol=1.0)


def test_ends_at_a_smallest_noise():
    """A last sigma that stands twice is one end; that of the table is t = 0."""
    flow = UrnScheduler.from_config(made("UniPCMultistep", **FLOW_SIGMAS, final_sigmas_type="sigma_min").config)
    flow.set_timesteps(5)
    assert len(flow.plan.times) == 5
    assert flow.plan.times[-1] == pytest.approx(0.2008, abs=1e-4)
    karras = made("DPMSolverMultistep", use_karras_sigmas=True, final_sigmas_type="sigma_min")
    table = UrnScheduler.from_config(karras.config, method="dpmpp_2m")
    table.set_timesteps(5)
    assert (len(table.plan.times), table.plan.times[0], table.plan.times[-1]) == (5, 999.0, 0.0)


def test_a_named_grid_on_a_flow_is_shifted_as_the_settings_say():
    s = torch.linspace(1, 0, 7, dtype=torch.float64)
    for name, config in (
        ("FlowMatchEulerDiscrete", {"shift": 3.0}),
        ("UniPCMultistep", FLOW_SIGMAS | {"flow_shift": 3.0}),
    ):
        scheduler = UrnScheduler.from_config(made(name, **config).config, grid="uniform")
        scheduler.set_timesteps(6)
        times = torch.tensor(scheduler.plan.times, dtype=torch.float64)
        assert torch.allclose(times, 3 * s / (1 + 2 * s), rtol=1e-12)
    dynamic = made("FlowMatchEulerDiscrete", use_dynamic_shifting=True)
    scheduler = UrnScheduler.from_config(dynamic.config, grid="uniform")
    scheduler.set_timesteps(6, mu=0.9)
    shift = torch.tensor(0.9, dtype=torch.float64).exp()
    times = torch.tensor(scheduler.plan.times, dtype=torch.float64)
    assert torch.allclose(times, shift * s / (1 + (shift - 1) * s), rtol=1e-12)


def test_latents_that_a_pipeline_changes_between_steps():
    """As inpainting does: the plan goes on from what the network was shown."""
    other = made("DPMSolverMultistep")
    scheduler = UrnScheduler.from_config(other.config, method="dpmpp_2m_lower_final")
    ends = []
    for one in (scheduler, other):
        one.set_timesteps(10)
        x = normal(2, 2, 4, 4)
        for t in one.timesteps:
            x = one.step(net(x, t), t, x).prev_sample
            x = torch.cat([x[:, :1] * 0.5 + 0.3, x[:, 1:]], 1)
        ends.append(x)
    assert gap(*ends) < 1e-5


@urn.method(order=None, stochastic=True, source="test")
def noise_twice(nodes: Any, x: str) -> Any:
    """Two calls in a step, each followed by the noise of one name."""
    for cur, next in nodes.steps():
        x0, epsilon = yield evaluate(x, cur, "x0", "epsilon")
        z = yield noise(cur, next, 5)
        middle = yield combine(next, (next.alpha, x0), (0.6 * next.sigma, epsilon), (0.8 * next.sigma, z))
        x0 = yield evaluate(middle, cur, "x0")
        z = yield noise(cur, next, 5)
        x = yield combine(next, (next.alpha, x0), (next.sigma, z))
    return x


def test_a_noise_that_is_named_in_two_calls_is_one():
    config = made("DDIM", clip_sample=False).config
    process = UrnScheduler.from_config(config).process
    plan = urn.compile_plan(noise_twice, process, grid=[999.0, 500.0, 100.0, 0.0])
    scheduler = UrnScheduler.from_config(config, plan=plan)
    x = normal(2, 2, 4, 4)
    found = drive(scheduler, x, 3, generator=seeded(7))
    assert gap(found, executed(scheduler, per_sample, x, seeded(7))) < 2e-6


def test_times_and_sigmas_given():
    scheduler = UrnScheduler.from_config(made("DDIM").config, method="dpmpp_2m")
    scheduler.set_timesteps(timesteps=[999, 500, 20])
    assert scheduler.timesteps.tolist() == [999, 500, 20]
    assert scheduler.timesteps.dtype == torch.int64
    assert scheduler.plan.times == (999.0, 500.0, 20.0, -1.0)
    euler = made("EulerDiscrete")
    euler.set_timesteps(4)
    scheduler.set_timesteps(sigmas=euler.sigmas.tolist())
    assert scheduler.timesteps.tolist() == pytest.approx(euler.timesteps.tolist(), abs=1e-2)
    assert scheduler.plan.times[-1] == -1.0
    flow = UrnScheduler.from_config(made("FlowMatchEulerDiscrete").config, method="dpmpp_2m")
    flow.set_timesteps(timesteps=[1000, 400.5])
    assert flow.plan.times == pytest.approx((1.0, 0.4005, 0.0))


def test_a_learned_variance_is_split_off():
    config = {"variance_type": "learned_range", "clip_sample": False}
    other = made("DDPM", **config)
    scheduler = UrnScheduler.from_config(other.config, method="iddpm")
    x, ends = normal(2, 2, 4, 4), []
    for one in (scheduler, other):
        one.set_timesteps(6)
        y, generator = x, seeded(4)
        for t in one.timesteps:
            y = one.step(torch.cat([net(y, t), torch.tanh(y)], 1), t, y, generator=generator).prev_sample
        ends.append(y)
    assert gap(*ends) < 1e-5
    scheduler.set_timesteps(6)
    with pytest.raises(ValueError, match="model_output has 2 channels"):
        scheduler.step(net(x, 0), scheduler.timesteps[0], x)


@pytest.mark.parametrize("method", ["dpmpp_2m", "heun", "ddim"])
@pytest.mark.parametrize("name", ["DDIM", "FlowMatchEulerDiscrete"])
def test_a_run_that_begins_later_is_the_plan_on_the_times_that_remain(name, method):
    clip = {"clip_sample": False} if name == "DDIM" else {}
    scheduler = UrnScheduler.from_config(made(name, **clip).config, method=method)
    scheduler.set_timesteps(8)
    begin, image, noise = 3 * scheduler.order, normal(2, 2, 4, 4), normal(2, 2, 4, 4, seed=1)
    times, shown = scheduler.plan.times, scheduler.timesteps
    assert scheduler.order == (2 if method == "heun" else 1)
    scheduler.set_begin_index(5 * scheduler.order)
    scheduler.set_begin_index(0)
    assert scheduler.plan.times == times
    scheduler.set_begin_index(begin)
    x = start = scheduler.add_noise(image, noise, shown[begin].repeat(2))
    alpha, sigma = scheduler.process.alpha(times[3]), scheduler.process.sigma(times[3])
    assert gap(start, (alpha * image + sigma * noise).float()) < 1e-6
    for t in shown[begin:]:
        x = scheduler.step(net(x, t), t, x).prev_sample
    rest = urn.compile_plan(method, scheduler.process, grid=times[3:])
    assert scheduler.plan == rest
    assert gap(x, executed(scheduler, per_sample, start)) < 2e-6
    again = UrnScheduler.from_config(scheduler.config)  # without set_begin_index, as older pipelines
    again.set_timesteps(8)
    y = start
    for t in shown[begin:]:
        y = again.step(net(y, t), t, y).prev_sample
    assert torch.equal(x, y)


def test_diffusers_begins_later_in_the_same_way():
    other = made("DPMSolverMultistep")
    scheduler = UrnScheduler.from_config(other.config, method="dpmpp_2m_lower_final")
    ends = []
    for one in (scheduler, other):
        one.set_timesteps(10)
        one.set_begin_index(4)
        x = one.add_noise(normal(2, 2, 4, 4), normal(2, 2, 4, 4, seed=1), one.timesteps[4].repeat(2))
        for t in one.timesteps[4:]:
            x = one.step(net(x, t), t, x).prev_sample
        ends.append(x)
    assert gap(*ends) < 1e-5


@pytest.mark.parametrize("method", ["dpmpp_2m", "heun", "adams_pc_3", "dpmpp_sde", "deis_rho_rk4", "restart"])
def test_pipelines_count_the_steps_with_order(method):
    """Their bar ticks after call i where (i + 1) > warm-up and order divides i + 1, and after the last call."""
    scheduler = UrnScheduler.from_config(made("DDIM").config, method=method)
    scheduler.set_timesteps(7)
    calls = len(scheduler.timesteps)
    warm_up = calls - 7 * scheduler.order
    ticks = sum(i == calls - 1 or (i + 1 > warm_up and (i + 1) % scheduler.order == 0) for i in range(calls))
    assert ticks == 7
    times = [float(t) for t in scheduler.timesteps]
    if scheduler.order > 1:
        assert times[:: scheduler.order] == list(scheduler.plan.times[:-1])


def test_half_precision_stays_half():
    scheduler = UrnScheduler.from_config(made("FlowMatchEulerDiscrete").config, method="dpmpp_2m")
    x = normal(2, 2, 4, 4)
    assert drive(scheduler, x.bfloat16(), 5).dtype == torch.bfloat16
    assert gap(drive(scheduler, x.bfloat16(), 5).float(), drive(scheduler, x, 5)) < 5e-2


def test_copies_and_schedulers_of_one_config_are_apart():
    first = UrnScheduler.from_config(made("DDIM").config, method="unipc_3")
    alone = drive(first, normal(1, 2, 4, 4), 6)
    first.set_timesteps(6)
    second, x = UrnScheduler.from_config(first.config), normal(1, 2, 4, 4)
    second.set_timesteps(6)
    y, third, z = normal(1, 2, 4, 4, seed=5), None, None
    for i, t in enumerate(first.timesteps):
        if i == 2:
            third, z = copy.copy(first), x + 1.0
        x = first.step(net(x, t), t, x).prev_sample
        y = second.step(net(y, t), t, y).prev_sample
        if third is not None:
            z = third.step(net(z, t), t, z).prev_sample
    assert torch.equal(x, alone)
    assert gap(z, x) > 1e-3


NOT_IN_A_PIPELINE = {
    "edm": "set churn to 0",
    "accelerated_ddpm": "its first model call is not at the start x",
    "annealed_langevin": "needs 0 < sigma/alpha < inf",
    "iddpm": "wants 'variance'",
    **dict.fromkeys(
        ("euler_ancestral_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "res_multistep_ancestral_cfg_pp"), "unconditional"
    ),
}
STOCHASTIC = sorted(
    {m.name for m in urn.METHODS.values() if m.stochastic and "psld" not in m.name and m.name != "sscs"}
)


@pytest.mark.parametrize("method", STOCHASTIC)
def test_with_a_generator_per_sample_it_does_not_matter_who_else_is_drawn(method):
    options = {"s_churn": 5.0} if method == "edm" else {}
    scheduler = UrnScheduler.from_config(made("DDPM").config, method=method, options=options)
    x = normal(3, 2, 4, 4)
    if method in NOT_IN_A_PIPELINE:
        with pytest.raises(urn.PlanError, match=NOT_IN_A_PIPELINE[method]):
            scheduler.set_timesteps(5)
        return
    batch = drive(scheduler, x, 5, generator=[seeded(i) for i in (10, 11, 12)])
    single = drive(scheduler, x[1:2], 5, generator=[seeded(11)])
    assert gap(batch[1:2], single) < 1e-6
    assert gap(batch[1:2], drive(scheduler, x[1:2], 5, generator=[seeded(12)])) > 1e-3


def test_a_plan_that_was_compiled_elsewhere(tmp_path):
    config = made("DDIM", clip_sample=False).config
    process = UrnScheduler.from_config(config).process
    plan = urn.compile_plan(urn.mixed(("ddim", 1), "dpmpp_2m"), process, grid=[999.0, 500.0, 100.0, -1.0])
    scheduler = UrnScheduler.from_config(config, plan=plan)
    x = normal(2, 2, 4, 4)
    found = drive(scheduler, x, 3)
    assert scheduler.plan == plan
    assert gap(found, executed(scheduler, per_sample, x)) < 2e-6
    scheduler.save_pretrained(tmp_path)
    assert torch.equal(drive(UrnScheduler.from_pretrained(tmp_path), x, 3), found)
    with pytest.raises(ValueError, match="num_inference_steps=4: the plan given has 3 steps"):
        scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="the network's process is"):
        UrnScheduler.from_config(config, plan=urn.compile_plan("ddim", urn.VP.linear(), 3))


def test_a_config_is_saved_and_read(tmp_path):
    for name in ("PNDM", "UniPCMultistep", "FlowMatchEulerDiscrete"):
        settings = {"grid": "quadratic", "options": {"order": 2}, "final": None}
        scheduler = UrnScheduler.from_config(made(name).config, method="unipc", **settings)
        scheduler.save_pretrained(tmp_path / name)
        again = UrnScheduler.from_pretrained(tmp_path / name)
        for one in (scheduler, again):
            one.set_timesteps(5)
        assert again.plan == scheduler.plan
        assert (again.config["source"], again.plan.options) == (f"{name}Scheduler", (("order", 2),))
        changed = UrnScheduler.from_config(again.config, method="dpmpp_2m")
        changed.set_timesteps(5)
        assert changed.plan.method == "dpmpp_2m"
        saved = made(name)
        saved.save_pretrained(tmp_path / f"{name} own")
        loaded = UrnScheduler.from_pretrained(tmp_path / f"{name} own", method="dpmpp_2m")
        assert loaded.config["source"] == f"{name}Scheduler"


def refuse(match: str, name: str = "DDIM", config: dict[str, Any] | None = None, **chosen: Any) -> None:
    with pytest.raises(ValueError, match=match):
        UrnScheduler.from_config(made(name, **config or {}).config, **chosen)


def test_what_cannot_be_honoured_is_refused():
    refuse("method='dpmpp2m' is unknown", method="dpmpp2m")
    refuse("has no option etta", method="ddim", options={"etta": 1.0})
    refuse("grid='karas' is unknown", grid="karas")
    refuse("grid=.* must be a name", grid=urn.grids.karras)
    refuse("methd='x' is neither", methd="x")
    refuse("invert_sigmas=True", "FlowMatchEulerDiscrete", {"invert_sigmas": True})
    refuse("timestep_type='continuous'", "EulerDiscrete", {"timestep_type": "continuous"})
    refuse("variance_type='learned'", "DDPM", {"variance_type": "learned"})
    refuse("prediction_type='flow_prediction'", "UniPCMultistep", {"prediction_type": "flow_prediction"})
    with pytest.raises(ValueError, match="LCMScheduler"):
        UrnScheduler.from_config({**made("LCM").config, "_class_name": "LCMScheduler"})
    with pytest.raises(ValueError, match="no '_class_name'"):
        UrnScheduler.from_config({"beta_start": 0.1})
    with pytest.raises(ValueError, match="config='x'"):
        UrnScheduler.from_config("x")
    snr = made("DDIM", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False)
    with pytest.raises(urn.PlanError, match="gives no finite"):
        UrnScheduler.from_config(snr.config, method="dpmpp_2m").set_timesteps(4)
    two = UrnScheduler.from_config(
        made("DDIM").config, method="usf", options={"models": ("main", "main", "thin", "thin")}
    )
    with pytest.raises(urn.PlanError, match="it calls thin beside the pipeline's network, which alone is 'main'"):
        two.set_timesteps(4)
    with pytest.raises(urn.PlanError, match="set churn to 0"):
        UrnScheduler.from_config(made("DDIM").config, method="edm", options={"s_churn": 5.0}).set_timesteps(4)


def test_steps_out_of_turn_are_refused():
    scheduler = UrnScheduler.from_config(made("DDIM").config, method="dpmpp_2m")
    x = normal(1, 2, 4, 4)
    with pytest.raises(ValueError, match="call set_timesteps first"):
        scheduler.step(x, 999, x)
    for given, match in (
        ({}, "num_inference_steps=None"),
        ({"num_inference_steps": 0}, "num_inference_steps=0"),
        ({"timesteps": [9], "sigmas": [1.0]}, "only one of them"),
        ({"timesteps": [10, 20]}, "must decrease"),
        ({"timesteps": [20, 10], "num_inference_steps": 3}, "the times given have 2 steps"),
    ):
        with pytest.raises(ValueError, match=match):
            scheduler.set_timesteps(**given)
    scheduler.set_timesteps(3)
    first, second, third = scheduler.timesteps
    with pytest.raises(ValueError, match=r"timestep=12\.0: it is the turn"):
        scheduler.step(x, 12, x)
    x = scheduler.step(x, first, x, return_dict=False)[0]
    for wrong in (first, third):
        with pytest.raises(ValueError, match=f"timestep={float(wrong)}: it is the turn of"):
            scheduler.step(x, wrong, x)
    assert scheduler.step_index == 1
    for t in (second, third):
        x = scheduler.step(x, t, x).prev_sample
    with pytest.raises(ValueError, match="the plan has ended after its 3 model calls"):
        scheduler.step(x, third, x)
    scheduler.set_timesteps(3)
    with pytest.raises(ValueError, match="begin_index=3 must be"):
        scheduler.set_begin_index(3)
    heun = UrnScheduler.from_config(made("DDIM").config, method="heun")
    heun.set_timesteps(4)
    with pytest.raises(ValueError, match=r"heun with .* cannot begin there"):
        heun.set_begin_index(1)


def small_unet() -> UNet2DModel:
    torch.manual_seed(0)
    return UNet2DModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
        sample_size=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval()


@pytest.mark.parametrize(
    ("method", "grid"), [("ddpm", None), ("unipc_3", "quadratic"), ("heun", "trailing"), ("dpmpp_sde", None)]
)
def test_ddpm_pipeline(method, grid, tmp_path):
    unet, own = small_unet(), made("DDPM", prediction_type="sample")
    pipe = DDPMPipeline(unet, own)
    pipe.set_progress_bar_config(disable=True)
    arguments = {"num_inference_steps": 6, "output_type": "pt", "batch_size": 2}
    with_own = pipe(generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(own.config, method=method, grid=grid)
    images = pipe(generator=seeded(1), **arguments).images
    inside = (images > 0) & (images < 1)
    assert float(inside.float().mean()) > 0.3
    generator = seeded(1)
    start = torch.randn(2, 3, 8, 8, generator=generator)
    with torch.no_grad():
        found = executed(pipe.scheduler, lambda x, t: unet(x, t).sample, start, generator)
    assert float((images - (found / 2 + 0.5).clamp(0, 1)).abs().max()) < 1e-5
    if method == "ddpm":
        assert float((images - with_own).abs().max()) < 1e-5
    pipe.save_pretrained(tmp_path)
    loaded = DDPMPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert isinstance(loaded.scheduler, UrnScheduler)
    assert torch.allclose(loaded(generator=seeded(1), **arguments).images, images, atol=1e-6)
