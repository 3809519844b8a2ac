"""Findings that several cases make: fitted orders, two ways to the same ends, and error against error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

import urn
from evidence.book import Finding
from evidence.measure import TIMES, Course, plane_course, ratio, rms, shown, slope
from urn.processes import VP

Reason = Callable[[], str]  # asked for only where a claim fails


def no_reason() -> str:
    return ""


def step_counts(full: bool) -> tuple[int, ...]:
    """Over which an order is fitted."""
    return (160, 320, 640) if full else (40, 80, 160)


def fitted_order(method: Any, grid: str, steps: Sequence[int]) -> tuple[float, float]:
    """The order of a deterministic method on the mixture in two dimensions, from the rms and from the median error."""
    plane = plane_course(48, 1e-12)
    errors = [plane.errors(method, TIMES[grid](n)) for n in steps]
    return slope([rms(error) for error in errors], steps), slope([float(error.median()) for error in errors], steps)


def orders(claim: str, methods: Mapping[str, tuple[Any, int]], grid: str, full: bool, reason: str = "") -> Finding:
    """Whether methods, by label, have the orders that go with them."""
    steps = step_counts(full)
    fits = {label: fitted_order(method, grid, steps) for label, (method, _) in methods.items()}
    demanded = ", ".join(f"{order - 0.25:g}" for _, order in methods.values())
    holds = all(fits[label][0] >= order - 0.25 for label, (_, order) in methods.items())
    return Finding(
        f"{claim}: {grid} grid",
        f"slopes of the rms error at least {demanded}, between {steps[0]} and {steps[-1]} steps, 2-D mixture",
        ", ".join(f"{label}: {of_rms:.3f} (median's {of_median:.3f})" for label, (of_rms, of_median) in fits.items()),
        holds,
        "" if holds else reason,
    )


def same_ends(claim: str, one: Any, other: Any, steps: int = 10) -> Finding:
    """Whether two methods come to the same ends on every grid of `TIMES`, from 48 starts on the 2-D mixture."""
    plane, gaps = plane_course(48, 1e-12), {}
    for name, times in TIMES.items():
        ends = [plane.run(urn.compile_plan(method, VP.linear(), grid=times(steps))) for method in (one, other)]
        gaps[name] = float((ends[0] - ends[1]).abs().max())
    return Finding(
        claim,
        f"ends after {steps} steps equal to 1e-12 on every grid",
        f"largest difference {max(gaps.values()):.1e} ({', '.join(gaps)} grids)",
        max(gaps.values()) < 1e-12,
    )


Pairs = Mapping[str, tuple[Tensor, Tensor]]  # by label: our errors and a rival's from the same starts


def contest(claim: str, rival: str, pairs: Pairs, above: bool = False, reason: Reason = no_reason) -> Finding:
    """Errors against a rival's; below them in every pair, or `above` them."""
    found = {label: ratio(ours, theirs) for label, (ours, theirs) in pairs.items()}
    starts = len(next(iter(pairs.values()))[0])
    holds = all(interval.low > 1 if above else interval.high < 1 for interval in found.values())
    return Finding(
        claim,
        f"rms error over {starts} starts {'above' if above else 'below'} that of {rival}, by 95 % intervals of the ratios",
        "ratios " + "; ".join(f"{label} {shown(interval)}" for label, interval in found.items()),
        holds,
        "" if holds else reason(),
    )


def ratios_below_one(explanation: str, pairs: Pairs, statistic: str = "rms") -> str:
    """A reason, with the ratios that bear it out; none where they do not."""
    found = {label: ratio(ours, theirs, statistic) for label, (ours, theirs) in pairs.items()}
    if any(interval.high >= 1 for interval in found.values()):
        return ""
    return f"{explanation}: {'; '.join(f'{label} {shown(interval)}' for label, interval in found.items())}"


def best_of_grids(data: Course, method: Any, steps: int) -> Tensor:
    """The errors of a method on that grid of `TIMES` on which it does best."""
    return min((data.errors(method, times(steps)) for times in TIMES.values()), key=rms)
