"""Timestep Aligner: a label for each call, tuned so that a step's direction is right for the whole step.

With tau_i = r_i t_i shown to the network and everything else at t_i (`urn.schemes.relabelled`), the authors' training code makes
small, step after step,

    |epsilon(x_i, t_i) - epsilon(x_{i+1}(r_i), t_{i+1})|^2,        x_{i+1}(r) = DDIM's step with epsilon(x_i, r t_i),

over states x_i: data noised to t_i ("parallel", where the steps do not know of one another), or rolled from the start through the
steps that are tuned already ("sequential"). The last ratio is 1. That is the change of the direction along the step, 0 where
trajectories are straight; it is not the error of the step, and need not fall with it. What the paper's text asks for, states
like the real ones, is "trajectory": r_i makes |x_{i+1}(r_i) - x_{i+1}^GT|^2 small (`urn.tuning.stepwise`), for any method with
one call a step. The authors take Adam on minibatches; here each number is found on one batch by Brent's method.

Source: Xia, Shen, Lei, Zhou, Yi, Zhao, Wang, Liu 2023, Timestep Aligner, arXiv 2310.09469 (Timestep Tuner, CVPR 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from urn.compiler import compile_plan
from urn.grids import find_grid
from urn.method import Steps, at_least_one, combine, evaluate, number, one_of
from urn.methods import find_method
from urn.nodes import Nodes
from urn.plan import Plan, Register
from urn.schemes.relabelled import relabelled
from urn.tuning.search import CHEAP, Search
from urn.tuning.stepwise import LOOKS, fitted_numbers
from urn.tuning.task import Starts, Task, TuningError
from urn.tuning.trajectories import fine_states, followed, grid_of, remade_plan, starting_states
from urn.tuning.tuners import tuner
from urn.tuning.untuned import GRIDS, plan_within

SOURCE = (
    "Xia, Shen, Lei, Zhou, Yi, Zhao, Wang, Liu 2023, Towards More Accurate Diffusion Model Acceleration with A Timestep "
    "Aligner, arXiv 2310.09469"
)
KINDS = ("trajectory", "sequential", "parallel")


@tuner(source=SOURCE)
def timestep_aligner(
    search: Search,
    kinds: Sequence[str] = KINDS,
    methods: Sequence[str] = ("adams_pc_2", "adams_pc_3", "unipc_2", "ddim"),
    grids: Sequence[str] | None = None,
    kept: int = 3,
    calibration: int = 32,
    width: float = 0.3,
) -> None:
    """Timestep Aligner: labels shown to the network, tuned step by step.

    Options: the `kinds` of tuning, "trajectory", "sequential" and "parallel", of which the last two fit DDIM and are tried on it
    alone; `methods` that call the model at the grid's points; the names of `grids`, those of the untuned plans by default; how
    many of all these, the best without labels of their own, are `kept`, and DDIM on its best grid beside them; how many training
    starts are for `calibration`; and the `width` about 1 in which a ratio is looked for.

    Raises:
        TuningError: the network takes integer times only.
    """
    for kind in kinds:
        one_of("kinds", kind, KINDS)
    for name in methods:
        find_method(name, ("x",))
    at_least_one("kept", kept)
    at_least_one("calibration", calibration)
    number("width", width, 0, 1, ends=False)
    for name in grids or ():
        find_grid(name)
    task = search.task
    if task.model.integer_times:
        raise TuningError("model.integer_times=True: labels between the integers cannot be shown to it")
    starts = task.train.first(min(calibration, len(task.train)))
    few, found = min(CHEAP, len(task.train)), []
    for grid, name in product(grids or GRIDS, dict.fromkeys((*methods, "ddim"))):
        try:
            plan = plan_within(task.model.process, name, task.calls, grid)
        except ValueError:  # a grid that is not for this process
            if grids is not None:
                raise
            continue
        found.append((task.value(plan, few), f"{name}, {grid}", plan, name))
    found.sort(key=lambda one: one[0])
    plain = next(one for one in found if one[3] == "ddim")
    for value, label, plan, name in [*[one for one in found[:kept] if one is not plain], plain]:
        for kind in kinds if name == "ddim" else [kind for kind in kinds if kind == "trajectory"]:
            if search.is_over or value == float("inf"):
                return
            ratios = fitted_labels(task, plan, name, starts, kind, width, search.seed)
            search.try_plan(remade_plan(plan, relabelled(name, ratios)), f"{label}, {kind} labels")


def fitted_labels(
    task: Task, plan: Plan, method: str, starts: Starts, kind: str, width: float = 0.3, seed: int = 0
) -> tuple[float, ...]:
    """The ratio of each step's label to its time.

    Args:
        task: gives the model; it counts the evaluations.
        plan: the method's, on the grid that the ratios are for.
        method: "ddim", or for "trajectory" any method with one call a step, at the grid's points.
        starts: where states are rolled from, or whose samples by a fine plan are noised.
        kind: "trajectory", "sequential" or "parallel".
        width: how far a ratio may be from 1.
        seed: of the noise.
    """
    one_of("kind", kind, KINDS)
    if kind != "trajectory":
        one_of("method", method, ("ddim",))
    process, times = task.model.process, grid_of(plan)
    highest = [float(process.domain[1]) / float(t) for t in times[:-1]]
    if kind == "trajectory":
        return fitted_numbers(task, plan, lambda ratios: relabelled(method, ratios), starts, width, highest=highest)
    x = starting_states(process, float(times[0]), starts)
    ratios: list[float] = []
    with torch.no_grad():
        data = fine_states(task, times, x, starts)[-1] if kind == "parallel" else None
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(x)
        for step in range(len(times) - 2):
            if data is not None:
                x = float(process.alpha(times[step])) * data + float(process.sigma(times[step])) * noise
            two = times[step : step + 2]
            ratios.append(_straightest(task, two, x, starts, 1 - width, min(1 + width, highest[step])))
            if data is None:
                x = followed(task, compile_plan(relabelled("ddim", ratios[-1:]), process, grid=two), x, starts)
    return (*ratios, 1.0)


def _straightest(task: Task, times: Tensor, x: Tensor, starts: Starts, low: float, high: float) -> float:
    def loss(ratio: float) -> float:
        plan = compile_plan(change_of_direction, task.model.process, grid=times, ratio=float(ratio))
        value = float(followed(task, plan, x, starts).double().square().mean())
        return value if value == value else float("inf")

    found: Any = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"maxiter": LOOKS, "xatol": 1e-4})
    return float(found.x) if found.fun < loss(1.0) else 1.0


def change_of_direction(nodes: Nodes, x: Register, ratio: Any = 1.0) -> Steps:
    """epsilon at the end of one DDIM step less epsilon at its start, the step's own read at the label ratio t."""
    cur, next = nodes[0], nodes[1]
    before = yield evaluate(x, cur, "epsilon")
    x0, epsilon = yield evaluate(x, cur, "x0", "epsilon", shown=ratio * cur.t)
    moved = yield combine(next, (next.alpha, x0), (next.sigma, epsilon))
    after = yield evaluate(moved, next, "epsilon")
    return str((yield combine(next, (1.0, after), (-1.0, before))))
