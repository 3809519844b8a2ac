"""ComfyUI's and RES4LYF's grids against their formulas, written out in NumPy on the sigmas that a ComfyUI model has."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from core_cases import PROCESSES
from scipy.stats import beta as beta_distribution

from urn import grids
from urn.grids import GRIDS, grid_times
from urn.processes import VE, VP, Bridge, Flow, Tabulated, linear_betas, scaled_linear_betas

TRAINED = ("simple", "normal", "sgm_uniform", "ddim_uniform", "karras_clean", "exponential_clean", "kl_optimal")
TRAINED += ("beta_levels", "beta57", "linear_quadratic")
TABLE = VP.from_betas(scaled_linear_betas(1000))
FLUX = Flow(math.exp(1.15))
HOSTS = {
    "stable diffusion": (TABLE, 1000),
    "table of 100": (VP.from_betas(linear_betas(100)), 1000),
    "flow": (Flow(), 1000),
    "flow, shift 3": (Flow(3.0), 1000),
    "flux": (FLUX, 10000),
    "edm": (VE(0.002, 80.0), 1000),
}
STEPS = (1, 2, 3, 7, 20, 30, 64, 100)


def sigmas_of(process, times):
    """ComfyUI's sigma at times of a process."""
    return (process.sigma(times) / (1 if isinstance(process, Flow) else process.alpha(times))).numpy()


class Host:
    """The levels and the conversions that a ComfyUI model has, by its own formulas."""

    def __init__(self, process, levels):
        if isinstance(process, Tabulated):
            squared = np.array(process.alphas_cumprod)
            self.sigmas = np.sqrt((1 - squared) / squared)
            self.ends = (len(squared) - 1.0, 0.0)
            self.sigma = lambda t: np.exp(np.interp(t, np.arange(len(squared)), np.log(self.sigmas)))
        elif isinstance(process, Flow):
            self.sigma = lambda t: process.shift * t / (1 + (process.shift - 1) * t)
            self.sigmas = self.sigma(np.arange(1, levels + 1) / levels)
            self.ends = (self.sigmas[-1], self.sigmas[0])  # timestep(sigma) = sigma, whatever the shift
        else:
            self.sigmas = np.geomspace(process.sigma_min, process.sigma_max, levels)
            self.sigma = np.exp
            self.ends = (np.log(process.sigma_max), np.log(process.sigma_min))


def ladder(n, first, last, warp, unwarp):
    return [unwarp(warp(first) + (warp(last) - warp(first)) * (i / (n - 1) if n > 1 else 0)) for i in range(n)]


def published(name, host, n):
    s, count = host.sigmas, len(host.sigmas)
    high, low = s[-1], s[0]
    if name == "simple":
        return [s[-(1 + int(i * count / n))] for i in range(n)]
    if name == "ddim_uniform":
        return [s[i] for i in range(1, count, max(count // n, 1))][::-1]
    if name == "normal":
        return host.sigma(np.linspace(*host.ends, n))
    if name == "sgm_uniform":
        return host.sigma(np.linspace(*host.ends, n + 1)[:-1])
    if name == "karras_clean":
        return ladder(n, high, low, lambda x: x ** (1 / 7), lambda x: x**7)
    if name == "exponential_clean":
        return ladder(n, high, low, np.log, np.exp)
    if name == "kl_optimal":
        return ladder(n, high, low, np.arctan, np.tan)
    if name in ("beta_levels", "beta57"):
        a, b = (0.6, 0.6) if name == "beta_levels" else (0.5, 0.7)
        places = np.rint(beta_distribution.ppf(1 - np.linspace(0, 1, n, endpoint=False), a, b) * (count - 1))
        return [s[int(place)] for place in dict.fromkeys(places.tolist())]
    half, slope = n // 2, 0.025 / max(n // 2, 1)
    line = [slope * i for i in range(half)]
    if n == 1:
        return [high]
    square = (half - 0.025 * n) / (half * (n - half) ** 2)
    curve = [square * i**2 + (slope - 2 * square * half) * i + square * half**2 for i in range(half, n)]
    return [high * (1 - p) for p in line + curve]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", TRAINED)
def test_grids_are_those_of_comfyui(name, host):
    process, levels = HOSTS[host]
    for steps in STEPS:
        times = grid_times(process, steps, partial(GRIDS[name], levels=levels))
        expected = [*published(name, Host(process, levels), steps), 0.0]
        np.testing.assert_allclose(sigmas_of(process, times), expected, rtol=1e-9, atol=1e-13, err_msg=f"{steps} steps")


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("grid", TRAINED)
def test_grids_fall_strictly_from_the_noisiest_level_to_clean_data(name, grid):
    process = PROCESSES[name]
    for steps in (1, 2, 3, 10, 50):
        if isinstance(process, Tabulated) and steps > len(process.alphas_cumprod):
            continue
        times = grid_times(process, steps, grid)
        assert len(times) == steps + 1 or grid in ("ddim_uniform", "beta_levels", "beta57")
        assert bool((times[1:] < times[:-1]).all())
        assert float(process.sigma(times[-1])) == 0
        if grid != "ddim_uniform":
            in_sigma = grid in ("karras_clean", "exponential_clean", "kl_optimal", "linear_quadratic")
            first = process.t_start if isinstance(process, (Flow, Tabulated)) else process.t_finite[0]
            endless = in_sigma and not isinstance(process, Flow) and float(process.alpha(first)) == 0
            assert float(times[0]) == (first - 1 if endless else first)


def test_karras_and_exponential_are_grids_of_one_step_fewer_and_a_step_to_clean_data():
    for process in (TABLE, VE()):
        for clean, plain in (("karras_clean", "karras"), ("exponential_clean", "exponential")):
            times = grid_times(process, 9, clean)
            np.testing.assert_allclose(times[:-1].numpy(), grid_times(process, 8, plain).numpy(), rtol=1e-9, atol=1e-9)
            assert float(times[-1]) == process.domain[0]


def test_kl_optimal_is_made_for_a_std():
    times = grid_times(VE(0.002, 80.0), 6, partial(grids.kl_optimal, data_std=0.5))
    angles = np.arctan(times.numpy()[:-1] / 0.5)
    np.testing.assert_allclose(np.diff(angles), np.diff(angles).mean(), rtol=1e-9)


def bong(n, middle=0.5, pivot_1=0.6, pivot_2=0.6, slope_1=0.2, slope_2=0.2):
    """RES4LYF's two stages: points of an arctangent, moved and stretched so that their ends are given."""
    n += 2
    cut = int((n * pivot_1 + n * pivot_2) / 2)

    def stage(points, slope, pivot, start, end):
        raw = [(2 / math.pi * math.atan(-slope * (x - pivot)) + 1) / 2 for x in range(points)]
        return [(r - raw[-1]) / (raw[0] - raw[-1]) * (start - end) + end for r in raw]

    high = stage(cut, slope_1 / (n / 40), int(n * pivot_1), 1.0, middle)
    return high[:-1] + stage(n - cut, slope_2 / (n / 40), int(n * pivot_2) - cut, middle, 0.0)


OPTIONS = [{}, {"middle": 0.7}, {"pivot_1": 0.4}, {"pivot_2": 0.3}, {"slope_1": 0.5}, {"slope_2": 0.05}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_bong_tangent_is_res4lyfs(options):
    for steps in (3, 8, 20, 21, 50):
        times = grid_times(Flow(), steps, partial(grids.bong_tangent, **options))
        np.testing.assert_allclose(times.numpy(), bong(steps, **options), rtol=1e-12, atol=1e-15)
    assert grid_times(Flow(), 1, "bong_tangent").tolist() == [1.0, 0.0]
    assert grid_times(Flow(), 2, "bong_tangent").tolist() == [1.0, 0.5, 0.0]
    # elsewhere the same shares of t, which on a table is 0 before it is clean
    shares = np.array(bong(20))
    np.testing.assert_allclose(grid_times(VE(0.002, 80.0), 20, "bong_tangent").numpy(), 0.002 + 79.998 * shares)


def test_linear_quadratic_takes_the_steps_and_the_threshold():
    times = grid_times(Flow(), 10, partial(grids.linear_quadratic, threshold=0.1, linear_steps=4))
    falls = -np.diff(times.numpy())
    np.testing.assert_allclose(falls[:4], 0.025, rtol=1e-12)
    np.testing.assert_allclose(np.diff(falls[4:]), np.diff(falls[4:])[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (partial(grids.simple, levels=1), "levels=1 must be an integer of at least 2"),
        (partial(grids.normal, levels=10.0), r"levels=10\.0 must be an integer of at least 2"),
        (partial(grids.karras_clean, rho=0.0), "rho=0.0 must be a positive finite number"),
        (partial(grids.kl_optimal, data_std=-1.0), "data_std=-1.0 must be a positive finite number"),
        (partial(grids.beta_levels, a=0.0), "a=0.0 must be a positive finite number"),
        (partial(grids.linear_quadratic, threshold=1.0), r"threshold=1\.0 must be between 0 and 1"),
        (partial(grids.linear_quadratic, threshold=0.9), "threshold=0.9 is too large for 5 linear steps of 10"),
        (partial(grids.linear_quadratic, linear_steps=10), "linear_steps=10 must be an integer from 1 to 9"),
        (partial(grids.linear_quadratic, linear_steps=0), "linear_steps=0 must be an integer from 1 to 9"),
        (partial(grids.bong_tangent, middle=1.0), r"middle=1\.0 must be between 0 and 1"),
        (partial(grids.bong_tangent, slope_2=0), "slope_2=0 must be a positive finite number"),
        (
            partial(grids.bong_tangent, pivot_1=0.99, pivot_2=0.99),
            "pivot_1=0.99, pivot_2=0.99 put the join at point 11 of 12",
        ),
    ],
)
def test_options_are_checked(grid, message):
    with pytest.raises(ValueError, match=message):
        grid_times(Flow(), 10, grid)


def test_more_steps_than_levels_and_processes_without_levels():
    for name in ("simple", "ddim_uniform"):
        with pytest.raises(ValueError, match=f"grid='{name}': steps=101 is more than the 100 levels"):
            grid_times(VP.from_betas(linear_betas(100)), 101, name)
    with pytest.raises(ValueError, match=r"grid='simple' is made of noise levels from the noisiest on; .* has none"):
        grid_times(Bridge(VE()), 4, "simple")


def test_the_flows_last_timestep_is_shifted_twice_as_comfyuis():
    times = grid_times(Flow(3.0), 8, "normal")
    once = 3 * 0.001 / 1.002
    assert float(Flow(3.0).sigma(times[-2])) == pytest.approx(3 * once / (1 + 2 * once), rel=1e-12)
    assert torch.equal(times[:1], torch.ones(1, dtype=torch.float64))
