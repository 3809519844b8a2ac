"""Every grid against its published formula and against diffusers, and what its docstring says of its ends."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from core_cases import CASES, PROCESSES, TABLES
from scipy.stats import beta as beta_distribution

from urn import grids
from urn.grids import GRIDS, grid_times
from urn.processes import VE, VP, Flow, Tabulated, scaled_linear_betas

INTEGER = ("trailing", "leading", "linspace")
FINITE_ENDS = ("lambda", "exponential", "karras", "polyexponential", "ays")
TRAINED = ("simple", "normal", "sgm_uniform", "ddim_uniform", "karras_clean", "exponential_clean", "kl_optimal")
TRAINED += ("beta_levels", "beta57", "linear_quadratic")  # see test_grids_trained.py
STABLE_DIFFUSION = VP.from_betas(scaled_linear_betas(1000))


def ratios(process, times):
    """sigma/alpha, which is the sigma of EDM, k-diffusion and diffusers."""
    return (process.sigma(times) / process.alpha(times)).numpy()


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid not in TRAINED])
def test_grids_fall_strictly_between_the_ends_of_their_docstrings(name, grid):
    process = PROCESSES[name]
    if grid in INTEGER and not isinstance(process, Tabulated):
        with pytest.raises(ValueError, match=f"grid='{grid}' is made of a table's integer times"):
            grid_times(process, 4, grid)
        return
    most = len(process.alphas_cumprod) if grid in INTEGER else 50
    every = (1, 2, 3, 7, 50) if grid in ("ays", "gits", "optimal_steps") else range(1, min(50, most) + 1)
    for steps in every:
        times = grid_times(process, steps, grid)
        assert times.dtype == torch.float64
        assert len(times) == steps + 1
        assert bool((times[1:] < times[:-1]).all()), (steps, times)
        assert float(times[-1]) == (process.t_finite[1] if grid in FINITE_ENDS else process.t_end)
        start = process.t_finite[0] if grid in FINITE_ENDS else process.t_start
        assert float(times[0]) == start or grid == "leading"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("steps", [1, 2, 7, 32])
def test_spacings_are_even_in_their_variable(name, steps):
    """Each grid's own variable, computed from its times, is an even ladder."""
    process = CASES[name].process

    def even(values):
        ladder = np.linspace(values[0], values[-1], len(values))
        np.testing.assert_allclose(values, ladder, rtol=0, atol=1e-10 * (abs(ladder).max() + 1e-300))

    def times(grid):
        return grid_times(process, steps, grid)

    def whole(grid):
        """The times of a grid from start to end; to t = 0 on a table, where a last step would start below that."""
        t = times(grid).numpy()
        return t[:-1] if t[-1] == -1 and t[-2] == 0 else t

    def shares(grid):
        t = whole(grid)
        return (t - t[-1]) / (t[0] - t[-1])

    even(whole("uniform"))
    even(np.sqrt(shares("quadratic")))
    even(process.lambda_(times("lambda")).numpy())
    even(ratios(process, times("karras")) ** (1 / 7))
    even(ratios(process, times(partial(grids.karras, rho=3.0))) ** (1 / 3))
    log_ratios = -process.lambda_(times(partial(grids.polyexponential, rho=2.0))).numpy()
    even(np.sqrt(np.clip((log_ratios - log_ratios[-1]) / (log_ratios[0] - log_ratios[-1]), 0, 1)))
    for std in (1.0, 0.5):
        t = whole(partial(grids.arctan, data_std=std))
        even(np.arctan2(process.sigma(t).numpy(), process.alpha(t).numpy() * std))
    even(beta_distribution.cdf(shares("beta"), 0.6, 0.6))


@pytest.mark.parametrize("grid", ["uniform", "quadratic", "arctan", "beta"])
def test_no_network_of_a_table_is_shown_a_time_below_zero(grid):
    """The clean end t = -1 is a node, but nothing is evaluated between it and 0, whatever the number of steps."""
    process = CASES["table linear"].process
    for steps in (1, 2, 8, 31, 32, 33, 200, 1000):
        times = grid_times(process, steps, grid)
        assert len(times) == steps + 1
        assert float(times[-1]) == -1
        assert float(times[-2]) >= 0


def test_names_for_one_grid():
    for process in PROCESSES.values():
        assert torch.equal(grid_times(process, 9, "lambda"), grid_times(process, 9, "exponential"))
        np.testing.assert_allclose(
            grid_times(process, 9, "polyexponential").numpy(), grid_times(process, 9, "lambda").numpy(), rtol=1e-9
        )


def test_karras_and_exponential_are_those_of_diffusers():
    from diffusers import EulerDiscreteScheduler

    peer = EulerDiscreteScheduler()
    last, first = ratios(STABLE_DIFFUSION, torch.tensor([0.0, 999.0], dtype=torch.float64))
    ladder = torch.tensor([first, last], dtype=torch.float64)
    for steps in (1, 7, 30):
        karras = peer._convert_to_karras(ladder, steps + 1)
        np.testing.assert_allclose(
            ratios(STABLE_DIFFUSION, grid_times(STABLE_DIFFUSION, steps, "karras")), karras, rtol=1e-9
        )
        exponential = peer._convert_to_exponential(ladder, steps + 1)
        ours = ratios(STABLE_DIFFUSION, grid_times(STABLE_DIFFUSION, steps, "exponential"))
        np.testing.assert_allclose(ours, exponential, rtol=1e-9)


def test_edm_grid_on_ve_is_equation_five():
    steps, rho, low, high = 18, 7, 0.002, 80.0
    i = np.arange(steps + 1)
    sigmas = (high ** (1 / rho) + i / steps * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    np.testing.assert_allclose(grid_times(VE(low, high), steps, "karras").numpy(), sigmas, rtol=1e-12)


@pytest.mark.parametrize("a", [0.6, 0.9])
def test_beta_grid_is_scipys_quantiles(a):
    for process in (Flow(), VE(), STABLE_DIFFUSION):
        times = grid_times(process, 20, partial(grids.beta, a=a, b=0.6)).numpy()
        quantiles = beta_distribution.ppf(1 - np.linspace(0, 1, 21), a, 0.6)
        np.testing.assert_allclose(
            times, process.t_end + (process.t_start - process.t_end) * quantiles, rtol=1e-8, atol=1e-10
        )


def test_arctan_is_uniform_in_the_angle_of_align_your_steps():
    # on VE with unit data: sigma_i = tan((1 - i/n) arctan sigma_max + (i/n) arctan sigma_min)
    steps, process = 10, VE(0.002, 80.0)
    angle = np.linspace(math.atan(80.0), math.atan(0.002), steps + 1)
    np.testing.assert_allclose(grid_times(process, steps, "arctan").numpy(), np.tan(angle), rtol=1e-11)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_integer_grids_are_those_of_diffusers(spacing):
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(1000, beta_schedule="scaled_linear", timestep_spacing=spacing)
    for steps in [*range(1, 60), 103, 121, 277, 333, 499, 500, 501, 667, 998, 999, 1000]:
        peer.set_timesteps(steps)
        theirs = peer.timesteps.numpy()
        ours = grid_times(STABLE_DIFFUSION, steps, spacing).numpy()
        assert ours[-1] == -1.0
        if spacing == "linspace" and steps == 1:  # diffusers starts its only step at the clean end
            assert list(theirs) == [0]
            assert list(ours) == [999.0, -1.0]
            continue
        # numpy's arange gives diffusers one time too many at some counts, which is -1: no time of the network
        assert len(theirs) == steps or (spacing == "trailing" and theirs[-1] == -1 and len(theirs) == steps + 1)
        np.testing.assert_array_equal(ours[:-1], theirs[:steps], err_msg=f"{steps} steps")


def test_trailing_gives_one_time_a_step_where_numpy_gives_more():
    assert len(np.arange(1000, 0, -1000 / 61)) == 62
    assert len(grid_times(STABLE_DIFFUSION, 61, "trailing")) == 62  # 61 intervals


def test_leading_takes_an_offset():
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(1000, timestep_spacing="leading", steps_offset=1)
    peer.set_timesteps(30)
    ours = grid_times(STABLE_DIFFUSION, 30, partial(grids.leading, offset=1))
    np.testing.assert_array_equal(ours[:-1].numpy(), peer.timesteps.numpy())


@pytest.mark.parametrize("name", TABLES)
def test_integer_grids_can_take_every_time_of_a_table(name):
    table = TABLES[name]
    size = len(table.alphas_cumprod)
    for grid in INTEGER:
        assert grid_times(table, size, grid).tolist() == [*range(size - 1, -1, -1), -1]
        with pytest.raises(ValueError, match=f"steps={size + 1} is more than the {size} integer times"):
            grid_times(table, size + 1, grid)


def test_a_shifted_grid_on_a_flow_is_stable_diffusion_threes():
    from diffusers import FlowMatchEulerDiscreteScheduler

    peer = FlowMatchEulerDiscreteScheduler(shift=3.0)
    peer.set_timesteps(sigmas=np.linspace(1, 0.1, 10).tolist())
    ours = grid_times(Flow(), 10, grids.shifted(3.0)).numpy()
    np.testing.assert_allclose(ours[:-1], peer.sigmas.numpy()[:-1], rtol=1e-6)
    assert ours[-1] == 0.0
    # an even grid on the shifted process is the same points of the same process
    even = grid_times(Flow(3.0), 10, "uniform")
    np.testing.assert_allclose(Flow(3.0).sigma(even).numpy(), ours, rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(
        grid_times(Flow(), 6, grids.shifted(0.5, "quadratic")).numpy(),
        [0.5 * t / (1 - 0.5 * t) for t in (np.arange(6, -1, -1) / 6) ** 2],
        rtol=1e-14,
    )


def test_rounded_grids_are_integers_without_repeats():
    times = grid_times(STABLE_DIFFUSION, 40, grids.rounded("karras"))
    plain = grid_times(STABLE_DIFFUSION, 40, "karras")
    assert times.tolist() == sorted({float(round(t)) for t in plain.tolist()}, reverse=True)
    assert float(times[0]) == 999.0
    crowded = grid_times(STABLE_DIFFUSION, 2000, grids.rounded("uniform"))
    assert crowded.tolist() == [float(t) for t in range(999, -2, -1)]


@pytest.mark.parametrize(
    ("name", "grid"), [("vp linear", "quadratic"), ("flow", "uniform"), ("ve", "karras"), ("table linear", "quadratic")]
)
def test_the_default_grid_of_a_process(name, grid):
    process = PROCESSES[name]
    assert grids.default_grid(process) == grid
    assert torch.equal(grid_times(process, 5), grid_times(process, 5, grid))
