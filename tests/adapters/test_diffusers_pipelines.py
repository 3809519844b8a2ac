"""UrnScheduler in text-to-image, image-to-image and flow pipelines, with tiny random networks and given text embeddings."""

from __future__ import annotations

import logging

import diffusers
import pytest
import torch
from adapters_pipelines import (
    IMAGE,
    POOLED,
    SCALE,
    TEXT,
    WORDS,
    autoencoder,
    conditional,
    executed,
    flow_pipeline,
    flow_transformer,
    gap,
    guided,
    pipeline,
    scheduler_of,
    seeded,
)
from torch import Tensor

import urn
from urn.adapters.diffusers import UrnScheduler

pytest.importorskip("transformers", reason="these pipelines need transformers, which is in the extra 'test'")


@pytest.fixture(autouse=True)
def quiet():
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)


@pytest.fixture(scope="module")
def networks():
    return conditional(), autoencoder()


SAME = [
    ("DDIM", {"clip_sample": False, "steps_offset": 1}, "ddim", {}),
    ("DPMSolverMultistep", {"steps_offset": 1}, "dpmpp_2m_lower_final", {}),
    ("UniPCMultistep", {"steps_offset": 1}, "unipc_lower_final", {"order": 2}),
    ("DEISMultistep", {"steps_offset": 1}, "deis_log_rho_lower_final", {"order": 2}),
    ("EulerDiscrete", {"steps_offset": 1, "timestep_spacing": "trailing"}, "euler", {}),
    ("HeunDiscrete", {"steps_offset": 1, "timestep_spacing": "trailing"}, "heun", {}),
]


@pytest.mark.parametrize(("name", "config", "method", "options"), SAME)
@pytest.mark.parametrize("strength", [None, 0.6])
def test_stable_diffusion_with_a_scheduler_and_with_its_plan(networks, name, config, method, options, strength):
    """From text, and from an image: the same latents."""
    arguments = WORDS | ({"height": 16, "width": 16} if strength is None else {"image": IMAGE, "strength": strength})
    kind = "StableDiffusionPipeline" if strength is None else "StableDiffusionImg2ImgPipeline"
    pipe = pipeline(kind, networks, scheduler_of(name, **config))
    expected = pipe(num_inference_steps=10, generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method=method, options=options)
    assert gap(pipe(num_inference_steps=10, generator=seeded(1), **arguments).images, expected) < 1e-4


@pytest.mark.parametrize(
    ("method", "grid"), [("unipc_3", "quadratic"), ("heun", None), ("dpmpp_sde", None), ("adams_pc_3", "arctan")]
)
def test_stable_diffusion_is_execute(networks, method, grid):
    pipe = pipeline("StableDiffusionPipeline", networks, scheduler_of("PNDM", skip_prk_steps=True, steps_offset=1))
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method=method, grid=grid)
    steps: list[int] = []
    found = pipe(
        num_inference_steps=6,
        generator=seeded(1),
        height=16,
        width=16,
        callback_on_step_end=lambda _, i, t, kept: steps.append(i) or kept,
        **WORDS,
    ).images
    generator = seeded(1)
    start = torch.randn(1, 4, 8, 8, generator=generator)
    assert gap(found, executed(pipe.scheduler, guided(networks[0]), start, generator)) < 1e-5
    assert len(steps) == pipe.scheduler.plan.nfe


@pytest.mark.parametrize(("method", "grid"), [("dpmpp_2m", "quadratic"), ("heun", None), ("dpmpp_2m_sde", None)])
def test_image_to_image_is_execute_on_the_times_that_remain(networks, method, grid):
    pipe = pipeline("StableDiffusionImg2ImgPipeline", networks, scheduler_of("DDIM", clip_sample=False, steps_offset=1))
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method=method, grid=grid)
    found = pipe(image=IMAGE, strength=0.5, num_inference_steps=8, generator=seeded(1), **WORDS).images
    process, plan = pipe.scheduler.process, pipe.scheduler.plan
    pipe.scheduler.set_timesteps(8)
    assert plan.times == pipe.scheduler.plan.times[4:]
    generator = seeded(1)
    with torch.no_grad():
        vae = networks[1]
        image = pipe.image_processor.preprocess(IMAGE)
        latents = vae.config.scaling_factor * vae.encode(image).latent_dist.sample(generator)
    noise, t = torch.randn(latents.shape, generator=generator), plan.times[0]
    start = process.alpha(t).float() * latents + process.sigma(t).float() * noise
    pipe.scheduler.set_begin_index(4 * pipe.scheduler.order)
    assert gap(found, executed(pipe.scheduler, guided(networks[0]), start, generator)) < 1e-5


@pytest.fixture(scope="module")
def flow_networks():
    return flow_transformer(), autoencoder(shift_factor=0.06, scaling_factor=1.5)


FLOW_WORDS = {**WORDS, "pooled_prompt_embeds": POOLED, "negative_pooled_prompt_embeds": 0 * POOLED}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", ["StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline"])
def test_a_flow_pipeline_with_euler_and_with_its_plan(flow_networks, kind, dynamic):
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    arguments = FLOW_WORDS | {"height": 16, "width": 16, "num_inference_steps": 6}
    if "Img2Img" in kind:
        arguments |= {"image": IMAGE, "strength": 0.7}
    pipe = flow_pipeline(kind, flow_networks, own)
    expected = pipe(generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(own.config, method="euler")
    assert gap(pipe(generator=seeded(1), **arguments).images, expected) < 1e-4
    pipe.scheduler = UrnScheduler.from_config(own.config, method="dpmpp_2m", grid="uniform")
    assert gap(pipe(generator=seeded(1), **arguments).images, expected) > 1e-3


@pytest.mark.parametrize(("method", "grid"), [("unipc_3", "uniform"), ("probability_flow_heun", None)])
def test_a_flow_pipeline_is_execute(flow_networks, method, grid):
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = flow_pipeline("StableDiffusion3Pipeline", flow_networks, own)
    pipe.scheduler = UrnScheduler.from_config(own.config, method=method, grid=grid)
    arguments = FLOW_WORDS | {"height": 16, "width": 16, "num_inference_steps": 6}
    found = pipe(generator=seeded(1), **arguments).images

    def network(x: Tensor, t: Tensor) -> Tensor:
        both = flow_networks[0](
            hidden_states=torch.cat([x, x]),
            timestep=t[0].expand(2),
            encoder_hidden_states=torch.cat([0 * TEXT, TEXT]),
            pooled_projections=torch.cat([0 * POOLED, POOLED]),
        ).sample
        without, given = both.chunk(2)
        return without + SCALE * (given - without)

    start = torch.randn(1, 4, 8, 8, generator=seeded(1))
    expected = executed(pipe.scheduler, network, start, seeded(9), label=lambda t: 1000 * t)
    assert gap(found, expected) < 1e-5
    if grid is not None:
        s = torch.linspace(1, 0, 7, dtype=torch.float64)
        times = torch.tensor(pipe.scheduler.plan.times, dtype=torch.float64)
        assert torch.allclose(times, 3 * s / (1 + 2 * s))


@pytest.mark.parametrize("dynamic", [False, True])
def test_flux_which_hands_in_sigmas_and_mu(dynamic):
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=[4, 4, 8],
    ).eval()
    vae = diffusers.AutoencoderKL(block_out_channels=(4,), latent_channels=1, norm_num_groups=2, shift_factor=0.0)
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe = diffusers.FluxPipeline(transformer=transformer, vae=vae, scheduler=own, **parts)
    pipe.set_progress_bar_config(disable=True)
    arguments = {"prompt_embeds": TEXT, "pooled_prompt_embeds": POOLED, "output_type": "latent"}
    arguments |= {"height": 8, "width": 8, "num_inference_steps": 5}
    expected = pipe(generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(own.config, method="euler")
    assert gap(pipe(generator=seeded(1), **arguments).images, expected) < 1e-4
    pipe.scheduler = UrnScheduler.from_config(own.config, method="euler", grid="uniform")
    pipe(generator=seeded(1), **arguments)
    even = torch.linspace(1, 0, 6, dtype=torch.float64)
    shift = torch.tensor(float(pipe.scheduler.plan.times[1]) / (1 - float(pipe.scheduler.plan.times[1])) / 4)
    assert torch.allclose(torch.tensor(pipe.scheduler.plan.times).double(), shift * even / (1 + (shift - 1) * even))
    assert dynamic or float(shift) == pytest.approx(3.0)
    again = pipe(generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(own.config, plan=pipe.scheduler.plan)
    assert torch.equal(pipe(generator=seeded(1), **arguments).images, again)


@pytest.mark.parametrize("method", ["ddim", "heun", "dpmpp_sde"])
@pytest.mark.parametrize("kind", ["StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"])
def test_a_plan_that_was_given_starts_from_an_image(networks, kind, method):
    """As the method by name does, which is compiled on the times that remain."""
    pipe = pipeline(kind, networks, scheduler_of("DDIM", clip_sample=False, steps_offset=1))
    given = {"mask_image": IMAGE[:, :1].round(), "height": 16, "width": 16} if "Inpaint" in kind else {}
    arguments = WORDS | given | {"image": IMAGE, "strength": 0.5, "num_inference_steps": 8}
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method=method, grid="quadratic")
    expected = pipe(generator=seeded(1), **arguments).images
    plan = urn.compile_plan(method, pipe.scheduler.process, steps=8, grid="quadratic")
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, plan=plan)
    assert gap(pipe(generator=seeded(1), **arguments).images, expected) < 1e-6
    multistep = urn.compile_plan("dpmpp_2m", plan.process, steps=8, grid="quadratic")
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, plan=multistep)
    with pytest.raises(ValueError, match="dpmpp_2m cannot begin there: at that call it needs more than the state"):
        pipe(generator=seeded(1), **arguments)
