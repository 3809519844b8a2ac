"""Grids computed for a method and a spectrum of data: Align Your Steps, GITS and OptimalSteps, without a network.

Their papers estimate an error from a network's trajectories, and publish the times that came out for some networks. For
Gaussian data the errors are known in closed form along every principal axis (`urn.grids.step_errors`), so the same searches
take about a tenth of a second, for any process, number of steps and one-step method. The data are said by `variances`, those
along the principal axes: `torch.linalg.eigvalsh(torch.cov(flattened.T))` of a data set's samples, or by default photographs'
power law (`urn.grids.natural_spectrum`). A network's own errors in place of these would be another matrix of costs for the same
search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from urn.processes import Process
from urn.processes.process import check_positive

from .checks import check_times
from .spaced import arctan, uniform_lambda
from .spectra import distinct
from .step_errors import check_ordinary, step_gains, total_variances

if TYPE_CHECKING:
    from urn.method import Method

Variances = Sequence[float] | Tensor | np.ndarray[Any, Any] | None


def ays(
    process: Process, steps: int, variances: Variances = None, exponent: float = 2.0, data_std: float = 0.5
) -> Tensor:
    """Align Your Steps: the grid between `t_finite` with the lowest KL divergence of the exact reverse SDE from its steps.

    A step holds the prediction of x0 from its beginning (`dpmpp_1_sde`; the paper's stochastic DDIM). With s = sigma/alpha and
    Girsanov's theorem, a step's divergence is the integral of E|x0(x_s, s) - x0(x_cur, s_cur)|^2 / s^3 ds. On Gaussian data
    that is, over the axes,

        1/2 sum_k (r_k - log(1 + r_k)),    r_k = v_k (s_cur^2 - s_next^2) / (s_next^2 (v_k + s_cur^2))

    The sum over the steps is minimised by dynamic programming over a fine grid, and then by Newton's method over the times.
    It grows without bound as the last s goes to 0, so the grid ends at a small noise, as `karras` does. It is the divergence of
    whole paths, which bounds that of the law at the end from above; at few steps that law is nearer on other grids: on Gaussian
    data of one std with `arctan`.

    Args:
        variances: of the data along their principal axes; by default `natural_spectrum(exponent=..., data_std=...)`.
        exponent: of the power law, where no variances are given.
        data_std: a pixel's std, where no variances are given.

    Raises:
        ValueError: variances that are none, or a process of another kind.

    Source: Sabour, Fidler, Kreis 2024, Align Your Steps, arXiv 2404.14507, theorem 3.1 and section 3.2.

    Example:
        >>> from urn.processes import VE
        >>> ays(VE(0.002, 80.0), 3, variances=[0.25])
        tensor([8.0000e+01, 8.0388e-02, 1.2603e-02, 2.0000e-03], dtype=torch.float64)
    """
    check_ordinary(process, "ays")
    v, counts = distinct(variances, exponent=exponent, data_std=data_std)
    fine = uniform_lambda(process, max(96, 4 * steps))
    lambdas = process.lambda_(fine)
    costs = _step_divergences(lambdas[:, None], lambdas[None, :], v, counts)
    found = _newton(lambdas[cheapest(costs, steps)], v, counts)
    return torch.cat([fine[:1], process.t_of_lambda(found[1:-1]), fine[-1:]])


def gits(
    process: Process,
    steps: int,
    method: str | Method = "ddim",
    variances: Variances = None,
    exponent: float = 2.0,
    data_std: float = 0.5,
    discount: float = 1.0,
    candidates: int = 64,
) -> Tensor:
    """GITS: the grid with the lowest sum of the errors that single steps of the method make, each from the exact flow.

    The error of a step is that of x/alpha at its end, from a start that is exact,

        c(cur, next) = sqrt(sum_k M_cur,k (g_k - sqrt(M_next,k / M_cur,k))^2) / alpha_next

    with g_k what the method multiplies axis k by (`urn.grids.step_errors`), and the grid is the cheapest path through some
    candidates: V(cur) = min c(cur, next) + discount V(next). A discount above 1 counts later steps more.

    Args:
        method: a deterministic one-step method: a name in `urn.METHODS`, or a `Method` with its options chosen.
        variances: of the data along their principal axes; by default `natural_spectrum(exponent=..., data_std=...)`.
        exponent: of the power law, where no variances are given.
        data_std: a pixel's std, where no variances are given; the candidates are the `arctan` grid's of that std.
        discount: the paper's gamma, positive. Its code takes 1.15 for networks; on Gaussian data the whole run's error is
            nearly always lower with 1.
        candidates: intervals of the fine grid that the times are chosen from, at least `steps`.

    Raises:
        ValueError: variances that are none, a method that draws noise or looks back, a process of another kind, or a number
            out of range.

    Source: Chen, Zhou, Wang, Shen, Lyu 2024, On the Trajectory Regularity of ODE-based Diffusion Sampling, arXiv 2405.11326.
    """
    check_positive(discount=discount)
    times, v, counts, gains = _searched(process, steps, "gits", method, variances, exponent, data_std, candidates)
    return times[cheapest(flow_errors(process, times, v, counts, gains), steps, discount)]


def optimal_steps(
    process: Process,
    steps: int,
    method: str | Method = "ddim",
    variances: Variances = None,
    exponent: float = 2.0,
    data_std: float = 0.5,
    candidates: int = 64,
) -> Tensor:
    """OptimalSteps: the grid whose states stay closest to the exact flow's from the same start, found step by step.

    For every number of steps and every candidate time, the state that is nearest to the exact flow there is kept, among one
    step of the method from each state that was kept at an earlier time with one step fewer: E|x - x_exact|^2 from the law at
    the start. Unlike GITS' errors these are the whole run's, but a state that is worse at a time is never kept, even where
    its error would cancel later: on one axis the result is the best of all grids, on several it need not be.

    Args:
        method: a deterministic one-step method: a name in `urn.METHODS`, or a `Method` with its options chosen.
        variances: of the data along their principal axes; by default `natural_spectrum(exponent=..., data_std=...)`.
        exponent: of the power law, where no variances are given.
        data_std: a pixel's std, where no variances are given; the candidates are the `arctan` grid's of that std.
        candidates: intervals of the fine grid that the times are chosen from, at least `steps`.

    Raises:
        ValueError: variances that are none, a method that draws noise or looks back, a process of another kind, or a number
            out of range.

    Source: Pei, Hu, Gu 2025, Optimal Stepsize for Diffusion Sampling, arXiv 2503.21774.
    """
    times, v, counts, gains = _searched(
        process, steps, "optimal_steps", method, variances, exponent, data_std, candidates
    )
    total = total_variances(process, times, v)
    return times[nearest(gains, torch.sqrt(total / total[0]), counts * total[0], steps)]


def flow_errors(process: Process, times: Tensor, variances: Tensor, counts: Tensor, gains: Tensor) -> Tensor:
    """GITS' costs, (N, N) at [cur, next], from the gains of single steps."""
    total = total_variances(process, times, variances)
    missed = torch.sqrt(total)[:, None] * gains - torch.sqrt(total)[None, :]
    return torch.sqrt((counts * missed**2).sum(-1)) / process.alpha(times)


def step_divergence(process: Process, times: Tensor, variances: Variances) -> float:
    """The divergence that `ays` minimises, of a grid's times on Gaussian data of those variances."""
    v, counts = distinct(variances)
    lambdas = process.lambda_(times)
    return float(_step_divergences(lambdas[:-1], lambdas[1:], v, counts).sum())


def cheapest(costs: Tensor, steps: int, discount: float = 1.0) -> Tensor:
    """The places of the cheapest path of `steps` steps from the first to the last of N, for costs (N, N) at [cur, next].

    V_1(cur) = c(cur, last), V_k(cur) = min over next > cur of c(cur, next) + discount V_{k-1}(next).
    """
    count = len(costs)
    later = torch.ones(count, count, dtype=torch.bool).triu(1)
    costs = torch.where(later, costs, torch.inf)
    value, choices = costs[:, -1], []
    for _ in range(steps - 1):
        value, choice = (costs + discount * value).min(1)
        choices.append(choice)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return torch.tensor([*path, count - 1])


def nearest(gains: Tensor, exact: Tensor, weights: Tensor, steps: int) -> Tensor:
    """The places of OptimalSteps' path of `steps` steps, for gains (N, N, K) and the exact flow's factors (N, K) from the start.

    The error of a state's factors f at a place is the sum of weights (f - exact)^2.
    """
    count = len(gains)
    later = torch.ones(count, count, dtype=torch.bool).triu(1)
    states = torch.ones_like(exact)
    reached = torch.zeros(count, dtype=torch.bool)
    reached[0] = True
    choices = []
    for _ in range(steps):
        made = states[:, None] * gains
        errors = (weights * (made - exact) ** 2).sum(-1)
        choice = torch.where(later & reached[:, None], errors, torch.inf).argmin(0)
        reached = (later & reached[:, None]).any(0)
        states = made[choice, torch.arange(count)]
        choices.append(choice)
    path = [count - 1]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return torch.tensor(path[::-1])


def _searched(
    process: Process,
    steps: int,
    name: str,
    method: Any,
    variances: Variances,
    exponent: float,
    data_std: float,
    candidates: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The candidate times, the distinct variances and their counts, and the gains of the method's steps between the times."""
    if isinstance(candidates, bool) or not isinstance(candidates, int) or candidates < steps:
        raise ValueError(f"grid={name!r}: candidates={candidates!r} must be an integer of at least steps={steps}")
    check_positive(data_std=data_std)
    check_ordinary(process, name)
    v, counts = distinct(variances, exponent=exponent, data_std=data_std)
    times = arctan(process, candidates, data_std)
    check_times(process, times)
    return times, v, counts, step_gains(process, times, v, method, name)


def _step_divergences(cur: Tensor, next: Tensor, variances: Tensor, counts: Tensor) -> Tensor:
    """`ays`' divergence of steps between lambdas, summed over the axes; 0 where next is not later."""
    high, low = torch.exp(-2 * cur)[..., None], torch.exp(-2 * next)[..., None]
    r = variances * torch.clamp(high - low, min=0) / (low * (variances + high))
    return (counts * (r - torch.log1p(r))).sum(-1) / 2


def _newton(lambdas: Tensor, variances: Tensor, counts: Tensor) -> Tensor:
    """The inner lambdas of a grid moved to where `ays`' divergence is lowest; a step is halved until it falls."""
    points = lambdas
    value = _step_divergences(points[:-1], points[1:], variances, counts).sum()
    for _ in range(50 if len(points) > 2 else 0):
        gradient, hessian = _slopes(points, variances, counts)
        values, vectors = torch.linalg.eigh(hessian)
        values = values.abs().clamp(min=float(values.abs().max()) * 1e-10)
        move = torch.zeros_like(points)
        move[1:-1] = vectors @ (vectors.T @ gradient / values)
        for halvings in range(40):
            moved = points - move / 2**halvings
            new = _step_divergences(moved[:-1], moved[1:], variances, counts).sum()
            if bool((moved.diff() > 0).all()) and new < value:
                points, value = moved, new
                break
        else:
            break
    return points


def _slopes(points: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (n,) and Hessian (n, n) of the sum of divergences in the inner points: of 1/2 (exp(L) - 1 - L) a step, with
    L = log(1 + r) and slopes -2 v/(v + s_cur^2) in lambda_cur, 2 v/(v + s_next^2) in lambda_next."""
    squares = torch.exp(-2 * points)[:, None]
    share = 2 * variances / (variances + squares)
    bend = share * 2 * squares / (variances + squares)
    high, low = squares[:-1], squares[1:]
    r = variances * (high - low) / (low * (variances + high))
    weight = counts / 2
    first_cur, first_next = (-(weight * r * share[:-1]).sum(-1), (weight * r * share[1:]).sum(-1))
    second_cur = (weight * ((1 + r) * share[:-1] ** 2 - r * bend[:-1])).sum(-1)
    second_next = (weight * ((1 + r) * share[1:] ** 2 + r * bend[1:])).sum(-1)
    mixed = -(weight * (1 + r) * share[:-1] * share[1:]).sum(-1)[1:-1]
    hessian = torch.diag(second_next[:-1] + second_cur[1:]) + torch.diag(mixed, 1) + torch.diag(mixed, -1)
    return first_next[:-1] + first_cur[1:], hessian
