"""Saved diffusers pipelines, opened: one without conditions as a `urn.Model`, one that takes a prompt with Urn's plans in it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from urn.adapters.diffusers.chosen import OWN
from urn.adapters.diffusers.scheduler import UrnScheduler
from urn.adapters.diffusers.source import Source, defaults, source_of
from urn.compiler import compile_plan
from urn.grids import GridLike
from urn.method import Method
from urn.model import Model
from urn.plan import Plan
from urn.processes import VE

UNCONDITIONAL = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ScoreSdeVePipeline")
NETWORK = "UNet2DModel"


def load(folder: str | Path) -> Model:
    """The model of a saved diffusers pipeline that draws without conditions, or of a network saved with its scheduler.

    Args:
        folder: what `pipe.save_pretrained` wrote for one of DDPMPipeline, DDIMPipeline, PNDMPipeline and ScoreSdeVePipeline;
            or a UNet2DModel's folder with the scheduler's `scheduler_config.json` in it.

    Returns:
        The network with the process and the prediction that the scheduler's config says, in float32 on the CPU. Samples have
        the network's own range: -1 ... 1, of ScoreSdeVePipeline 0 ... 1. A network with classes takes `label`. Clipping is a
        sampler's and not a model's: `UrnScheduler` and `urn sample` put a config's `clip_sample` into the plan.

    Raises:
        ValueError: the folder holds none of these; it says what it holds, and what is supported.

    Example:
        >>> model = load("examples/digits_unet")
        >>> x = urn.sample(model, "unipc_3", shape=(16, *model.shape), steps=8, grid="quadratic", seed=0)
    """
    return Saved.at(folder).model()


class Network(torch.nn.Module):
    """A UNet2DModel, called as Urn calls a network."""

    def __init__(self, unet: Any, outputs: int) -> None:
        super().__init__()
        self.unet, self.outputs = unet, outputs
        self.classes = int(unet.config.num_class_embeds or 0)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Any:
        """The prediction for x (B, C, H, W) at t (B,); with a learned variance, both."""
        given = {"class_labels": label} if self.classes else {}
        found: Tensor = self.unet(x.to(self.unet.dtype), t, **given).sample
        return found if self.outputs == 1 else found.chunk(self.outputs, dim=1)


@dataclass(frozen=True)
class Saved:
    """What a folder holds.

    Attributes:
        folder: where.
        kind: the pipeline's class, or the network's.
        network: the folder of the network, where it is a UNet2DModel.
        config: the scheduler's config.
    """

    folder: Path
    kind: str
    network: Path | None
    config: Mapping[str, Any]

    @classmethod
    def at(cls, folder: str | Path) -> Saved:
        """Read what a folder holds; the networks are not loaded yet.

        Raises:
            ValueError: neither a pipeline nor a network with its scheduler's config.
        """
        folder = Path(folder)
        if (folder / "model_index.json").exists():
            index = _read(folder / "model_index.json")
            kind, scheduler = str(index.get("_class_name")), folder / "scheduler" / "scheduler_config.json"
            network = folder / "unet" if index.get("unet", ["", ""])[1] == NETWORK else None
        elif (folder / "config.json").exists():
            kind, scheduler = str(_read(folder / "config.json").get("_class_name")), folder / "scheduler_config.json"
            network = folder if kind == NETWORK else None
            if network is None:
                raise ValueError(f"{folder} holds a {kind}; of networks without a pipeline only {NETWORK} is supported")
        else:
            raise ValueError(f"{folder} holds no diffusers pipeline: neither model_index.json nor config.json")
        if not scheduler.exists():
            raise ValueError(
                f"{scheduler} is missing: it says what the network of {folder} was trained for; save its scheduler there with "
                "scheduler.save_pretrained"
            )
        return cls(folder, kind, network, _read(scheduler))

    @property
    def takes_prompts(self) -> bool:
        """Whether it is a pipeline that is called with a prompt."""
        pipeline = getattr(diffusers, self.kind, None)
        return pipeline is not None and "prompt" in inspect.signature(pipeline.__call__).parameters

    @property
    def source(self) -> Source | None:
        """What the scheduler's config says of the network; None of ScoreSdeVeScheduler, which has no table."""
        if self.config.get("_class_name") == "ScoreSdeVeScheduler":
            return None
        name = source_of(self.config)
        given = {key: value for key, value in self.config.items() if key not in OWN and not key.startswith("_")}
        return Source.of(name, {**defaults(name), **given})

    def model(self) -> Model:
        """See `load`."""
        if self.network is None or self.kind not in (*UNCONDITIONAL, NETWORK):
            prompt = ": it takes a prompt (`urn sample --prompt`)" if self.takes_prompts else ""
            raise ValueError(
                f"{self.folder} holds a {self.kind}{prompt}; models are made of {', '.join(UNCONDITIONAL)} and {NETWORK}"
            )
        source = self.source
        process, predicts = (self._ve, "score") if source is None else (source.process, source.predicts)
        label = source.shown if source is not None and source.is_flow else None
        unet = diffusers.UNet2DModel.from_pretrained(  # type: ignore[no-untyped-call]
            self.network, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
        )
        size, outputs = unet.config.sample_size, 1 if isinstance(predicts, str) else len(predicts)
        if size is None:
            raise ValueError(
                f"{self.network}: the config of its {NETWORK} has no sample_size, so what it draws has no shape"
            )
        shape = (unet.config.in_channels, *((size, size) if isinstance(size, int) else size))
        return Model(Network(unet.eval().requires_grad_(False), outputs), process, predicts, shape, label)

    def plan(self, method: Method, steps: int | None, grid: GridLike | None, final: str | None) -> Plan:
        """The plan of a method as `UrnScheduler` compiles it: without a grid on the times of the scheduler that was saved, the
        shift of a flow and the clipping of predictions as its config says.

        Raises:
            ValueError: the config cannot be honoured, or steps and grid do not suit.
        """
        source = self.source
        if source is None:
            plan: Plan = compile_plan(method, self._ve, steps, grid, final=final)
        else:
            made = grid is None or isinstance(grid, str) or callable(grid)
            times = source.times(steps, grid, None, None, None) if made else grid
            plan = compile_plan(source.method(method), source.process, None if made else steps, times, final=final)
        return plan

    @property
    def _ve(self) -> VE:
        return VE(float(self.config["sigma_min"]), float(self.config["sigma_max"]))

    def prompted(self, plan: Plan) -> Prompted:
        """The pipeline, loaded, with this plan in the place of its scheduler.

        Raises:
            ValueError: it takes no prompt, or the plan is not for its network.
        """
        if not self.takes_prompts:
            raise ValueError(f"{self.folder} holds a {self.kind}, which takes no prompt")
        index = _read(self.folder / "model_index.json")
        without = {name: None for name, part in index.items() if part == [None, None]}  # which it was saved without
        pipe = diffusers.DiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
            self.folder, local_files_only=True, low_cpu_mem_usage=False, **without
        )
        pipe.scheduler = UrnScheduler.from_config(self.config, plan=plan)
        pipe.scheduler.set_timesteps(plan.steps)  # refuses now what cannot run
        pipe.set_progress_bar_config(disable=True)
        return Prompted(pipe)


@dataclass(frozen=True)
class Prompted:
    """A pipeline that takes a prompt, with a plan in it."""

    pipe: Any

    def draw(self, prompt: str, seeds: Sequence[int], guidance: float | None = None) -> Tensor:
        """An image of each seed, (B, C, H, W) in [-1, 1]; each depends on its own seed alone."""
        scale = {} if guidance is None else {"guidance_scale": guidance}
        found = self.pipe(
            prompt=[prompt] * len(seeds),
            num_inference_steps=self.pipe.scheduler.plan.steps,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="pt",
            **scale,
        )
        images: Tensor = 2 * found.images - 1
        return images

    def weights(self) -> dict[str, Tensor]:
        """Of all its networks."""
        parts = {name: part for name, part in self.pipe.components.items() if isinstance(part, torch.nn.Module)}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold an object")
    return found
