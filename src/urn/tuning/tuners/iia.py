"""IIA: weights of each step by least squares against a fine solver's increment, on one calibration batch.

A step's end is linear in its weights. At step i, from the state x_i that the fitted plan itself has reached, a fine solver goes
from t_i to t_{i+1}, and with regressors d_k

    x_{i+1}(g) = c + sum_k g_k d_k,          g = argmin sum over the batch |x_fine - c - sum_k g_k d_k|^2,

K numbers from a K x K system in float64. Published numbers are one choice of g, so no step's residual is larger than theirs from
the same state; the next step starts from the fitted one. Two kinds of g:

    named   the few of `iia_ddim`, `iia_heun` and `iia_dpmpp`: a published increment and differences of predictions
    rows    any deterministic plan: all weights of predictions in every row that makes a state, those of states as they are

The paper's x_fine starts at x_i ("flow"). "trajectory" takes the fine trajectory from the start x_T instead, so that a step makes
up for the errors of those before it; it is not the paper's, and cheaper.

Source: Zhang, Niwa, Kleijn 2023, improved integration approximation, arXiv 2304.11328, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from urn.arithmetic import weighted_sum
from urn.grids import find_grid
from urn.method import at_least_one, one_of
from urn.plan import Combine, Evaluate, Plan, Row
from urn.tuning.arguments import check_settings
from urn.tuning.search import Search, Tried
from urn.tuning.task import Starts, Task
from urn.tuning.trajectories import fine_states, followed, grid_of, remade_plan, starting_states
from urn.tuning.tuners import tuner
from urn.tuning.untuned import GRIDS, WHOLE, plan_within

SOURCE = (
    "Zhang, Niwa, Kleijn 2023, On Accelerating Diffusion-Based Sampling Process via Improved Integration Approximation, "
    "arXiv 2304.11328"
)
VARIANTS = ("iia_ddim", "iia_heun", "iia_dpmpp")
TOWARDS = ("trajectory", "flow")
PARTS = 4  # of the fine solver in a step
ROUNDING = 1e-10  # of the largest direction, or eigenvalue: what is smaller is left out
ODD = (
    1.1,
    0.37,
    0.23,
    0.171,
    0.113,
    0.0731,
)  # coefficients with which no weight vanishes, so that no register is left out of a plan


class Fit(NamedTuple):
    """Numbers of each row that was fitted, and its root mean square residual with them and with the published ones."""

    numbers: tuple[tuple[float, ...], ...]
    fitted: tuple[float, ...]
    published: tuple[float, ...]


@tuner(source=SOURCE)
def iia(
    search: Search,
    variants: Sequence[str] = VARIANTS,
    towards: Sequence[str] = TOWARDS,
    grids: Sequence[str] | None = None,
    rows: int = 6,
    regressors: int = 3,
    calibration: int = 64,
) -> None:
    """Improved integration approximation: least squares of a step's weights against a fine solver, step by step.

    Options: which named `variants`, and the names of their `grids`, those of the untuned plans by default; of how many of the
    best untuned plans all `rows` are fitted; `towards` what, the "flow" from each state or the "trajectory" from the start; how
    many `regressors` a named variant has, of which `iia_heun` takes 3 at most; how many training starts are for `calibration`.
    """
    for name in variants:
        one_of("variants", name, VARIANTS)
    for name in towards:
        one_of("towards", name, TOWARDS)
    at_least_one("regressors", regressors, len(ODD))
    check_settings(calibration=calibration)
    check_settings(0, rows=rows)
    for name in grids or ():
        find_grid(name)
    task = search.task
    starts = task.train.first(min(calibration, len(task.train)))
    known = _known(search)
    plans = named_plans(search, variants, grids)
    for way in towards:
        for label, name, plan in plans:
            if search.is_over:
                return
            try_fitted(search, label, name, plan, starts, way, regressors)
        for one in known[:rows]:
            if search.is_over:
                return
            found, _ = fitted_rows(task, one.plan, starts, way)
            search.try_plan(found, f"{one.label}, rows fitted to the {way}")


def named_plans(
    search: Search, variants: Sequence[str] = VARIANTS, grids: Sequence[str] | None = None
) -> list[tuple[str, str, Plan]]:
    """(label, variant, plan with its published coefficients), those first on whose grids untuned plans do well.

    Raises:
        ValueError: one of the given grids is not for this process or budget.
    """
    task, plans = search.task, []
    on_grid = {one.plan.times: one.value for one in reversed(_known(search))}
    for grid, name in product(grids or (WHOLE if task.model.integer_times else GRIDS), variants):
        try:
            plan = plan_within(task.model.process, name, task.calls, grid)
        except ValueError:  # a grid that is not for this process, or a method that takes more calls
            if grids is not None:
                raise
            continue
        plans.append((on_grid.get(plan.times, float("inf")), f"{name}, {grid}", name, plan))
    plans.sort(key=lambda one: one[0])
    return [one[1:] for one in plans]


def try_fitted(
    search: Search, label: str, name: str, plan: Plan, starts: Starts, towards: str, regressors: int = 3
) -> None:
    """Fit a named variant's coefficients and try the plan; a resumed search has it already."""
    label = f"{label}, fitted to the {towards}"
    if all(one.label != label for one in search.tried):
        fit = fitted_coefficients(search.task, plan, name, starts, regressors, towards)
        search.try_plan(remade_plan(plan, name, coefficients=fit.numbers), label)


def _known(search: Search) -> list[Tried]:
    """The deterministic untuned plans, the best first."""
    return sorted((one for one in search.tried if one.untuned and not one.plan.stochastic), key=lambda one: one.value)


def fitted_rows(
    task: Task, plan: Plan, starts: Starts, towards: str = "flow", parts: int = PARTS, weights: float = ROUNDING
) -> tuple[Plan, Fit]:
    """The plan with the weights of predictions fitted in every row that makes a state at a point of the grid.

    Args:
        task: gives the model; it counts the evaluations.
        plan: a deterministic plan.
        starts: the calibration batch.
        towards: "flow" or "trajectory".
        parts: steps of the fine solver, of order three, inside each step.
        weights: combinations of regressors that are smaller than this share of the largest keep their weights.

    Raises:
        ValueError: the plan draws noise.
    """
    one_of("towards", towards, TOWARDS)
    if plan.stochastic:
        raise ValueError(f"plan: {plan.method} draws noise; a fine solver's increment has none to compare with")
    calls = {register for row in plan.rows if isinstance(row, Evaluate) for register in row.defines}
    targets = _Targets(task, plan, starts, towards, parts)
    changed: dict[str, Row] = {}
    numbers, fitted, published = [], [], []

    def watch(row: Row, registers: Any) -> None:
        if not isinstance(row, Combine) or row.node is None or row.node.index is None:
            return
        free = [place for place, (_, register) in enumerate(row.weights) if register in calls]
        directions = torch.stack([registers[row.weights[place][1]].double().flatten() for place in free])
        made = registers[row.out]
        wanted = (targets.at(row.node.index) - made).double().flatten()
        change = _least_squares(directions, wanted, weights)
        left = wanted - torch.tensor(change, dtype=torch.float64) @ directions
        before, after = _rms(wanted), _rms(left)
        terms = list(row.weights)
        if after < before:
            for place, number in zip(free, change, strict=True):
                terms[place] = (terms[place][0] + number, terms[place][1])
            registers[row.out] = weighted_sum(tuple(terms), registers)
        changed[row.out] = replace(row, weights=tuple(terms))
        numbers.append(tuple(float(terms[place][0]) for place in free))
        fitted.append(min(before, after))
        published.append(before)
        targets.reached(row.node.index, registers[row.out])

    with torch.no_grad():
        followed(task, plan, targets.start, starts, watch)
    rows = tuple(changed.get(row.defines[0], row) for row in plan.rows)
    found = replace(plan, rows=rows, method=f"{plan.method} with fitted rows", order=None, exact_for=())
    return found, Fit(tuple(numbers), tuple(fitted), tuple(published))


def fitted_coefficients(
    task: Task, plan: Plan, method: str, starts: Starts, regressors: int = 3, towards: str = "flow", parts: int = PARTS
) -> Fit:
    """The coefficients of a named variant, one row for each step.

    Args:
        task: gives the model; it counts the evaluations.
        plan: of the variant with its published coefficients, on the grid that they are for.
        method: "iia_ddim", "iia_heun" or "iia_dpmpp".
        starts: the calibration batch.
        regressors: coefficients a step; no more than there are steps, or than the variant takes.
        towards: "flow" or "trajectory".
        parts: steps of the fine solver, of order three, inside each step.
    """
    one_of("method", method, VARIANTS)
    one_of("towards", towards, TOWARDS)
    steps = len(plan.times) - 1
    count = min(regressors, steps, 3 if method == "iia_heun" else steps)
    unit = torch.eye(count, dtype=torch.float64).tolist()
    odd = list(ODD[:count])

    def compiled(*last: list[float], row: list[float] = odd) -> Plan:
        made: Plan = remade_plan(plan, method, coefficients=[*[row] * (steps - len(last)), *last])
        return made

    whole = compiled()
    last = _ends(whole)
    # a step that ends at sigma = 0 reads nothing of the one before it where its coefficients are 0, so these are kept odd
    ends = [{**_ends(compiled(odd, row=g)), steps: _ends(compiled(g))[steps]} for g in ([0.0] * count, *unit)]
    targets = _Targets(task, plan, starts, towards, parts)
    numbers, fitted, published = [], [], []

    def watch(row: Row, registers: Any) -> None:
        step = next((place for place, end in last.items() if end is row), None)
        if step is None:
            return
        constant, *each = (weighted_sum(end[step].weights, registers).double() for end in ends)
        directions = torch.stack([(one - constant).flatten() for one in each])
        wanted = (targets.at(step).double() - constant).flatten()
        found = [_least_squares(directions, wanted), unit[0]]
        after, before = (_rms(wanted - torch.tensor(g, dtype=torch.float64) @ directions) for g in found)
        chosen = found[0] if after < before else found[1]
        state = constant + (torch.tensor(chosen, dtype=torch.float64) @ directions).reshape(constant.shape)
        registers[row.defines[0]] = state.to(targets.start)
        numbers.append(tuple(chosen))
        fitted.append(min(before, after))
        published.append(before)
        targets.reached(step, registers[row.defines[0]])

    with torch.no_grad():
        followed(task, whole, targets.start, starts, watch)
    return Fit(tuple(numbers), tuple(fitted), tuple(published))


def _ends(plan: Plan) -> dict[int, Combine]:
    """The last row at each point of the grid, by the point's place."""
    return {
        row.node.index: row
        for row in plan.rows
        if isinstance(row, Combine) and row.node is not None and row.node.index is not None
    }


class _Targets:
    """Where each step should end: the fine flow from the last state before it, or the fine trajectory from the start."""

    def __init__(self, task: Task, plan: Plan, starts: Starts, towards: str, parts: int) -> None:
        self.task, self.starts, self.parts, self.times = task, starts, parts, grid_of(plan)
        self.start = starting_states(task.model.process, float(self.times[0]), starts)
        self.states = {0: self.start}
        self.known: dict[int, Tensor] = {}
        if towards == "trajectory":
            with torch.no_grad():
                self.known = dict(enumerate(fine_states(task, self.times, self.start, starts, parts)))
            self.reached = lambda place, state: None  # type: ignore[method-assign]

    def at(self, place: int) -> Tensor:
        if place not in self.known:
            x = self.states[place - 1]
            self.known[place] = fine_states(self.task, self.times[place - 1 : place + 1], x, self.starts, self.parts)[1]
        return self.known[place]

    def reached(self, place: int, state: Tensor) -> None:
        """The state that the next step starts from; where a method makes it again, the newest counts."""
        self.states[place] = state
        self.known.pop(place + 1, None)


def _least_squares(directions: Tensor, wanted: Tensor, share: float = ROUNDING) -> list[float]:
    """g of least |wanted - sum_k g_k d_k|; where directions depend on one another, the least of those."""
    sizes = directions.square().sum(1).sqrt()
    scale = torch.where(sizes > ROUNDING * sizes.max(), sizes, torch.inf)
    scaled = directions / scale[:, None]
    inverse = torch.linalg.pinv(scaled @ scaled.T, rtol=share, hermitian=True)
    found: list[float] = (inverse @ (scaled @ wanted) / scale).tolist()
    return found


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


__all__ = ["Fit", "fitted_coefficients", "fitted_rows", "iia"]
