"""Tuned labels: what each kind makes small, gains on held-out starts, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from steps_cases import PROCESS, held_out_rms, search_of, task_of

from urn.compiler import compile_plan
from urn.executor import execute
from urn.schemes.relabelled import relabelled
from urn.tuning import TuningError, plan_within
from urn.tuning.trajectories import fine_states, grid_of, remade_plan, starting_states
from urn.tuning.tuners.timestep_aligner import change_of_direction, fitted_labels, timestep_aligner


def test_the_change_of_direction_is_the_papers() -> None:
    """|epsilon(x_{i+1}(r), t_{i+1}) - epsilon(x_i, t_i)| by the exact epsilon, written out."""
    task = task_of(6, 8, "epsilon")
    times = torch.tensor([0.7, 0.5], dtype=torch.float64)
    x = task.train.normals
    model = task.model

    def epsilon(x: torch.Tensor, t: float) -> torch.Tensor:
        return model(x, t=t)[0]

    (a, b), (s, r) = PROCESS.alpha(times), PROCESS.sigma(times)
    tuned = epsilon(x, 0.93 * 0.7)
    moved = b * (x - s * tuned) / a + r * tuned
    expected = epsilon(moved, 0.5) - epsilon(x, 0.7)
    plan = compile_plan(change_of_direction, PROCESS, grid=times, ratio=0.93)
    found = execute(plan, model, {"x": x})["x"]
    assert float((found - expected).abs().max()) < 1e-12


@pytest.mark.parametrize("kind", ["sequential", "parallel"])
def test_labels_make_the_change_of_direction_small(kind: str) -> None:
    """From rolled states, or from a fine plan's ends noised again, no label moved by 1 % is better; the last ratio is 1."""
    task = task_of(6, 16, "epsilon")
    plan = plan_within(PROCESS, "ddim", 6, "quadratic")
    ratios, times = fitted_labels(task, plan, "ddim", task.train, kind), grid_of(plan)
    assert len(ratios) == len(times) - 1
    assert ratios[-1] == 1
    assert all(ratio * float(t) <= 1 for ratio, t in zip(ratios, times[:-1], strict=True))
    assert sum(ratio != 1 for ratio in ratios) >= 3
    x = starting_states(PROCESS, float(times[0]), task.train)
    data = fine_states(task, times, x, task.train)[-1]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = 0
    for step, ratio in enumerate(ratios[:-1]):
        if kind == "parallel":
            x = PROCESS.alpha(times[step]) * data + PROCESS.sigma(times[step]) * noise

        def change(value: float, x: torch.Tensor = x, step: int = step) -> float:
            plan = compile_plan(change_of_direction, PROCESS, grid=times[step : step + 2], ratio=value)
            return float(execute(plan, task.model, {"x": x})["x"].square().mean())

        if 0.72 < ratio < 1.28 and ratio * float(times[step]) < 0.99:
            inside += 1
            assert change(ratio) <= min(change(ratio * 1.01), change(ratio * 0.99)) * (1 + 1e-6)
        one = compile_plan(relabelled("ddim", (ratio,)), PROCESS, grid=times[step : step + 2])
        x = execute(one, task.model, {"x": x})["x"]
    assert inside >= 2


def test_labels_fitted_to_the_trajectory_win_on_held_out_starts() -> None:
    task = task_of(6, predicts="epsilon")
    plan = plan_within(PROCESS, "ddim", 6, "quadratic")
    ratios = fitted_labels(task, plan, "ddim", task.train.first(16), "trajectory")
    tuned = remade_plan(plan, relabelled("ddim", ratios))
    assert held_out_rms(task, tuned) < 0.95 * held_out_rms(task, plan)


def test_wrong_options_and_networks_of_integers_are_refused() -> None:
    task = task_of(5, 8)
    for options, said in (
        ({"kinds": ("other",)}, "kinds="),
        ({"methods": ("no_method",)}, "no_method"),
        ({"width": 1.0}, "width="),
        ({"kept": 0}, "kept="),
    ):
        with pytest.raises(ValueError, match=said):
            timestep_aligner(search_of(task), **options)
    task.model = replace(task.model, integer_times=True)
    with pytest.raises(TuningError, match="integer_times=True"):
        timestep_aligner(search_of(task))
    with pytest.raises(ValueError, match="method="):
        fitted_labels(task, plan_within(PROCESS, "dpmpp_2m", 5), "dpmpp_2m", task.train, "parallel")
