"""What another scheduler's config says of the network: its process, what it predicts, and the times of its steps.

The times are taken from the scheduler's own class, so its `timestep_spacing`, `steps_offset`, `use_karras_sigmas`, `shift`,
`use_dynamic_shifting`, `set_alpha_to_one`, `final_sigmas_type` and so on mean here what they mean there. Where a setting
makes sigmas of its own (karras, exponential, beta, lu, flow), a step is at the time of its sigma, not at that time rounded.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from urn.grids import Grid, GridLike, grid_times, shifted
from urn.method import Method
from urn.processes import VP, Flow, Process, Tabulated
from urn.schemes.x0_map import mapped_x0

TIMES_OF = {  # each class, and the one whose `set_timesteps` gives its steps without the stages inside them
    **{
        f"{name}Scheduler": f"{name}Scheduler"
        for name in (
            *("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "EulerDiscrete", "EulerAncestralDiscrete"),
            *("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep", "SASolver"),
            "FlowMatchEulerDiscrete",
        )
    },
    "PNDMScheduler": "DDIMScheduler",
    **{
        f"{name}Scheduler": "EulerDiscreteScheduler"
        for name in ("LMSDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE")
    },
    "FlowMatchHeunDiscreteScheduler": "FlowMatchEulerDiscreteScheduler",
    "CogVideoXDDIMScheduler": "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler": "CogVideoXDDIMScheduler",
}
PREDICTS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0", "flow_prediction": "velocity"}
OWN_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
REFUSED = {  # settings that say something of network or times that is not done here
    "timestep_type": ("continuous", "a network that is shown 0.25 log(sigma)"),
    "invert_sigmas": (True, "sigmas that run the other way"),
    "interpolation_type": ("log_linear", "sigmas that are not those of the timesteps shown"),
    "variance_type": ("learned", "a learned log-variance; 'learned_range' is supported"),
}


@dataclass(frozen=True)
class Source:
    """A scheduler's class name with all its settings, read.

    Attributes:
        name: of a class in `TIMES_OF`.
        settings: its config, defaults included.
        process: `Tabulated` of the class's table of betas, or `Flow`.
        predicts: the network's outputs, as `urn.Model` takes them.

    Raises:
        ValueError: the class is none of those, or a setting cannot be honoured; it names the setting.
    """

    name: str
    settings: Mapping[str, Any]
    process: Process
    predicts: str | tuple[str, ...]

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any]) -> Source:
        """The source of a class and its settings."""
        for setting, (value, what) in REFUSED.items():
            if settings.get(setting) == value:
                raise ValueError(f"{setting}={value!r} of {name} is not supported: {what}")
        process, predicts = _process(name, settings), _predicts(name, settings)
        return cls(name, dict(settings), process, predicts)

    @property
    def is_flow(self) -> bool:
        """Whether the network is shown 1000 sigma of a rectified flow, rather than a table's t."""
        return isinstance(self.process, Flow)

    @property
    def trained(self) -> int:
        """The number of training timesteps."""
        return int(self.settings["num_train_timesteps"])

    def shown(self, t: float | Tensor) -> Any:
        """The timestep that the network is shown for a time of the process."""
        return t * self.trained if self.is_flow else t

    def time(self, timestep: Tensor) -> Tensor:
        """The time of the process for a timestep, in float64."""
        wide = timestep.detach().cpu().to(torch.float64)
        return wide / self.trained if self.is_flow else wide

    def start_std(self, t: Any) -> float:
        """The std of the latents that a run of the class starts from at a time: that of the process's prior, or, in the
        Euler family with spacing "linspace" or "trailing", sigma; 1 where a class of tables takes the sigmas of a flow."""
        if self.settings.get("use_flow_sigmas"):
            return 1.0
        euler = TIMES_OF[self.name].startswith("Euler") and self.settings["timestep_spacing"] != "leading"
        return float(self.process.sigma(t) if euler else self.process.prior_std(t))

    def method(self, method: Method) -> Method:
        """The method with its predictions of x0 clipped, where the settings say so."""
        if self.settings.get("thresholding"):
            quantile = float(self.settings["dynamic_thresholding_ratio"])
            return mapped_x0(
                method, "dynamic_threshold", quantile=quantile, ceiling=float(self.settings["sample_max_value"])
            )
        if self.settings.get("clip_sample") and not self.name.startswith("CogVideoX"):  # which clip nothing
            bound = float(self.settings["clip_sample_range"])
            return mapped_x0(method, "clip", low=-bound, high=bound)
        return method

    def times(
        self,
        count: int | None,
        grid: GridLike | None,
        timesteps: Sequence[float] | None,
        sigmas: Sequence[float] | None,
        mu: float | None,
    ) -> Tensor:
        """The grid of a run: `count` steps of `grid` or of the class's own times, or the times given.

        Raises:
            ValueError: more or less than one of count, timesteps and sigmas is given, or one is out of range.
        """
        if self.settings.get("use_dynamic_shifting") and self.is_flow and mu is None and timesteps is None:
            raise ValueError(f"mu=None: use_dynamic_shifting=True of {self.name} needs it")
        if timesteps is not None:
            last = self.trained if self.is_flow else self.trained - 1
            given = self.time(checked("timesteps", timesteps, 0.0, float(last)))
            return torch.cat([given, self._end(len(given), mu)])
        if grid is not None and count is not None:
            made: Tensor = grid_times(self.process, count, self._shifted(grid, mu))
            return made
        if sigmas is not None:  # the largest as others round it
            highest = 1.0 if self.is_flow else float(torch.exp(-self.process.lambda_(self.process.t_start)))
            levels = checked("sigmas", sigmas, 0.0, highest * (1 + 1e-4), least=1 if self.is_flow else 2)
            if not self.is_flow:
                return self._of_ratios(levels)
        moved = mu if self.settings.get("use_dynamic_shifting") else None  # some pipelines hand it in to all
        options: dict[str, Any] = {"mu": moved, "sigmas": None if sigmas is None else [float(s) for s in sigmas]}
        return self._own(count, **{name: value for name, value in options.items() if value is not None})

    def _own(self, count: int | None, **options: Any) -> Tensor:
        """The times of the class itself."""
        scheduler = _build(TIMES_OF[self.name], self.settings)
        takes = inspect.signature(scheduler.set_timesteps).parameters
        if "sigmas" in options and "sigmas" not in takes:
            raise ValueError(f"sigmas: {self.name} takes none; pass timesteps, or grid=[...] to UrnScheduler")
        scheduler.set_timesteps(count, **{name: value for name, value in options.items() if name in takes})
        if self.is_flow:
            return without_repeats(scheduler.sigmas.detach().cpu().to(torch.float64))
        if any(self.settings.get(name) for name in OWN_SIGMAS):
            return self._of_ratios(scheduler.sigmas.detach().cpu().to(torch.float64))
        return without_repeats(torch.cat([self.time(scheduler.timesteps), _end_of(scheduler)]))

    def _end(self, count: int, mu: float | None) -> Tensor:
        """Where a run of the class ends: 0 on a flow; -1, clean, or 0 on a table."""
        if self.is_flow:
            return torch.zeros(1, dtype=torch.float64)
        scheduler = _build(TIMES_OF[self.name], self.settings)
        scheduler.set_timesteps(min(count, self.trained))
        return _end_of(scheduler)

    def _of_ratios(self, ratios: Tensor) -> Tensor:
        """The times of sigma/alpha: 0 is clean; a largest one within rounding of the table's is the table's."""
        low, high = self.process.domain
        times = self.process.t_of_lambda(-torch.log(ratios.clamp(min=1e-300)))
        times = torch.where((times > high) & (times < high + 1e-2), high, times)
        return without_repeats(torch.where(ratios == 0, low, torch.where(times.abs() < 1e-4, 0.0, times)))

    def _shifted(self, grid: GridLike, mu: float | None) -> GridLike:
        """On a flow a grid that is made, not given, is moved towards the noise as the settings say."""
        if not self.is_flow or not (isinstance(grid, str) or callable(grid)):
            return grid
        if not self.settings.get("use_dynamic_shifting"):
            shift = float(self.settings.get("shift", self.settings.get("flow_shift", 1.0)))
        else:
            shift = (
                math.exp(float(mu or 0.0)) if self.settings["time_shift_type"] == "exponential" else float(mu or 0.0)
            )
        made: Grid = shifted(shift, grid)
        return made


def checked(name: str, values: Sequence[float], low: float, high: float, least: int = 1) -> Tensor:
    """Given times or noise levels in float64.

    Raises:
        ValueError: fewer than `least`, or not decreasing from at most `high` to at least `low`.
    """
    try:
        found = torch.tensor([float(value) for value in values], dtype=torch.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={values!r} must be numbers") from None
    if len(found) < least:
        raise ValueError(f"{name}={values!r} must be {least} or more")
    if not bool(((found >= low) & (found <= high)).all()):
        wrong = next(float(value) for value in found if not low <= float(value) <= high)
        raise ValueError(f"{name}: {wrong!r} is outside what the network was trained on, {low:g} to {high:.6g}")
    if not bool((found[1:] <= found[:-1]).all()):
        place = int((found[1:] > found[:-1]).nonzero()[0])
        raise ValueError(f"{name}[{place}:{place + 2}]={found[place : place + 2].tolist()} must decrease")
    return found


def without_repeats(times: Tensor) -> Tensor:
    """Times without those that are the same as the one before: a step of no length does nothing."""
    kept: Tensor = times[torch.cat([torch.ones(1, dtype=torch.bool), times[1:] != times[:-1]])]
    return kept


def defaults(name: str) -> dict[str, Any]:
    """The settings of a scheduler's class with their defaults.

    Raises:
        ValueError: the class is not known here.
    """
    if name not in TIMES_OF or not hasattr(diffusers, name):
        raise ValueError(
            f"source={name!r} is not supported: it is no scheduler of a table of betas or of a rectified flow; supported: "
            f"{', '.join(TIMES_OF)}"
        )
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    return {key: p.default for key, p in parameters.items() if key != "self" and p.default is not p.empty}


def source_of(config: Mapping[str, Any]) -> str:
    """The class of a config: the name in it, or for want of one (a scheduler that was made, not loaded) the class that has
    these settings.

    Raises:
        ValueError: there is none, or there are several whose times differ.
    """
    settings = {key for key in config if not key.startswith("_")}
    name = config.get("_class_name", "UrnScheduler" if "source" in settings else None)
    if name is not None:
        return str(config["source"] if name == "UrnScheduler" else name)
    found = [name for name in TIMES_OF if hasattr(diffusers, name) and set(defaults(name)) == settings]
    if len({TIMES_OF[name].replace("Parallel", "") for name in found}) != 1:
        raise ValueError(
            f"config: it has no '_class_name', and its settings are those of {' or '.join(found) or 'no class supported'}: pass "
            "source='...Scheduler', the class that it is of"
        )
    return found[0]


def plain(value: Any) -> Any:
    """A setting as JSON can hold it."""
    return value.tolist() if isinstance(value, (np.ndarray, Tensor)) else value


def is_even(sigmas: Sequence[float]) -> bool:
    """Whether sigmas are 1, ..., 1/n evenly, as pipelines of flows pass them to say n."""
    values = np.asarray(sigmas, dtype=np.float64)
    return bool(np.allclose(values, np.linspace(1.0, 1 / len(values), len(values)), atol=1e-6))


def _build(name: str, settings: Mapping[str, Any]) -> Any:
    known = defaults(name)
    return getattr(diffusers, name)(**{key: settings[key] for key in known if key in settings})


def _process(name: str, settings: Mapping[str, Any]) -> Process:
    if name.startswith("FlowMatch") or settings.get("use_flow_sigmas"):
        return Flow()
    scheduler = _build(name, settings)
    if name.startswith("CogVideoX"):  # its table is moved after the betas
        return Tabulated(tuple(scheduler.alphas_cumprod.double().tolist()))
    table: Tabulated = VP.from_betas(scheduler.betas.double())
    return table


def _predicts(name: str, settings: Mapping[str, Any]) -> str | tuple[str, ...]:
    flow = name.startswith("FlowMatch")
    kind = settings.get("prediction_type", "flow_prediction" if flow else "epsilon")
    fits = ("epsilon", "sample", "flow_prediction") if flow or settings.get("use_flow_sigmas") else tuple(PREDICTS)[:3]
    if kind not in fits:
        raise ValueError(f"prediction_type={kind!r} of {name} must be one of {', '.join(fits)}")
    return (PREDICTS[kind], "variance") if settings.get("variance_type") == "learned_range" else PREDICTS[kind]


def _end_of(scheduler: Any) -> Tensor:
    """Where a scheduler of a table ends: t = -1, clean, or t = 0, the table's smallest noise."""
    to_one = scheduler.config.get("set_alpha_to_one", True)
    clean = float(scheduler.sigmas[-1]) == 0 if hasattr(scheduler, "sigmas") else to_one
    return torch.tensor([-1.0 if clean else 0.0], dtype=torch.float64)
