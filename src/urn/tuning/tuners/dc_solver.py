"""DC-Solver: compensation ratios fitted step by step to a fine trajectory, and a polynomial that predicts them.

The paper's search, on about ten starts: with the ratios before step i fixed, rho_i makes small |x_{i+1}(rho_i) - x_{i+1}^GT|^2,
x_{i+1} the state after the predictor of step i and the corrector at its end (which the last step does not have), x^GT that of a
fine solver from the same start; see `urn.tuning.stepwise`. The authors take AdamW on the one number, kept within 1/2 of 1 as
here; Brent's method finds it in fewer calls, for any network.

`RatioPolynomial` is the paper's cascade polynomial regression: rho as a polynomial in the step's share of the grid, whose
coefficients are polynomials in the guidance scale, whose coefficients are polynomials in the number of steps.

Source: Zhao, Wang, Zhou, Lu 2024, DC-Solver, arXiv 2409.03755, section 3 (dynamic compensation, cascade polynomial regression).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from urn.grids import find_grid
from urn.method import Method, at_least_one, number, one_of
from urn.methods import find_method
from urn.plan import Plan
from urn.tuning.search import CHEAP, Search
from urn.tuning.stepwise import fitted_numbers
from urn.tuning.task import Starts, Task
from urn.tuning.trajectories import remade_plan
from urn.tuning.tuners import tuner
from urn.tuning.untuned import GRIDS, WHOLE, plan_within

SOURCE = (
    "Zhao, Wang, Zhou, Lu 2024, DC-Solver: Improving Predictor-Corrector Diffusion Sampler via Dynamic Compensation, "
    "arXiv 2409.03755"
)
METHODS = ("dc_unipc", "dc_adams_pc")


@tuner(source=SOURCE)
def dc_solver(
    search: Search,
    methods: Sequence[str] = METHODS,
    orders: Sequence[int] = (3, 2),
    grids: Sequence[str] | None = None,
    kept: int = 4,
    calibration: int = 16,
    width: float = 0.5,
) -> None:
    """Dynamic compensation: ratios of predictor-correctors fitted step by step to a fine trajectory.

    Options: the `methods`, among "dc_unipc", "dc_adams_pc" and "dc_dpmpp"; their `orders`, 1 to 3; the names of `grids`, those
    of the untuned plans by default; how many of all these, the best without compensation, are `kept`; how many training starts
    are for `calibration`; and the `width` about 1 in which a ratio is looked for.
    """
    for name in methods:
        one_of("methods", name, (*METHODS, "dc_dpmpp"))
    for order in orders:
        at_least_one("orders", order, 3)
    at_least_one("kept", kept)
    at_least_one("calibration", calibration)
    number("width", width, 0, 2, ends=False)
    for name in grids or ():
        find_grid(name)
    task = search.task
    starts = task.train.first(min(calibration, len(task.train)))
    few, found = min(CHEAP, len(task.train)), []
    for grid, name, order in product(grids or (WHOLE if task.model.integer_times else GRIDS), methods, orders):
        try:
            plan = plan_within(task.model.process, name, task.calls, grid, order=order)
        except ValueError:  # a grid that is not for this process
            if grids is not None:
                raise
            continue
        found.append((task.value(plan, few), f"{name} {order}, {grid}", plan, name, order))
    for _, label, plan, name, order in sorted(found, key=lambda one: one[0])[:kept]:
        if search.is_over:
            return
        search.try_plan(plan, label)
        if search.is_over:
            return
        ratios = fitted_ratios(task, plan, find_method(name).with_options(order=order), starts, width)
        search.try_plan(remade_plan(plan, name, order=order, ratios=ratios), f"{label}, compensated")


def fitted_ratios(task: Task, plan: Plan, method: Method, starts: Starts, width: float = 0.5) -> tuple[float, ...]:
    """The ratios of a plan's steps, each the best between 1 - width and 1 + width given those before it.

    Args:
        task: gives the model; it counts the evaluations.
        plan: of the method without compensation, on the grid that the ratios are for.
        method: one with an option `ratios`.
        starts: to fit on, about ten.
        width: how far a ratio may be from 1.
    """
    block = method.name.startswith("dc_adams") and {**method.defaults, **method.fixed, **method.options}["order"] - 1
    return fitted_numbers(
        task, plan, lambda ratios: method.with_options(ratios=ratios), starts, width, first=max(1, int(block))
    )


@dataclass(frozen=True)
class RatioPolynomial:
    """rho(g, N, i) = sum_abc w_abc (N/50)^a (g/12)^b (i/N)^c, the paper's scales; step i counts from 1.

    Attributes:
        weights: (A, B, C), the coefficients.
    """

    weights: Tensor

    @classmethod
    def fit(
        cls, found: Iterable[tuple[float, Sequence[float]]], degrees: tuple[int, int, int] = (2, 2, 2)
    ) -> RatioPolynomial:
        """Fit it, by least squares, to (guidance scale, ratios of all steps) of several searches.

        The cascade is linear in its last coefficients, so all of them are fitted at once. Where there are fewer searches than
        degrees the least coefficients that fit are taken.

        Args:
            found: the searches; a first ratio is always 1 and is left out.
            degrees: in the number of steps, in the guidance scale, and in the step.

        Raises:
            ValueError: no search has two steps, or a degree is negative.
        """
        if len(degrees) != 3 or any(isinstance(d, bool) or not isinstance(d, int) or d < 0 for d in degrees):
            raise ValueError(f"degrees={degrees!r} must be three integers of at least 0")
        rows: list[Tensor] = []
        ratios: list[float] = []
        for guidance, one in found:
            for step, ratio in enumerate(one[1:], start=2):
                rows.append(_monomials(guidance, len(one), step, degrees).flatten())
                ratios.append(float(ratio))
        if not rows:
            raise ValueError("found: no search of at least two steps to fit to")
        solved: Any = torch.linalg.lstsq(
            torch.stack(rows), torch.tensor(ratios, dtype=torch.float64)[:, None], driver="gelsd"
        )
        return cls(solved.solution[:, 0].reshape([d + 1 for d in degrees]))

    def ratios(self, guidance: float, steps: int) -> tuple[float, ...]:
        """The ratios that it predicts, the first of them 1."""
        degrees = tuple(size - 1 for size in self.weights.shape)
        made = [(self.weights * _monomials(guidance, steps, i, degrees)).sum() for i in range(2, steps + 1)]
        return (1.0, *map(float, made))


def _monomials(guidance: float, steps: int, step: int, degrees: Sequence[int]) -> Tensor:
    scaled = (steps / 50, guidance / 12, step / steps)
    a, b, c = (
        torch.tensor(value, dtype=torch.float64) ** torch.arange(degree + 1)
        for value, degree in zip(scaled, degrees, strict=True)
    )
    return a[:, None, None] * b[:, None] * c
