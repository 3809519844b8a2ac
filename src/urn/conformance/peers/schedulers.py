"""Any scheduler of the installed diffusers as a subject of the kit, driven as a pipeline drives it."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from urn.conformance.probing import Draw
from urn.conformance.subject import Subject
from urn.conformance.targets import MIXTURE
from urn.model import Model
from urn.plan import PlanError
from urn.processes import Flow

from .facts import DETERMINISTIC, LAW, NOT_RUN, documented, is_stochastic
from .grids import ENTRIES, FINE_FLOW, OWN_GRID, SPACINGS, placed
from .levels import answered, first_and_last
from .measures import cost, own_batch, own_grid, own_order
from .network import UNITS, Network, rescaled, shares_of
from .pipeline import EDM, FLOW_MATCH, RATIO, quiet, steps_of
from .precision import float64, replaced

MANY = 8
TIMES_ROUNDED, FLOAT32 = (
    3e-6,
    1e-5,
)  # errors below these say nothing of order: table entries of 3/100,000 in lambda; float32
INSTALL = "pip install 'urn-samplers[diffusers]'"
NOT_OPTIONS = (
    *("self", "model_output", "timestep", "sample", "generator", "return_dict", "variance_noise", "kwargs"),
    *("pred_original_sample", "per_token_timesteps", "use_clipped_model_output"),
)


def diffusers(name: str, /, *, double: bool = True, **options: Any) -> Subject:
    """A scheduler of the installed diffusers as a `Subject` for `urn.check`.

    It is driven as its pipelines drive it: its settings, `set_timesteps`, `scale_model_input`, `step`, and one generator a
    sample where its `step` takes them. grids.py says how it is put on the kit's grid. `clip_sample` is False unless asked for:
    by default some clip to [-1, 1], where pixels are and the kit's data are not.

    Args:
        name: a class that diffusers exports, with or without "Scheduler".
        double: run its file with float32 read as float64, so that its rule is measured and not its rounding; False for
            its arithmetic as installed.
        options: of the class, or of its `step` (as `eta`, `order`, `s_churn`); `tau_func` of SASolver is a number here.

    Raises:
        ImportError: diffusers, or something that this class needs, is not installed.
        ValueError: no such class, one that cannot be run on an exact model, or an option that it does not take or refuses.

    Example:
        >>> report = urn.check(diffusers("DPMSolverMultistepScheduler", use_karras_sigmas=True))
        >>> round(report.order)
        2
    """
    found = Scheduler(_class(name), double, options)
    shown = "".join(f", {key}={value}" for key, value in options.items())
    version = importlib.import_module("diffusers").__version__
    order, reason = (1, LAW) if found.stochastic else documented(DETERMINISTIC, found.name, found.all_options)
    if found.on_own_grid_only and found.options.get("use_flow_sigmas"):
        order, reason = (
            None,
            "not asked on flow sigmas from noise to data, whose steps in lambda stay large at both ends",
        )
    arithmetic = "its file's float32 read as float64" if double else "its own float32"
    own_checks = [own_batch(found)] if found.stochastic else [own_order(found), own_batch(found)]
    floor = TIMES_ROUNDED if found.rounds_times else Subject.floor
    return Subject(
        f"diffusers {version} {found.name}Scheduler{shown}",
        found.run,
        order,
        found.stochastic,
        drawn=found.drawn,
        floor=floor if double else FLOAT32,
        checks=tuple(own_checks) if found.on_own_grid_only else None,
        more=(own_grid(found),) if found.on_own_grid_only else (cost, own_grid(found)),
        notes=(reason, f"arithmetic: {arithmetic}; grid: {found.grid}"),
    )


def _class(name: str) -> Any:
    try:
        with quiet():
            library = importlib.import_module("diffusers")
            schedulers = importlib.import_module("diffusers.schedulers")
    except ImportError as error:
        raise ImportError(f"diffusers:{name} needs diffusers: {INSTALL}") from error
    full = name if name.endswith("Scheduler") else f"{name}Scheduler"
    known = scheduler_names()
    if full not in known:
        near = difflib.get_close_matches(full, known, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"diffusers {library.__version__} has no scheduler {name!r}{hint}")
    if (short := full.removesuffix("Scheduler")) in NOT_RUN:
        raise ValueError(f"diffusers:{full} cannot be run on an exact model: {NOT_RUN[short]}")
    found = getattr(schedulers, full)
    if (backends := getattr(found, "_backends", None)) is not None:
        needed = " ".join(name for name in backends if name != "torch")
        raise ImportError(f"diffusers:{full} needs {needed}: pip install {needed}")
    return found


def scheduler_names() -> list[str]:
    """Every scheduler that the installed diffusers exports."""
    structure = importlib.import_module("diffusers.schedulers")._import_structure
    more = ("DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler", "LMSDiscreteScheduler")  # dummies, if need be
    return sorted({name for names in structure.values() for name in names if name.endswith("Scheduler")} | {*more})


OwnSamples = tuple[Tensor, Tensor, tuple[float, float]]


@dataclass(frozen=True)
class Scheduler:
    """A class of diffusers with its settings; each run makes a fresh one."""

    cls: Any
    double: bool
    options: dict[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        settings, step = self.taken, self.of_step
        for key, value in self.options.items():
            if key not in settings and key not in step:
                allowed = ", ".join([*settings, *step])
                raise ValueError(
                    f"diffusers' {self.name}Scheduler has no option {key}={value!r}; its options: {allowed}"
                )
        try:
            self.made()
        except (ArithmeticError, AssertionError, NotImplementedError, TypeError, ValueError, ImportError) as error:
            raise ValueError(f"diffusers' {self.name}Scheduler refuses {self.options}: {error}") from error

    @cached_property
    def name(self) -> str:
        return str(self.cls.__name__.removesuffix("Scheduler"))

    @cached_property
    def taken(self) -> dict[str, Any]:
        """The defaults of its settings."""
        return _defaults(self.cls.__init__)

    @cached_property
    def of_step(self) -> dict[str, Any]:
        """The defaults of its step's options."""
        return {} if not hasattr(self.cls, "step") else _defaults(self.cls.step)

    @cached_property
    def all_options(self) -> dict[str, Any]:
        return {**self.taken, **self.of_step, **self.options}

    @cached_property
    def stochastic(self) -> bool:
        return is_stochastic(self.name, self.all_options)

    @property
    def spaces_itself(self) -> bool:
        """Whether its options choose a spacing, for which times are rounded to entries of a table."""
        return any(self.options.get(s) for s in SPACINGS)

    @property
    def rounds_times(self) -> bool:
        """Whether the times that the network is shown are rounded even on the kit's grid."""
        return bool((self.spaces_itself and self.units == "vp") or self.options.get("use_flow_sigmas"))

    @property
    def on_own_grid_only(self) -> bool:
        """Whether its settings leave it no other ends than pure noise and the data."""
        flow = self.options.get("use_flow_sigmas") and self.name != "UniPCMultistep"
        return bool(flow) or self.name == "FlowMatchHeunDiscrete"

    @property
    def grid(self) -> str:
        if self.on_own_grid_only:
            return "its own, from pure noise to the data: it takes no other ends"
        if self.name in EDM or self.name == "ScoreSdeVe" or self.spaces_itself:
            return "its own spacing between the grid's ends" + (
                f", on a table of {ENTRIES[self.name in RATIO]:,} entries" if self.spaces_itself else ""
            )
        if self.rounds_times:
            return "the nodes given, times cut to 1/1,000,000"
        return "a table that has one entry a node, none rounded" if "trained_betas" in self.taken else "the nodes given"

    @property
    def units(self) -> str:
        """Of its states."""
        if self.name in (*RATIO, *EDM, "ScoreSdeVe"):
            return "ratio"
        return "flow" if self.name in FLOW_MATCH or self.options.get("use_flow_sigmas") else "vp"

    def made(self, more: dict[str, Any] | None = None, timesteps: dict[str, Any] | None = None) -> Any:
        """A fresh scheduler; `more` stand in for the options that choose its own grid."""
        asked = {k: v for k, v in self.options.items() if k in self.taken and (more is None or k not in OWN_GRID)}
        settings: dict[str, Any] = {"clip_sample": False} if "clip_sample" in self.taken else {}
        settings = {**settings, **asked, **(more or {})}
        if isinstance(tau := settings.get("tau_func"), (int, float)):
            settings["tau_func"] = lambda _: tau
        elif self.name == "SASolver" and more is not None:
            settings["tau_func"] = lambda _: (
                1
            )  # the default is 1 from timestep 200 to 800 of a table of 1,000, 0 outside
        with quiet():
            scheduler = self.cls(**settings)
            if timesteps is not None:
                scheduler.set_timesteps(**timesteps)
                if self.name == "ScoreSdeVe":
                    scheduler.set_sigmas(**timesteps)
        if timesteps is not None and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        return scheduler

    def run(self, model: Model, x: Tensor, times: Tensor, seeds: Sequence[int]) -> Tensor:
        """As a pipeline runs it, with a generator a sample."""
        with float64(self.cls, only_noise=not self.double):
            return self._on_nodes(model, x, times, seeds)

    def drawn(self, model: Model, x: Tensor, times: Tensor, draw: Draw) -> Tensor:
        """The same with `draw` in the place of its generators."""
        module = importlib.import_module(self.cls.__module__)

        def brownian(x: Tensor, *_: Any, transform: Callable[[Any], Any] = float, **__: Any) -> Any:
            return lambda a, b: draw((float(transform(a)), float(transform(b))), x)

        def noise(shape: Any, **_: Any) -> Tensor:
            return draw(None, torch.empty(tuple(shape), dtype=torch.float64 if self.double else torch.float32))

        with float64(self.cls, noise, not self.double), replaced(module, BrownianTreeNoiseSampler=brownian):
            return self._on_nodes(model, x, times, list(range(len(x))))

    def own_samples(self, steps: int, fine: bool = False, which: slice = slice(24)) -> OwnSamples:
        """On its own grid with its own table and generators: samples of the kit's mixture, their starts, both on the rectified
        flow's scale, and the noise levels of the grid's ends. As installed, or `fine`: in float64, flow times to 1/1,000,000."""
        double = fine and self.double
        flow = FINE_FLOW if fine and self.options.get("use_flow_sigmas") else {}
        as_installed = Scheduler(self.cls, double, {**self.options, **flow})
        normals = torch.randn(24, 2, generator=torch.Generator().manual_seed(11), dtype=torch.float64)[which]
        with float64(self.cls, only_noise=not double):
            made = as_installed.made(timesteps={"num_inference_steps": steps})
            first, last = first_and_last(made)
            # a flow begins at its first sigma, the others at unit normals times their init_noise_sigma
            start = normals.float().double() * (first if self.units == "flow" else float(made.init_noise_sigma))
            timesteps = made.timesteps[:-1] if self.name == "DDPMWuerstchen" else made.timesteps
            network = Network(MIXTURE.model(Flow()))
            y = as_installed.through(made, timesteps, network, start, list(range(24))[which])
        begin, end = (float(sum(UNITS[self.units](share))) for share in (first, last))
        return y.double() / end, start / begin, (first, last)

    def _on_nodes(self, model: Model, x: Tensor, times: Tensor, seeds: Sequence[int]) -> Tensor:
        process, shares = model.process, shares_of(model.process, times)
        where = placed(self.name, self.taken, shares, self.options)
        try:
            scheduler = self.made(where.settings, where.timesteps)
        except (NotImplementedError, ValueError) as error:
            raise PlanError(f"diffusers' {self.name}Scheduler refuses {where.settings.keys()}: {error}") from error
        timesteps = scheduler.timesteps[: len(scheduler.timesteps) - where.left_out]
        start = rescaled(x, process, float(times[0]), self.units, shares[0])
        y = self.through(scheduler, timesteps, Network(model), start, seeds)
        return rescaled(y.double(), process, float(times[-1]), self.units, shares[-1], back=True)

    def through(self, scheduler: Any, timesteps: Any, network: Network, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """The pipeline's loop on states (B, d), in the scheduler's units, in and out."""
        x = (x if self.double else x.float()).reshape(len(x), 1, 1, -1)
        step = {key: value for key, value in self.options.items() if key in self.of_step and key not in self.taken}
        if (
            self.stochastic
            and "generator" in inspect.signature(getattr(self.cls, "step", self.cls.__init__)).parameters
        ):
            step["generator"] = generators(seeds)
        if "noise_sampler_seed" in self.taken:
            scheduler.noise_sampler_seed = list(seeds) if len(seeds) <= MANY else seeds[0]
        if self.name == "ScoreSdeVe":
            return _by_predictor_corrector(scheduler, timesteps, network, x, seeds).flatten(1)

        def answer(scaled: Tensor, i: int, t: Any) -> Tensor:
            return answered(scheduler, network, scaled.flatten(1), t).reshape(scaled.shape)

        if self.name == "DDPMWuerstchen":
            timesteps = [t.expand(len(x)) for t in timesteps]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds[0])
            return steps_of(scheduler, answer, x, timesteps, **step).flatten(1)


def generators(seeds: Sequence[int]) -> Any:
    """One a sample; one for all where there are so many samples that only their law is looked at."""
    made = [torch.Generator().manual_seed(seed) for seed in seeds[: 1 if len(seeds) > MANY else None]]
    return made if len(seeds) <= MANY else made[0]


def _by_predictor_corrector(
    scheduler: Any, timesteps: Any, network: Network, x: Tensor, seeds: Sequence[int]
) -> Tensor:
    """The loop of ScoreSdeVePipeline."""
    generator = generators(seeds)
    for i, t in enumerate(timesteps):
        level = float(scheduler.discrete_sigmas.flip(0)[i])
        share = level / (1 + level)
        for _ in range(scheduler.config.correct_steps):
            score = network(x.flatten(1), "ratio", share, "score").reshape(x.shape)
            x = scheduler.step_correct(score, x, generator=generator).prev_sample
        score = network(x.flatten(1), "ratio", share, "score").reshape(x.shape)
        x = scheduler.step_pred(score, t.expand(len(x)), x, generator=generator).prev_sample
    return x


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: p.default for name, p in parameters.items() if name not in NOT_OPTIONS}
