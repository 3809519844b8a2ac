"""Every "equals" of USF, that every choice of every step reaches the plan, and its options' errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods_cases import PROCESSES, assert_does_the_same, assert_same_rows, bent, compiled, gap, run

import urn
from urn.plan import Combine, Evaluate, Plan
from urn.processes import VP

BOTH = ("x0", "epsilon")
EQUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("ddim", {"orders": 1}),
    "ddim in epsilon": ("ddim", {"orders": 1, "predictions": "epsilon"}),
    "dpmpp_2m": ("dpmpp_2m", {"orders": 2, "differences": "halved"}),
    "abnorsett from ddim": ("unip_2", {"orders": 2, "differences": "halved"}),
    "deis_rho_3_ramped": ("deis_rho_3_ramped", {"orders": 3, "predictions": "epsilon", "differences": "ratio"}),
    "deis_rho_4_ramped": ("deis_rho_4_ramped", {"orders": 4, "predictions": "epsilon", "differences": "ratio"}),
    "deis_3_ramped": ("deis_3_ramped", {"orders": 3, "predictions": "epsilon", "differences": "t"}),
    "deis_log_rho_ramped": ("deis_log_rho_ramped", {"orders": 3, "predictions": "epsilon"}),
    "unipc_1": ("unipc_1", {"orders": 1, "differences": "halved", "correctors": True}),
    "unipc_2": ("unipc_2", {"orders": 2, "differences": "halved", "correctors": True}),
    "unipc_3": ("unipc_3", {"orders": 3, "differences": "halved", "correctors": True}),
    "unipc_3_epsilon": (
        "unipc_3_epsilon",
        {"orders": 3, "differences": "halved", "correctors": True, "predictions": "epsilon"},
    ),
    "unip_2_epsilon": ("unip_2_epsilon", {"orders": 2, "differences": "halved", "predictions": "epsilon"}),
    "dpmpp_2m_sde": ("dpmpp_2m_sde", {"orders": 2, "differences": "halved", "etas": 1.0}),
    "dpmpp_2m_sde_heun": ("dpmpp_2m_sde_heun", {"orders": 2, "etas": 1.0}),
    "dpmpp_3m_sde": ("dpmpp_3m_sde", {"orders": 3, "etas": 1.0}),
    "sde_dpm_solver_2m": (
        "sde_dpm_solver_2m",
        {"orders": 2, "differences": "halved", "etas": 1.0, "predictions": "epsilon"},
    ),
}


def lifted(order: int, count: int, differences: str, **others: Any) -> dict[str, Any]:
    """The choices of a lifted start of order two or three."""
    first = {2: ((1,), ("share",), (True,), (0,)), 3: ((1, 2), ("share",) * 2, (False, True), (0, 1))}[order]
    rest = count - len(first[0])
    return {
        "orders": (*first[0], *[order] * rest),
        "differences": (*first[1], *[differences] * rest),
        "correctors": (*first[2], *[others.pop("correctors", False)] * rest),
        "origins": (*first[3], *[0] * rest),
        **others,
    }


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("name", EQUAL)
def test_constant_choices_are_the_method_of_a_name(name: str, process: Any) -> None:
    other, choices = EQUAL[name]
    times = bent(process, 6)
    one, two = compiled("usf", process, times, **choices), compiled(other, process, times)
    if other == "ddim":  # whose rows are of both predictions
        assert_does_the_same(one, two)
    else:
        assert_same_rows(one, two)
    assert one.stochastic == two.stochastic


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_origins_give_lifted_starts(process: Any) -> None:
    times = bent(process, 6)
    for name, choices in {
        "dpmpp_3m": lifted(3, 6, "lambda"),
        "deis_2": lifted(2, 6, "t", predictions="epsilon"),
        "deis_3": lifted(3, 6, "t", predictions="epsilon"),
        "deis_rho_3": lifted(3, 6, "ratio", predictions="epsilon"),
        "adams_pc_2": lifted(2, 6, "t", correctors=True),
        "adams_pc_3": lifted(3, 6, "t", correctors=True),
    }.items():
        assert_does_the_same(compiled("usf", process, times, **choices), compiled(name, process, times))


def test_a_last_step_of_order_one_is_the_jump_to_x0() -> None:
    process = VP.linear()
    times = bent(process, 5)
    whole = torch.cat([times, torch.zeros(1, dtype=torch.float64)])
    choices = {"orders": (2, 2, 2, 2, 2, 1), "differences": "halved"}
    jumped = urn.compile_plan("dpmpp_2m", process, grid=times, final="x0")
    assert gap(run(compiled("usf", process, whole, **choices)), run(jumped)) < 1e-12


def test_every_choice_of_every_step_changes_that_step_alone() -> None:
    """A tuple is read step by step: what comes before the changed step stays as it was."""
    process, count = VP.linear(), 5
    times = bent(process, count)
    plain: dict[str, Any] = {
        "orders": (2,) * count,
        "predictions": ("x0",) * count,
        "differences": ("lambda",) * count,
        "correctors": (False,) * count,
        "origins": (0,) * count,
        "etas": (0.0,) * count,
        "labels": (None,) * count,
        "models": ("main",) * count,
    }
    others = {
        "orders": 1,
        "predictions": "epsilon",
        "differences": "ratio",
        "correctors": True,
        "origins": 1,
        "etas": 0.5,
        "labels": 0.3,
        "models": "small",
    }
    base = compiled("usf", process, times, **plain)
    assert_same_rows(base, compiled("usf", process, times))
    for name, other in others.items():
        for step in range(1, count - 1):
            changed = {**plain, name: (*plain[name][:step], other, *plain[name][step + 1 :])}
            plan = compiled("usf", process, times, **changed)
            assert states(plan, step) == states(base, step), (name, step)
            assert plan.rows != base.rows, (name, step)


def states(plan: Plan, before: int) -> list[Combine]:
    """The sums before a step."""
    return [row for row in plan.rows if isinstance(row, Combine) and row.step < before]


def test_labels_and_models_are_those_of_the_calls() -> None:
    times = bent(VP.linear(), 3)
    plan = compiled("usf", VP.linear(), times, labels=(None, 0.25, None), models=("main", "thin", "main"))
    calls = [row for row in plan.rows if isinstance(row, Evaluate)]
    assert [call.model for call in calls] == ["main", "thin", "main"]
    assert [float(call.t) for call in calls] == [float(times[0]), 0.25, float(times[2])]
    assert float(calls[1].node.t) == float(times[1])


def test_noise_in_one_step_alone_keeps_the_law() -> None:
    """A point mass is kept by every step, so the noise has the std that the node demands; the kit's check, in a mixed plan."""
    plan = compiled(
        "usf", VP.linear(), bent(VP.linear(), 4), etas=(0.0, 1.0, 0.3, 0.0), correctors=(True, True, False, False)
    )
    assert plan.stochastic
    assert sum(type(row).__name__ == "Noise" for row in plan.rows) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("orders", 0),
        ("orders", (1, 2)),
        ("orders", (1, 2, 1.5)),
        ("predictions", "v"),
        ("predictions", ("x0", "x0", None)),
        ("differences", "rho"),
        ("correctors", 1),
        ("origins", -1),
        ("origins", True),
        ("etas", -0.1),
        ("etas", (0.0, float("nan"), 0.0)),
        ("labels", "x"),
        ("labels", (None, None, float("inf"))),
        ("models", ""),
        ("models", ("main", 3, "main")),
    ],
)
def test_a_bad_option_names_itself(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{option}="):
        compiled("usf", VP.linear(), bent(VP.linear(), 3), **{option: value})


def test_noise_from_an_earlier_node_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 0 in step 1, which draws noise"):
        compiled("usf", VP.linear(), bent(VP.linear(), 3), origins=(0, 1, 0), etas=1.0)
