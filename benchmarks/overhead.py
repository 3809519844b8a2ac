"""Overhead: what a sampler costs beside its network. The network here is a stored tensor, so all the time is the sampler's.

Urn's plans and diffusers' schedulers of the same name, 20 steps each, in float32 on one thread, in turn. A run is the whole
loop over model calls: `urn.execute` on a compiled plan; a pipeline's loop on a scheduler whose timesteps are set. What
comes before the loop, compiling or setting timesteps, is timed apart.

Times are the process's own processor time: on one thread and a quiet machine that is the time that passes; on a shared one
the time that passes would favour whoever's run is short enough never to be interrupted, which is Urn's.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

import urn
from benchmarks.course import PROCESS
from benchmarks.drive import prepared, quiet
from benchmarks.kernels import count_kernels
from urn.adapters.diffusers import UrnScheduler
from urn.binding import Call, Mix, bind
from urn.compiler import kept_plans
from urn.methods import own_names
from urn.noise import FastNoise, NoiseSource, SeededNoise
from urn.registers import Block, registers_for

SHAPES = ((1, 4, 64, 64), (16, 4, 128, 128))
NOISE_SHAPE = (64, 4, 64, 64)
STEPS = 20
COMPILED_STEPS = (10, 50)
TRAILING = {"timestep_spacing": "trailing"}


@dataclass(frozen=True)
class Pair:
    """A method of Urn's and the scheduler that does the same, or the nearest thing; `source` is Urn's noise."""

    name: str
    method: str
    scheduler: str
    settings: dict[str, Any]
    source: type[FastNoise] | type[SeededNoise] | None = None
    nearest: bool = False


PAIRS: tuple[Pair, ...] = (
    Pair("ddim", "ddim", "DDIM", {"clip_sample": False}),
    Pair("euler", "euler", "EulerDiscrete", {}),
    Pair("dpmpp_2m", "dpmpp_2m", "DPMSolverMultistep", {"solver_order": 2}),
    Pair("dpmpp_3m", "dpmpp_3m", "DPMSolverMultistep", {"solver_order": 3}),
    Pair("unipc_3", "unipc_3", "UniPCMultistep", {"solver_order": 3}),
    Pair("deis_3", "deis_3", "DEISMultistep", {"solver_order": 3}),
    Pair("heun", "heun", "HeunDiscrete", {}),
    Pair("adams_pc_3", "adams_pc_3", "UniPCMultistep", {"solver_order": 3}, nearest=True),
    Pair("dpmpp_2m_sde, torch noise", "dpmpp_2m_sde", "DPMSolverMultistep", {}, FastNoise),
    Pair("dpmpp_2m_sde, seeded noise", "dpmpp_2m_sde", "DPMSolverMultistep", {}, SeededNoise),
)


def measure(quick: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run the benchmark; everything that the page shows, as JSON values."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for shape in SHAPES[:1] if quick else SHAPES:
            repeats = 3 if quick else 61 if _size(shape) < 2**17 else 15
            for pair in PAIRS:
                rows.append(compare(pair, shape, repeats))
                say(f"{pair.name} at {shape}: {rows[-1]['ratio']:.2f} times as fast")
        return {
            "kind": "overhead",
            "quick": quick,
            "steps": STEPS,
            "rows": rows,
            "schedulers": [in_a_pipeline(pair, SHAPES[0], 3 if quick else 31) for pair in PAIRS[: 2 if quick else -3]],
            "setup": [
                setup(pair, steps, 3 if quick else 15)
                for steps in COMPILED_STEPS[: 1 if quick else None]
                for pair in (PAIRS[:2] if quick else PAIRS[:-1])
            ],
            "noise": noise((4, 4, 16, 16) if quick else NOISE_SHAPE, 3 if quick else 21),
            "every": every(("ddim", "heun", "unipc_3") if quick else own_names(), SHAPES[0], 3 if quick else 21),
        }
    finally:
        torch.set_num_threads(threads)


def compare(pair: Pair, shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """Both sides' time a step, in turn `repeats` times, and the kernels of one run."""
    generator = torch.Generator().manual_seed(0)
    x, answer = (torch.randn(shape, generator=generator) for _ in range(2))
    plan = urn.compile_plan(pair.method, PROCESS, STEPS, "trailing")
    model = urn.Model(lambda x, t: answer, PROCESS, predicts="epsilon")

    def ours() -> Callable[[], Any]:
        source = noise_source(pair, shape)
        return lambda: urn.execute(plan, model, {"x": x}, source)

    def theirs() -> Callable[[], Any]:
        scheduler = prepared(pair.scheduler, _settings(pair), None, STEPS)
        start = x * float(scheduler.init_noise_sigma)
        return partial(pipeline_loop, scheduler, start, answer, torch.Generator().manual_seed(0), _stochastic(pair))

    times = interleaved({"urn": ours, "diffusers": theirs}, repeats)
    with quiet():
        kernels = {side: count_kernels(make(), _size(shape)) for side, make in (("urn", ours), ("diffusers", theirs))}
    copied = torch.empty_like(x)
    copy = interleaved({"copy": lambda: lambda: [copied.copy_(x) for _ in range(STEPS)]}, repeats)["copy"]
    calls = plan.nfe
    return {
        "copy": spread(copy, STEPS)["median"],
        "passes": passes(plan, model) / STEPS,
        **held(plan, model, x),
        "name": pair.name,
        "scheduler": pair.scheduler,
        "nearest": pair.nearest,
        "shape": list(shape),
        "calls": calls,
        "repeats": repeats,
        **ratios(times),
        **{side: {**spread(values, STEPS), **kernels[side].per(STEPS)} for side, values in times.items()},
    }


def in_a_pipeline(pair: Pair, shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """A pipeline's loop with the scheduler, and with an UrnScheduler in its place."""
    generator = torch.Generator().manual_seed(0)
    x, answer = (torch.randn(shape, generator=generator) for _ in range(2))

    def theirs() -> Callable[[], Any]:
        return partial(pipeline_loop, prepared(pair.scheduler, _settings(pair), None, STEPS), x, answer, None, False)

    def ours() -> Callable[[], Any]:
        config = prepared(pair.scheduler, _settings(pair), None, STEPS).config
        scheduler = UrnScheduler.from_config(config, method=pair.method)
        scheduler.set_timesteps(STEPS)
        return partial(pipeline_loop, scheduler, x, answer, None, False)

    times = interleaved({"urn": ours, "diffusers": theirs}, repeats)
    return {
        "name": pair.method,
        "scheduler": pair.scheduler,
        **ratios(times),
        **{side: spread(values, STEPS) for side, values in times.items()},
    }


def passes(plan: urn.Plan, model: urn.Model) -> int:
    """Passes over a state's memory that the plan's rows ask for, one by one: a read a term and a write."""
    operations = bind(plan, {"main": model}, watched=True).operations
    sums = [terms for one in operations if isinstance(one, (Call, Mix)) for _, terms in one.sums]
    return sum(len(terms) + 1 for terms in sums if len(terms) > 1 or terms[0][0] != 1)


def held(plan: urn.Plan, model: urn.Model, x: Tensor) -> dict[str, int]:
    """How many states' memory a run holds, and how many of them it needs at once."""
    program = bind(plan, {"main": model})
    with torch.no_grad():
        registers = registers_for(program, {"x": x}, keep=False)
    blocks = 2 if isinstance(registers, Block) and registers.spare else 1
    return {"held": blocks * program.height, "needed": program.height}


def every(names: Sequence[str], shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """The time of a model call's share of the loop, for every deterministic method that compiles here and has no loop."""
    x, answer = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    model = urn.Model(lambda x, t: answer, PROCESS, predicts="epsilon")
    found = {}
    for name in names:
        try:
            plan = urn.compile_plan(name, PROCESS, STEPS, "trailing")
            urn.execute(plan, model, {"x": x})
        except ValueError:  # a time per block, statistics to be handed in, noise: another table's
            continue
        times = interleaved({"urn": lambda plan=plan: lambda: urn.execute(plan, model, {"x": x})}, repeats)["urn"]
        found[name] = {**spread(times, plan.nfe), "calls": plan.nfe / STEPS, "registers": plan.registers}
    return {"shape": list(shape), "repeats": repeats, "methods": found}


def noise_source(pair: Pair, shape: tuple[int, ...]) -> NoiseSource | None:
    """Fresh, so that every run draws the same."""
    if pair.source is None:
        return None
    return FastNoise(0) if pair.source is FastNoise else SeededNoise(urn.sample_seeds(0, shape[0]))


def pipeline_loop(
    scheduler: Any, x: Tensor, answer: Tensor, generator: torch.Generator | None, stochastic: bool
) -> Tensor:
    """What a pipeline does around its network."""
    extra = {"generator": generator} if stochastic else {}
    for t in scheduler.timesteps:
        scheduler.scale_model_input(x, t)
        x = scheduler.step(answer, t, x, return_dict=False, **extra)[0]
    return x


def setup(pair: Pair, steps: int, repeats: int) -> dict[str, Any]:
    """Before the loop: compiling a plan, on its own default grid, for the first time and again; making a scheduler and setting
    its timesteps."""

    def ours() -> Callable[[], Any]:
        kept_plans.cache_clear()
        return partial(urn.compile_plan, pair.method, PROCESS, steps)

    def again() -> Callable[[], Any]:
        urn.compile_plan(pair.method, PROCESS, steps)
        return partial(urn.compile_plan, pair.method, PROCESS, steps)

    def theirs() -> Callable[[], Any]:
        return partial(prepared, pair.scheduler, _settings(pair), None, steps)

    times = interleaved({"urn": ours, "again": again, "diffusers": theirs}, repeats)
    return {
        "name": pair.method,
        "scheduler": pair.scheduler,
        "steps": steps,
        **ratios(times),
        **{side: spread(values, 1) for side, values in times.items()},
    }


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """diffusers' time over Urn's: of medians, and of the least times, which another program on the machine touches less."""
    return {
        "ratio": statistics.median(times["diffusers"]) / statistics.median(times["urn"]),
        "least ratio": min(times["diffusers"]) / min(times["urn"]),
    }


def noise(shape: tuple[int, ...], repeats: int) -> dict[str, Any]:
    """One draw of a batch: Urn's seeded noise, torch.randn, and diffusers' with one generator a sample."""
    like = torch.empty(shape)
    seeds = urn.sample_seeds(0, shape[0])
    generator = torch.Generator().manual_seed(0)
    many = [torch.Generator().manual_seed(seed) for seed in seeds]
    source = SeededNoise(seeds)
    kinds: dict[str, Callable[[], Any]] = {
        "seeded": lambda: source.normal((0.5, 0.4), 0, like),
        "torch.randn": lambda: torch.randn(shape, generator=generator),
        "randn_tensor, a generator a sample": lambda: randn_tensor(shape, generator=many),
    }
    times = interleaved({name: lambda draw=draw: draw for name, draw in kinds.items()}, repeats)
    return {"shape": list(shape), "repeats": repeats, **{name: spread(values, 1) for name, values in times.items()}}


def interleaved(sides: dict[str, Callable[[], Callable[[], Any]]], repeats: int) -> dict[str, list[float]]:
    """Processor seconds of a run of each side, in turn, `repeats` times after one not counted; making it is not timed."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for i in range(repeats + 1):
            for name in list(sides)[:: 1 if i % 2 else -1]:
                run = sides[name]()
                with quiet(), torch.no_grad():
                    started = time.process_time()
                    run()
                    elapsed = time.process_time() - started
                if i:
                    times[name].append(elapsed)
    finally:
        if enabled:
            gc.enable()
    return times


def spread(times: Sequence[float], parts: int) -> dict[str, float]:
    """Microseconds a part: the least, the quartiles, the median."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    named = {"least": min(times), "low": low, "median": median, "high": high}
    return {name: value / parts * 1e6 for name, value in named.items()}


def _settings(pair: Pair) -> dict[str, Any]:
    return {**TRAILING, **pair.settings, **({"algorithm_type": "sde-dpmsolver++"} if _stochastic(pair) else {})}


def _stochastic(pair: Pair) -> bool:
    return pair.source is not None


def _size(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()
