"""Grids over the noise levels that a network was trained at: ComfyUI's schedulers, and those that RES4LYF adds to them.

There a network comes with its levels, s_0 < ... < s_{T-1}, and a scheduler picks from them, or spaces sigmas or the
network's timesteps between the first and the last; s is sigma/alpha, on a flow sigma. Here the process says them:

    a table                     t = 0, 1, ..., T - 1; between two, log s is linear in t; the timestep is t
    Flow(shift)                 t = 1/T, 2/T, ..., 1 with T = `levels` (1000; Flux has 10000); the timestep is t, and s is
                                shift t / (1 + (shift - 1) t)
    VE(sigma_min, sigma_max)    T = `levels` sigmas from sigma_min to sigma_max, even in log sigma, which is the timestep
    any other                   T = `levels` times, even between the ends of `t_finite`; the timestep is t

But for `bong_tangent`, which needs no levels, all end at clean data, sigma = 0 (on VE too). With alpha = 0 at the noisiest
level of a table, s is infinite there: those spaced in s start at the level before it.

Source: comfy/samplers.py and comfy/model_sampling.py of ComfyUI 0.3.64; sigmas.py of RES4LYF (July 2026).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from urn.processes import VE, Flow, Process
from urn.processes.process import check_positive

from .spaced import is_table, to_clean, with_ends


@dataclass(frozen=True)
class Levels:
    """The times that a network was trained at, cleanest first; the first and the last timestep, and its time; clean data."""

    process: Process
    times: Tensor
    first: float
    last: float
    at: Callable[[Tensor], Tensor]
    clean: float

    def sigmas(self, times: Tensor) -> Tensor:
        """s at times of the process."""
        if isinstance(self.process, Flow):
            return self.process.sigma(times)
        return torch.exp(-self.process.lambda_(times))

    def of_sigmas(self, sigmas: Tensor) -> Tensor:
        """The times of some s."""
        if isinstance(self.process, Flow):
            return self.process.t_of_lambda(torch.log1p(-sigmas) - torch.log(sigmas))
        return self.process.t_of_lambda(-torch.log(sigmas))

    def ends(self) -> Tensor:
        """The times of the largest s that is finite and of the smallest."""
        return self.times[[-1 if bool(self.sigmas(self.times[-1]).isfinite()) else -2, 0]]

    def picked(self, places: np.ndarray) -> Tensor:
        """The grid of some of the levels, by their places, and clean data."""
        return self.ended(self.times[torch.from_numpy(places.astype(np.int64))])

    def timed(self, timesteps: Tensor) -> Tensor:
        """The grid of some timesteps, and clean data."""
        times = self.at(timesteps)
        times[0] = self.times[-1]
        return self.ended(times)

    def spaced(self, sigmas: Tensor) -> Tensor:
        """The grid of some s, and clean data; ends that are levels are so exactly."""
        times = self.of_sigmas(sigmas)
        for end in self.ends():
            times = torch.where(sigmas == self.sigmas(end), end, times)
        return self.ended(times)

    def ended(self, times: Tensor) -> Tensor:
        """Times, and clean data."""
        return torch.cat([times, times.new_tensor([self.clean])])


def levels_of(process: Process, name: str, levels: int) -> Levels:
    """The levels of a process, for the grid of that name.

    Raises:
        ValueError: a process with another level per element, or one that starts at a point; levels that is not an integer
            of at least 2.
    """
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
        raise ValueError(f"grid={name!r}: levels={levels!r} must be an integer of at least 2")
    start = process.alpha(process.t_start), process.sigma(process.t_start)
    if start[0].ndim or not bool(torch.stack(start).any()):
        raise ValueError(f"grid={name!r} is made of noise levels from the noisiest on; {process} has none at its start")
    clean, (high, low) = process.domain[0], process.t_finite
    if is_table(process):
        times = torch.arange(round(process.t_start) + 1, dtype=torch.float64)
        return Levels(process, times, process.t_start, 0.0, lambda t: t, clean)
    if isinstance(process, Flow):
        times = torch.arange(1, levels + 1, dtype=torch.float64) / levels
        # ComfyUI reads the smallest sigma as a timestep, which shifts it twice
        return Levels(process, times, 1.0, process.sigma(times[0]).item(), lambda t: t, clean)
    if isinstance(process, VE):
        logs = math.log(high), math.log(low)
        times = torch.exp(torch.linspace(logs[1], logs[0], levels, dtype=torch.float64))
        times[0], times[-1] = low, high
        return Levels(process, times, *logs, torch.exp, clean)
    return Levels(process, torch.linspace(low, high, levels, dtype=torch.float64), high, low, lambda t: t, clean)


def simple(process: Process, steps: int, levels: int = 1000) -> Tensor:
    """Levels at T - 1 - floor(i T / steps) for i = 0 ... steps - 1, then clean data.

    Source: ComfyUI's "simple".
    """
    of = levels_of(process, "simple", levels)
    size = _enough(of, steps, "simple")
    return of.picked(size - 1 - (np.arange(steps) * (size / steps)).astype(int))


def ddim_uniform(process: Process, steps: int, levels: int = 1000) -> Tensor:
    """Levels 1, 1 + d, 1 + 2 d, ... below T with d = floor(T / steps), noisiest first, then clean data.

    Where `steps` does not divide T it has more of them than asked, and it never starts at the noisiest level but for
    d dividing T - 2. ComfyUI's BasicScheduler drops the noisiest of what is too many, its KSampler keeps them, as here.
    Source: ComfyUI's "ddim_uniform".
    """
    of = levels_of(process, "ddim_uniform", levels)
    size = _enough(of, steps, "ddim_uniform")
    return of.picked(np.arange(1, size, size // steps)[::-1].copy())


def normal(process: Process, steps: int, levels: int = 1000) -> Tensor:
    """`steps` timesteps evenly spaced from the noisiest level's to the cleanest's, then clean data.

    On a flow the last is at s(s(1/T)), not s(1/T): ComfyUI takes the smallest sigma for a timestep.
    Source: ComfyUI's "normal".
    """
    of = levels_of(process, "normal", levels)
    return of.timed(torch.linspace(of.first, of.last, steps, dtype=torch.float64))


def sgm_uniform(process: Process, steps: int, levels: int = 1000) -> Tensor:
    """The first `steps` of steps + 1 timesteps evenly spaced from the noisiest level's to the cleanest's, then clean data.

    Source: ComfyUI's "sgm_uniform", after Stability AI's generative-models.
    """
    of = levels_of(process, "sgm_uniform", levels)
    return of.timed(torch.linspace(of.first, of.last, steps + 1, dtype=torch.float64)[:-1])


def karras_clean(process: Process, steps: int, rho: float = 7.0, levels: int = 1000) -> Tensor:
    """`steps` levels with s^(1/rho) evenly spaced from the largest to the smallest, then clean data.

    `karras` with one step fewer and then one to clean data, but on a flow, where s is sigma and not sigma/alpha.
    Source: ComfyUI's "karras"; Karras et al. 2022, arXiv 2206.00364, equation 5.
    """
    check_positive(rho=rho)
    of = levels_of(process, "karras_clean", levels)
    return of.spaced(_between(of, steps, lambda s: s ** (1 / rho), lambda s: s**rho))


def exponential_clean(process: Process, steps: int, levels: int = 1000) -> Tensor:
    """`steps` levels with log s evenly spaced from the largest to the smallest, then clean data.

    `lambda` with one step fewer and then one to clean data, but on a flow, where s is sigma and not sigma/alpha.
    Source: ComfyUI's "exponential".
    """
    of = levels_of(process, "exponential_clean", levels)
    return of.spaced(_between(of, steps, torch.log, torch.exp))


def kl_optimal(process: Process, steps: int, data_std: float = 1.0, levels: int = 1000) -> Tensor:
    """`steps` levels with arctan(s / data_std) evenly spaced from the largest to the smallest, then clean data.

    The grid with which Euler's method has the lowest KL divergence on Gaussian data of that std, before the last step.
    ComfyUI's takes the std to be 1. See `arctan`, which goes evenly to clean data itself.
    Source: Sabour, Fidler, Kreis 2024, Align Your Steps, arXiv 2404.14507, theorem 3.1; ComfyUI's "kl_optimal".
    """
    check_positive(data_std=data_std)
    of = levels_of(process, "kl_optimal", levels)
    return of.spaced(_between(of, steps, lambda s: torch.atan(s / data_std), lambda s: data_std * torch.tan(s)))


def beta_levels(process: Process, steps: int, a: float = 0.6, b: float = 0.6, levels: int = 1000) -> Tensor:
    """Levels at the quantiles 1, 1 - 1/steps, ..., 1/steps of Beta(a, b) times T - 1, rounded, then clean data.

    Repeats are dropped, so it may have fewer steps. See `beta`, which does not round.
    Source: ComfyUI's "beta"; Lee et al. 2024, Beta Sampling is All You Need, arXiv 2407.12173.
    """
    from scipy.special import betaincinv

    check_positive(a=a, b=b)
    of = levels_of(process, "beta_levels", levels)
    quantiles = betaincinv(a, b, 1 - np.linspace(0, 1, steps, endpoint=False))
    places = np.rint(quantiles * (len(of.times) - 1))
    return of.picked(places[np.append(True, places[1:] != places[:-1])])


def beta57(process: Process, steps: int, levels: int = 1000) -> Tensor:
    """`beta_levels` with a = 0.5, b = 0.7. Source: RES4LYF's "beta57"."""
    return beta_levels(process, steps, 0.5, 0.7, levels)


def linear_quadratic(
    process: Process, steps: int, threshold: float = 0.025, linear_steps: int | None = None, levels: int = 1000
) -> Tensor:
    """s falls from the largest by `threshold` of it in `linear_steps` equal steps, then to 0 in ever longer ones.

    With s/s_max = 1 - p, n steps and m linear ones, p_i = i threshold/m up to m, and from there the parabola through
    p_m with the linear part's slope that ends at p_n = 1:

        p_i = i threshold/m + (1 - n threshold/m) ((i - m) / (n - m))^2

    Args:
        threshold: the share of the noise that the linear steps take, between 0 and 1.
        linear_steps: how many those are, 1 to steps - 1; by default half of the steps.

    Source: Genmo 2024, Mochi 1, whose code ComfyUI's "linear_quadratic" follows.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold!r} must be between 0 and 1, and neither")
    of = levels_of(process, "linear_quadratic", levels)
    linear = steps // 2 if linear_steps is None else linear_steps
    if steps > 1 and (isinstance(linear, bool) or not isinstance(linear, int) or not 0 < linear < steps):
        raise ValueError(
            f"linear_steps={linear_steps!r} must be an integer from 1 to {steps - 1}, fewer than the steps"
        )
    i = torch.arange(steps + 1, dtype=torch.float64)
    slope = threshold / max(linear, 1)
    bent = torch.clamp((i - linear) / (steps - linear), min=0)
    shares = 1 - slope * i - (1 - steps * slope) * bent**2
    if not bool((shares.diff() < 0).all()):
        raise ValueError(
            f"threshold={threshold!r} is too large for {linear} linear steps of {steps}: the rest would turn back"
        )
    return of.spaced(of.sigmas(of.ends()[0]) * shares[:-1])


def bong_tangent(
    process: Process,
    steps: int,
    middle: float = 0.5,
    pivot_1: float = 0.6,
    pivot_2: float = 0.6,
    slope_1: float = 0.2,
    slope_2: float = 0.2,
) -> Tensor:
    """Two arctangents end to end: shares of t that fall from 1 to `middle` and from there to 0, each steepest at a pivot.

    With N = steps + 2 points, of which the first M = floor(N (pivot_1 + pivot_2) / 2) are the first arctangent's and the
    join is in both, a stage of m points from share a to b is, with x = 0 ... m - 1,

        b + (a - b) (g(x) - g(m - 1)) / (g(0) - g(m - 1)),    g(x) = -arctan(40 slope / N (x - pivot))

    where the pivots are floor(N pivot_1), and floor(N pivot_2) - M for the second. One step is from 1 to 0. RES4LYF's sigmas
    are these shares whatever the model, as fits a flow without a shift; here they are shares of t, from t_start to t_end.

    Args:
        middle: the share at the join, between 0 and 1.
        pivot_1: where the first is steepest, as a share of the steps; with pivot_2 it says where the join is.
        pivot_2: the same of the second.
        slope_1: how steep the first is there, at 40 points.
        slope_2: the same of the second.

    Source: RES4LYF's "bong_tangent".
    """
    if not 0 < middle < 1:
        raise ValueError(f"middle={middle!r} must be between 0 and 1, and neither")
    check_positive(slope_1=slope_1, slope_2=slope_2)

    def between(first: float, last: float, steps: int) -> Tensor:
        count = steps + 2
        join = int((count * pivot_1 + count * pivot_2) / 2)
        if steps > 1 and not 2 <= join <= count - 2:
            raise ValueError(
                f"pivot_1={pivot_1!r}, pivot_2={pivot_2!r} put the join at point {join} of {count}; each part needs two, "
                "so take pivots nearer to 0.5, or more steps"
            )
        shares = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        if steps > 1:
            high = _tangent(join, slope_1 * 40 / count, int(count * pivot_1), 1.0, middle)
            low = _tangent(count - join, slope_2 * 40 / count, int(count * pivot_2) - join, middle, 0.0)
            shares = torch.cat([high[:-1], low])
        return with_ends(last + (first - last) * shares, first, last)

    return to_clean(process, steps, between)


def _tangent(points: int, slope: float, pivot: int, start: float, end: float) -> Tensor:
    x = torch.arange(points, dtype=torch.float64)
    bent = -torch.atan(slope * (x - pivot))
    return end + (start - end) * (bent - bent[-1]) / (bent[0] - bent[-1])


def _between(of: Levels, steps: int, warp: Callable[[Tensor], Tensor], unwarp: Callable[[Tensor], Tensor]) -> Tensor:
    """`steps` sigmas evenly spaced in a function of s, the ends exactly."""
    largest, smallest = of.sigmas(of.ends())
    ladder = torch.lerp(warp(largest), warp(smallest), torch.linspace(0, 1, steps, dtype=torch.float64))
    sigmas = unwarp(ladder)
    sigmas[-1] = smallest
    sigmas[0] = largest
    return sigmas


def _enough(of: Levels, steps: int, name: str) -> int:
    if steps > len(of.times):
        raise ValueError(f"grid={name!r}: steps={steps} is more than the {len(of.times)} levels of {of.process}")
    return len(of.times)
