"""Beta sampling: the grid from the quantiles of a Beta(a, b) distribution of t, its two numbers searched.

    t_k = t_end + (t_start - t_end) F^-1_{a,b}(1 - k/steps)

The method stays as it is; a = b = 1 is the uniform grid, and a, b < 1 the paper's, dense at both ends. What they should be
is read from how the clean prediction changes along a fine trajectory: with E_f(t) the energy of the change of its Fourier
coefficients in the band of frequencies f,

    density(t) = mean over f of E_f(t) / sum_t E_f(t),

each band counting the same, as low frequencies have most of the energy; and Beta(a, b) has its mean and variance. Samples
that are no images have one band. The search begins there, at the paper's (0.6, 0.6) and at (1, 1), and goes on by TPE in
(log a, log b).

Source: Lee, Lee, Gye, Kim 2024, Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models
using Stepwise Spectral Analysis, arXiv 2407.12173.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.arithmetic import weighted_sum
from urn.compiler import compile_plan
from urn.executor import execute
from urn.grids import beta as beta_grid
from urn.grids import rounded
from urn.methods import find_method
from urn.plan import Evaluate, Plan, PlanError, Row
from urn.prediction import as_tensor
from urn.tuning.arguments import check_settings
from urn.tuning.search import Search
from urn.tuning.task import Starts, Task
from urn.tuning.tuners import tuner
from urn.tuning.untuned import METHODS, plan_within

SOURCE = "Lee, Lee, Gye, Kim 2024, Beta Sampling is All You Need, arXiv 2407.12173"
LOW, HIGH = 0.2, 3.0  # of a and of b
ROUNDING = 1e-12  # of all energy, up to which a band has none
PUBLISHED, UNIFORM = (0.6, 0.6), (1.0, 1.0)


@tuner(source=SOURCE)
def beta(search: Search, method: str | None = None, most: int = 60, fine: int = 50, looked: int = 32) -> None:
    """The two numbers of a grid of Beta quantiles, from the spectrum of the change along a trajectory, then searched.

    Args:
        method: the method; by default that of the best untuned plan.
        most: pairs (a, b) tried.
        fine, looked: steps of the trajectory that is looked at, and how many starts it has.
    """
    import optuna

    check_settings(most=most, fine=fine, looked=looked)
    if fine < 2:
        raise ValueError(f"fine={fine!r} must be at least 2: a change is between two predictions")
    if method is not None:
        find_method(method)
    chosen = method or search.best_untuned.label.split(", ")[0]
    if chosen not in METHODS and method is None:
        chosen = "ddim"  # the best is a plan of the user's own
    study = search.study
    distributions: dict[str, Any] = {
        name: optuna.distributions.FloatDistribution(LOW, HIGH, log=True) for name in ("a", "b")
    }
    born = len([one for one in study.get_trials(deepcopy=False) if "a" in one.params])
    study.sampler = optuna.samplers.TPESampler(seed=search.seed + born, n_startup_trials=8)
    first = [] if born else [spectral_prior(search.task, fine, looked), PUBLISHED, UNIFORM]
    if first:
        search.notes["spectral (a, b)"] = [round(value, 3) for value in first[0]]
    while not search.is_over and born < most:
        trial = search.ask(distributions, dict(zip(("a", "b"), first.pop(0), strict=True)) if first else None)
        born += 1
        a, b = trial.params["a"], trial.params["b"]
        plan = beta_plan(search.task, chosen, a, b)
        if plan is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        search.try_plan(plan, f"{chosen}, beta({a:.3f}, {b:.3f})", trial=trial)


def beta_plan(task: Task, method: str, a: float, b: float) -> Plan | None:
    """A method on the grid of Beta(a, b); None where times fall together."""
    grid: Any = partial(beta_grid, a=a, b=b)
    if task.model.integer_times:
        grid = rounded(grid)
    try:
        return plan_within(task.model.process, method, task.calls, grid)
    except (PlanError, ValueError):
        return None


def spectral_prior(task: Task, fine: int = 50, looked: int = 32) -> tuple[float, float]:
    """The Beta(a, b) with the mean and the variance of where, in t, the clean prediction's spectrum changes; within the
    bounds of the search."""
    times, changes = x0_changes(task, task.train.first(looked), fine)
    return fitted_beta(times, density(changes))


def x0_changes(task: Task, starts: Starts, steps: int) -> tuple[Tensor, Tensor]:
    """How the clean prediction changes along DDIM: times in [0, 1], 0 at the data end, (K,), and changes (B, K, *S)."""
    process = task.model.process
    grid: Any = "uniform"
    plan = compile_plan("ddim", process, steps, rounded(grid) if task.model.integer_times else grid)
    seen: list[tuple[float, Tensor]] = []

    def look(row: Row, registers: Mapping[str, Any]) -> None:
        if isinstance(row, Evaluate):
            x0 = next(out for out, wanted in row.outs if wanted == "x0")
            seen.append((float(as_tensor(row.t)), registers[x0]))

    x = weighted_sum(((dict(plan.inputs)["x"].std, "z"),), {"z": starts.normals})
    with torch.no_grad():
        execute(plan, task.model, {"x": x}, conditioning=starts.conditioning, watch=look)
    task.evaluations += plan.nfe * len(starts)
    first, last = float(as_tensor(process.t_start)), float(as_tensor(process.t_end))
    shares = torch.tensor([(t - last) / (first - last) for t, _ in seen], dtype=torch.float64)
    return (shares[1:] + shares[:-1]) / 2, torch.stack([x0 for _, x0 in seen], 1).diff(dim=1).double()


def density(changes: Tensor) -> Tensor:
    """Where changes (B, K, *S) happen, (K,) of sum 1, every radial band of frequencies counting the same."""
    if changes.ndim >= 4 and min(changes.shape[-2:]) > 1:
        energies = torch.fft.fft2(changes).abs().square()
        rows, columns = (torch.fft.fftfreq(size, 1 / size) for size in changes.shape[-2:])
        radii = torch.hypot(rows[:, None], columns[None]).round().to(energies.device)
        bands = [energies[..., radii == r] for r in sorted(set(radii.flatten().tolist()))]
    else:
        bands = [changes.square()]
    summed = [band.flatten(2).sum((0, 2)).cpu() for band in bands]
    least = ROUNDING * float(torch.stack(summed).sum())
    return torch.stack([one / one.sum() for one in summed if float(one.sum()) > least]).mean(0)


def fitted_beta(shares: Tensor, weights: Tensor) -> tuple[float, float]:
    """The Beta with the mean m and variance v of weighted numbers in [0, 1]: a = m (m (1 - m)/v - 1), b = (1 - m) a/m."""
    m = float((weights * shares).sum())
    v = float((weights * (shares - m) ** 2).sum())
    size = max(m * (1 - m) / max(v, 1e-12) - 1, 1e-12)
    return tuple(min(max(value * size, LOW), HIGH) for value in (m, 1 - m))  # type: ignore[return-value]
