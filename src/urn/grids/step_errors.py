"""What a method does in one step between any two of some times, on Gaussian data, and what the exact flow does.

With data of variance v along an axis, x_t has variance M = alpha^2 v + sigma^2 there, the exact flow multiplies it by
sqrt(M_next / M_cur), and a deterministic method by a number of its own, which comes out of one run of its plan: a time per
frame makes all pairs of times one plan, and the axes are its batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from urn.processes import Process
from urn.processes.process import Times, components_of, is_between, with_side_input


def check_ordinary(process: Process, name: str) -> None:
    """Refuse a process whose states are not alpha x0 + sigma epsilon with one time for all.

    Raises:
        ValueError: naming the grid.
    """
    ordinary = len(components_of(process)) == 1 and with_side_input(process) is None and not is_between(process)
    if not ordinary or process.alpha(process.t_start).ndim:
        raise ValueError(f"grid={name!r} is computed for x = alpha x0 + sigma epsilon; {process} is another kind")


def total_variances(process: Process, times: Times, variances: Tensor) -> Tensor:
    """M = alpha^2 v + sigma^2, (..., K) for times (...) and variances (K,)."""
    alpha, sigma = process.alpha(times)[..., None], process.sigma(times)[..., None]
    return alpha**2 * variances + sigma**2


def step_gains(process: Process, times: Tensor, variances: Tensor, method: Any, name: str, **options: Any) -> Tensor:
    """What one step of the method multiplies each axis by, (N, N, K) at [cur, next, axis]; 0 where next is not later.

    Raises:
        ValueError: a method that draws noise, or looks back on earlier steps, or divides its steps by their number.
        PlanError: the method has no plan for a step between two of the times.
    """
    from urn.compiler import as_method  # the compiler imports the grids

    chosen = as_method(method, options)
    if chosen.stochastic:
        raise ValueError(f"grid={name!r} is computed for a deterministic method; method={chosen.name!r} draws noise")
    count = len(times)
    cur, next = torch.triu_indices(count, count, 1)
    gains = torch.zeros(count, count, len(variances), dtype=torch.float64)
    # a method may treat a step from alpha = 0 or to sigma = 0 in another form, which is chosen for a whole plan
    from_noise = process.alpha(times[cur]) == 0
    to_clean = process.sigma(times[next]) == 0
    for start, end in ((False, False), (True, False), (False, True), (True, True)):
        if bool((these := (from_noise == start) & (to_clean == end)).any()):
            pairs = torch.stack([times[cur[these]], times[next[these]]])
            gains[cur[these], next[these]] = _run(process, pairs, variances, chosen, options)
    if count > 2:
        _check_alone(process, times, variances, chosen, options, gains, name)
    return gains


def _run(process: Process, times: Tensor, variances: Tensor, method: Any, options: Any) -> Tensor:
    """The factors of a plan on times (steps + 1, P), (P, K)."""
    from urn.compiler import compile_plan
    from urn.executor import execute
    from urn.model import Model

    v = variances[:, None]

    def net(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = process.alpha(t), process.sigma(t)
        gain = x / (alpha**2 * v + sigma**2)
        return alpha * v * gain, sigma * gain

    plan = compile_plan(method, process, grid=times, **options)
    model = Model(net, process, predicts=("x0", "epsilon"))
    start = torch.ones(len(variances), times.shape[1], dtype=torch.float64)
    made: Tensor = execute(plan, model, {"x": start})["x"]
    return made.T


def _check_alone(
    process: Process, times: Tensor, variances: Tensor, method: Any, options: Any, gains: Tensor, name: str
) -> None:
    """Refuse a method of which two steps are not one step twice."""
    last = len(times) - 1
    middle = last // 2
    both = _run(process, times[[0, middle, last], None], variances, method, options)[0]
    if not torch.allclose(both, gains[0, middle] * gains[middle, last], rtol=1e-9, atol=1e-12):
        raise ValueError(
            f"grid={name!r} is computed from single steps; method={method.name!r} looks back on earlier ones, or divides "
            "them by their number: take the one-step method of its kind, such as 'ddim'"
        )
