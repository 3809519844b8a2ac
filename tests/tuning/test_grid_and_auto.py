"""Times alone, and the default tuner: IIA, then coefficients, a black-box search where there is nothing to square."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("optuna")

import urn
from urn.exact import Gaussian, GaussianMixture
from urn.processes import VP
from urn.processes.tabulated import linear_betas
from urn.tuning import ToReference, TuningError
from urn.tuning.least_squares import Settings
from urn.tuning.search import Search, open_study
from urn.tuning.task import Task, make_starts
from urn.tuning.tuners.auto import _affordable, _stepwise
from urn.tuning.tuners.grid import Grid, fit_grid, free_of, jumps

MIXTURE = GaussianMixture([0.3, 0.7], [[2.0, -1.0], [-1.0, 0.5]], [[0.3, 0.05], [0.1, 0.4]])
PROCESS = VP.linear()
TABLE = VP.from_betas(linear_betas(1000))


def tuned(model: urn.Model, steps: int, **options: Any) -> urn.tuning.Tuned:
    given = {"starts": 64, "held_out": 64, "dtype": torch.float64, **options}
    if "data" not in given:
        given.setdefault("objective", ToReference(60))
    return urn.tune(model, steps, **given)


def search_of(model: urn.Model, calls: int) -> Search:
    parts = [make_starts(model, tuple(range(s, s + 64)), {}, bool(s), torch.float64, "cpu") for s in (0, 64)]
    return Search(Task(model, calls, ToReference(60), *parts), open_study(None, "grid", {}, 0))


@pytest.mark.parametrize("method", ["ddim", "dpmpp_2m", "unipc_2"])
def test_the_times_found_are_as_good_as_nelder_meads_and_stay_in_order(method: str) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    search = search_of(Gaussian([0.7, -0.3], [1.5, 0.2]).model(PROCESS, "v"), 4)
    plain = urn.tuning.plan_within(PROCESS, method, 4, "uniform")
    found = fit_grid(search, plain, method, Settings(iterations=20, part=64, robust=math.inf, ridge=0.0))
    assert found is not None
    assert (found.method, found.nfe) == (plain.method, plain.nfe)
    family = Grid(search.task, plain)

    def value(theta: Any) -> float:
        plan = family.plan(torch.tensor(theta))
        return 10.0 if plan is None else search.task.value(plan)

    least = optimize.minimize(value, family.theta.numpy(), method="Nelder-Mead", options={"maxiter": 150}).fun
    assert search.task.value(plain) > 1.2 * least
    assert search.best.value < 1.02 * least
    times = [float(t) for t in found.times]  # type: ignore[arg-type]
    assert times == sorted(times, reverse=True)
    assert (times[0], times[-1]) == (plain.times[0], plain.times[-1])


def test_after_a_jump_the_last_time_is_free_too() -> None:
    plain = urn.tuning.plan_within(PROCESS, "dpmpp_2m", 5, "lambda")
    assert jumps(plain)
    assert free_of(plain) == [1, 2, 3, 4]
    direct = urn.tuning.plan_within(PROCESS, "dpmpp_2m", 5, "uniform")
    assert free_of(direct) == [1, 2, 3, 4]


def test_no_call_goes_below_the_times_that_networks_know() -> None:
    model = MIXTURE.model(TABLE, "epsilon")
    search = search_of(model, 5)
    family = Grid(search.task, urn.tuning.plan_within(TABLE, "ddim", 5, "quadratic"))
    for shift in (-30.0, 0.0, 9.0):
        plan = family.plan(family.theta + torch.tensor([0.0, 0.0, 0.0, shift], dtype=torch.float64))
        assert plan is not None
        assert float(plan.times[-2]) >= 0  # type: ignore[arg-type]
        assert plan.times[-1] == -1


def test_the_differences_are_the_derivative() -> None:
    """Beside central ones with a far smaller step."""
    search = search_of(MIXTURE.model(PROCESS, "v"), 4)
    family = Grid(search.task, urn.tuning.plan_within(PROCESS, "dpmpp_2m", 4, "uniform"))
    plan = family.plan(family.theta)
    assert plan is not None
    found = family.derivatives(family.theta, plan, search.task.train)
    for place in range(len(found)):
        move = 1e-6 * torch.eye(len(found), dtype=torch.float64)[place]
        ahead, behind = (family.plan(family.theta + sign * move) for sign in (1, -1))
        assert ahead is not None
        assert behind is not None
        slope = (search.task.run(ahead, search.task.train) - search.task.run(behind, search.task.train)) / 2e-6
        assert float((found[place] - slope).norm() / slope.norm()) < 0.02


def test_auto_fits_iia_and_then_the_coefficients_of_the_best_so_far() -> None:
    """On the two grids on which the best untuned plans are; without it, from these plans."""
    _, record = tuned(MIXTURE.model(PROCESS, "v"), 4, iterations=8, plans=2, most_gain=math.inf)
    untuned = sorted((value, label) for label, _, value, *_ in record.tried if ":" not in label and "fit" not in label)
    stepwise = [
        label for label, *_ in record.tried if label.startswith("iia_ddim") and "fitted to the trajectory" in label
    ]
    grids = list(dict.fromkeys(label.split(", ")[1] for _, label in untuned))[:2]
    assert stepwise == [f"iia_ddim, {grid}, fitted to the trajectory" for grid in grids]
    by_value = sorted((value, label) for label, _, value, *_ in record.tried if ":" not in label)
    fitted = {label.split(", iteration")[0] for label, *_ in record.tried if ":" in label}
    assert fitted == {f"coefficients: {label}" for _, label in by_value[:2]}
    assert by_value[0][1] in stepwise
    assert record.returned == "tuned"
    assert record.gain > 1.5
    _, without = tuned(MIXTURE.model(PROCESS, "v"), 4, iterations=8, plans=2, stepwise=0)
    assert not any(label.startswith("iia_ddim") for label, *_ in without.tried)
    fitted = {label.split(", iteration")[0] for label, *_ in without.tried if ":" in label}
    assert fitted == {f"coefficients: {label}" for _, label in untuned[:2]}


def test_auto_leaves_iia_out_where_it_would_take_most_of_the_evaluations() -> None:
    """Twice a fit, with the run that measures it, must be left after the reference and the untuned plans."""
    one = 4 * (32 * 13 + 64)
    for left, count in ((2 * one - 1, 0), (2 * one, 1), (3 * one - 1, 1), (3 * one, 2)):
        search = search_of(MIXTURE.model(PROCESS, "v"), 4)
        assert search.task.train_target is not None
        before = search.task.evaluations
        search.evaluations = before + left
        _stepwise(search, 2)
        assert [one.label.split(", ")[0] for one in search.tried] == ["iia_ddim"] * count
        assert search.task.evaluations <= before + count * one  # a grid that ends with a jump has a step less


def test_a_search_that_goes_on_does_not_fit_iia_again() -> None:
    search = search_of(MIXTURE.model(PROCESS, "v"), 4)
    _stepwise(search, 1)
    spent = search.task.evaluations
    _stepwise(search, 1)
    assert (search.task.evaluations, len(search.tried)) == (spent, 1)
    _stepwise(search, 2)
    assert search.task.evaluations > spent


def test_auto_of_a_model_without_gradients_fits_grids_alone() -> None:
    exact = MIXTURE.model(PROCESS, "v")

    def opaque(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            return exact.net(x, t)

    _, record = tuned(urn.Model(opaque, PROCESS, "v", shape=(2,)), 4)
    kinds = {label.split(":")[0] for label, *_ in record.tried if ":" in label}
    assert kinds == {"grid"}
    assert record.gain >= 1


def test_auto_for_whole_times_shows_whole_times() -> None:
    """IIA, other integers, and then the weights alone."""
    exact = MIXTURE.model(TABLE, "epsilon")
    shown = set()

    def whole(x: Tensor, t: Tensor) -> Tensor:
        shown.update(torch.as_tensor(t).flatten().tolist())
        return exact.net(x, t)

    model = urn.Model(whole, TABLE, "epsilon", shape=(2,), integer_times=True)
    plan, record = tuned(model, 5, black_box=15)
    assert all(t == round(t) for t in shown)
    kinds = {label.split(":")[0] for label, *_ in record.tried if ":" in label or label.startswith("iia_ddim")}
    assert kinds >= {"black box", "coefficients", "iia_ddim, trailing, fitted to the trajectory"}
    assert all(float(t) == round(float(t)) for t in plan.times)  # type: ignore[arg-type]
    assert record.tuned.label.startswith("coefficients")
    assert record.gain > 1.2
    assert record.tuned.held_out.median < record.untuned.held_out.median / 2  # type: ignore[operator]
    with pytest.raises(TuningError, match="integer_times=True"):
        tuned(model, 5, tuner="grid")
    with pytest.raises(TuningError, match="integer_times=True"):
        tuned(model, 5, tuner="surrogate", inner="coefficients", samples=32, components=2)


def test_auto_for_whole_times_without_gradients() -> None:
    exact = MIXTURE.model(TABLE, "epsilon")

    def opaque(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            return exact.net(x, t)

    _, record = tuned(urn.Model(opaque, TABLE, "epsilon", shape=(2,), integer_times=True), 5, black_box=5)
    assert not any(label.startswith("coefficients") for label, *_ in record.tried)
    assert record.gain >= 1


def test_coefficients_do_not_begin_where_errors_are_multiplied() -> None:
    """One of IIA's two plans does, which are the best here; with a bound below all gains, all are begun at again."""
    begun = {}
    for bound in (math.inf, 4.0, 0.1):
        _, record = tuned(MIXTURE.model(PROCESS, "v"), 4, iterations=1, plans=2, most_gain=bound)
        labels = [label for label, *_ in record.tried if label.startswith("coefficients") and "iteration 0" in label]
        begun[bound] = {label: float(label.rsplit(" ", 1)[1]) for label in labels}
    assert begun[math.inf] == begun[0.1]
    assert max(begun[math.inf].values()) > 4.0 >= max(begun[4.0].values())
    assert len(begun[4.0]) == 2


def test_a_jacobian_of_large_samples_is_of_fewer_starts() -> None:
    """64 starts of 5 calls fit in memory; at a million coordinates 32 are taken, however few would fit."""
    search = search_of(MIXTURE.model(PROCESS, "v"), 5)
    assert _affordable(search, 1024, True) == (None, 64)
    search.task.train.normals = torch.zeros(64, 1).expand(64, 1 << 20)
    assert _affordable(search, 1024, True) == (None, 32)
    search.task.train.normals = torch.zeros(64, 1).expand(64, (1 << 27) // (24 * 48))
    assert _affordable(search, 1024, True) == (None, 48)


def test_auto_for_data_starts_from_the_reference_and_judges_by_the_data() -> None:
    data = MIXTURE.sample(256, 3)
    _, record = tuned(MIXTURE.model(PROCESS, "v"), 4, data=data, black_box=6, iterations=6, plans=1)
    kinds = {label.split(":")[0] for label, *_ in record.tried if ":" in label}
    assert kinds >= {"coefficients", "black box"}
    assert record.objective == "energy distance to data"
    assert record.tuned.train.estimate <= record.untuned.train.estimate


@pytest.mark.parametrize(
    ("tuner", "options", "said"),
    [
        ("grid", {"pairs": 0}, "pairs=0 must be an integer of at least 1"),
        ("grid", {"iterations": 2.5}, r"iterations=2\.5 must be"),
        ("auto", {"black_box": 0}, "black_box=0 must be"),
        ("auto", {"plans": True}, "plans=True must be"),
        ("auto", {"stepwise": -1}, "stepwise=-1 must be"),
        ("auto", {"most_gain": 0}, "most_gain=0 must be positive"),
        ("auto", {"robust": 0}, "robust=0 must be positive"),
    ],
)
def test_bad_options_are_refused(tuner: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tuned(MIXTURE.model(PROCESS, "v"), 3, tuner=tuner, starts=8, held_out=8, **options)
