"""The space of plans: every untuned plan is in it, parameters and candidates are the same thing, and children stay inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import urn
from urn.conformance.targets import MIXTURE
from urn.processes import VE, VP, Flow, scaled_linear_betas
from urn.tuning import Candidate, Space, untuned_candidates, untuned_plans
from urn.tuning.candidates import HOMOGENEOUS, homogeneous

PROCESSES: dict[str, Any] = {
    "vp": VP.linear(),
    "ve": VE(),
    "flow": Flow(),
    "table": VP.from_betas(scaled_linear_betas(1000)),
}
TABLE = PROCESSES["table"]


def ends(plan: Any) -> torch.Tensor:
    z = torch.randn(16, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = z * float(dict(plan.inputs)["x"].std)
    found: torch.Tensor = urn.execute(plan, MIXTURE.model(plan.process, "v"), {"x": x})["x"]
    return found


@pytest.mark.parametrize("calls", [2, 5])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_every_untuned_plan_that_calls_once_a_step_is_a_candidate(process: Any, calls: int) -> None:
    plans = dict(untuned_plans(process, calls))
    found = dict(untuned_candidates(process, calls))
    wanted = {label for label, plan in plans.items() if not label.startswith("heun") and plan.nfe == calls}
    assert wanted <= set(found)
    for label in wanted:
        one, other = ends(found[label].plan(process)), ends(plans[label])
        assert float((one - other).abs().max() / other.abs().max()) < 1e-11, label


def test_a_candidate_and_its_parameters_are_the_same_thing() -> None:
    rng = np.random.default_rng(0)
    for process in (VP.linear(), VE(), TABLE):
        _, base = next(iter(untuned_candidates(process, 6, ("dpmpp_3m",))))
        space = Space(process, base, labels=0.5)
        for _ in range(30):
            drawn = space.random(rng)
            again = space.candidate(space.parameters(drawn))
            assert again.choices() == drawn.choices()
            assert np.allclose(again.times, drawn.times, rtol=1e-9, atol=1e-12)
            assert set(space.parameters(drawn)) == set(space.distributions())


@pytest.mark.parametrize("integer", [False, True])
def test_children_stay_inside(integer: bool) -> None:
    rng = np.random.default_rng(1)
    process = TABLE if integer else VP.linear()
    candidates = [one for _, one in untuned_candidates(process, 7, whole=integer)]
    space = Space(process, candidates[0], integer=integer, labels=0.0 if integer else 0.3)
    parents = [one for one in candidates if not space.refusal(one)]
    assert len(parents) > 5
    for _ in range(200):
        one, other = (parents[int(i)] for i in rng.integers(len(parents), size=2))
        child = space.mutate(space.cross(one, other, rng), rng, rate=0.3)
        assert space.refusal(child) == ""
        assert all(a > b for a, b in zip(child.times[:-1], child.times[1:], strict=True))
        assert (child.times[0], child.times[-1]) == (space.base.times[0], space.base.times[-1])
        parents.append(child)
    assert child.plan(process).nfe == 7
    assert len({space.vector(one).shape for one in parents}) == 1


def test_mutation_changes_and_crossing_mixes() -> None:
    rng = np.random.default_rng(2)
    times = tuple(float(t) for t in torch.linspace(1, 0, 9))
    one, other = homogeneous("ddim", times, False), homogeneous("deis_3", times, False)
    space = Space(VP.linear(), one)
    changed = [space.mutate(one, rng) for _ in range(40)]
    assert len(set(changed)) > 30
    child = space.cross(one, other, rng)
    assert np.allclose(child.times, times, atol=1e-12)  # between equal grids there is that grid alone
    for mixed, *parents in zip(child.predictions, one.predictions, other.predictions, strict=True):
        assert mixed in parents
    assert set(child.predictions) == {"x0", "epsilon"}


def test_what_is_not_free_stays() -> None:
    rng = np.random.default_rng(3)
    base = homogeneous("unipc_2", (1.0, 0.6, 0.3, 0.1, 0.0), False)
    space = Space(VP.linear(), base, orders=(), predictions=(), differences=(), correctors=(), origins=())
    child = space.mutate(space.random(rng), rng)
    assert child.choices() == base.choices()
    assert child.times != base.times
    grid = Space(VP.linear(), base, times=False)
    assert grid.random(rng).times == base.times
    assert "not free" in grid.refusal(replace(base, times=(1.0, 0.5, 0.3, 0.1, 0.0)))
    assert "predictions[0]" in space.refusal(replace(base, predictions=("epsilon", "x0", "x0", "x0")))


def test_a_label_is_a_share_of_the_way_to_a_neighbour() -> None:
    process, times = VP.linear(), (1.0, 0.5, 0.2, 0.0)
    angles = torch.atan2(process.sigma(torch.tensor(times)), process.alpha(torch.tensor(times)))
    plan = Candidate(times, (1, 1, 1), labels=(0.5, 0.25, -0.5)).plan(process)
    shown = [float(row.t) for row in plan.rows if type(row).__name__ == "Evaluate"]
    assert shown[0] == 1.0  # there is nothing noisier
    found = torch.atan2(process.sigma(torch.tensor(shown)), process.alpha(torch.tensor(shown)))
    assert float(found[1]) == pytest.approx(float(0.75 * angles[1] + 0.25 * angles[0]), abs=1e-6)
    assert float(found[2]) == pytest.approx(float(0.5 * angles[2] + 0.5 * angles[3]), abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"orders": (0,)},
        {"predictions": ("v",)},
        {"differences": ("rho",)},
        {"labels": 0.7},
        {"etas": -1.0},
        {"etas": 1.0, "origins": (0, 1)},
        {"origins": (True,)},
        {"labels": 0.2, "integer": True},
    ],
)
def test_a_bad_choice_names_itself(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(f"{name}=" for name in wrong)):
        Space(TABLE, homogeneous("ddim", (999.0, 500.0, -1.0), False), **wrong)


def test_more_steps_than_integer_times_is_refused() -> None:
    small = VP.from_betas(scaled_linear_betas(4))
    with pytest.raises(ValueError, match="more than the integer times"):
        Space(small, homogeneous("ddim", (3.0, 2.5, 2.0, 1.0, 0.5, -1.0), False), integer=True)


def test_every_lifted_name_is_known() -> None:
    assert set(HOMOGENEOUS) < set(urn.METHODS)
    with pytest.raises(ValueError, match="method='heun'"):
        homogeneous("heun", (1.0, 0.0), False)
