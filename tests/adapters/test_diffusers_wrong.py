"""Wrong use of UrnScheduler ends in an error that names what was given and what is allowed."""

from __future__ import annotations

import logging
from typing import Any

import diffusers
import pytest
import torch
from adapters_loops import made, normal, seeded

import urn
from urn.adapters.diffusers import UrnScheduler

TABLE = made("DDIM", clip_sample=False).config
FLOW = made("FlowMatchEulerDiscrete", shift=3.0).config
PLAN = urn.compile_plan("dpmpp_2m", UrnScheduler.from_config(TABLE).process, steps=4, grid="quadratic")
FLOW_PLAN = urn.compile_plan("dpmpp_2m", urn.Flow(), steps=4)


@pytest.fixture(autouse=True)
def quiet():
    diffusers.utils.logging.set_verbosity(logging.ERROR)


def scheduler(config: Any = TABLE, **chosen: Any) -> UrnScheduler:
    return UrnScheduler.from_config(config, **(chosen or {"method": "dpmpp_2m"}))


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        (
            TABLE,
            {"sigmas": [500.0, 10.0, 0.0]},
            r"sigmas: 500\.0 is outside what the network was trained on, 0 to 14\.6",
        ),
        (TABLE, {"sigmas": [1.0, 10.0, 0.0]}, r"sigmas\[0:2\]=\[1\.0, 10\.0\] must decrease"),
        (TABLE, {"sigmas": [10.0, -1.0]}, r"sigmas: -1\.0 is outside"),
        (TABLE, {"sigmas": [10.0, float("nan"), 0.0]}, "sigmas: nan is outside"),
        (TABLE, {"sigmas": []}, r"sigmas=\[\] must be 2 or more"),
        (TABLE, {"sigmas": [3.0]}, r"sigmas=\[3\.0\] must be 2 or more"),
        (TABLE, {"sigmas": "abc"}, "sigmas='abc' must be numbers"),
        (
            TABLE,
            {"sigmas": [10.0, 3.0, 0.0], "num_inference_steps": 3},
            "num_inference_steps=3: the times given have 2",
        ),
        (FLOW, {"sigmas": [14.6, 3.0, 0.5]}, r"sigmas: 14\.6 is outside"),
        (FLOW, {"sigmas": [0.3, 0.8]}, r"sigmas\[0:2\]"),
        (TABLE, {"timesteps": [1500, 20]}, r"timesteps: 1500\.0 is outside what the network was trained on, 0 to 999"),
        (FLOW, {"timesteps": [1500, 20]}, r"timesteps: 1500\.0 is outside .* 0 to 1000"),
        (TABLE, {"timesteps": []}, r"timesteps=\[\] must be 1 or more"),
        (TABLE, {"num_inference_steps": 3.5}, r"num_inference_steps=3\.5 must be an integer"),
        (TABLE, {"num_inference_steps": 1200}, "1200 cannot be larger"),
    ],
)
def test_sigmas_times_and_steps_that_do_not_match(config, given, message):
    with pytest.raises(ValueError, match=message):
        scheduler(config).set_timesteps(**given)


def test_a_plan_that_does_not_match():
    with pytest.raises(ValueError, match=r"plan: it is for Flow\(shift=1\.0\), the network's process is Tabulated"):
        scheduler(plan=FLOW_PLAN)
    with pytest.raises(ValueError, match="plan: given beside method"):
        scheduler(plan=PLAN, method="ddim")
    with pytest.raises(ValueError, match="not an Urn plan"):
        scheduler(plan="{}")
    for given in ({"sigmas": [10.0, 3.0, 1.0, 0.5, 0.0]}, {"timesteps": [999, 500, 3, 1]}):
        with pytest.raises(ValueError, match="timesteps or sigmas: the plan given has 4 steps of its own"):
            scheduler(plan=PLAN).set_timesteps(**given)
    with pytest.raises(ValueError, match="num_inference_steps=3: the plan given has 4 steps of its own"):
        scheduler(FLOW, plan=FLOW_PLAN).set_timesteps(sigmas=[1.0, 2 / 3, 1 / 3])
    x0 = urn.compile_plan("iddpm", PLAN.process, steps=4)
    with pytest.raises(urn.PlanError, match=r"the plan wants 'variance'; model 'main' returns \('epsilon',\)"):
        scheduler(plan=x0).set_timesteps(4)


def test_even_sigmas_that_flow_pipelines_pass_count_the_steps_of_a_plan():
    one = scheduler(FLOW, plan=FLOW_PLAN)
    one.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    assert one.plan == FLOW_PLAN


def test_a_number_of_steps_changed_midway_starts_over():
    one, x = scheduler(), normal(1, 2, 4, 4)
    one.set_timesteps(6)
    times = one.timesteps
    for t in times[:2]:
        x = one.step(x, t, x).prev_sample
    one.set_timesteps(9)
    assert one.step_index is None
    with pytest.raises(ValueError, match=r"it is the turn of timesteps\[0\] = 888\.0; set_timesteps starts over"):
        one.step(x, times[2], x)


def test_a_batch_that_changes_and_noise_that_does_not_suit():
    one, x = scheduler(method="ddpm"), normal(3, 2, 4, 4)
    one.set_timesteps(6)
    first, second = one.timesteps[:2]
    with pytest.raises(ValueError, match="generator: 2 are given for 3 samples"):
        one.step(x, first, x, generator=[seeded(0), seeded(1)])
    with pytest.raises(ValueError, match=r"returned shape \(3, 4, 4, 4\) for x of shape \(3, 2, 4, 4\)"):
        one.step(torch.cat([x, x], 1), first, x)
    y = one.step(x, first, x).prev_sample
    with pytest.raises(ValueError, match=r"sample has shape \(1, 2, 4, 4\), in the step before it had \(3, 2, 4, 4\)"):
        one.step(y[:1], second, y[:1])
    for wrong, values in ((torch.tensor([5000]), 1), (torch.tensor([5, 6]), 3)):
        with pytest.raises(ValueError, match=f"must be one or {values} of at most 999"):
            one.add_noise(x[:values], x[:values], wrong)


def test_what_the_method_has_is_not_taken_by_step():
    one, x = scheduler(method="ddim", options={"eta": 0.5}), normal(1, 2, 4, 4)
    one.set_timesteps(6)
    for given in ({"eta": 0.5}, {"use_clipped_model_output": True}):
        with pytest.raises(ValueError, match="the method has it"):
            one.step(x, one.timesteps[0], x, **given)


def test_ddim_pipeline_which_passes_them_whatever_they_are():
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=8,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    pipe = diffusers.DDIMPipeline(net, made("DDIM", clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(num_inference_steps=5, generator=seeded(1), output_type="pt").images
    pipe.scheduler = scheduler(method="ddim")
    found = pipe(num_inference_steps=5, generator=seeded(1), output_type="pt").images
    assert float((found - expected).abs().max()) < 1e-5
    with pytest.raises(ValueError, match=r"eta=0\.5: the method has it"):
        pipe(num_inference_steps=5, eta=0.5)
