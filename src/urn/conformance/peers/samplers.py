"""Any sampler of the installed k-diffusion as a subject of the kit, called as its script calls it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import itertools
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from urn.conformance import checks
from urn.conformance.probing import Draw, Interval
from urn.conformance.subject import Subject
from urn.model import Model
from urn.noise import BrownianNoise, SeededNoise
from urn.plan import PlanError

from .facts import K_DIFFUSION, LAW, documented
from .measures import cost
from .network import Network, rescaled, shares_of
from .precision import Seen, replaced

INSTALL = "pip install --no-deps k-diffusion && pip install torchsde torchdiffeq"
GIVEN = (
    *("model", "x", "sigmas", "sigma_min", "sigma_max", "n", "extra_args", "callback", "disable", "noise_sampler"),
    "return_info",
)
# of a sampler that chooses its own steps
WITHOUT_STEPS = (checks.point_mass, checks.gaussian, checks.ends, checks.batch, checks.repeatable)
IMAGES = ("torchvision", "torchvision.transforms", "PIL")  # what k_diffusion.utils imports for pictures


def k_diffusion(name: str, /, **options: Any) -> Subject:
    """A sampler of the installed k-diffusion as a `Subject` for `urn.check`.

    It is called with sigma/alpha at the kit's nodes as `sigmas` (as `sigma_min`, `sigma_max` and `n` where it takes these), in
    float64, and a `noise_sampler` with a seed a sample; one that takes none, and draws from torch's global generator, is
    handed its noise in that place.

    Args:
        name: a function of k_diffusion.sampling, with or without "sample_".
        options: its own, as `eta`, `s_churn`, `order`, `solver_type`.

    Raises:
        ImportError: k-diffusion is not installed.
        ValueError: no such sampler, or no such option.

    Example:
        >>> report = urn.check(k_diffusion("sample_heun"))
        >>> round(report.order)
        2
    """
    try:
        module = load_sampling()
    except ImportError as error:
        raise ImportError(f"k_diffusion:{name} needs k-diffusion ({error}): {INSTALL}") from error
    known = sampler_names()
    full = name if name.startswith("sample_") else f"sample_{name}"
    if full not in known:
        near = difflib.get_close_matches(full, known, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"k_diffusion has no sampler {name!r}{hint}")
    found = Sampler(getattr(module, full), options)
    shown = "".join(f", {key}={value}" for key, value in options.items())
    order, reason = (1, LAW) if found.stochastic else documented(K_DIFFUSION, found.name, found.all_options)
    return Subject(
        f"k_diffusion {installed_version()} {full}{shown}",
        found.run,
        order,
        found.stochastic,
        drawn=found.drawn,
        checks=WITHOUT_STEPS if found.name == "dpm_adaptive" else None,
        more=() if found.name == "dpm_adaptive" else (cost,),
        notes=(reason, f"arithmetic: float64; grid: {found.grid}"),
    )


@lru_cache(maxsize=1)
def load_sampling() -> Any:
    """k_diffusion.sampling, without what the package's `__init__` imports besides: models, CLIP, pictures.

    The module is made by the ordinary importer inside a stand-in for the package, which is taken away again, with stand-ins for
    what is not installed of `IMAGES`. A k_diffusion that is imported already is used as it is.
    """
    if (loaded := sys.modules.get("k_diffusion.sampling")) is not None:
        return loaded
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("No module named 'k_diffusion'")
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    with _standing_in(package):
        return importlib.import_module("k_diffusion.sampling")


@contextmanager
def _standing_in(package: types.ModuleType) -> Iterator[None]:
    """The package, and what is missing of `IMAGES`, in sys.modules for the time being."""
    before = {key: value for key, value in sys.modules.items() if key.partition(".")[0] == "k_diffusion"}
    missing = [key for key in IMAGES if importlib.util.find_spec(key.partition(".")[0]) is None]
    sys.modules["k_diffusion"] = package
    for key in missing:
        module: Any = types.ModuleType(key)
        module.functional = module.transforms = module.Image = None
        sys.modules[key] = module
    try:
        yield
    finally:
        for key in [k for k in sys.modules if k.partition(".")[0] == "k_diffusion"] + missing:
            del sys.modules[key]
        sys.modules.update(before)


def sampler_names() -> list[str]:
    """Every sampler of the installed k-diffusion."""
    return sorted(name for name in vars(load_sampling()) if name.startswith("sample_"))


def installed_version() -> str:
    """Of k-diffusion."""
    try:
        return version("k-diffusion")
    except PackageNotFoundError:
        return "(unknown version)"


@dataclass(frozen=True)
class Sampler:
    """A function of k-diffusion with its options."""

    function: Callable[..., Tensor]
    options: dict[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        if unknown := sorted({*self.options} - {*self.taken}):
            allowed = ", ".join(self.taken) or "none"
            raise ValueError(
                f"k_diffusion's sample_{self.name} has no option {unknown[0]}={self.options[unknown[0]]!r}; "
                f"its options: {allowed}"
            )

    @cached_property
    def name(self) -> str:
        return str(self.function.__name__.removeprefix("sample_"))

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.function).parameters)

    @cached_property
    def taken(self) -> dict[str, Any]:
        """The defaults of its options."""
        return {key: p.default for key, p in self.parameters.items() if key not in GIVEN}

    @cached_property
    def all_options(self) -> dict[str, Any]:
        return {**self.taken, **self.options}

    @cached_property
    def stochastic(self) -> bool:
        return any(float(self.all_options.get(key, 0)) > 0 for key in ("eta", "s_churn"))

    @property
    def grid(self) -> str:
        if self.name == "dpm_adaptive":
            return "steps of its own choice between the grid's ends"
        if "sigmas" not in self.parameters:
            return "even in log sigma between the grid's ends, n evaluations"
        return "the nodes given"

    def run(self, model: Model, x: Tensor, times: Tensor, seeds: Sequence[int]) -> Tensor:
        """With the noise of each sample from its own seed; increments of one Brownian path where it asks for these.

        Where no noise should be seen, its increments are independent: that costs less, and changes nothing.
        """
        first = shares_of(model.process, times[:1])[0]
        top = first / (1 - first) if first < 1 else 1.0
        paths = BrownianNoise(seeds, top, 0.0)
        fresh, calls = SeededNoise(seeds), itertools.count(1)

        def draw(interval: Interval | None, like: Tensor) -> Tensor:
            noise: Tensor
            if interval is None or not self.stochastic:
                call = next(calls)
                noise = fresh.normal((float(call), float(call - 1)), 1, like)
            else:
                noise = paths.normal(
                    (min(interval[0], top), min(interval[1], top)), 0, like
                )  # a rounded log may overstep
            return noise

        return self.drawn(model, x, times, draw)

    def drawn(self, model: Model, x: Tensor, times: Tensor, draw: Draw) -> Tensor:
        """With its noise handed in."""
        process, shares = model.process, shares_of(model.process, times)
        network, module = Network(model), load_sampling()
        if shares[0] == 1:
            raise PlanError(
                f"k_diffusion's sample_{self.name} takes no start at alpha = 0, where sigma/alpha is infinite"
            )
        if "sigmas" not in self.parameters and shares[-1] == 0:
            raise PlanError(f"k_diffusion's sample_{self.name} takes no sigma_min of 0")
        sigmas = torch.tensor([share / (1 - share) for share in shares], dtype=torch.float64)
        start = rescaled(x, process, float(times[0]), "ratio", shares[0])
        brownian = self.name.endswith("_sde")  # by default these draw from a Brownian tree, the others afresh

        def denoiser(y: Tensor, sigma: Tensor, **_: Any) -> Tensor:
            level = float(sigma.flatten()[0])
            return network(y, "ratio", level / (1 + level), "x0")

        def noise(sigma: Any, sigma_next: Any) -> Tensor:
            return draw((float(sigma), float(sigma_next)) if brownian else None, start)

        given: dict[str, Any] = {"disable": True, **self.options}
        if "noise_sampler" in self.parameters:
            given["noise_sampler"] = noise
        if "sigmas" in self.parameters:
            given["sigmas"] = sigmas
        else:
            given |= {"sigma_min": sigmas[-1], "sigma_max": sigmas[0]}
            given |= {"n": len(sigmas) - 1} if "n" in self.parameters else {}
        seen = Seen(torch, randn_like=lambda like: draw(None, like))
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # sample_dpm_fast makes its grid in it
        try:
            with warnings.catch_warnings(), replaced(module, torch=seen):
                warnings.simplefilter("ignore")
                y = self.function(denoiser, start, **given)
        finally:
            torch.set_default_dtype(before)
        return rescaled(y, process, float(times[-1]), "ratio", shares[-1], back=True)
