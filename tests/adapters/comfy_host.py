"""A small host with ComfyUI's interfaces, as its 0.3.64 has them: enough to load a folder of nodes and to sample with them.

Written from what comfy/samplers.py, comfy/model_sampling.py, comfy_extras/nodes_custom_sampler.py and nodes.py promise to
samplers, schedulers and nodes: names, arguments, what is passed to whom, and in what order.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import urn


class EPS:
    """x = x0 + sigma epsilon."""

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent: Tensor, max_denoise: bool = False) -> Tensor:
        return noise * (torch.sqrt(1 + sigma**2) if max_denoise else sigma) + latent

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent


class V_PREDICTION(EPS):  # noqa: N801
    """The same noise; the network returns v."""


class CONST:
    """A flow: x = (1 - sigma) x0 + sigma epsilon."""

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent: Tensor, max_denoise: bool = False) -> Tensor:
        return sigma * noise + (1 - sigma) * latent

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent / (1 - sigma)


class _Levels:
    sigmas: Tensor

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]


class ModelSamplingDiscrete(_Levels):
    def __init__(self, betas: Tensor | None = None) -> None:
        kept = torch.cumprod(1 - (urn.processes.scaled_linear_betas() if betas is None else betas), 0)
        self.sigmas = ((1 - kept) / kept).sqrt().float()


class ModelSamplingContinuousEDM(_Levels):
    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        self.sigmas = torch.linspace(math.log(sigma_min), math.log(sigma_max), 1000).exp()


class ModelSamplingDiscreteFlow(_Levels):
    def __init__(self, shift: float = 1.0, levels: int = 1000) -> None:
        u = torch.arange(1, levels + 1) / levels
        self.shift, self.sigmas = shift, shift * u / (1 + (shift - 1) * u)


def sampling_of(noise: type, levels: type, *options: Any) -> Any:
    """A model's model_sampling: ComfyUI makes a class of the two."""
    return type("ModelSampling", (levels, noise), {})(*options)


class Model:
    """BaseModel and ModelPatcher in one: a denoiser of data known exactly, in the words that samplers use."""

    def __init__(self, target: Any, model_sampling: Any, scale: float = 1.0) -> None:
        self.target, self.model_sampling, self.scale = target, model_sampling, scale
        self.flow = isinstance(model_sampling, CONST)
        self.model, self.load_device, self.model_options = self, "cpu", {"transformer_options": {}}

    def get_model_object(self, name: str) -> Any:
        return getattr(self, name)

    def apply_model(self, x: Tensor, sigma: Tensor, label: int | None) -> Tensor:
        process = urn.Flow() if self.flow else urn.VE()
        labels = {} if label is None else {"label": torch.full((len(x),), label)}
        return self.target.x0(x.double(), process, float(sigma[0]), **labels).to(x.dtype)

    def process_latent_in(self, latent: Tensor) -> Tensor:
        return latent * self.scale

    def process_latent_out(self, latent: Tensor) -> Tensor:
        return latent / self.scale

    def scale_latent_inpaint(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, **others: Any) -> Tensor:
        return self.model_sampling.noise_scaling(sigma.reshape(-1, *[1] * (noise.ndim - 1)), noise, latent_image)


class CFGGuider:
    """The model that a sampler's model calls: two conditions, guidance, and the functions that may follow it."""

    def __init__(
        self, model: Model, positive: int | None = None, negative: int | None = None, cfg: float = 1.0
    ) -> None:
        self.model_patcher, self.positive, self.negative, self.cfg = model, positive, negative, cfg
        self.calls: list[float] = []

    def __call__(
        self, x: Tensor, sigma: Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
    ) -> Tensor:
        options = model_options or {}
        self.calls.append(float(sigma[0]))
        cond, without = self.inner_model.apply_model(x, sigma, self.positive), None
        if not math.isclose(self.cfg, 1.0) or options.get("disable_cfg1_optimization", False):
            without = self.inner_model.apply_model(x, sigma, self.negative)
        denoised = cond if without is None else without + (cond - without) * self.cfg
        for function in options.get("sampler_post_cfg_function", []):
            args = {"denoised": denoised, "uncond_denoised": without, "cond_denoised": cond, "input": x, "sigma": sigma}
            denoised = function({**args, "model": self.inner_model, "model_options": options, "cond_scale": self.cfg})
        return denoised

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callable[..., Any] | None = None,
        disable_pbar: bool = True,
        seed: int | None = None,
    ) -> Tensor:
        if sigmas.shape[-1] == 0:
            return latent_image
        self.inner_model = self.model_patcher.model
        latent = self.inner_model.process_latent_in(latent_image) if latent_image.any() else latent_image
        options = {**self.model_patcher.model_options, "transformer_options": {"sample_sigmas": sigmas}}
        given = {"model_options": options, "seed": seed}
        made = sampler.sample(self, sigmas, given, callback, noise, latent, denoise_mask, disable_pbar)
        return self.inner_model.process_latent_out(made.to(torch.float32))


class KSamplerX0Inpaint:
    """What a sampler's function gets as its model."""

    def __init__(self, model: CFGGuider, sigmas: Tensor) -> None:
        self.inner_model, self.sigmas = model, sigmas
        self.latent_image = self.noise = torch.empty(0)

    def __call__(
        self, x: Tensor, sigma: Tensor, denoise_mask: Tensor | None, model_options: Any = None, seed: Any = None
    ) -> Tensor:
        options = model_options or {}
        if denoise_mask is None:
            return self.inner_model(x, sigma, model_options=options, seed=seed)
        if "denoise_mask_function" in options:
            extra = {"model": self.inner_model, "sigmas": self.sigmas}
            denoise_mask = options["denoise_mask_function"](sigma, denoise_mask, extra_options=extra)
        kept = self.inner_model.inner_model.scale_latent_inpaint(
            x=x, sigma=sigma, noise=self.noise, latent_image=self.latent_image
        )
        x = x * denoise_mask + kept * (1 - denoise_mask)
        out = self.inner_model(x, sigma, model_options=options, seed=seed)
        return out * denoise_mask + self.latent_image * (1 - denoise_mask)


class KSAMPLER:
    """A SAMPLER: a function and its options."""

    def __init__(self, sampler_function: Any, extra_options: Any = None, inpaint_options: Any = None) -> None:
        self.sampler_function, self.extra_options = sampler_function, extra_options or {}

    def sample(
        self,
        model_wrap: CFGGuider,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        extra_args["denoise_mask"] = denoise_mask
        model = KSamplerX0Inpaint(model_wrap, sigmas)
        model.latent_image, model.noise = latent_image, noise
        levels = model_wrap.inner_model.model_sampling
        most = float(levels.sigma_max)
        whole = math.isclose(most, float(sigmas[0]), rel_tol=1e-5) or float(sigmas[0]) > most
        start = levels.noise_scaling(sigmas[0], noise, latent_image, whole)
        told = None
        if callback is not None:

            def told(seen: dict[str, Any]) -> None:
                callback(seen["i"], seen["denoised"], seen["x"], len(sigmas) - 1)

        made = self.sampler_function(
            model, start, sigmas, extra_args=extra_args, callback=told, disable=disable_pbar, **self.extra_options
        )
        return levels.inverse_noise_scaling(sigmas[-1], made)


class SchedulerHandler(NamedTuple):
    handler: Callable[..., Tensor]
    use_ms: bool = True


def simple(model_sampling: Any, steps: int) -> Tensor:
    every = len(model_sampling.sigmas) / steps
    return torch.FloatTensor([*(float(model_sampling.sigmas[-(1 + int(i * every))]) for i in range(steps)), 0.0])


def modules(input_directory: Path) -> dict[str, ModuleType]:
    """The host's modules, for sys.modules; each call gives lists of its own."""
    sampling = ModuleType("comfy.k_diffusion.sampling")
    levels = ModuleType("comfy.model_sampling")
    for kind in (
        EPS,
        V_PREDICTION,
        CONST,
        ModelSamplingDiscrete,
        ModelSamplingContinuousEDM,
        ModelSamplingDiscreteFlow,
    ):
        setattr(levels, kind.__name__, kind)
    samplers: Any = ModuleType("comfy.samplers")
    samplers.KSAMPLER, samplers.SchedulerHandler, samplers.k_diffusion_sampling = KSAMPLER, SchedulerHandler, sampling
    samplers.KSAMPLER_NAMES = ["euler", "heun"]
    samplers.SAMPLER_NAMES = [*samplers.KSAMPLER_NAMES, "ddim", "uni_pc", "uni_pc_bh2"]
    samplers.SCHEDULER_HANDLERS = {"simple": SchedulerHandler(simple)}
    samplers.SCHEDULER_NAMES = list(samplers.SCHEDULER_HANDLERS)
    samplers.KSampler = SimpleNamespace(SAMPLERS=samplers.SAMPLER_NAMES, SCHEDULERS=samplers.SCHEDULER_NAMES)
    folders: Any = ModuleType("folder_paths")
    folders.get_input_directory = lambda: str(input_directory)
    comfy: Any = ModuleType("comfy")
    comfy.samplers, comfy.model_sampling = samplers, levels
    return {
        "comfy": comfy,
        "comfy.samplers": samplers,
        "comfy.model_sampling": levels,
        "comfy.k_diffusion.sampling": sampling,
        "folder_paths": folders,
    }


def load_custom_node(folder: Path) -> ModuleType:
    """A folder of custom_nodes as ComfyUI imports it: the module's name is its path."""
    name = str(folder).replace(".", "_x_")
    spec: Any = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_node(node: type, **inputs: Any) -> tuple[Any, ...]:
    """A node as ComfyUI's executor runs it: its inputs against INPUT_TYPES, then VALIDATE_INPUTS, then FUNCTION."""
    declared: dict[str, Any] = node.INPUT_TYPES()  # type: ignore[attr-defined]
    required, optional = declared["required"], declared.get("optional", {})
    values = {name: kind[1]["default"] for name, kind in required.items() if len(kind) > 1 and "default" in kind[1]}
    values |= {name: kind[0][0] for name, kind in required.items() if isinstance(kind[0], list) and name not in values}
    values |= inputs
    if set(required) - set(values) or set(values) - set(required) - set(optional):
        raise KeyError(f"{node.__name__} takes {sorted(required)}, not {sorted(values)}")
    for name, value in values.items():
        kind, *rest = {**required, **optional}[name]
        limits = rest[0] if rest else {}
        if isinstance(kind, list) and value not in kind:
            raise ValueError(f"{name}: {value!r} not in {kind}")
        if kind in ("INT", "FLOAT") and not limits["min"] <= value <= limits["max"]:
            raise ValueError(f"{name}: {value!r} is outside {limits['min']} to {limits['max']}")
    if hasattr(node, "VALIDATE_INPUTS"):
        asked = node.VALIDATE_INPUTS.__code__.co_varnames[1 : node.VALIDATE_INPUTS.__code__.co_argcount]
        valid = node.VALIDATE_INPUTS(**{name: values[name] for name in asked})
        if valid is not True:
            raise ValueError(f"Custom validation failed for node: {valid}")
    with torch.inference_mode():
        made = getattr(node(), node.FUNCTION)(**values)  # type: ignore[attr-defined]
    assert isinstance(made, tuple)
    assert len(made) == len(node.RETURN_TYPES)  # type: ignore[attr-defined]
    return made


def sample_custom_advanced(
    guider: CFGGuider, sampler: Any, sigmas: Tensor, latent: dict[str, Tensor], seed: int = 0, callback: Any = None
) -> Tensor:
    """SamplerCustomAdvanced, whose noise is torch's own from the seed."""
    start = latent["samples"]
    noise = torch.randn(start.shape, generator=torch.manual_seed(seed), dtype=start.dtype)
    with torch.inference_mode():  # as ComfyUI runs all nodes
        return guider.sample(noise, start, sampler, sigmas, latent.get("noise_mask"), callback, True, seed)


def ksampler(
    samplers: Any, guider: CFGGuider, name: str, scheduler: str, steps: int, latent: Any, seed: int = 0
) -> Tensor:
    """The KSampler node: names from the lists."""
    if name not in samplers.KSampler.SAMPLERS or scheduler not in samplers.KSampler.SCHEDULERS:
        raise ValueError(f"{name}, {scheduler}: not in the lists")
    handler = samplers.SCHEDULER_HANDLERS[scheduler]
    levels = guider.model_patcher.get_model_object("model_sampling")
    sampler = KSAMPLER(getattr(samplers.k_diffusion_sampling, f"sample_{name}"))
    return sample_custom_advanced(guider, sampler, handler.handler(levels, steps), latent, seed)
