"""sample: the front door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from urn.arithmetic import weighted_sum
from urn.arrays import empty, finite_samples, is_floating, is_traced, joined, library, repeated
from urn.compiler import compile_plan
from urn.executor import Watch, execute
from urn.grids import GridLike
from urn.method import Method, Steps
from urn.model import Model, check_shape
from urn.noise import NoiseSource, StructuredNoise, check_seeds, make_source, sample_seeds
from urn.plan import Apply, Array, Evaluate, PlanError, Row, Rows
from urn.prediction import as_tensor
from urn.probe import first_look, judge_run
from urn.processes import components_of, is_between, with_side_input


class SamplingError(RuntimeError):
    """The model returned nan or infinity. What was drawn is kept.

    Attributes:
        samples: every sample drawn so far, those that are not finite included.
        finite: for each, whether it is.
    """

    def __init__(self, message: str, samples: Tensor, finite: Tensor) -> None:
        super().__init__(message)
        self.samples, self.finite = samples, finite


class SamplingInterrupted(KeyboardInterrupt):
    """Sampling was interrupted; `samples` holds the batches that were finished, None where there is none.

    Sample i depends on its own seed alone: to go on, draw the rest with `seeds=urn.sample_seeds(seed, rest, first=done)`.
    """

    def __init__(self, samples: Tensor | None) -> None:
        super().__init__("sampling was interrupted")
        self.samples = samples


def sample(
    model: Model,
    plan: Rows | str | Method | Callable[..., Steps],
    shape: Sequence[int] | None = None,
    *,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    start: Any = None,
    inputs: Mapping[str, Any] | None = None,
    models: Mapping[str, Model] | None = None,
    steps: int | None = None,
    grid: GridLike | None = None,
    final: str | None = None,
    noise: str | NoiseSource = "seeded",
    conditioning: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    dtype: Any = torch.float32,
    device: torch.device | str = "cpu",
    progress: bool = False,
    watch: Watch | None = None,
    gradients: bool = False,
    **options: Any,
) -> Any:
    """Draw samples from a model with a plan, or with a method that is compiled on the spot.

    Args:
        model: the model.
        plan: a plan, or what `compile_plan` takes as its method; then `steps`, `grid`, `final` and `options` go to it.
        shape: shape of all samples, (B, *S); by default (1, *model.shape), or one sample per entry of `seeds`.
        seed: the samples' seeds are made from it (`urn.sample_seeds`); sample i is the same whatever B is.
        seeds: or one seed per sample: its noise is then the same bit for bit in whatever batch it is drawn.
        start: the state at the plan's first node, (B, *S), instead of noise of the process's prior std; it sets dtype
            and device. A NumPy or JAX array does too, where the network takes such: so are the samples then.
        inputs: the plan's other inputs by name, (B, *S) each: {"y": degraded} on a process with a side input.
        models: the further models that a plan's calls name, of the same process: {"skip": urn.Model(...)} for one with skipped
            blocks. `model` is the plan's "main".
        noise: "seeded"; "brownian", where coarse and fine grids share one path; "fast", the device's own generator, which
            makes a sample depend on its batch; `urn.noise.CorrelatedNoise` along the times of series; `urn.noise.GraphNoise`
            for undirected graphs; or a source of your own. The start is drawn from it too.
        conditioning: keyword arguments for the network; tensors whose first size is B are split with the batch.
        batch_size: samples at a time, by default all.
        dtype, device: of the states, where `start` is not given; np.float32 or jax.numpy.float32 for arrays of theirs.
        progress: show a bar, one tick per model call.
        watch: called after each row with the row and the live registers; samples may then differ in the last digit.
        gradients: keep the graph, so that samples can be differentiated in the start, the network's parameters, and a
            Draft's coefficients; memory then grows with the model calls.

    Returns:
        The samples, (B, *S).

    Raises:
        ValueError: an argument is wrong; nothing was drawn.
        PlanError: the plan is for another process, or the network cannot give what it wants.
        SamplingError: the model returned nan or infinity; it names row and time, and keeps what was drawn.
        SamplingInterrupted: a KeyboardInterrupt came; it keeps the batches that were finished.

    Example:
        >>> x = sample(model, "unipc", shape=(64, 1, 8, 8), steps=8, seed=0)
    """
    _check_kinds(model, models, device, conditioning, watch)
    if not isinstance(plan, Rows):
        plan = compile_plan(plan, model.process, steps, grid, final=final, **options)
    elif given := [*options, *(n for n, v in (("steps", steps), ("grid", grid), ("final", final)) if v is not None)]:
        raise ValueError(f"{', '.join(given)}: given beside a compiled plan; pass them to compile_plan")
    seeds = None if seeds is None else check_seeds("seeds", seeds)
    size = _full_shape(model, shape, start, seeds)
    like = empty(size[1:], dtype, device) if start is None else start[0]
    given_inputs = _check_inputs(plan, inputs, size, start is None, library(like))
    if start is None:
        _check_prior(plan)
    all_seeds = sample_seeds(seed, size[0]) if seeds is None else seeds
    if len(all_seeds) != size[0]:
        raise ValueError(f"seeds: {len(all_seeds)} given for a batch of {size[0]} samples; one each is needed")
    batch = size[0] if batch_size is None else batch_size
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch_size={batch_size!r} must be an integer of at least 1")
    if isinstance(noise, StructuredNoise):
        noise.check(size, model.outputs[0])
    probe = first_look(model) if _starts_from_white_noise(plan, model, noise) else None  # it knows no other law of x
    looked_at = model if probe is None else replace(model, net=probe)
    by_name = {"main": looked_at, **(models or {})}
    job = _Job(by_name, plan, all_seeds, start, given_inputs, like, noise, conditioning or {})
    with torch.set_grad_enabled(gradients):
        samples = _run(job, batch, progress, watch)
    if probe is not None and probe.notes:
        judge_run(model, plan, probe, samples)
    return samples


@dataclass(frozen=True)
class _Job:
    """All that determines the samples; any part of them can be drawn, and drawn again."""

    models: Mapping[str, Model]
    plan: Rows
    seeds: tuple[int, ...]
    start: Any
    inputs: Mapping[str, Any]
    like: Any
    noise: str | NoiseSource
    conditioning: Mapping[str, Any]

    def draw(self, part: slice, watch: Watch | None) -> Any:
        """The samples of a slice of the batch."""
        seeds = self.seeds[part]
        like = repeated(self.like, len(seeds))
        device = like.device if isinstance(like, Tensor) else torch.device("cpu")
        source = make_source(self.noise, seeds, self.plan, device, part)
        inputs = {name: v[part].to(like) if isinstance(v, Tensor) else v[part] for name, v in self.inputs.items()}
        if self.start is not None:
            inputs["x"] = self.start[part]
        for place, (name, law) in enumerate(self.plan.inputs):
            if name not in inputs and (law.node is not None or name == "x"):
                t = 0.0 if law.node is None else float(as_tensor(law.node.t).detach().mean())
                start = source.normal((t, t), place, like)
                inputs[name] = weighted_sum(((law.std, "start"), *law.mean), {"start": start, **inputs})
        split = {
            name: value[part] if library(value) and value.shape[:1] == (len(self.seeds),) else value
            for name, value in self.conditioning.items()
        }
        return execute(self.plan, self.models, inputs, source, conditioning=split, watch=watch)["x"]


def _run(job: _Job, batch: int, progress: bool, watch: Watch | None) -> Any:
    count = len(job.seeds)
    calls = sum(isinstance(row, Evaluate) for row in job.plan.rows)
    finished: list[Any] = []
    with progress_bar(progress, calls * -(-count // batch)) as bar:
        if bar is not None:
            job = replace(job, models={name: model.telling(bar.update) for name, model in job.models.items()})
        for first in range(0, count, batch):
            part = slice(first, min(first + batch, count))
            try:
                finished.append(job.draw(part, watch))
            except KeyboardInterrupt:
                raise SamplingInterrupted(joined(finished) if finished else None) from None
            good = finite_samples(finished[-1])
            if not bool(good.all()):
                samples = joined(finished)
                raise SamplingError(_blame(job, part, good), samples, finite_samples(samples))
    return joined(finished)


def _blame(job: _Job, part: slice, good: Tensor) -> str:
    """Draw the batch again, looking at every register, to name the row where nan or infinity first came up."""
    found: list[str] = []

    def look(row: Row, registers: Mapping[str, Any]) -> None:
        for register in row.defines:
            if not found and not bool(finite_samples(registers[register]).all()):
                what = f"the model returned {dict(row.outs)[register]} as" if isinstance(row, Evaluate) else row.kind
                time = f" at t = {float(as_tensor(row.t).mean()):.6g}" if isinstance(row, Evaluate) else ""
                found.append(f"step {row.step}{time}: {what} {register}, which is nan or infinite")

    job.draw(part, look)
    bad = (~good).nonzero().flatten() + part.start
    where = found[0] if found else "it did not come up again on a second run: the model is not deterministic"
    return (
        f"{len(bad)} of {len(good)} samples (first: {int(bad[0])}) are not finite; {where}. `.samples` keeps them all"
    )


def _check_kinds(model: Any, models: Any, device: Any, conditioning: Any, watch: Any) -> None:
    """Refuse arguments that are not of their kind, by name."""
    if not isinstance(model, Model):
        raise ValueError(f"model={model!r} must be a Model: urn.Model(net, process, predicts=...)")
    if models is not None and not isinstance(models, Mapping):
        raise ValueError(f"models={models!r} must be a mapping of names to Models")
    for name, other in (models or {}).items():
        if name == "main" or not isinstance(other, Model):
            raise ValueError(
                f"models[{name!r}]={other!r} must be a Model under another name than 'main', which is `model`"
            )
    try:
        torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r}: {error}") from None
    if conditioning is not None and not isinstance(conditioning, Mapping):
        raise ValueError(f"conditioning={conditioning!r} must be a mapping of names to values")
    if watch is not None and not callable(watch):
        raise ValueError(f"watch={watch!r} must be callable as watch(row, registers)")


def _starts_from_white_noise(plan: Rows, model: Model, noise: str | NoiseSource) -> bool:
    """Whether x = alpha x0 + sigma z: no side input or other component, no map of the start, no structured noise."""
    mapped = any(isinstance(row, Apply) and row.inputs == ("x",) for row in plan.rows)
    plain = with_side_input(model.process) is None and len(components_of(model.process)) == 1
    plain = plain and not is_between(model.process)
    return plain and not mapped and not isinstance(noise, StructuredNoise)


def _check_prior(plan: Rows) -> None:
    """Refuse to draw the start of a plan that starts from something else than the process's prior."""
    law, end = dict(plan.inputs)["x"], plan.outputs[0][2]
    if is_between(plan.process):  # type: ignore[attr-defined]
        raise ValueError("start=None: an interpolant starts from data of its other end; pass draws of x1")
    upwards = law.node is not None and not isinstance(law.node.t, Array) and law.node.t < end.t
    if upwards:
        raise ValueError("start=None: this plan runs from data to noise; pass the state that it starts from")


def _check_inputs(
    plan: Rows, inputs: Mapping[str, Any] | None, size: tuple[int, ...], drawn: bool, kind: str | None
) -> Mapping[str, Any]:
    """The inputs of a plan beside its start, each a floating-point tensor of the batch's shape, or an array where the start
    is one; `drawn` says that those which start from a law of their own need not be given."""
    given = dict(inputs or {})
    known = [name for name, _ in plan.inputs if name != "x"]
    needed = [name for name, law in plan.inputs if name in known and not (drawn and law.node is not None)]
    if missing := [name for name in needed if name not in given]:
        found = ", ".join(("x", *given))
        raise PlanError(
            f"the plan needs {', '.join(missing)} beside the inputs given: {found}; pass inputs={{name: tensor}}"
        )
    if extra := [name for name in given if name not in known]:
        raise ValueError(
            f"inputs: {', '.join(extra)} given; this plan reads {', '.join(known) or 'none'} beside its start"
        )
    for name, value in given.items():
        if library(value) != kind or not is_floating(value) or tuple(value.shape) != size:
            what = tuple(value.shape) if library(value) == kind else type(value).__name__
            sort = "tensor" if kind == "torch" else f"{kind} array, as the start is,"
            raise ValueError(f"inputs[{name!r}]: {what}; a floating-point {sort} of shape {size} is needed")
    return given


def _full_shape(model: Model, shape: Sequence[int] | None, start: Any, seeds: Sequence[int] | None) -> tuple[int, ...]:
    """The batch's shape from what was given, checked against the model's own."""
    if start is not None:
        if is_traced(start):
            raise ValueError("start is traced by JAX, and urn.sample looks at its samples: trace urn.execute instead")
        if not is_floating(start) or start.ndim < 2:
            what = f"{start.dtype} of shape {tuple(start.shape)}" if library(start) else type(start).__name__
            raise ValueError(f"start={what} must be a floating-point tensor of shape (B, *S)")
        if shape is not None and tuple(shape) != tuple(start.shape):
            raise ValueError(f"shape={tuple(shape)} differs from that of start, {tuple(start.shape)}")
        size = check_shape("start.shape", tuple(start.shape))
    elif shape is not None:
        size = check_shape("shape", shape)
    elif model.shape is not None:
        size = (1 if seeds is None else len(seeds), *model.shape)
    else:
        raise ValueError("shape=None, and the model does not know its own: pass shape=(B, *S)")
    if len(size) < 2 or size[0] < 1:
        raise ValueError(f"shape={size} must be (B, *S): the number of samples, at least 1, and the shape of one")
    if model.shape is not None and size[1:] != model.shape:
        name = "shape" if start is None else "start"
        raise ValueError(f"{name}={size}: this model's samples have shape {model.shape}, so (B, {str(model.shape)[1:]}")
    return size


def progress_bar(progress: bool, total: int, unit: str = "call") -> Any:
    """A bar of `total` ticks as a context, or None as one."""
    if not progress:
        return nullcontext()
    from tqdm.auto import tqdm

    return tqdm(total=total, desc="sampling", unit=unit)
