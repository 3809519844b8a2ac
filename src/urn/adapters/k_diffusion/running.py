"""A plan run on a denoiser of k-diffusion's or ComfyUI's: its noise, its callback, its bar, the unconditional estimate."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from urn.binding import bind
from urn.executor import execute
from urn.model import Model
from urn.noise import NoiseSource, SeededNoise
from urn.plan import Apply, Combine, Evaluate, Noise, Plan, PlanError
from urn.prediction import PREDICTIONS
from urn.processes import VE, Flow

NoiseSampler = Callable[[Tensor, Tensor], Tensor]


def drawn(
    plan: Plan,
    process: VE | Flow,
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any],
    callback: Callable[[dict[str, Any]], Any] | None,
    disable: bool | None,
    noise_sampler: NoiseSampler | None,
    seeds: tuple[int, ...],
    scale: float,
) -> Tensor:
    """A plan run on the host's model, with its noise, callback and bar."""
    net = _Net(model, extra_args, _wants_unconditional(plan, extra_args))
    bound = Model(net, process, predicts=("x0", "unconditional") if net.with_unconditional else "x0")
    bind(plan, {"main": bound})  # so that what cannot be converted is refused before the bar
    source: NoiseSource = SeededNoise(seeds)
    if noise_sampler is not None:
        _check_intervals(plan)
        source = _HostNoise(noise_sampler, sigmas)
    source = source if scale == 1 else _ScaledNoise(source, scale)
    with _bar(len(sigmas) - 1, disable) as bar:
        net.told = _telling(plan, sigmas, callback, bar)
        made: Tensor = execute(plan, bound, {"x": x}, source)["x"]
        bar.update(bar.total - bar.n)
    return made


class _Net:
    """The host's model as a network: shown sigma in x's dtype. After each call `told` is given x and the estimate."""

    def __init__(self, model: Callable[..., Tensor], extra_args: dict[str, Any], with_unconditional: bool) -> None:
        self.model, self.extra_args, self.with_unconditional = model, extra_args, with_unconditional
        self.told: Callable[[Tensor, Tensor], None] = lambda x, denoised: None
        self.unconditional: Any = None
        if with_unconditional:
            options = dict(extra_args["model_options"])
            options["sampler_post_cfg_function"] = [*options.get("sampler_post_cfg_function", ()), self.note]
            options["disable_cfg1_optimization"] = True
            self.extra_args = {**extra_args, "model_options": options}

    def note(self, args: Mapping[str, Any]) -> Any:
        """ComfyUI's post-cfg function: keeps the unconditional estimate and leaves the guided one as it is."""
        self.unconditional = args["uncond_denoised"]
        return args["denoised"]

    def __call__(self, x: Tensor, sigma: Tensor) -> Any:
        self.unconditional = None
        denoised = self.model(x, sigma.to(x.dtype), **self.extra_args)
        self.told(x, denoised)
        if not self.with_unconditional:
            return denoised
        if self.unconditional is None:
            raise PlanError(
                "the model did not call extra_args['model_options']['sampler_post_cfg_function'], so there is no "
                "unconditional estimate: a cfg_pp method needs a model with guidance, as ComfyUI's"
            )
        return denoised, self.unconditional


class _HostNoise:
    """noise_sampler(sigma, sigma_next) as a noise source."""

    def __init__(self, noise_sampler: NoiseSampler, sigmas: Tensor) -> None:
        self.noise_sampler, self.sigmas = noise_sampler, sigmas

    def normal(self, interval: tuple[float, float], stream: int, like: Any) -> Any:
        """The host's noise for the interval."""
        value = self.noise_sampler(*(self.sigmas.new_tensor(sigma) for sigma in interval))
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if found != tuple(like.shape):
            raise ValueError(f"noise_sampler returned {found} for x of shape {tuple(like.shape)}")
        return value.to(like)


class _ScaledNoise:
    """The noise of another source times a number."""

    def __init__(self, source: NoiseSource, scale: float) -> None:
        self.source, self.scale = source, scale

    def normal(self, interval: tuple[float, float], stream: int, like: Any) -> Any:
        """See `urn.noise.NoiseSource`."""
        return self.source.normal(interval, stream, like) * self.scale


def _wants_unconditional(plan: Plan, extra_args: Mapping[str, Any]) -> bool:
    """Whether the plan is of a `..._cfg_pp` method, or a PlanError if it wants what no such model returns."""
    wanted = {name for row in plan.rows if isinstance(row, Evaluate) for _, name in row.outs}
    unconditional = {name for name in wanted if name.removeprefix("unconditional_") in PREDICTIONS} - {*PREDICTIONS}
    if others := sorted(wanted - unconditional - {*PREDICTIONS}):
        raise PlanError(
            f"method {plan.method!r} wants {', '.join(others)}; a denoiser returns the estimate of x0 alone"
        )
    if unconditional and not isinstance(extra_args.get("model_options"), Mapping):
        raise PlanError(
            f"method {plan.method!r} wants the unconditional estimate, which ComfyUI's models give through "
            "extra_args['model_options']; there is none here"
        )
    return bool(unconditional)


def _check_intervals(plan: Plan) -> None:
    """Refuse noise that noise_sampler(sigma, sigma_next) cannot tell from other noise."""
    seen = set()
    for row in plan.rows:
        if isinstance(row, Noise):
            if row.interval[0] == row.interval[1] or row.interval in seen:
                raise PlanError(
                    f"noise_sampler: method {plan.method!r} draws noise of its own at {row.interval} in step {row.step}, "
                    "which the two sigmas do not tell from other noise; leave noise_sampler out"
                )
            seen.add(row.interval)


def _announced(plan: Plan, points: int) -> dict[int, tuple[int, float]]:
    """The model calls, by their number, that the callback is told of: which of the points each is at, and its sigma.

    Candidates are evaluations of states at the point, and the first one of another state (with noise added, say) made from
    it; of these the last before the next point's.
    """
    places: dict[str, int | None] = {"x": 0}
    candidates: list[tuple[int, int, float]] = []
    here, fresh, calls = 0, True, 0
    for row in plan.rows:
        if isinstance(row, Evaluate):
            point = places.get(row.inputs[0])
            if point is not None or fresh:
                candidates.append((calls, here if point is None else point, row.t))
            fresh, calls = False, calls + 1
        elif isinstance(row, (Combine, Apply)) and row.node is not None:
            places[row.out] = row.node.index
            if row.node.index is not None:
                here, fresh = row.node.index, True
    found: dict[int, tuple[int, float]] = {}
    for place in reversed(range(points)):
        there = [n for n, (_, point, _) in enumerate(candidates) if point == place]
        if there:
            call, _, sigma = candidates[there[-1]]
            found[call] = place, sigma
            candidates = candidates[: there[-1]]
    return found


def _telling(
    plan: Plan, sigmas: Tensor, callback: Callable[[dict[str, Any]], Any] | None, bar: Any
) -> Callable[[Tensor, Tensor], None]:
    announced, calls = _announced(plan, len(sigmas) - 1), itertools.count()

    def told(x: Tensor, denoised: Tensor) -> None:
        if (found := announced.get(next(calls))) is None:
            return
        i, sigma = found
        bar.update(i - bar.n)
        if callback is not None:
            hat = sigmas.new_tensor(sigma)
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": hat, "denoised": denoised})

    return told


def _bar(total: int, disable: bool | None) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, disable=disable)
