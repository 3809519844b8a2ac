"""check: run every check on a sampler, whatever happens in one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from urn.method import Method
from urn.methods import find_method
from urn.processes import VP, Process, with_side_input

from . import checks
from .report import Check, Report
from .subject import Subject
from .targets import PHASE_SPACE

Runnable = str | Method | Subject | Callable[..., Any]


def check(
    sampler: Runnable,
    *,
    process: Process | None = None,
    order: int | None = None,
    stochastic: bool = False,
    exact_for: Sequence[str] = (),
    **options: Any,
) -> Report:
    """Measure whether a sampler does what it says, on targets known in closed form.

    Args:
        sampler: a method's name, a `Method`, a `Subject` (as those of `urn.conformance.peers`), or a callable
            run(model, x, times, seeds) -> samples: from states x of shape (B, 2), float64, at times[0] of `model.process`, to
            times[-1]. Call the model as `model.net(x, t)` (it predicts "v"), or run a plan on it.
        process: by default `VP.linear()`; for methods on (x, m) a `PhaseSpace` that is not stiff. States of several components
            come stacked, (B, components, 2), to a callable, which returns x.
        order, stochastic, exact_for: what a callable promises; a method brings its own.
        options: options of a method.

    Returns:
        A `Report`; `print` it. A check that a sampler makes impossible is listed with the reason, and the rest go on.

    Raises:
        ValueError: the name is unknown, the method has no such option, options are given for what is no method, or the process
            has a side input.

    Example:
        >>> report = check("dpmpp_2m")
        >>> report.passed, round(report.order)
        (True, 2)
    """
    if process is not None and with_side_input(process) is not None:
        raise ValueError(
            f"process={process!r} has a side input: check the method on a process without, it runs on x - beta y"
        )
    if options and not isinstance(sampler, (str, Method)):
        raise ValueError(
            f"options {', '.join(options)} are a method's: give a callable or a Subject its own when it is made"
        )
    default: Process = VP.linear()
    if isinstance(sampler, (str, Method)):
        method = find_method(sampler)
        default = default if len(method.components) == 1 else PHASE_SPACE
        subject = Subject.of_method(method.with_options(**options))
    elif isinstance(sampler, Subject):
        subject = sampler
    elif callable(sampler):
        subject = Subject.of_callable(sampler, order=order, stochastic=stochastic, exact_for=tuple(exact_for))
    else:
        raise ValueError(
            f"sampler={sampler!r} must be a method's name, a Method, or a callable (model, x, times, seeds)"
        )
    process = default if process is None else process
    started = time.perf_counter()
    usual = [c for c in checks.CHECKS if c is not (checks.order if subject.stochastic else checks.law)]
    chosen = usual if subject.checks is None else subject.checks
    results = tuple(_guarded(c, subject, process) for c in (*chosen, *subject.more))
    return Report(subject.name, results, time.perf_counter() - started, subject.notes)


def _guarded(one: Callable[[Subject, Process], Check], subject: Subject, process: Process) -> Check:
    try:
        return one(subject, process)
    except Exception as error:  # whatever somebody's sampler raises is a finding, not a crash of the kit
        name = one.__name__.replace("_", " ")
        return Check(name, "could not run", f"{type(error).__name__}: {error}")
