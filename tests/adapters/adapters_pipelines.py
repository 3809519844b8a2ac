"""What the tests of pipelines share: tiny random networks, pipelines of them, and Urn's executor on the same networks."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from torch import Tensor

import urn
from urn.adapters.diffusers import UrnScheduler

TABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "v_prediction"}
TEXT = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
POOLED = torch.randn(1, 8, generator=torch.Generator().manual_seed(1))
IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
SCALE = 3.0


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def autoencoder(channels: int = 4, **settings: Any) -> Any:
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        latent_channels=channels,
        norm_num_groups=2,
        **settings,
    ).eval()


def conditional(in_channels: int = 4, **settings: Any) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        in_channels=in_channels,
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=2,
        **{"attention_head_dim": 4, **settings},
    ).eval()


def pipeline(kind: str, networks: Any, scheduler: Any) -> Any:
    unet, vae = networks
    parts = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    pipe = getattr(diffusers, kind)(unet=unet, vae=vae, scheduler=scheduler, requires_safety_checker=False, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def guided(unet: Any) -> Any:
    """The network that the pipeline makes of its own: classifier-free guidance with the empty text first."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        both = unet(torch.cat([x, x]), t[0], encoder_hidden_states=torch.cat([0 * TEXT, TEXT])).sample
        without, given = both.chunk(2)
        return without + SCALE * (given - without)

    return network


class FromGenerator:
    """Noise from a generator, a draw per row."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def normal(self, interval: Any, stream: int, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator)


def executed(scheduler: UrnScheduler, network: Any, start: Tensor, generator: Any, label: Any = None) -> Tensor:
    model = urn.Model(network, scheduler.process, scheduler.model_predicts, label=label)
    with torch.no_grad():
        found: Tensor = urn.execute(scheduler.plan, model, {"x": start}, FromGenerator(generator))["x"]
    return found


def scheduler_of(name: str, **config: Any) -> Any:
    return getattr(diffusers, f"{name}Scheduler")(**TABLE | config)


WORDS = {"prompt_embeds": TEXT, "negative_prompt_embeds": 0 * TEXT, "guidance_scale": SCALE, "output_type": "latent"}


def flow_transformer(channels: int = 4, text: int = 8) -> Any:
    torch.manual_seed(0)
    return diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=channels,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        caption_projection_dim=8,
        joint_attention_dim=text,
        pooled_projection_dim=text,
        out_channels=channels,
    ).eval()


def flow_pipeline(kind: str, networks: Any, scheduler: Any) -> Any:
    transformer, vae = networks
    names = [f"{part}{place}" for part in ("text_encoder", "tokenizer") for place in ("", "_2", "_3")]
    pipe = getattr(diffusers, kind)(transformer=transformer, vae=vae, scheduler=scheduler, **dict.fromkeys(names))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text_parts(folder: Any, projected: bool = False) -> tuple[Any, Any]:
    """A tokenizer of single letters, and a tiny text encoder."""
    import json

    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    words = {word: i for i, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(0)
    sizes = {"vocab_size": len(words), "hidden_size": 8, "intermediate_size": 8, "max_position_embeddings": 16}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = CLIPTextConfig(num_hidden_layers=1, num_attention_heads=2, projection_dim=8, **sizes, **ends)
    encoder = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16), encoder.eval()
