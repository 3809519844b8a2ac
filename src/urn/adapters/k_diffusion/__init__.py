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

from urn.compiler import as_method, compile_plan
from urn.method import Method, Steps, number
from urn.noise import check_seeds, sample_seeds
from urn.plan import Array, Plan
from urn.processes import VE, Flow, Process

from .running import NoiseSampler, drawn

__all__ = ["plan_sampler", "plan_sigmas", "sampler"]

Sample = Callable[..., Tensor]
Prepared = tuple[
    Any, Any, Callable[[], Plan]
]  # process, what every noise is multiplied by, the plan when it is asked for


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

    def prepared(model: Any, sigmas: Tensor, more: dict[str, Any]) -> Prepared:
        settings = {**options, **more}
        found = _process_of(model) if process is None else process
        scale = 1.0 if takes_s_noise else settings.pop("s_noise", 1.0)
        return found, scale, lambda: _compiled(chosen, found, sigmas.detach().double().cpu(), final, settings)

    return _host_function(f"sample_{chosen.name}", prepared)


def plan_sampler(plan: Plan) -> Sample:
    """A plan, tuned or read from a file, as such a function: it runs on the sigmas that it was compiled on and on no others.

    Its arguments are those of `sampler`'s, but the only option is `s_noise`.

    Raises:
        ValueError: a plan of another process than `VE` or `Flow()`, or one that starts from more than x; from the function,
            sigmas that are not `plan_sigmas(plan)` to 1e-5 of each, and a plan on `VE` where ComfyUI's model is a flow, or the
            other way round.

    Example:
        >>> plan = compile_plan("heun", VE(), grid=[10.0, 1.0, 0.0])
        >>> plan_sampler(plan)(lambda x, sigma: 0 * x, torch.ones(2, 3), plan_sigmas(plan), disable=True)
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """
    own = plan_sigmas(plan)
    process: Any = plan.process

    def prepared(model: Any, sigmas: Tensor, more: dict[str, Any]) -> Prepared:
        scale = more.pop("s_noise", 1.0)
        if more:
            raise ValueError(f"a plan has its options in it: {', '.join(more)} cannot be given; s_noise can")
        if "comfy.model_sampling" in sys.modules and isinstance(found := _process_of(model), Flow) != isinstance(
            process, Flow
        ):
            raise ValueError(
                f"the plan is of {process}, and the model of {'a flow' if isinstance(found, Flow) else 'VE'}"
            )

        def matched() -> Plan:
            _check_match(sigmas, own)
            return plan

        return process, scale, matched

    return _host_function("sample_plan", prepared)


def _host_function(name: str, prepared: Callable[[Any, Tensor, dict[str, Any]], Prepared]) -> Sample:
    """The function that both hosts call; `prepared` says on what process a plan runs, and which, from model, sigmas, options."""

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
        **options: Any,
    ) -> Tensor:
        given = {} if extra_args is None else dict(extra_args)
        process, s_noise, plan = prepared(model, sigmas, options)
        _check_x(x)
        _check_sigmas(sigmas, process)
        seeds = _seeds_of(given.get("seed") if seed is None else seed, len(x))
        scale = float(number("s_noise", s_noise, 0))
        if len(sigmas) < 2:
            return x
        return drawn(plan(), process, model, x, sigmas, given, callback, disable, noise_sampler, seeds, scale)

    sample.__name__ = sample.__qualname__ = name
    return sample


def plan_sigmas(plan: Plan) -> Tensor:
    """The sigmas that a plan of `VE` or `Flow()` was compiled on, in float64; 0 at the end where it jumps to the prediction.

    Raises:
        ValueError: a plan of another process, or one that starts from more than x.
    """
    if not (isinstance(plan.process, VE) or plan.process == Flow()):
        raise ValueError(
            f"the plan is of {plan.process}: here x = x0 + sigma epsilon, or on a flow (1 - sigma) x0 + sigma epsilon, so "
            "compile it on VE() or Flow(), whose t is sigma"
        )
    if [name for name, _ in plan.inputs] != ["x"] or any(isinstance(t, Array) for t in plan.times):
        raise ValueError("the plan must start from x alone, with one time for all of a sample")
    times = [t for t in plan.times if not isinstance(t, Array)]
    jumps = times[-1] > 0 and plan.outputs[0][2].t == 0
    return torch.tensor([*times, 0.0] if jumps else times, dtype=torch.float64)


def _check_match(sigmas: Tensor, own: Tensor) -> None:
    """Refuse sigmas that are not the plan's, to what float32 and a little arithmetic lose."""
    given = sigmas.detach().double().cpu()
    if len(given) != len(own):
        raise ValueError(f"sigmas has {len(given)} values and the plan was compiled on {len(own)}: {own.tolist()}")
    for i, (found, expected) in enumerate(zip(given.tolist(), own.tolist(), strict=True)):
        if abs(found - expected) > 1e-5 * expected:
            raise ValueError(
                f"sigmas[{i}]={found!r} does not match the plan's {expected!r}; it runs on its own sigmas alone"
            )


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
