"""Samplers for k-diffusion and ComfyUI: functions sample(model, x, sigmas, ...), each a plan compiled on the sigmas given.

There x = x0 + sigma epsilon, `VE` here, and model(x, sigma, **extra_args) returns the estimate of x0; on a flow, ComfyUI's
CONST, x = (1 - sigma) x0 + sigma epsilon and the model returns x0 too. Nothing of either library is imported.

Sources: Crowson 2022, k-diffusion, after Karras et al. 2022, arXiv 2206.00364; ComfyUI's comfy/samplers.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from urn.binding import bind
from urn.compiler import as_method, compile_plan
from urn.executor import execute
from urn.method import Method, Steps, number
from urn.model import Model
from urn.noise import NoiseSource, SeededNoise, check_seeds, sample_seeds
from urn.plan import Apply, Combine, Evaluate, Noise, Plan, PlanError, Row
from urn.prediction import PREDICTIONS
from urn.processes import VE, Flow, Process

NoiseSampler = Callable[[Tensor, Tensor], Tensor]


Sample = Callable[..., Tensor]


def sampler(
    method: str | Method | Callable[..., Steps],
    /,
    *,
    process: VE | Flow | None = None,
    final: str | None = None,
    **options: Any,
) -> Sample:
    """A method as a function with the signature of k-diffusion's and ComfyUI's samplers.

    The function compiles the method with `sigmas` as the grid, and runs the plan. Its arguments:

        model: called as model(x, sigma, **extra_args), sigma of shape (B,) in x's dtype; returns the estimate of x0.
        x: the start, (B, *S), in any floating-point dtype; it is not changed.
        sigmas: strictly decreasing, of a floating-point dtype; may end in 0. With fewer than two x is handed back.
        extra_args: keyword arguments for the model.
        callback: called once for every point of the grid but the last that the method evaluates the model at, with a dict:
            `i` its place in `sigmas`, `sigma` that value, `x` the state and `denoised` what the model made of it, and
            `sigma_hat`, the sigma that the model was shown, which is another where noise was added before the step. Of several
            evaluations at a point (a corrector, a restart) it is the last before the method goes on to the next.
        disable: of the progress bar: True for none, None for one where there is a terminal.
        noise_sampler: noise_sampler(sigma, sigma_next) gives the standard normals of an interval. Without one, the noise of
            each sample is made from its own seed, and so does not depend on the batch that it is in, nor on the device.
        seed: an integer, or one per sample; else extra_args["seed"], which ComfyUI gives; else 0. Torch's own generator is
            not drawn from: two calls with equal seeds draw equal noise.
        options: the method's, over those given here; and `s_noise`, which every noise is multiplied by.

    A `..._cfg_pp` method needs the unconditional estimate too. It takes it from a function that it adds to
    extra_args["model_options"]["sampler_post_cfg_function"], with "disable_cfg1_optimization", as ComfyUI's own do;
    the caller's dictionaries are not changed.

    Args:
        method: a name in `urn.METHODS`, a `Method`, or a generator function of your own.
        process: `VE()` or `Flow()`; without one, `Flow()` where ComfyUI's model says so (its model_sampling is a CONST), else
            `VE()`.
        final: "x0" to make the step to sigma = 0, where `sigmas` end there, the jump to what the model returns before it,
            whatever the method: k-diffusion's multistep SDE samplers do that. None to leave that step to the method.
        options: the method's options, and `s_noise`.

    Returns:
        The function sample(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None, **options).

    Raises:
        ValueError: an unknown method, option or process; from the function, before any model call: sigmas, x, seeds or a
            method that do not suit.
        PlanError: from the function, before any model call: the method wants what the model does not return.

    Example:
        >>> sample_unipc = sampler("unipc_3")
        >>> sample_unipc(lambda x, sigma: 0 * x, torch.ones(2, 3), torch.tensor([10.0, 1.0, 0.0]), disable=True)
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    chosen = as_method(method)
    takes_s_noise = "s_noise" in chosen.defaults
    chosen.check_options({name: value for name, value in options.items() if name != "s_noise" or takes_s_noise})
    if process is not None and not (isinstance(process, VE) or process == Flow()):
        raise ValueError(f"process={process!r} must be VE() or Flow(), whose t is the sigma that the model is shown")
    if final not in (None, "x0"):
        raise ValueError(f"final={final!r} must be None or 'x0'")

    @torch.no_grad()
    def sample(
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        disable: bool | None = None,
        noise_sampler: NoiseSampler | None = None,
        *,
        seed: int | Sequence[int] | None = None,
        **more: Any,
    ) -> Tensor:
        given = {} if extra_args is None else dict(extra_args)
        settings = {**options, **more}
        found = _process_of(model) if process is None else process
        _check_x(x)
        _check_sigmas(sigmas, found)
        seeds = _seeds_of(given.get("seed") if seed is None else seed, len(x))
        scale = 1.0 if takes_s_noise else float(number("s_noise", settings.pop("s_noise", 1.0), 0))
        if len(sigmas) < 2:
            return x
        plan = _compiled(chosen, found, sigmas.detach().double().cpu(), final, settings)
        net = _Net(model, given, _wants_unconditional(plan, given))
        bound = Model(net, found, predicts=("x0", "unconditional") if net.with_unconditional else "x0")
        bind(plan, {"main": bound})  # so that what cannot be converted is refused before the bar
        source: NoiseSource = SeededNoise(seeds)
        if noise_sampler is not None:
            _check_intervals(plan)
            source = _HostNoise(noise_sampler, sigmas)
        source = source if scale == 1 else _ScaledNoise(source, scale)
        with _bar(len(sigmas) - 1, disable) as bar:
            watch = _watch(plan, sigmas, net, callback, bar)
            drawn: Tensor = execute(plan, bound, {"x": x}, source, watch=watch)["x"]
            bar.update(bar.total - bar.n)
        return drawn

    sample.__name__ = sample.__qualname__ = f"sample_{chosen.name}"
    return sample


class _Net:
    """The host's model as a network: shown sigma in x's dtype, it keeps what it last returned."""

    def __init__(self, model: Callable[..., Tensor], extra_args: dict[str, Any], with_unconditional: bool) -> None:
        self.model, self.extra_args, self.with_unconditional = model, extra_args, with_unconditional
        self.denoised: Any = None
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
        self.denoised = self.model(x, sigma.to(x.dtype), **self.extra_args)
        if not self.with_unconditional:
            return self.denoised
        if self.unconditional is None:
            raise PlanError(
                "the model did not call extra_args['model_options']['sampler_post_cfg_function'], so there is no "
                "unconditional estimate: a cfg_pp method needs a model with guidance, as ComfyUI's"
            )
        return self.denoised, self.unconditional


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


def _compiled(method: Method, process: VE | Flow, times: Tensor, final: str | None, options: dict[str, Any]) -> Plan:
    if final is None or times[-1] > 0:
        return compile_plan(method, process, grid=times, **options)
    if len(times) == 2:  # one jump and no step before it: no grid, so the options are looked at here
        method.with_options(**options)
        return compile_plan("ddim", process, grid=times)
    return compile_plan(method, process, grid=times[:-1], final="x0", **options)


def _process_of(model: Any) -> VE | Flow:
    """A flow where ComfyUI, which is then loaded, says so: its own samplers look there for what their model is."""
    inner = getattr(getattr(model, "inner_model", None), "inner_model", None)
    const = getattr(sys.modules.get("comfy.model_sampling"), "CONST", None)
    flows = isinstance(const, type) and isinstance(getattr(inner, "model_sampling", None), const)
    return Flow() if flows else VE()


def _check_x(x: Any) -> None:
    if not isinstance(x, Tensor) or not x.dtype.is_floating_point or x.ndim < 2 or not len(x):
        what = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x={what} must be a floating-point tensor of shape (B, *S), B at least 1")


def _check_sigmas(sigmas: Any, process: Process) -> None:
    if not isinstance(sigmas, Tensor) or not sigmas.dtype.is_floating_point or sigmas.ndim != 1:
        what = f"{sigmas.dtype} of shape {tuple(sigmas.shape)}" if isinstance(sigmas, Tensor) else type(sigmas).__name__
        raise ValueError(f"sigmas={what} must be a one-dimensional floating-point tensor")
    values, high = sigmas.tolist(), process.domain[1]
    for i, sigma in enumerate(values):
        if not 0 <= sigma <= high or sigma == float("inf"):
            raise ValueError(f"sigmas[{i}]={sigma!r} must be finite and in [0, {high:g}], the sigmas of {process}")
        if i and not sigma < values[i - 1]:
            raise ValueError(f"sigmas must decrease strictly: sigmas[{i - 1}]={values[i - 1]!r}, sigmas[{i}]={sigma!r}")


def _seeds_of(seed: Any, batch: int) -> tuple[int, ...]:
    given: Any = 0 if seed is None else seed.tolist() if isinstance(seed, Tensor) else seed
    if not hasattr(given, "__len__"):
        return sample_seeds(given, batch)
    seeds = check_seeds("seed", given)
    if len(seeds) != batch:
        raise ValueError(f"seed: {len(seeds)} given for a batch of {batch} samples; one each is needed, or one for all")
    return seeds


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


def _announced(plan: Plan, points: int) -> dict[str, int]:
    """The evaluations that the callback is told of: a register that each defines, and which of the points it is at, in order.

    Candidates are evaluations of states at the point, and the first one of another state (with noise added, say) made from
    it; of these the last before the next point's.
    """
    places: dict[str, int | None] = {"x": 0}
    candidates: list[tuple[str, int]] = []
    here, fresh = 0, True
    for row in plan.rows:
        if isinstance(row, Evaluate):
            point = places.get(row.inputs[0])
            if point is not None or fresh:
                candidates.append((row.defines[0], here if point is None else point))
            fresh = False
        elif isinstance(row, (Combine, Apply)) and row.node is not None:
            places[row.out] = row.node.index
            if row.node.index is not None:
                here, fresh = row.node.index, True
    found: dict[str, int] = {}
    for place in reversed(range(points)):
        there = [n for n, (_, point) in enumerate(candidates) if point == place]
        if there:
            found[candidates[there[-1]][0]] = place
            candidates = candidates[: there[-1]]
    return dict(reversed(found.items()))


def _watch(
    plan: Plan, sigmas: Tensor, net: _Net, callback: Callable[[dict[str, Any]], Any] | None, bar: Any
) -> Callable[[Row, Mapping[str, Any]], None]:
    announced = _announced(plan, len(sigmas) - 1)

    def watch(row: Row, registers: Mapping[str, Any]) -> None:
        if not isinstance(row, Evaluate) or (i := announced.get(row.defines[0])) is None:
            return
        bar.update(i - bar.n)
        if callback is not None:
            x, hat = registers[row.inputs[0]], sigmas.new_tensor(row.t)
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": hat, "denoised": net.denoised})

    return watch


def _bar(total: int, disable: bool | None) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, disable=disable)
