"""The checks, one function each: (subject, process) -> Check. None of them knows how a sampler works."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from urn.exact.affine import moments
from urn.plan import PlanError
from urn.plan.checks import is_straight
from urn.plan.functions import FUNCTIONS
from urn.plan.rows import Apply
from urn.processes import Process

from .probing import Interval, probed_moments
from .report import Check
from .subject import Subject
from .targets import GAUSSIAN, MIXTURE, POINT, coupled, exact_end, fitting_states, fitting_times, model_of, states_at

STEPS = (48, 96, 192, 384)
TOLERANCE = 0.25
DRAWS = 100_000


def order(subject: Subject, process: Process) -> Check:
    """Error at the end of the trajectory on the mixture, at several step counts, against the exact one; its slope."""
    x, end = fitting_states(process)
    model = model_of(MIXTURE, process)
    errors = []
    for steps in STEPS:
        y = _run(subject, model, x, fitting_times(process, steps))
        errors.append(float((y - end).square().mean().sqrt()))
    return order_verdict("order", subject, errors)


def law(subject: Subject, process: Process) -> Check:
    """Mean and covariance at the end on Gaussian data, at several step counts, against the exact ones; their slope.

    A plan's moments are exact, and so are those of a sampler that takes its noise from outside and is affine in it. For
    anything else they are estimated from 100,000 samples, and the error must fall with
    the steps until it is within four standard errors: a rule that plateaus above that is caught.
    """
    if subject.order is None:
        return Check("law", "info", "no order is claimed for its law: not measured")
    errors = []
    for steps in STEPS:
        times = fitting_times(process, steps)
        found = _exact_moments(subject, process, times)
        if found is None:
            return _sampled_law(subject, process)
        errors.append(_moment_error(process, float(times[-1]), *found))
    return order_verdict("law", subject, errors)


def point_mass(subject: Subject, process: Process) -> Check:
    """Data that are one point c: every state is alpha c + sigma times one noise, so the end has the law of its node."""
    if coupled(process):
        return Check("point mass", "info", "not measured on states of several components")
    times = fitting_times(process, 5)
    x = states_at(process, float(times[0]), 2000 if subject.stochastic else 4, POINT)
    y = _run(subject, model_of(POINT, process), x, times)
    alpha, sigma = float(process.alpha(times[-1])), float(process.sigma(times[-1]))
    residual = (y - alpha * POINT.mean) / sigma
    if subject.stochastic:
        # the second moment of 4,000 numbers of law N(0, 1) is 1 +- 0.022; level 1e-4 is 3.9 of these
        error = abs(float(residual.square().mean()) - 1)
        allowed = 3.9 * math.sqrt(2 / residual.numel())
        detail = f"second moment of (x - alpha c)/sigma is off 1 by {error:.3f} (allowed {allowed:.3f})"
    else:
        noise = (x - float(process.alpha(times[0])) * POINT.mean) / float(process.sigma(times[0]))
        error, allowed = float((residual - noise).abs().max()), 1e-9
        detail = f"largest error {error:.1e} after 5 steps"
    straight = "straight" in subject.exact_for and is_straight(process, times.tolist())
    promised = straight or "point" in subject.exact_for
    verdict = "info" if not promised else "pass" if error <= allowed else "FAIL"
    return Check("point mass", verdict, detail + ("" if promised else ", none promised"), {"error": error})


def gaussian(subject: Subject, process: Process) -> Check:
    """Relative error on a Gaussian after 16 steps, against its exact flow. Nothing is promised."""
    times = fitting_times(process, 16)
    start, end = float(times[0]), float(times[-1])
    x = states_at(process, start, 64, GAUSSIAN)
    if subject.stochastic:
        return Check("gaussian", "info", "stochastic: see the law")
    y = _run(subject, model_of(GAUSSIAN, process), x, times)
    exact = exact_end(process, x, start, end, GAUSSIAN) if coupled(process) else GAUSSIAN.flow(x, process, start, end)
    error = float((y - exact).norm() / exact.norm())
    return Check("gaussian", "info", f"relative error {error:.1e} after 16 steps", {"error": error})


def ends(subject: Subject, process: Process) -> Check:
    """From the process's very start to its very end, where alpha or sigma may be 0: finite, and closer with more steps."""
    x = states_at(process, process.t_start, 64)
    model = model_of(MIXTURE, process)
    # the scores of several components do not exist at the data end, so neither does the flow there
    measured = not (subject.stochastic or coupled(process))
    exact = exact_end(process, x, process.t_start, process.t_end) if measured else torch.zeros_like(x)
    errors = []
    for steps in (8, 64):
        # even in sigma/(alpha + sigma), which is finite at both ends
        shares = torch.lerp(_share(process, process.t_start), _share(process, process.t_end), _even(steps))
        times = process.t_of_lambda(torch.log1p(-shares) - torch.log(shares))
        times[0], times[-1] = process.t_start, process.t_end
        try:
            y = _run(subject, model, x, times)
        except PlanError as refusal:
            return Check("ends", "info", f"refused, as it may be: {refusal}")
        if not bool(torch.isfinite(y).all()):
            return Check("ends", "FAIL", f"not finite at the end of {steps} steps from t_start to t_end")
        if measured:
            errors.append(float((y - exact).square().mean().sqrt()))
    if not measured:
        return Check("ends", "pass", "finite from t_start to t_end")
    falls = errors[1] < errors[0] / 2 or subject.order is None
    detail = f"finite from t_start to t_end; error {errors[0]:.1e} in 8 steps, {errors[1]:.1e} in 64"
    return Check("ends", "pass" if falls else "FAIL", detail, {"error 8": errors[0], "error 64": errors[1]})


def batch(subject: Subject, process: Process) -> Check:
    """A sample alone, in a batch, and elsewhere in a batch: the same to rounding, whatever its neighbours."""
    times = fitting_times(process, 6)
    x = states_at(process, float(times[0]), 7)
    model = model_of(MIXTURE, process)
    together = subject.run(model, x, times, list(range(7)))
    alone = subject.run(model, x[3:4], times, [3])
    turned = subject.run(model, x.flip(0), times, list(range(7))[::-1]).flip(0)
    gap = max(float((alone - together[3:4]).abs().max()), float((turned - together).abs().max()))
    return batch_verdict(gap, together)


def repeatable(subject: Subject, process: Process) -> Check:
    """The same seeds twice give the same; other seeds change a stochastic sampler and leave a deterministic one alone."""
    times = fitting_times(process, 4)
    x = states_at(process, float(times[0]), 3)
    model = model_of(MIXTURE, process)
    one, two, other = (subject.run(model, x, times, seeds) for seeds in ([1, 2, 3], [1, 2, 3], [4, 5, 6]))
    if not torch.equal(one, two):
        return Check("repeatable", "FAIL", "the same seeds twice gave different samples")
    if subject.stochastic == torch.equal(one, other):
        said, is_ = ("stochastic", "does not change") if subject.stochastic else ("deterministic", "changes")
        return Check("repeatable", "FAIL", f"said to be {said}, but {is_} with the seeds")
    return Check("repeatable", "pass", "the same seeds give the same samples")


CHECKS: tuple[Callable[[Subject, Process], Check], ...] = (
    order,
    law,
    point_mass,
    gaussian,
    ends,
    batch,
    repeatable,
)


def _run(subject: Subject, model: object, x: Tensor, times: Tensor) -> Tensor:
    y = subject.run(model, x, times, list(range(len(x))))  # type: ignore[arg-type]
    expected = x.shape if x.ndim == 2 else x[:, 0].shape
    if not isinstance(y, Tensor) or y.shape != expected:
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise TypeError(f"the sampler returned {shape} for states of shape {tuple(expected)}")
    return y.double()


def batch_verdict(gap: float, together: Tensor) -> Check:
    """Whether samples alone and in a batch are the same to rounding; `gap` is by how much they differ."""
    allowed = 1e-10 * float(together.abs().max())
    detail = f"alone, in a batch, and in reverse differ by {gap:.1e}"
    return Check("batch", "pass" if gap <= allowed else "FAIL", detail, {"gap": gap})


def order_verdict(name: str, subject: Subject, errors: Sequence[float]) -> Check:
    """The slope of the errors at STEPS, of those above the subject's floor, against the order promised."""
    promised = subject.order
    kept = np.array([(n, e) for n, e in zip(STEPS, errors, strict=True) if math.isfinite(e) and e > subject.floor])
    listed = ", ".join(f"{e:.1e}" for e in errors)
    if not all(map(math.isfinite, errors)):
        return Check(name, "FAIL", f"errors {listed}: not finite")
    if len(kept) < 2:
        return Check(name, "pass", f"exact to rounding: errors {listed}", {"order": math.inf})
    fitted = -float(np.polyfit(np.log(kept[:, 0]), np.log(kept[:, 1]), 1)[0])
    detail = f"fitted {fitted:.2f}" + ("" if promised is None else f", nominal {promised}")
    if len(kept) < len(errors):
        detail += f" (where the error is above {subject.floor:.0e}: below is rounding)"
    verdict = "info" if promised is None else "pass" if fitted >= promised - TOLERANCE else "FAIL"
    return Check(name, verdict, f"{detail}; errors {listed} at {STEPS} steps", {"order": fitted, "error": errors[-1]})


def _exact_moments(subject: Subject, process: Process, times: Tensor) -> tuple[Tensor, Tensor] | None:
    """Those of the output on Gaussian data, or None where they cannot be had without sampling."""
    if subject.plan is not None:
        plan = subject.plan(process, times)
        if any(isinstance(row, Apply) and not FUNCTIONS[row.function].linear for row in plan.rows):
            return None
        return moments(plan, GAUSSIAN)
    if subject.drawn is None:
        return None
    start = GAUSSIAN.moments(process, float(times[0]))
    drawn = partial(subject.drawn, model_of(GAUSSIAN, process))
    return probed_moments(lambda x, draw: drawn(x, times, draw), *start)


def _moment_error(process: Process, t: float, mean: Tensor, covariance: Tensor) -> float:
    exact_mean, exact_covariance = GAUSSIAN.moments(process, t)
    scale = exact_covariance.diagonal().mean()
    return float((mean - exact_mean).norm() / scale.sqrt() + (covariance - exact_covariance).norm() / scale)


def _sampled_law(subject: Subject, process: Process) -> Check:
    model, errors = model_of(GAUSSIAN, process), []
    for steps in (8, 32, 128):
        times = fitting_times(process, steps)
        x = states_at(process, float(times[0]), DRAWS, GAUSSIAN)
        y = _run(subject, model, x, times) if subject.drawn is None else subject.drawn(model, x, times, _fresh(7))
        errors.append(_moment_error(process, float(times[-1]), y.mean(0), torch.cov(y.T)))
    floor = 4 * 4 / math.sqrt(DRAWS)  # four standard errors of the (2 + 4) moments together
    falls = errors[-1] <= max(floor, errors[0] / 4)
    detail = f"moment errors {', '.join(f'{e:.3f}' for e in errors)} at 8, 32, 128 steps, noise {floor:.3f}"
    return Check("law", "pass" if falls else "FAIL", detail, {"error": errors[-1]})


def _fresh(seed: int) -> Callable[[Interval | None, Tensor], Tensor]:
    """Noise for many samples at once; a Brownian path's increments are drawn apart, so it suits samplers without overlaps."""
    generator = torch.Generator().manual_seed(seed)

    def draw(_: Interval | None, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    return draw


def _share(process: Process, t: float) -> Tensor:
    return process.sigma(t) / (process.alpha(t) + process.sigma(t))


def _even(steps: int) -> Tensor:
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)
