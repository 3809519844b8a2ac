"""UrnScheduler in inpainting pipelines and in SDXL's: the latents of diffusers' schedulers, and those of `urn.execute`."""

from __future__ import annotations

import logging
from typing import Any

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
    pipeline,
    scheduler_of,
    seeded,
)
from torch import Tensor

from urn.adapters.diffusers import UrnScheduler

pytest.importorskip("transformers", reason="these pipelines need transformers, which is in the extra 'test'")

MASK = torch.zeros(1, 1, 16, 16)
MASK[..., 4:12, 6:] = 1.0
PAINTED = WORDS | {"image": IMAGE, "mask_image": MASK, "height": 16, "width": 16}
POOLED_WORDS = {"pooled_prompt_embeds": POOLED, "negative_pooled_prompt_embeds": 0 * POOLED}
SAME = [
    ("DDIM", {"clip_sample": False, "steps_offset": 1}, "ddim", {}),
    ("DPMSolverMultistep", {"steps_offset": 1}, "dpmpp_2m_lower_final", {}),
    ("UniPCMultistep", {"steps_offset": 1}, "unipc_lower_final", {"order": 2}),
]


@pytest.fixture(autouse=True)
def quiet():
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)


@pytest.fixture(scope="module")
def vae():
    return autoencoder()


@pytest.mark.parametrize(("name", "config", "method", "options"), SAME)
@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_inpainting_with_a_scheduler_and_with_its_plan(vae, name, config, method, options, channels, strength):
    """With 4 channels the pipeline puts the noised image back after every step, with 9 the network sees the mask."""
    pipe = pipeline("StableDiffusionInpaintPipeline", (conditional(channels), vae), scheduler_of(name, **config))
    arguments = PAINTED | {"num_inference_steps": 10, "strength": strength}
    expected = pipe(generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method=method, options=options)
    found = pipe(generator=seeded(1), **arguments).images
    assert gap(found, expected) < 1e-4
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method="heun")
    other = pipe(generator=seeded(1), **arguments).images
    assert gap(other, expected) > 1e-3
    if channels == 4:  # outside the mask it is the image, whatever the method
        kept = torch.nn.functional.interpolate(MASK, (8, 8)) == 0
        assert torch.allclose((other * kept), (expected * kept), atol=1e-6)


@pytest.mark.parametrize(("method", "grid"), [("unipc_3", "quadratic"), ("heun", None), ("dpmpp_sde", None)])
def test_inpainting_with_a_network_for_it_is_execute(vae, method, grid):
    unet = conditional(9)
    pipe = pipeline(
        "StableDiffusionInpaintPipeline", (unet, vae), scheduler_of("DDIM", clip_sample=False, steps_offset=1)
    )
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method=method, grid=grid)
    found = pipe(num_inference_steps=6, generator=seeded(1), **PAINTED).images
    generator = seeded(1)
    start = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        image = pipe.image_processor.preprocess(IMAGE)
        held = vae.config.scaling_factor * vae.encode(image * (MASK < 0.5)).latent_dist.sample(generator)
    beside = torch.cat([torch.nn.functional.interpolate(MASK, (8, 8)), held], 1)

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen = torch.cat([x, beside], 1)
        both = unet(torch.cat([seen, seen]), t[0], encoder_hidden_states=torch.cat([0 * TEXT, TEXT])).sample
        without, given = both.chunk(2)
        return without + SCALE * (given - without)

    assert gap(found, executed(pipe.scheduler, network, start, generator)) < 1e-5


@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_inpainting_on_a_flow(strength):
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    networks = flow_transformer(16), autoencoder(16, shift_factor=0.06, scaling_factor=1.5)
    pipe = flow_pipeline("StableDiffusion3InpaintPipeline", networks, own)
    arguments = PAINTED | POOLED_WORDS | {"num_inference_steps": 6, "strength": strength}
    expected = pipe(generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(own.config, method="euler")
    assert gap(pipe(generator=seeded(1), **arguments).images, expected) < 1e-4
    pipe.scheduler = UrnScheduler.from_config(own.config, method="unipc_3", grid="uniform")
    assert gap(pipe(generator=seeded(1), **arguments).images, expected) > 1e-3


@pytest.fixture(scope="module")
def large():
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 4 * 6 + POOLED.shape[1],
    }
    return conditional(**added), autoencoder()


def large_pipeline(kind: str, networks: Any, scheduler: Any) -> Any:
    unet, vae = networks
    parts = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = getattr(diffusers, kind)(unet=unet, vae=vae, scheduler=scheduler, add_watermarker=False, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("name", "config", "method", "options"), [*SAME, ("EulerDiscrete", {"timestep_spacing": "trailing"}, "euler", {})]
)
@pytest.mark.parametrize("strength", [None, 0.6])
def test_sdxl_with_a_scheduler_and_with_its_plan(large, name, config, method, options, strength):
    kind = "StableDiffusionXLPipeline" if strength is None else "StableDiffusionXLImg2ImgPipeline"
    arguments = WORDS | POOLED_WORDS
    arguments |= {"height": 16, "width": 16} if strength is None else {"image": IMAGE, "strength": strength}
    pipe = large_pipeline(kind, large, scheduler_of(name, **config))
    expected = pipe(num_inference_steps=10, generator=seeded(1), **arguments).images
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method=method, options=options)
    assert gap(pipe(num_inference_steps=10, generator=seeded(1), **arguments).images, expected) < 1e-4


def test_sdxl_in_two_parts_is_sdxl_in_one(large):
    """A base that stops early and a refiner that goes on: a one-step method loses nothing."""
    own = scheduler_of("DDIM", clip_sample=False, steps_offset=1)
    first, second = (large_pipeline(f"StableDiffusionXL{part}Pipeline", large, own) for part in ("", "Img2Img"))
    for pipe in (first, second):
        pipe.scheduler = UrnScheduler.from_config(own.config, method="ddim", grid="quadratic")
    second.register_to_config(requires_aesthetics_score=False)
    whole = WORDS | POOLED_WORDS | {"num_inference_steps": 10}
    expected = first(generator=seeded(1), height=16, width=16, **whole).images
    half = first(generator=seeded(1), height=16, width=16, denoising_end=0.5, **whole).images
    found = second(image=half, generator=seeded(1), denoising_start=0.5, original_size=(16, 16), **whole).images
    assert gap(found, expected) < 1e-5
    assert gap(half, expected) > 1e-2
