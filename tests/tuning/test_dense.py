"""Any deterministic plan with one call a step as weights of the start and of its predictions, and the method `linear`."""

from __future__ import annotations

import pytest
import torch

import urn
from urn.exact import GaussianMixture
from urn.plan import PlanError
from urn.processes import VE, VP, Flow, Process
from urn.tuning import dense_plan, dense_weights

MIXTURE = GaussianMixture([0.3, 0.7], [[2.0, -1.0], [-1.0, 0.5]], [[0.3, 0.05], [0.1, 0.4]])
PROCESSES = {"VP": VP.linear(), "Flow": Flow(), "VE": VE()}
NAMES = ("ddim", "dpmpp_2m", "dpmpp_3m", "unipc_3", "adams_pc_3", "deis_3", "ipndm", "sa_solver_3", "ghvb_2")


def ends(plan: urn.Plan, process: Process) -> torch.Tensor:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start = x * float(process.prior_std(plan.times[0]))
    found: torch.Tensor = urn.execute(plan, MIXTURE.model(process, "v"), {"x": start})["x"]
    return found


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_its_weights(name: str, process: str) -> None:
    of = PROCESSES[process]
    options = {"tau": 0.0} if name.startswith("sa_solver") else {}
    final = None if process != "VE" else "x0"
    plan = urn.compile_plan(name, of, 7, "lambda" if process == "VE" else "quadratic", final=final, **options)
    if plan.nfe != plan.steps + (final is not None):
        pytest.skip("its start calls more than once a step")
    same = dense_plan(plan)
    assert same.method == "linear"
    assert same.nfe == plan.nfe
    expected = ends(plan, of)
    assert float((ends(same, of) - expected).abs().max()) < 1e-12 * max(1.0, float(expected.abs().max()))


def test_the_weights_on_the_plans_own_times_give_the_plan() -> None:
    process = VP.linear()
    for name in ("dpmpp_2m", "unipc_3", "adams_pc_3"):
        plan = urn.compile_plan(name, process, 6, "uniform")
        same = urn.compile_plan("linear", process, grid=plan.times, weights=dense_weights(plan))
        assert float((ends(same, process) - ends(plan, process)).abs().max()) < 1e-12


@pytest.mark.parametrize("prediction", ["epsilon", "v", "velocity"])
def test_in_another_prediction_too(prediction: str) -> None:
    process = VP.linear()
    plan = urn.compile_plan("unipc_3", process, 6, "uniform")
    same = dense_plan(plan, prediction)
    assert dict(same.options)["prediction"] == prediction
    assert float((ends(same, process) - ends(plan, process)).abs().max()) < 1e-11


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v", "velocity"])
def test_without_weights_linear_is_ddim(process: str, prediction: str) -> None:
    of = PROCESSES[process]
    times = urn.grids.grid_times(of, 6, "lambda")
    ours = urn.compile_plan("linear", of, grid=times, prediction=prediction)
    theirs = urn.compile_plan("ddim", of, grid=times)
    expected = ends(theirs, of)
    assert float((ends(ours, of) - expected).abs().max()) < 1e-10 * max(1.0, float(expected.abs().max()))
    assert ours.order == 1
    assert ours.exact_for == ("point",)


def test_ddims_weights_are_those_of_its_docstring() -> None:
    process = VP.linear()
    plan = urn.compile_plan("ddim", process, 4, "uniform")
    nodes = [(float(process.alpha(t)), float(process.sigma(t))) for t in plan.times]
    for i, row in enumerate(dense_weights(plan)):
        expected = [nodes[i + 1][1] / nodes[0][1]]
        for j in range(i + 1):
            (a, s), (a_next, s_next) = nodes[j], nodes[j + 1]
            kept = nodes[i + 1][1] / s_next if s_next else 1.0
            expected.append(kept * (a_next - a * s_next / s))
        assert row == pytest.approx(expected, abs=1e-13)


def test_labels_are_shown_and_the_nodes_stay() -> None:
    process = VP.linear()
    shown = []

    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        shown.append(float(t[0]))
        return x

    plan = urn.compile_plan("linear", process, 3, "uniform", labels=(0.9, 0.5, 0.2))
    urn.execute(plan, urn.Model(net, process, predicts="x0"), {"x": torch.zeros(1, 2, dtype=torch.float64)})
    assert shown == [0.9, 0.5, 0.2]
    assert plan.order is None
    assert plan.times == urn.compile_plan("ddim", process, 3, "uniform").times


def test_weights_that_carry_gradients_make_a_draft_that_freezes() -> None:
    process = VP.linear()
    plan = urn.compile_plan("dpmpp_2m", process, 3, "uniform")
    rows = dense_weights(plan)
    weights = torch.zeros(3, 4, dtype=torch.float64)
    for i, row in enumerate(rows):
        weights[i, : i + 2] = torch.tensor(row, dtype=torch.float64)
    draft = urn.compile_plan("linear", process, grid=plan.times, weights=weights.requires_grad_())
    frozen = draft.freeze()
    assert frozen.rows == urn.compile_plan("linear", process, grid=plan.times, weights=rows).rows
    assert urn.Plan.from_json(frozen.to_json()) == frozen


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": [[1.0, 0.0]]}, "weights: 1 rows; must be 3 rows"),
        ({"weights": 1.0}, r"weights: 1\.0; must be 3 rows"),
        ({"weights": [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]}, r"weights\[1\]=.* must be 3 finite numbers"),
        ({"weights": [[1.0, float("nan")], [0.0] * 3, [0.0] * 4]}, r"weights\[0\]=.* must be 2 finite numbers"),
        ({"weights": [["a", 1.0], [0.0] * 3, [0.0] * 4]}, r"weights\[0\]=.* must be 2 numbers"),
        ({"weights": torch.ones(3, 4)}, "a prediction has a weight before it is made"),
        ({"weights": torch.zeros(2, 4)}, r"weights of shape \(2, 4\) must be \(3, 4\)"),
        ({"prediction": "score"}, "prediction='score' must be one of x0, epsilon, v, velocity"),
        ({"labels": (1.0, 0.5)}, r"labels=\(1.0, 0.5\) must be 3 finite numbers"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        urn.compile_plan("linear", VP.linear(), 3, "uniform", **options)


def test_plans_that_have_no_such_weights_are_refused() -> None:
    process = VP.linear()
    with pytest.raises(ValueError, match="euler_ancestral draws noise"):
        dense_weights(urn.compile_plan("euler_ancestral", process, 3))
    with pytest.raises(ValueError, match="not one call a step"):
        dense_plan(urn.compile_plan("heun", process, 4, "uniform"))
    with pytest.raises(ValueError, match="plan='ddim' must be a Plan"):
        dense_weights("ddim")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="no finite"):
        urn.compile_plan("linear", Flow(), grid=[1.0, 0.5, 0.0], prediction="epsilon")
