"""diffusers' side of the accuracy benchmark: its deterministic schedulers, every setting that makes sense, on every grid.

A scheduler is driven as its pipelines drive it, in float32, from unit normals times its `init_noise_sigma`. Two sets:

```
settings   what a user of a network for this table sets by name. The network is shown the time that the scheduler hands it:
           DPMSolver, UniPC, DEIS and SASolver round or cut the times of other sigmas to integers
any        also with that mended (grids marked *: the network is shown the time of its state's noise level); on times of
           the caller's own where the scheduler takes them (grids named "given"; UniPC takes them as flow sigmas, IPNDM as
           betas); and with the network wrapped as one for a rectified flow or EDM
```

Left out: schedulers that draw noise or are made for distilled, discrete or consistency models; DDIMParallel, which is
DDIM, and CogVideoXDDIM, DDIM on a table of its own; those that need torchsde (DPMSolverSDE, CosineDPMSolverMultistep).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diffusers.schedulers.scheduling_utils import AysSchedules
from torch import Tensor

import urn
from benchmarks.course import PROCESS, Network, Ready
from benchmarks.drive import drive, ready

Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Grid:
    """A scheduler's times: settings by name, or `given`: the count of calls to an argument of `set_timesteps`.

    Attributes:
        level: whether the network is shown the time of its state's noise level, instead of what the scheduler hands out.
    """

    settings: Settings = ()
    given: Callable[[int], dict[str, Any]] | None = None
    level: bool = False


def urns(name: str, count: int) -> Tensor:
    """One of Urn's grids without its end: `count` times."""
    return urn.grids.grid_times(PROCESS, count, name)[:-1]


def whole(times: Iterable[float]) -> list[int]:
    """Rounded, decreasing, each once."""
    return sorted({round(float(t)) for t in times}, reverse=True)


def align_your_steps(count: int) -> list[int]:
    """diffusers' ten times of Align Your Steps (made for Stable Diffusion), interpolated to other counts."""
    ten = AysSchedules["StableDiffusionTimesteps"]
    return whole(np.interp(np.linspace(0, 9, count), np.arange(10), ten))


def ratios(times: Tensor) -> Tensor:
    """sigma/alpha, the sigma of most schedulers."""
    return PROCESS.sigma(times) / PROCESS.alpha(times)


def shares(times: Tensor) -> Tensor:
    """sigma/(alpha + sigma), the sigma of flow schedulers."""
    return PROCESS.sigma(times) / (PROCESS.alpha(times) + PROCESS.sigma(times))


NOISE_FORMS = {("algorithm_type", "dpmsolver"), ("algorithm_type", "noise_prediction"), ("predict_x0", False)}
FLOW = (("use_flow_sigmas", True), ("prediction_type", "flow_prediction"))
URNS = ("quadratic", "arctan", "uniform")


def given(name: str) -> dict[str, Grid]:
    """One of Urn's grids in every form that a scheduler takes; IPNDM's `trained_betas` are the noise levels of its steps."""
    return {
        "whole times": Grid(given=lambda n: {"timesteps": whole(urns(name, n))}),
        "times": Grid(given=lambda n: {"timesteps": urns(name, n).tolist()}),
        "sigmas": Grid(given=lambda n: {"sigmas": [*ratios(urns(name, n)).tolist(), 0.0]}),
        "shares": Grid(given=lambda n: {"sigmas": shares(urns(name, n)).tolist()}),
        "flow sigmas*": Grid(FLOW, lambda n: {"sigmas": shares(urns(name, n)).numpy()}, level=True),
        "betas": Grid(given=lambda n: {"trained_betas": [*PROCESS.sigma(urns(name, n)).tolist(), 0.0]}),
    }


GRIDS: dict[str, Grid] = {
    "leading": Grid((("timestep_spacing", "leading"),)),
    "leading + 1": Grid((("timestep_spacing", "leading"), ("steps_offset", 1))),
    "trailing": Grid((("timestep_spacing", "trailing"),)),
    "linspace": Grid((("timestep_spacing", "linspace"),)),
    "default": Grid(),
    "log-linear": Grid((("interpolation_type", "log_linear"),)),
    **{
        name + ("*" if level else ""): Grid(settings, level=level)
        for level in (False, True)
        for name, settings in {
            "karras": (("use_karras_sigmas", True),),
            "exponential": (("use_exponential_sigmas", True),),
            "beta": (("use_beta_sigmas", True),),
            "lu": (("use_lu_lambdas", True),),
            "flow": FLOW,
            "flow shift 3": (*FLOW, ("flow_shift", 3.0)),
        }.items()
    },
    "EDM karras": Grid((("sigma_schedule", "karras"),)),
    "EDM karras rho 3": Grid((("sigma_schedule", "karras"), ("rho", 3.0))),
    "EDM exponential": Grid((("sigma_schedule", "exponential"),)),
    "Align Your Steps, given": Grid(given=lambda n: {"timesteps": align_your_steps(n)}),
    **{f"{name} {kind}, given": grid for name in URNS for kind, grid in given(name).items()},
}

SPACED = ("leading", "leading + 1", "trailing", "linspace")
SIGMAS = ("karras", "exponential", "beta")
FLOWS = ("flow", "flow shift 3")
MENDED = ("karras*", "exponential*", "beta*", "flow*", "flow shift 3*")
WHOLE_GIVEN = ("quadratic whole times, given", "arctan whole times, given", "Align Your Steps, given")


@dataclass(frozen=True)
class Peer:
    """A diffusers scheduler with its settings on a grid; `step` are arguments of its `step`."""

    scheduler: str
    grid: str
    settings: Settings = ()
    step: Settings = ()
    side: str = field(default="diffusers", init=False)

    @property
    def family(self) -> str:
        """The scheduler and its settings, without the grid."""
        given = (f"{name}={value}" for name, value in (*self.settings, *self.step) if name != "tau_func")
        return " ".join([self.scheduler, *given])

    @property
    def label(self) -> str:
        return f"{self.family}, {self.grid}"

    @property
    def pools(self) -> tuple[str, ...]:
        grid = GRIDS[self.grid]
        beyond = grid.level or grid.given or self.scheduler.startswith(("EDM", "Flow")) or "flow" in self.grid
        return ("any",) if beyond else ("any", "settings")

    def at(self, budget: int, of: type[Network] = Network) -> Ready:
        """The scheduler with the most steps that call the network at most `budget` times."""
        grid = GRIDS[self.grid]
        settings = {**dict(self.settings), **dict(grid.settings)}
        if "use_flow_sigmas" in settings and NOISE_FORMS & set(self.settings):
            settings["prediction_type"] = "epsilon"  # they take no flow prediction

        def run(scheduler: Any, starts: Tensor) -> Tensor:
            return drive(scheduler, starts, grid.level, dict(self.step), of)

        return ready(self.scheduler, settings, grid.given, budget, run)


def table(scheduler: str, grids: Iterable[str], step: Settings = (), **choices: Iterable[Any]) -> list[Peer]:
    """A scheduler on grids with every combination of the settings' values."""
    settings = [tuple(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return [Peer(scheduler, grid, one, step) for one in settings for grid in grids]


def no_noise(_: Any) -> int:
    """SASolver's tau of the probability flow."""
    return 0


DPM_GRIDS = (*SPACED, *SIGMAS, "lu", *FLOWS, *MENDED, "lu*", *WHOLE_GIVEN)
SINGLE_GRIDS = ("default", *SIGMAS, *FLOWS, *MENDED, *WHOLE_GIVEN)
UNIPC_GRIDS = (*SPACED, *SIGMAS, *FLOWS, *MENDED, *[f"{name} flow sigmas*, given" for name in URNS])
PLAIN_GRIDS = (*SPACED, *SIGMAS, *FLOWS, *MENDED)
SMALL, ZERO = ("sigma_min",), ("zero",)
EDM_GRIDS = ("EDM karras", "EDM karras rho 3", "EDM exponential")
DPM, SINGLE, UNIPC = "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep"
PP, EPS = ("dpmsolver++",), ("dpmsolver",)


def diffusers_configurations() -> list[Peer]:
    """The whole table, a line a scheduler and kind of setting."""
    orders = (1, 2, 3, 4)
    return [
        *table("DDIM", SPACED, clip_sample=(False,)),
        *table("PNDM", SPACED, skip_prk_steps=(True, False), set_alpha_to_one=(False, True)),
        *table("IPNDM", [f"{name} betas, given" for name in URNS]),
        *[peer for p in orders for peer in table("LMSDiscrete", (*SPACED, *SIGMAS), step=(("order", p),))],
        *table(
            "EulerDiscrete", (*SPACED, *SIGMAS, "log-linear", *WHOLE_GIVEN, *[f"{name} sigmas, given" for name in URNS])
        ),
        *table("EulerDiscrete", (*SPACED, *SIGMAS), final_sigmas_type=SMALL),
        *table("HeunDiscrete", (*SPACED, *SIGMAS, *WHOLE_GIVEN, *[f"{name} times, given" for name in URNS])),
        *table("KDPM2Discrete", (*SPACED, *SIGMAS)),
        *table(DPM, DPM_GRIDS, solver_order=(1,), algorithm_type=PP),
        *table(DPM, DPM_GRIDS, solver_order=(2,), algorithm_type=PP, solver_type=("midpoint", "heun")),
        *table(DPM, DPM_GRIDS, solver_order=(3,), algorithm_type=PP, lower_order_final=(True, False)),
        *table(
            DPM,
            DPM_GRIDS,
            solver_order=(2, 3),
            algorithm_type=PP,
            lower_order_final=(True, False),
            final_sigmas_type=SMALL,
        ),
        *table(
            DPM,
            DPM_GRIDS,
            solver_order=(1, 2, 3),
            algorithm_type=EPS,
            lower_order_final=(True, False),
            final_sigmas_type=SMALL,
        ),
        *table(SINGLE, SINGLE_GRIDS, solver_order=(2, 3), algorithm_type=PP, solver_type=("midpoint", "heun")),
        *table(SINGLE, SINGLE_GRIDS, solver_order=(2, 3), algorithm_type=(*PP, *EPS), final_sigmas_type=SMALL),
        *table(UNIPC, UNIPC_GRIDS, solver_order=orders, final_sigmas_type=ZERO),
        *table(UNIPC, UNIPC_GRIDS, solver_order=orders, final_sigmas_type=SMALL, lower_order_final=(True, False)),
        *table(UNIPC, UNIPC_GRIDS, solver_order=(2, 3), final_sigmas_type=SMALL, solver_type=("bh1",)),
        *table(UNIPC, UNIPC_GRIDS, solver_order=(2, 3), final_sigmas_type=SMALL, predict_x0=(False,)),
        *table("DEISMultistep", PLAIN_GRIDS, solver_order=(1, 2, 3), lower_order_final=(True, False)),
        *[
            peer
            for p, c in ((1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4))
            for peer in table(
                "SASolver",
                PLAIN_GRIDS,
                predictor_order=(p,),
                corrector_order=(c,),
                algorithm_type=("data_prediction", "noise_prediction"),
                tau_func=(no_noise,),
            )
        ],
        *table("EDMEuler", EDM_GRIDS),
        *table("EDMDPMSolverMultistep", EDM_GRIDS, solver_order=(1, 2, 3), lower_order_final=(True, False)),
        *table("FlowMatchEulerDiscrete", ("default", *[f"{name} shares, given" for name in URNS])),
        *table("FlowMatchHeunDiscrete", ("default",)),
    ]


QUICK: tuple[Peer, ...] = (
    Peer("DDIM", "trailing", (("clip_sample", False),)),
    Peer("PNDM", "leading", (("skip_prk_steps", True),)),
    Peer("IPNDM", "quadratic betas, given"),
    Peer("LMSDiscrete", "karras", step=(("order", 3),)),
    Peer("EulerDiscrete", "karras"),
    Peer("HeunDiscrete", "trailing"),
    Peer("KDPM2Discrete", "linspace"),
    Peer(DPM, "quadratic whole times, given", (("solver_order", 3),)),
    Peer(DPM, "karras*", (("solver_order", 2),)),
    Peer(SINGLE, "default", (("solver_order", 2),)),
    Peer(UNIPC, "quadratic flow sigmas*, given", (("solver_order", 3),)),
    Peer("DEISMultistep", "trailing", (("solver_order", 3),)),
    Peer("SASolver", "trailing", (("predictor_order", 3), ("corrector_order", 3), ("tau_func", no_noise))),
    Peer("EDMDPMSolverMultistep", "EDM karras", (("solver_order", 2),)),
    Peer("FlowMatchEulerDiscrete", "quadratic shares, given"),
)
