"""Saved pipelines: as models for all of Urn, and drawn from by `urn sample`."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import diffusers
import pytest
import torch
from adapters_loops import made
from adapters_pipelines import autoencoder, conditional, flow_transformer, gap, seeded, text_parts
from diffusers import DDPMPipeline
from safetensors.torch import load_file
from typer.testing import CliRunner

import urn
from urn.adapters.diffusers import UrnScheduler, load
from urn.adapters.diffusers.saved import Saved
from urn.cli import app


@pytest.fixture(autouse=True)
def quiet():
    diffusers.utils.logging.set_verbosity(logging.ERROR)
    diffusers.utils.logging.disable_progress_bar()


def unet(**settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"block_out_channels": (4, 8), "norm_num_groups": 2, "attention_head_dim": 4, "sample_size": 8}
    blocks = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    return diffusers.UNet2DModel(**{"layers_per_block": 1, **sizes, **blocks, **settings}).eval()


def cli(*args: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert result.exit_code == status, (result.exit_code, result.output, result.exception)
    return result.output if status == 0 else result.stderr


NETWORKS = [
    ("DDPM", {"clip_sample": False}, {}),
    ("DDPM", {"clip_sample": False, "prediction_type": "v_prediction"}, {"sample_size": (8, 16)}),
    ("DDPM", {"clip_sample": True, "clip_sample_range": 0.5, "prediction_type": "sample"}, {}),
    ("DDPM", {"clip_sample": False, "variance_type": "learned_range"}, {"out_channels": 6}),
    ("DDIM", {"clip_sample": False, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}, {}),
    ("FlowMatchEulerDiscrete", {"shift": 3.0}, {}),
]


@pytest.mark.parametrize(("name", "config", "sizes"), NETWORKS)
def test_the_model_draws_what_the_pipeline_draws(name, config, sizes, tmp_path):
    """Of a pipeline, and of the network saved with its scheduler's config."""
    pipe = DDPMPipeline(unet(**sizes), made(name, **config))
    pipe.save_pretrained(tmp_path / "pipe")
    pipe.unet.save_pretrained(tmp_path / "net")
    pipe.scheduler.save_pretrained(tmp_path / "net")
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method="unipc_3")
    images = pipe(batch_size=2, num_inference_steps=6, generator=seeded(1), output_type="pt").images
    for folder in ("pipe", "net"):
        model = load(tmp_path / folder)
        plan = Saved.at(tmp_path / folder).plan(urn.METHODS["unipc_3"], 6, None, None)
        assert plan == pipe.scheduler.plan
        start = torch.randn(2, *model.shape, generator=seeded(1)) * pipe.scheduler.init_noise_sigma
        x = urn.sample(model, plan, start=start)
        assert gap((x / 2 + 0.5).clamp(0, 1), images) < 1e-5


def test_a_network_with_classes_takes_labels(tmp_path):
    net = unet(num_class_embeds=3)
    DDPMPipeline(net, made("DDPM")).save_pretrained(tmp_path)
    model, x = load(tmp_path), torch.randn(2, 3, 8, 8, generator=seeded(1))
    labels = torch.tensor([2, 0])
    with torch.no_grad():
        (found,) = model(x, t=500.0, label=labels)
        assert torch.allclose(found, net(x, 500.0, class_labels=labels).sample)
        assert gap(found, net(x, 500.0, class_labels=labels.flip(0)).sample) > 1e-4


def test_a_score_network_of_a_variance_exploding_process(tmp_path):
    net = unet(time_embedding_type="fourier")
    diffusers.ScoreSdeVePipeline(net, diffusers.ScoreSdeVeScheduler(sigma_max=50.0)).save_pretrained(tmp_path)
    model, x = load(tmp_path), torch.randn(2, 3, 8, 8, generator=seeded(1))
    assert (model.process, model.predicts) == (urn.VE(0.01, 50.0), "score")
    with torch.no_grad():
        assert torch.equal(model(x, t=3.0)[0], net(x, torch.tensor([3.0, 3.0])).sample)
    plan = Saved.at(tmp_path).plan(urn.METHODS["heun"], 5, "karras", None)
    assert plan == urn.compile_plan("heun", model.process, 5, "karras")


def test_urn_sample_draws_from_a_folder(tmp_path):
    DDPMPipeline(unet(), made("DDPM", clip_sample=False)).save_pretrained(tmp_path / "pipe")
    options = ("--method", "dpmpp_2m_sde", "--steps", 5, "--count", 5, "--batch-size", 2, "--seed", 3)
    shown = cli("sample", tmp_path / "pipe", *options, "--out", tmp_path / "out")
    assert "dpmpp_2m_sde on Tabulated(1000 steps" in shown
    found = load_file(tmp_path / "out" / "samples.safetensors")["x"]
    plan = urn.Plan.from_json((tmp_path / "out" / "plan.json").read_text())
    own = UrnScheduler.from_config(made("DDPM", clip_sample=False).config, method="dpmpp_2m_sde")
    own.set_timesteps(5)
    assert plan == own.plan  # on the times of the scheduler that was saved
    expected = urn.sample(load(tmp_path / "pipe"), plan, seeds=urn.sample_seeds(3, 5))
    assert gap(found, expected) < 1e-5
    assert (tmp_path / "out" / "samples.png").stat().st_size > 500
    times = ("--grid", "999,600,200,10", "--plan")
    cli("sample", tmp_path / "pipe", *times[:2], "--method", "ddim", "--count", 1, "--out", tmp_path / "times")
    assert urn.Plan.from_json((tmp_path / "times" / "plan.json").read_text()).times == (999.0, 600.0, 200.0, 10.0)
    cli("sample", tmp_path / "pipe", "--plan", tmp_path / "times" / "plan.json", "--out", tmp_path / "p", "--count", 1)
    assert torch.equal(*(load_file(tmp_path / name / "samples.safetensors")["x"] for name in ("times", "p")))


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory):
    pytest.importorskip("transformers", reason="these pipelines need transformers, which is in the extra 'test'")
    folder = tmp_path_factory.mktemp("text")
    tokenizer, encoder = text_parts(folder / "words")
    pipe = diffusers.StableDiffusionPipeline(
        unet=conditional(),
        vae=autoencoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=made("PNDM", skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "pipe")
    pipe.set_progress_bar_config(disable=True)
    return folder / "pipe", pipe


def test_urn_sample_with_a_prompt(text_to_image, tmp_path):
    folder, pipe = text_to_image
    options = ("--prompt", "a cat", "--method", "dpmpp_2m_sde", "--steps", 4, "--guidance", 4, "--count", 3)
    cli("sample", folder, *options, "--batch-size", 2, "--out", tmp_path / "out")
    found = load_file(tmp_path / "out" / "samples.safetensors")
    pipe.scheduler = UrnScheduler.from_config(pipe.scheduler.config, method="dpmpp_2m_sde")
    one = torch.Generator().manual_seed(int(found["seeds"][1]))
    expected = pipe("a cat", num_inference_steps=4, guidance_scale=4.0, generator=one, output_type="pt").images
    assert gap(found["x"][1:2], 2 * expected - 1) < 1e-4  # whatever batch it was drawn in
    assert gap(found["x"][:1], found["x"][1:2]) > 1e-2
    assert "nothing is left to draw" in cli("sample", folder, *options, "--batch-size", 2, "--out", tmp_path / "out")
    words = ("--prompt", "a dog", *options[2:])
    assert "prompt was 'a cat', is 'a dog'" in cli("sample", folder, *words, "--out", tmp_path / "out", status=2)


def test_urn_sample_with_a_prompt_on_a_flow(tmp_path):
    """Without --grid the times and the shift are those of the scheduler that was saved."""
    pytest.importorskip("transformers", reason="these pipelines need transformers, which is in the extra 'test'")
    tokenizer, encoder = text_parts(tmp_path / "words", projected=True)
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=flow_transformer(text=16),
        vae=autoencoder(shift_factor=0.06, scaling_factor=1.5),
        scheduler=own,
        **dict.fromkeys(("text_encoder", "text_encoder_2"), encoder),
        **dict.fromkeys(("tokenizer", "tokenizer_2"), tokenizer),
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipe.save_pretrained(tmp_path / "pipe")
    pipe.set_progress_bar_config(disable=True)
    options = ("--prompt", "a cat", "--method", "euler", "--steps", 4, "--count", 2, "--out", tmp_path / "out")
    cli("sample", tmp_path / "pipe", *options)
    found = load_file(tmp_path / "out" / "samples.safetensors")
    one = torch.Generator().manual_seed(int(found["seeds"][1]))
    expected = pipe("a cat", num_inference_steps=4, generator=one, output_type="pt").images
    assert gap(found["x"][1:2], 2 * expected - 1) < 1e-4


def test_what_cannot_be_opened_is_refused(text_to_image, tmp_path):
    folder, _ = text_to_image
    out = ("--count", 1, "--out", tmp_path / "out")
    assert "it takes a prompt (`urn sample --prompt`)" in cli("sample", folder, *out, status=2)
    assert "a pipeline draws its own noise" in cli("sample", folder, "--prompt", "x", "--noise", "fast", *out, status=2)
    assert "--class 3 beside --prompt" in cli("sample", folder, "--prompt", "x", "--class", 3, *out, status=2)
    churn = ("--method", "edm:s_churn=5", "--prompt", "x")
    assert "set churn to 0" in cli("sample", folder, *churn, *out, status=2)
    assert "digits is no folder with a diffusers pipeline" in cli("sample", "digits", "--prompt", "x", *out, status=2)
    (tmp_path / "empty").mkdir()
    assert "no diffusers pipeline, which has a model_index.json" in cli("sample", tmp_path / "empty", *out, status=2)
    pipe = DDPMPipeline(unet(), made("DDPM"))
    pipe.save_pretrained(tmp_path / "pipe")
    assert "which takes no prompt" in cli("sample", tmp_path / "pipe", "--prompt", "x", *out, status=2)
    pipe.unet.save_pretrained(tmp_path / "bare")
    assert "scheduler_config.json is missing" in cli("sample", tmp_path / "bare", *out, status=2)
    conditional().save_pretrained(tmp_path / "other")
    assert "only UNet2DModel is supported" in cli("sample", tmp_path / "other", *out, status=2)
    made("LCM").save_pretrained(tmp_path / "pipe" / "scheduler")
    assert "source='LCMScheduler' is not supported" in cli("sample", tmp_path / "pipe", *out, status=2)
    index = tmp_path / "pipe" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "DiTPipeline"}))
    with pytest.raises(ValueError, match="holds a DiTPipeline; models are made of DDPMPipeline, DDIMPipeline"):
        load(tmp_path / "pipe")
    with pytest.raises(ValueError, match="neither model_index"):
        load(tmp_path / "empty")
    index.write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        load(tmp_path / "pipe")


def test_without_diffusers_it_says_what_to_install():
    code = "import sys; sys.modules['diffusers'] = None\nimport urn\nimport urn.adapters.diffusers"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = found.stderr.strip().splitlines()[-1]
    assert last == "ImportError: urn.adapters.diffusers needs diffusers: pip install 'urn-samplers[diffusers]'"
