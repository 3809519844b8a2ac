"""The default: free coefficients and times, by what the model and the objective allow.

1. The weights of each step against a fine trajectory, by IIA on the grids on which untuned plans do best (`iia`), and then all
   weights and times of the best plans so far, by Levenberg-Marquardt on the reference (`coefficients`), but for those that
   multiply a network's errors by more than `most_gain`. With few evaluations, the weights of the last sums alone, for whose
   derivatives few calls are differentiated.
2. Where no gradient passes through the model: times alone, by differences (`grid`).
3. Where the objective is not a distance to a reference: 1 or 2 on a reference of their own, whose plans are then measured by
   the objective, and a black-box search over the times of the best of all. Between the two, for a differentiable function of
   the samples alone, all weights and times of the best plan by descent on it, judged on training starts kept from the descent
   (`urn.tuning.refinement`).
4. For a network that takes integer times only: IIA, the black-box search over grids of integers, and then the weights alone.

The black-box search is Optuna's tree-structured Parzen estimator over the logarithms of the steps' shares of the angle
atan(sigma/alpha): Bergstra, Bardenet, Bengio, Kegl 2011, Algorithms for Hyper-Parameter Optimization.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from urn.compiler import compile_plan
from urn.method import number
from urn.methods import METHODS
from urn.plan import Plan, PlanError
from urn.tuning.arguments import check_settings
from urn.tuning.least_squares import Settings
from urn.tuning.objectives import ToReference
from urn.tuning.refinement import refine
from urn.tuning.search import Search, open_study
from urn.tuning.sensitivity import count_of, tangents_of
from urn.tuning.task import NotDifferentiableError, Task, TuningError, check_differentiable
from urn.tuning.times import gaps_of, numbers_of, times_of
from urn.tuning.tuners import tuner
from urn.tuning.tuners.coefficients import fit_coefficients, gain, starting
from urn.tuning.tuners.grid import compilable, fit_grid, free_of, jumps
from urn.tuning.tuners.iia import PARTS, named_plans, try_fitted

ROUNDS = 5  # iterations of the coefficients that a limit on evaluations should allow
WORK = 100_000  # tangents of an iteration, so that plans of many calls take more of them
NUMBERS = 1 << 27  # in a Jacobian, so that large samples fit in memory
FEW, SHARE = 32, 16  # starts of IIA's fit: at least FEW, and one in SHARE
SPARE = 4  # plans beside those that are begun at, should some of these multiply errors
REFINED = 1024  # starts of a descent on the objective itself
WIDTH = 0.5  # of the black-box search, in the logarithm of a step's share


@tuner(source=METHODS["linear"].source)
def auto(
    search: Search,
    plans: int = 2,
    iterations: int = 30,
    black_box: int = 60,
    robust: float = 100.0,
    part: int = 1024,
    rounds: int = 8,
    stepwise: int = 2,
    most_gain: float = 4.0,
) -> None:
    """All weights and times by least squares where the objective is a reference; else a black-box search over times too.

    `plans`: from how many of the best so far; `iterations`: of each fit, at most; `black_box`: trials of that search; `robust`,
    `part`: see `urn.tuning.least_squares.Settings`; `rounds`: of the descent on a function of the samples; `stepwise`: on how
    many grids IIA is fitted first; `most_gain`: of a plan whose weights are fitted, where there is another
    (`urn.tuning.tuners.coefficients` says what a gain is).
    """
    check_settings(0, stepwise=stepwise)
    check_settings(plans=plans, iterations=iterations, black_box=black_box, part=part, rounds=rounds)
    number("robust", robust, 0, ends=False)
    if most_gain != math.inf:
        number("most_gain", most_gain, 0, ends=False)
    task = search.task
    how = Fits(plans, Settings(iterations=iterations, part=part, robust=robust), stepwise, most_gain)
    if task.model.integer_times:
        if task.objective.paired:
            _stepwise(search, stepwise)
        _black_box(search, black_box)
        if task.objective.paired:
            _coefficients(search, how)
    elif task.objective.paired:
        _least_squares(search, how)
    else:
        inner = _on_reference(search, how)
        for one in sorted((one for one in inner.tried if not one.pruned), key=lambda one: one.value)[:6]:
            if search.is_over:
                return
            search.try_plan(one.plan, one.label)
        if task.train_target is None:
            _refine(search, rounds)
        _black_box(search, black_box)


class Fits(NamedTuple):
    """How plans are fitted to a reference; see `auto`."""

    plans: int
    settings: Settings
    stepwise: int
    most_gain: float


def _least_squares(search: Search, how: Fits) -> None:
    _stepwise(search, how.stepwise)
    if not _coefficients(search, how):
        for label, plan in compilable(search, how.plans):
            if search.is_over:
                return
            settings = Settings(how.settings.iterations, part=min(128, how.settings.part), ridge=1e-6)
            fit_grid(search, plan, label, settings)


def _coefficients(search: Search, how: Fits) -> bool:
    """All weights of the best plans so far, and their times where these can move; False where no gradient passes."""
    times = not search.task.model.integer_times
    try:
        check_differentiable(search.task.model, search.task.train)
    except NotDifferentiableError:
        return False
    rows, part = _affordable(search, how.settings.part, times)
    known = starting(search, how.plans + SPARE)
    calm = [(label, plan) for label, plan in known if gain(plan) <= how.most_gain]
    for label, plan in (calm or known)[: how.plans]:
        if search.is_over:
            break
        fit_coefficients(search, plan, label, replace(how.settings, part=part), times=times, rows=rows)
    return True


def _stepwise(search: Search, count: int) -> None:
    """IIA's weights for DDIM towards the fine trajectory, on so many of the grids on which untuned plans do best."""
    task = search.task
    starts = task.train.first(min(len(task.train), max(FEW, len(task.train) // SHARE)))
    cost = task.calls * (len(starts) * (1 + 3 * PARTS) + len(task.train))
    for label, name, plan in named_plans(search, ("iia_ddim",))[:count]:
        if search.is_over or not search.affords(2 * cost):  # the coefficients want as much
            return
        try_fitted(search, label, name, plan, starts, "trajectory")


def _affordable(search: Search, most: int, times: bool) -> tuple[int | None, int]:
    """How many of the last sums to free, and how many starts to differentiate, so that `ROUNDS` iterations are affordable."""
    task = search.task
    calls, total = task.calls, len(task.train)
    held = NUMBERS // (count_of(calls, times) * task.train.normals[0].numel())
    most = min(most, total, max(32, held))
    if search.evaluations is None:
        return None, min(most, max(32, WORK // tangents_of(calls, times)))
    left = search.evaluations - task.evaluations
    for rows in range(calls, 0, -1):
        tangents = tangents_of(calls, times, calls - rows)
        part = int(left / ROUNDS - calls * total) // (2 * calls + tangents)
        if part >= min(16, total):
            return rows, min(part, most)
    return 1, min(16, total)


def _on_reference(search: Search, how: Fits) -> Search:
    """The same search with the reference for its objective; what it costs is counted in the outer one."""
    outer = search.task
    task = Task(outer.model, outer.calls, ToReference(), outer.train, outer.held_out, outer.batch)
    share = 0.3 if outer.train_target is None else 0.7  # a function of the samples alone may want to go elsewhere
    limits: dict[str, Any] = {
        "evaluations": None if search.evaluations is None else max(1, search.evaluations - outer.evaluations),
        "seconds": None if search.seconds is None else max(1e-3, share * (search.seconds - search.spent)),
    }
    inner = Search(task, open_study(None, "on the reference", {}, search.seed), search.seed, **limits)
    for one in search.tried:
        if not one.pruned and one.value < math.inf and not one.plan.stochastic and not inner.is_over:
            inner.try_plan(one.plan, one.label, untuned=True)
    try:
        if not inner.is_over:
            _least_squares(inner, how)
    finally:
        outer.evaluations += task.evaluations
    return inner


def _refine(search: Search, rounds: int) -> None:
    """The weights and times of the best plan by descent on the objective itself, judged on starts kept from it."""
    try:
        ((label, plan),) = starting(search, 1)
    except TuningError:  # no plan with one call a step
        return
    if not search.is_over:
        refine(search, plan, f"refined: {label}", rounds=rounds, iterations=5, batch=REFINED)


def _black_box(search: Search, trials: int) -> None:
    """Times of the best plan that is a method on a grid, by Optuna's TPE around those it has."""
    import optuna

    candidates = [one for one in sorted(search.tried, key=lambda one: one.value) if not one.pruned]
    best = next((one for one in candidates if _can_move(one.plan)), None)
    if best is None:
        return
    plan, process = best.plan, best.plan.process
    times = torch.tensor(numbers_of(plan), dtype=torch.float64)
    gaps, whole = gaps_of(process, times), search.task.model.integer_times
    search.study.sampler = optuna.samplers.TPESampler(seed=search.seed + len(search.tried), multivariate=True)
    ranges = {f"gap {i}": optuna.distributions.FloatDistribution(-WIDTH, WIDTH) for i in range(len(gaps))}
    for _ in range(trials):
        if search.is_over:
            return
        trial = search.ask(ranges)
        moved = gaps + torch.tensor([trial.params[name] for name in ranges], dtype=torch.float64)
        made = _on_times(plan, times_of(process, moved, times[0], times[-1]).tolist(), whole)
        if made is None:
            search.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        search.try_plan(made, f"black box: {best.label}", trial=trial, prune=True)


def _can_move(plan: Plan) -> bool:
    return plan.method in METHODS and len(free_of(plan)) > 0


def _on_times(plan: Plan, times: list[float], whole: bool) -> Plan | None:
    """The plan's method on other times; None where two whole ones are the same, or the method has no weights there."""
    given = [float(round(t)) for t in times] if whole else times
    calls = given if jumps(plan) else given[:-1]
    if any(not later < earlier for earlier, later in pairwise(given)):
        return None
    if calls[-1] < float(plan.process.t_finite[1]):
        return None
    try:
        made: Plan = compile_plan(
            plan.method, plan.process, grid=given, final="x0" if jumps(plan) else None, **dict(plan.options)
        )
    except (ValueError, PlanError):
        return None
    return made if made.nfe == plan.nfe else None
