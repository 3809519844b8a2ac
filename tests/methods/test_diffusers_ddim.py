"""DDIM, DDPM and the inverse of the installed diffusers."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from methods_cases import (
    MIXTURE,
    compiled,
    exact_states,
    fitted,
    gap,
    normals,
    rms,
    run,
)
from methods_diffusers import drive, float64
from methods_diffusers_pairs import (
    CLEAN,
    EXACT,
    KEEP,
    TABLE,
    table_pair,
)
from torch import Tensor

import urn
from urn.conformance.targets import exact_end
from urn.method import combine, evaluate
from urn.processes import VP


def minus_a_ratio(steps: int) -> Any:
    """DDIM to t - T // N, and then on from there as if it were the grid's next time."""

    def method(nodes, x):
        for cur, _ in nodes.steps():
            x0, epsilon = yield evaluate(x, cur, "x0", "epsilon")
            t = torch.clamp(cur.t - 1000 // steps, min=-1.0)
            reached = nodes.at(t)
            x = yield combine(nodes[cur.index + 1], (reached.alpha, x0), (reached.sigma, epsilon))
        return x

    return method


@pytest.mark.parametrize(("spacing", "steps"), [("linspace", 10), ("linspace", 50), ("trailing", 30), ("trailing", 7)])
def test_ddim_steps_beside_its_own_grid(spacing: str, steps: int) -> None:
    settings = CLEAN | KEEP | {"timestep_spacing": spacing}
    assert gap(*table_pair("DDIM", steps, minus_a_ratio(steps), **settings)) < EXACT
    y, expected = table_pair("DDIM", steps, "ddim", **settings)
    assert gap(y, expected) > 1e-3


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_ddim_beside_its_grid_does_not_converge(spacing: str) -> None:
    """With 600 of 1000 steps it ends 400 steps of the table short of where its network believes it to be."""
    there, here = [], []
    for steps in (100, 300, 600):
        with float64(diffusers.DDIMScheduler):
            scheduler = diffusers.DDIMScheduler(**TABLE, **KEEP, timestep_spacing=spacing)
            scheduler.set_timesteps(steps)
            process = VP.from_betas(scheduler.betas)
            times = torch.cat([scheduler.timesteps.double(), torch.tensor([-1.0])])
            x, end = exact_states(process, float(times[0]), -1.0)
            y = drive(scheduler, lambda y, t, p=process: MIXTURE.prediction(y, p, t, "epsilon"), x)
        there.append(rms(y - end))
        here.append(rms(run(compiled("ddim", process, times), x) - end))
    assert there[1] > 1.5 * there[0]
    assert there[2] > 3 * there[1]
    assert here[0] > 2 * here[1] > 2.5 * here[2]


@pytest.mark.parametrize(("spacing", "offset"), [("trailing", 0), ("leading", 1)])
def test_ddpm_with_the_large_variance_leaves_noise_in_its_last_sample(spacing: str, offset: int) -> None:
    """It leaves the noise of a last step out where t = 0, not where the step ends at clean data."""
    config = {"timestep_spacing": spacing, "steps_offset": offset, "variance_type": "fixed_large"}
    y, expected = table_pair("DDPM", 10, "ddpm_large", **(CLEAN | KEEP | config))
    last = 99.0 if spacing == "trailing" else 1.0
    sigma = VP.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).sigma(last)
    assert gap(y, expected + sigma * normals(10)[9]) < EXACT
    assert float(sigma) > (0.3 if spacing == "trailing" else 0.03)


def test_ddpms_fixed_large_log_is_nan() -> None:
    y, _ = table_pair("DDPM", 10, "ddpm_large", **(CLEAN | KEEP | {"variance_type": "fixed_large_log"}))
    assert bool(y.isnan().any())


def inverse(spacing: str, steps: int, target: Any, shown: str) -> tuple[Tensor, Tensor, Any, Tensor]:
    """DDIMInverse from clean data, the network shown the "next" time as pipelines do, or the one of its state, "cur"."""
    cls = diffusers.DDIMInverseScheduler
    with float64(cls):
        scheduler = cls(**TABLE, clip_sample=False, timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        process = VP.from_betas(scheduler.betas)
        grid = torch.cat([torch.tensor([-1.0]), scheduler.timesteps.double()])
        at = dict(zip(scheduler.timesteps.tolist(), (grid[1:] if shown == "next" else grid[:-1]).tolist(), strict=True))
        x = target.sample(12, 3)
        y = drive(scheduler, lambda y, t: target.prediction(y, process, at[t], "epsilon"), x)
    return x, y, process, grid


def shown_the_next_time(nodes, x):
    """DDIM that calls its network on x at cur with the next time, an epsilon network's answer taken as it is."""
    for cur, next in nodes.steps():
        epsilon = yield evaluate(x, cur, "epsilon", shown=next.t)
        x = yield combine(next, (next.alpha / cur.alpha, x), (next.sigma - next.alpha / cur.alpha * cur.sigma, epsilon))
    return x


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_inverse_calls_its_network_a_step_ahead(spacing: str) -> None:
    x, y, process, grid = inverse(spacing, 20, MIXTURE, "next")
    model = MIXTURE.model(process, "epsilon")
    ahead = urn.execute(compiled(shown_the_next_time, process, grid), model, {"x": x})["x"]
    assert gap(y, ahead) < EXACT
    # called where its state is, it is Urn's DDIM on the reversed grid
    x, y, process, grid = inverse(spacing, 20, MIXTURE, "cur")
    assert gap(y, urn.execute(compiled("ddim", process, grid), model, {"x": x})["x"]) < EXACT


def test_ddim_inverse_is_of_order_one_from_either_time() -> None:
    """Called a step ahead, it is nearer to the implicit step that DDIM's inverse would be."""
    errors: dict[str, list[float]] = {"next": [], "cur": []}
    for shown, found in errors.items():
        for steps in (50, 100, 200):
            x, y, process, grid = inverse("leading", steps, MIXTURE, shown)
            found.append(rms(y - exact_end(process, x, -1.0, float(grid[-1]))))
        assert 0.75 < fitted(found, (50, 100, 200)) < 1.3
    assert errors["next"][-1] < errors["cur"][-1]


def test_ddim_inverse_is_off_its_grid_where_steps_do_not_divide_the_table() -> None:
    x, y, process, grid = inverse("trailing", 30, MIXTURE, "cur")
    expected = urn.execute(compiled("ddim", process, grid), MIXTURE.model(process, "epsilon"), {"x": x})["x"]
    assert gap(y, expected) > 1e-3
