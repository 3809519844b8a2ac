"""The nodes. Each is a class as ComfyUI wants one: INPUT_TYPES, RETURN_TYPES, FUNCTION, CATEGORY."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
from torch import Tensor

import urn
from urn.adapters.k_diffusion import plan_sampler, plan_sigmas, sampler

from .host import grid_sigmas, read_options

COMPUTED = ("ays", "gits", "optimal_steps")
UNSUITED = ("iddpm",)  # wants a variance, which no denoiser gives
METHODS = sorted(
    name for name, method in urn.METHODS.items() if method.components == ("x",) and method.name not in UNSUITED
)
ONE_STEP = [  # those of which one step can be judged alone: grids are computed for them
    *("ddim", "dpm_2", "heun", "midpoint", "ralston_2", "ralston_3", "ssprk_3", "deis_rho_kutta_3", "deis_rho_rk4"),
    *("dpm_solver_2", "dpm_solver_3", "dpmpp_2s", "dpmpp_3s", "res_2s", "res_3s", "etdrk4"),
]
STEPS = ("INT", {"default": 20, "min": 1, "max": 10000})
DENOISE = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01})
S_NOISE = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 100.0, "step": 0.001, "round": False})
OPTIONS = (
    "STRING",
    {"default": "{}", "tooltip": 'As JSON: {"eta": 0.5}. `urn methods NAME` and `urn grids NAME` list them.'},
)
SAMPLERS, SCHEDULERS = "sampling/custom_sampling/samplers", "sampling/custom_sampling/schedulers"
FINAL = {"the method's": None, "x0": "x0"}


def valid_options(options: str | None) -> bool | str:
    """For VALIDATE_INPUTS: True, or what is wrong. None stands for a value that another node gives later."""
    try:
        read_options(options)
    except ValueError as error:
        return str(error)
    return True


class UrnSampler:
    """Any of Urn's methods as a SAMPLER."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        tooltip = "x0: end with what the model predicts before sigma = 0. Better for dpmpp and unipc, worse for deis."
        return {
            "required": {
                "method": (METHODS, {"default": "deis_3"}),
                "last_step": (list(FINAL), {"tooltip": tooltip}),
                "s_noise": S_NOISE,
                "options": OPTIONS,
            }
        }

    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "get_sampler"
    CATEGORY = SAMPLERS
    DESCRIPTION = "A method of Urn's, compiled on the sigmas that the sampling node gets."

    @classmethod
    def VALIDATE_INPUTS(cls, options: str | None = None) -> bool | str:
        return valid_options(options)

    def get_sampler(self, method: str, last_step: str, s_noise: float, options: str) -> tuple[Any]:
        given = {"s_noise": s_noise, **read_options(options)}
        return (comfy.samplers.KSAMPLER(sampler(method, final=FINAL[last_step], **given)),)


class UrnScheduler:
    """Any of Urn's grids as SIGMAS, for the noise levels of a model."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        names = [name for name in urn.GRIDS if name not in COMPUTED]
        return {
            "required": {
                "model": ("MODEL",),
                "grid": (names, {"default": "uniform"}),
                "steps": STEPS,
                "denoise": DENOISE,
                "options": OPTIONS,
            }
        }

    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "get_sigmas"
    CATEGORY = SCHEDULERS
    DESCRIPTION = "Sigmas from the model's noisiest level down to 0. On a flow the grid is in its own, shifted time."

    @classmethod
    def VALIDATE_INPUTS(cls, options: str | None = None) -> bool | str:
        return valid_options(options)

    def get_sigmas(self, model: Any, grid: str, steps: int, denoise: float, options: str) -> tuple[Tensor]:
        sigmas = grid_sigmas(model.get_model_object("model_sampling"), grid, steps, denoise, **read_options(options))
        return (sigmas,)


class UrnAlignYourSteps:
    """The grid of Align Your Steps, computed for the model's noise levels and a spectrum of data."""

    grid = "ays"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        std = {"default": 1.0, "min": 0.001, "max": 100.0, "step": 0.01, "tooltip": "Of the latents; 1 is about right."}
        exponent = {
            "default": 2.0,
            "min": 0.01,
            "max": 10.0,
            "step": 0.01,
            "tooltip": "Power falls as frequency^-exponent.",
        }
        required = {"model": ("MODEL",), "steps": STEPS, "denoise": DENOISE, **cls.chosen()}
        spectrum = {"tooltip": "Measured on latents, by Urn Spectrum; in place of the exponent and the std."}
        return {
            "required": {**required, "exponent": ("FLOAT", exponent), "data_std": ("FLOAT", std)},
            "optional": {"spectrum": ("URN_SPECTRUM", spectrum)},
        }

    @classmethod
    def chosen(cls) -> dict[str, Any]:
        """The inputs that only some of the computed grids have."""
        return {}

    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "get_sigmas"
    CATEGORY = SCHEDULERS
    DESCRIPTION = (
        "The sigmas with the lowest divergence of the exact reverse SDE from its steps, then 0. For SDE methods."
    )

    def get_sigmas(self, model: Any, spectrum: Any = None, **options: Any) -> tuple[Tensor]:
        if spectrum is not None:
            options["variances"] = spectrum
        return (grid_sigmas(model.get_model_object("model_sampling"), self.grid, **options),)


class UrnOptimalSteps(UrnAlignYourSteps):
    """The grid of OptimalSteps, computed for a method, the model's noise levels and a spectrum of data."""

    grid = "optimal_steps"

    @classmethod
    def chosen(cls) -> dict[str, Any]:
        return {
            "method": (ONE_STEP, {"default": "ddim", "tooltip": "ddim is Euler's method."}),
            "candidates": ("INT", {"default": 64, "min": 1, "max": 1000}),
        }

    DESCRIPTION = "The sigmas whose states stay closest to the exact flow's, with one method's steps."


class UrnGITS(UrnOptimalSteps):
    """The grid of GITS, computed for a method, the model's noise levels and a spectrum of data."""

    grid = "gits"

    @classmethod
    def chosen(cls) -> dict[str, Any]:
        discount = {"default": 1.0, "min": 0.1, "max": 10.0, "step": 0.01}
        return {**super().chosen(), "discount": ("FLOAT", discount)}

    DESCRIPTION = "The sigmas with the lowest sum of the errors that single steps of one method make."


class UrnSpectrum:
    """The spectrum of some latents, for the computed grids."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("MODEL",), "latents": ("LATENT",)}}

    RETURN_TYPES = ("URN_SPECTRUM",)
    FUNCTION = "measure"
    CATEGORY = SCHEDULERS
    DESCRIPTION = (
        "Variances of the latents' Fourier coefficients, at the model's own scale. Encode a few of your images."
    )

    def measure(self, model: Any, latents: dict[str, Any]) -> tuple[Tensor]:
        return (urn.grids.measured_spectrum(model.model.process_latent_in(latents["samples"]).float()),)


class UrnPlanSampler:
    """A plan, tuned or compiled elsewhere and written as JSON, as a SAMPLER and the SIGMAS that it runs on."""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        file = {"default": "plan.json", "tooltip": "A path, from ComfyUI's input folder if it is not absolute."}
        return {"required": {"file": ("STRING", file), "s_noise": S_NOISE}}

    RETURN_TYPES = ("SAMPLER", "SIGMAS")
    FUNCTION = "get_sampler"
    CATEGORY = SAMPLERS
    DESCRIPTION = "A plan on urn.VE(...) or urn.Flow(), and its sigmas: the sampling node must get these."

    @staticmethod
    def read(file: str) -> str:
        """The text of a plan's file.

        Raises:
            ValueError: there is none.
        """
        path = Path(folder_paths.get_input_directory()) / file
        if not path.is_file():
            raise ValueError(f"file={file!r}: there is no {path}")
        return path.read_text()

    @classmethod
    def IS_CHANGED(cls, file: str, s_noise: float) -> str:
        return hashlib.sha256(cls.read(file).encode()).hexdigest()

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None = None) -> bool | str:
        try:
            return file is None or bool(plan_sampler(urn.Plan.from_json(cls.read(file))))
        except ValueError as error:
            return f"{file}: {error}"

    def get_sampler(self, file: str, s_noise: float) -> tuple[Any, Tensor]:
        plan = urn.Plan.from_json(self.read(file))
        return comfy.samplers.KSAMPLER(plan_sampler(plan), {"s_noise": s_noise}), plan_sigmas(plan).float()


NODE_CLASS_MAPPINGS = {
    "UrnSampler": UrnSampler,
    "UrnScheduler": UrnScheduler,
    "UrnAlignYourSteps": UrnAlignYourSteps,
    "UrnGITS": UrnGITS,
    "UrnOptimalSteps": UrnOptimalSteps,
    "UrnSpectrum": UrnSpectrum,
    "UrnPlanSampler": UrnPlanSampler,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "UrnSampler": "Urn Sampler",
    "UrnScheduler": "Urn Scheduler",
    "UrnAlignYourSteps": "Urn Align Your Steps (computed)",
    "UrnGITS": "Urn GITS (computed)",
    "UrnOptimalSteps": "Urn OptimalSteps (computed)",
    "UrnSpectrum": "Urn Spectrum of latents",
    "UrnPlanSampler": "Urn Plan (JSON)",
}
