"""Levenberg-Marquardt on the distance of samples to their reference, robust against starts that end in another mode.

With e_i^2 a start's mean square distance, what falls is sum_i c^2 log(1 + e_i^2/c^2)/B + ridge |theta - theta_0|^2, c^2 being
`robust` times the median of e_i^2. A start near a border between two modes jumps by far more than c when the plan changes a
little, and back again; by the plain mean square, a single one of a thousand would stop every step. Weights
1/(1 + e_i^2/c^2) make each iteration a least-squares problem,

    (H + lambda diag(H)) delta = -g,    H = J^T W J + ridge,    g = J^T W r + ridge (theta - theta_0),

with lambda falling after a step that is taken and rising after one that is not. J is of some starts, others in each
iteration; whether a step is taken is decided by all that are fitted on. The rest of the training starts say when to stop.

Sources: Levenberg 1944, A method for the solution of certain non-linear problems in least squares; Marquardt 1963, An
algorithm for least-squares estimation of nonlinear parameters; the loss: Holland & Welsch 1977, Robust regression using
iteratively reweighted least-squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from urn.plan import Plan
from urn.tuning.search import Search
from urn.tuning.task import Starts

TRIES = 6  # steps tried before an iteration gives up
LEAST, MOST = 1e-9, 1e9  # damping


class Family(Protocol):
    """Plans with free numbers theta, (P,) float64."""

    theta: Tensor
    scale: Tensor  # of each number, (P,): the ridge is on theta/scale

    def plan(self, theta: Tensor) -> Plan | None:
        """The plan at theta; None where there is none, as with times out of order."""
        ...

    def derivatives(self, theta: Tensor, plan: Plan, starts: Starts) -> Tensor:
        """d samples/d theta, (P, B, d)."""
        ...

    def words(self, plan: Plan) -> str:
        """What is said of a plan in its label."""
        ...

    def evaluations(self, count: int) -> int:
        """What the derivatives of so many starts cost."""
        ...


@dataclass(frozen=True)
class Settings:
    """How a family is fitted.

    Attributes:
        iterations: at most.
        part: starts of each iteration's derivatives.
        validation: share of the training starts that is not fitted on.
        patience: iterations without a gain on those, after which it stops.
        ridge: of theta's change, in the start's own mean square error.
        robust: c^2 over the median square error; infinity for the plain mean square.
        damping: lambda of the first iteration.
    """

    iterations: int = 30
    part: int = 128
    validation: float = 0.25
    patience: int = 4
    ridge: float = 1e-4
    robust: float = 5.0
    damping: float = 1e-2


def fit(search: Search, family: Family, label: str, settings: Settings) -> Plan | None:
    """Fit a family's numbers, trying every plan on the way in the search; the last plan that validation kept."""
    task = search.task
    target = task.train_target
    if target is None:
        raise ValueError(f"objective={task.objective.name!r}: least squares needs a reference")
    total = len(task.train)
    fitted = max(1, total - int(total * settings.validation)) if total >= 16 else total
    generator = torch.Generator().manual_seed(search.seed)
    theta = family.theta
    plan = family.plan(theta)
    if plan is None:
        return None
    squares, value = _squares(search, plan, target)
    search.try_plan(plan, f"{label}, iteration 0{family.words(plan)}", value=value)
    first, damping = theta, settings.damping
    start = float(squares.median())
    ridge = settings.ridge * start / family.scale.square()
    kept, kept_squares, waited = plan, squares, 0
    for iteration in range(1, settings.iterations + 1):
        part = min(settings.part, fitted)
        if search.is_over or not search.affords(family.evaluations(part) + task.calls * total):
            break
        c = settings.robust * float(squares[:fitted].median())
        chosen = torch.randperm(fitted, generator=generator)[:part]
        J = family.derivatives(theta, plan, task.train.part(chosen))
        with torch.no_grad():
            residuals = (task.run(plan, task.train.part(chosen)) - target[chosen]).flatten(1)
        weights = _weights(squares[chosen], c)
        H, g = _normal(J, residuals, weights)
        g = g + ridge * (theta - first)
        H = H + torch.diag(ridge)
        before = _loss(squares[:fitted], c) + float((ridge * (theta - first).square()).sum())
        for _ in range(TRIES):
            step = _solve(H, g, damping)
            made = None if step is None else family.plan(theta + step)
            if step is not None and made is not None:
                tried_squares, value = _squares(search, made, target)
                ahead = float((ridge * (theta + step - first).square()).sum())
                if _loss(tried_squares[:fitted], c) + ahead < before:
                    break
            damping = min(damping * 8, MOST)
            if search.is_over:
                return kept
        else:
            waited += 1  # no step with these starts; others may have one
            if waited >= settings.patience:
                break
            continue
        theta, plan, squares = theta + step, made, tried_squares
        damping = max(damping / 4, LEAST)
        search.try_plan(plan, f"{label}, iteration {iteration}{family.words(plan)}", value=value)
        judged = slice(fitted, None) if fitted < total else slice(None)
        if _loss(squares[judged], c) < _loss(kept_squares[judged], c):
            kept, kept_squares, waited = plan, squares, 0
        else:
            waited += 1
            if waited >= settings.patience:
                break
    return kept


def _squares(search: Search, plan: Plan, target: Tensor) -> tuple[Tensor, float]:
    """Mean square distances of all training starts, (N,) float64, and the objective."""
    task = search.task
    with torch.no_grad():
        samples = task.run(plan, task.train)
        if not bool(torch.isfinite(samples).all()):
            return torch.full((len(samples),), float("inf"), dtype=torch.float64), float("inf")
        value = float(task.objective.value(samples, target))
        return (samples - target).double().square().flatten(1).mean(1).cpu(), value


def _loss(squares: Tensor, c: float) -> float:
    if c == float("inf"):
        return float(squares.mean())
    return float((c * torch.log1p(squares / c)).mean()) if c > 0 else float(squares.mean())


def _weights(squares: Tensor, c: float) -> Tensor:
    """Of each start: less where its error is large."""
    return 1 / (1 + squares / c) if c > 0 else torch.ones_like(squares)


def _normal(J: Tensor, residuals: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """J^T W J and J^T W r over starts and coordinates, float64; J of shape (P, B, d)."""
    root = weights.sqrt().to(J)
    rows = (J * root[None, :, None]).flatten(1)
    r = (residuals * root[:, None]).flatten()
    return (rows @ rows.T).double().cpu() / r.numel(), (rows @ r).double().cpu() / r.numel()


def _solve(H: Tensor, g: Tensor, damping: float) -> Tensor | None:
    diagonal = torch.diag(H)
    matrix = H + torch.diag(damping * diagonal + 1e-14 * diagonal.max())
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed):
        return None
    step: Tensor = torch.cholesky_solve(-g[:, None], factor)[:, 0]
    return step if bool(torch.isfinite(step).all()) else None
