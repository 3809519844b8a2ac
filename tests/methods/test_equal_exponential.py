"""Every "equals" of the exponential Runge-Kutta methods, their names, and their steps at the ends of a process."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from methods_cases import assert_same_rows, bent, compiled, exact_states, gap, law, order_of, rms, run
from methods_equalities import on_every_grid, on_every_process

from urn.coefficients.exponential_tableaus import etd2_halved
from urn.conformance.targets import fitting_times
from urn.methods import ALIASES, METHODS
from urn.plan import Combine, Evaluate
from urn.processes import VP, Flow
from urn.schemes.exponential_runge_kutta import exponential_runge_kutta

FAMILY = (
    *("res_2s", "etdrk2", "rkmk_2e", "res_3s", "res_3s_non_monotonic", "res_3s_sunstar", "etdrk3_b", "res_3s_lie"),
    *("res_3s_strehmel_weiner", "etdrk3", "etdrk3_a", "etdrk4", "krogstad_4", "strehmel_weiner_4", "friedli_4"),
    *("minchev_4", "munthe_kaas_4", "cfree_4", "hochbruck_ostermann_5s", "luan_ostermann_5", "luan_4", "luan_5"),
    *("luan_alhsmy_6_15s", "luan_alhsmy_6", "lawson_2a", "lawson_2b", "lawson_4", "genlawson_4", "modgenlawson_4"),
    *("pec_423", "pecec_433"),
)


@on_every_process
@on_every_grid
def test_res_3s_at_thirds_is_dpmpp_3s_and_dpm_solver_3(process: Any, grid: Any) -> None:
    times = grid(process, 4)
    for prediction, name in (("x0", "dpmpp_3s"), ("epsilon", "dpm_solver_3")):
        found = compiled("res_3s", process, times, c2=1 / 3, c3=2 / 3, prediction=prediction)
        assert_same_rows(found, compiled(name, process, times))


@on_every_process
@pytest.mark.parametrize("r", [0.5, 0.35])
def test_with_phi_1_over_2_two_stages_are_dpmpp_2s(process: Any, r: float) -> None:
    times = bent(process, 4)

    def halved(nodes, x):
        return (yield from exponential_runge_kutta(nodes, x, "x0", 2, partial(etd2_halved, c2=r)))

    assert_same_rows(compiled(halved, process, times), compiled("dpmpp_2s", process, times, r=r))


def test_res_2s_is_not_dpmpp_2s_but_near() -> None:
    """phi_2 against phi_1/2: the difference of their ends falls with the square of the steps."""
    process = VP.linear()
    x = run(compiled("ddim", process, bent(process, 2))) * 0 + 1.3
    gaps = [
        gap(
            run(compiled("res_2s", process, bent(process, n)), x),
            run(compiled("dpmpp_2s", process, bent(process, n)), x),
        )
        for n in (20, 40)
    ]
    assert 3 < gaps[0] / gaps[1] < 5


@on_every_process
def test_a_point_mass_is_exact_in_steps_of_any_length(process: Any) -> None:
    """Where the tableau integrates a constant; Lawson's own does not, and promises nothing."""
    from urn.exact import Gaussian
    from urn.exact.affine import moments

    point = Gaussian([1.3, -2.1], 0.0)
    times = bent(process, 2)
    for name in ("rkmk_2e", "luan_ostermann_5", "modgenlawson_4", "pec_423"):
        mean, covariance = moments(compiled(name, process, times), point)
        assert gap(mean, process.alpha(times[-1]) * point.mean) < 1e-12
        assert gap(covariance, process.sigma(times[-1]) ** 2 * torch.eye(2, dtype=torch.float64)) < 1e-12
    mean, _ = moments(compiled("lawson_4", process, times), point)
    assert gap(mean, process.alpha(times[-1]) * point.mean) > 1e-4
    assert METHODS["lawson_4"].exact_for == ()


@on_every_process
@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
def test_abnorsett_2_is_adams_and_starts_as_high_as_it_goes(process: Any, prediction: str) -> None:
    times = bent(process, 6)
    options = {"prediction": prediction, "variable": "lambda", "order": 2}
    assert_same_rows(
        compiled("abnorsett_2", process, times, prediction=prediction), compiled("adams_3", process, times, **options)
    )


@on_every_process
def test_res_multistep_is_abnorsett_2_between_two_ddim_steps(process: Any) -> None:
    times = bent(process, 6)
    one, other = (compiled(name, process, times) for name in ("res_multistep", "abnorsett_2"))
    middle = [[row for row in plan.rows if row.step in (2, 3, 4) and isinstance(row, Combine)] for plan in (one, other)]
    for a, b in zip(*middle, strict=True):
        assert (
            gap(torch.tensor([float(w) for w, _ in a.weights]), torch.tensor([float(w) for w, _ in b.weights])) < 1e-6
        )
    for n, step in ((1, 0), (1, 5)):
        weights = [row.weights for row in one.rows if row.step == step and isinstance(row, Combine)]
        assert len(weights) == n
        assert len(weights[0]) == 2


def test_the_first_steps_of_those_with_history() -> None:
    process = Flow()
    times = bent(process, 2)
    assert_same_rows(compiled("pec_423", process, times), compiled("krogstad_4", process, times))
    assert_same_rows(compiled("pecec_433", process, times), compiled("krogstad_4", process, times))
    first = bent(process, 1)
    for name in ("genlawson_4", "modgenlawson_4"):
        assert_same_rows(compiled(name, process, first, known=4), compiled(name, process, first))


@pytest.mark.parametrize("known", [2, 3, 4, 5])
def test_the_named_modified_lawsons(known: int) -> None:
    times = bent(Flow(), 6)
    found = compiled(f"modgenlawson_4{known}", Flow(), times)
    assert_same_rows(found, compiled("modgenlawson_4", Flow(), times, known=known))


@pytest.mark.parametrize(("name", "known", "order"), [("genlawson_4", 4, 4), ("modgenlawson_4", 4, 5)])
def test_the_order_of_generalized_lawson_rises_with_what_it_knows(name: str, known: int, order: int) -> None:
    assert METHODS[name].with_options(known=known).order == order
    assert order_of(name, VP.linear(), (64, 128), fitting_times, known=known) > order - 0.3


@pytest.mark.parametrize("name", ["lawson_2a", "lawson_2b"])
def test_lawsons_of_two_stages_are_of_order_two_between_the_ends_and_not_to_them(name: str) -> None:
    """A constant x0 is missed by h^3/24 or -h^3/12 of a step, and on an even flow grid the last inner h is log 2."""
    assert METHODS[name].order is None
    assert order_of(name, VP.linear(), (48, 96)) > 1.75
    even = torch.linspace(0.9, 0.0, 65, dtype=torch.float64)
    plan = compiled(name, Flow(), even)
    start, end = exact_states(Flow(), 0.9, 0.0)
    assert rms(run(plan, start) - end) > 0.02
    assert rms(run(compiled("genlawson_4", Flow(), even), start) - end) < 1e-3


def test_what_an_evaluation_is_spent_on() -> None:
    """nfe is what the facts say, per step, on a grid that stays inside."""
    for name in FAMILY:
        if not name.startswith("pec"):
            assert compiled(name, Flow(), bent(Flow(), 3)).nfe == 3 * METHODS[name].nfe
    assert compiled("pec_423", Flow(), bent(Flow(), 6)).nfe == 2 * 4 + 4 * 2
    assert compiled("pecec_433", Flow(), bent(Flow(), 6)).nfe == 2 * 4 + 4 * 3


@pytest.mark.parametrize("name", FAMILY)
def test_steps_at_the_ends_are_singlestep(name: str) -> None:
    """From alpha = 0 and to sigma = 0: the rows of dpmpp_2s and dpmpp_3s, whatever the method."""
    single = "dpmpp_2s" if METHODS[name].order in (2, None) else "dpmpp_3s"
    for times in ([1.0, 0.7], [0.3, 0.0], [1.0, 0.0]):
        grid = torch.tensor(times, dtype=torch.float64)
        assert_same_rows(compiled(name, Flow(), grid), compiled(single, Flow(), grid))


@pytest.mark.parametrize("name", ["krogstad_4", "modgenlawson_43", "pec_423"])
def test_a_grid_with_both_ends(name: str) -> None:
    """The inner steps are the method's own; what is kept of earlier predictions begins after the first."""
    times = torch.tensor([1.0, 0.8, 0.55, 0.3, 0.1, 0.0], dtype=torch.float64)
    plan, inner = compiled(name, Flow(), times), compiled(name, Flow(), times[1:-1])
    weights = [[row.weights for row in p.rows if isinstance(row, Combine) and row.step in which] for p, which in
               ((plan, (1, 2, 3)), (inner, (0, 1, 2)))]  # fmt: skip
    assert [[float(w) for w, _ in row] for row in weights[0]] == [[float(w) for w, _ in row] for row in weights[1]]


def test_epsilon_and_x0_are_different_methods_of_one_order() -> None:
    times = bent(VP.linear(), 6)
    for name in FAMILY:
        plans = [compiled(name, VP.linear(), times, prediction=prediction) for prediction in ("x0", "epsilon")]
        wanted = [{out for row in p.rows if isinstance(row, Evaluate) for _, out in row.outs} for p in plans]
        assert wanted == [{"x0"}, {"epsilon"}]
        assert gap(law(plans[0])[1], law(plans[1])[1]) > 1e-9


RES4LYF = {
    "res_2m": "abnorsett_2",
    "res_3m": "dpmpp_3m",
    "abnorsett_2m": "abnorsett_2",
    "abnorsett_3m": "dpmpp_3m",
    "abnorsett_4m": "unip_4",
    "abnorsett2_1h2s": "abnorsett_2",
    "abnorsett3_2h2s": "dpmpp_3m",
    "abnorsett4_3h2s": "unip_4",
    "res_2s_stable": "etdrk2",
    "res_2s_rkmk2e": "etdrk2",
    "etdrk2_2s": "etdrk2",
    "dpmpp_sde_2s": "rkmk_2e",
    "res_3s_alt": "dpmpp_3s",
    "res_3s_non-monotonic": "res_3s_non_monotonic",
    "res_3s_cox_matthews": "etdrk3",
    "etdrk3_a_3s": "etdrk3_a",
    "etdrk3_b_3s": "etdrk3_b",
    "res_4s_cox_matthews": "etdrk4",
    "etdrk4_4s": "etdrk4",
    "etdrk4_4s_alt": "etdrk4",
    "res_4s_krogstad": "krogstad_4",
    "res_4s_krogstad_alt": "krogstad_4",
    "res_4s_strehmel_weiner": "strehmel_weiner_4",
    "res_4s_strehmel_weiner_alt": "strehmel_weiner_4",
    "res_4s_friedli": "friedli_4",
    "res_4s_minchev": "minchev_4",
    "res_4s_munthe-kaas": "munthe_kaas_4",
    "res_4s_cfree4": "cfree_4",
    "res_5s": "hochbruck_ostermann_5s",
    "res_5s_hochbruck-ostermann": "hochbruck_ostermann_5s",
    "res_6s": "luan_4",
    "res_8s": "luan_ostermann_5",
    "res_8s_alt": "luan_ostermann_5",
    "res_10s": "luan_5",
    "res_15s": "luan_alhsmy_6_15s",
    "res_16s": "luan_alhsmy_6",
    "lawson2a_2s": "lawson_2a",
    "lawson2b_2s": "lawson_2b",
    "lawson4_4s": "lawson_4",
    "lawson41-gen_4s": "genlawson_4",
    "lawson41-gen-mod_4s": "modgenlawson_4",
    "lawson42-gen-mod_1h4s": "modgenlawson_42",
    "lawson43-gen-mod_2h4s": "modgenlawson_43",
    "lawson44-gen-mod_3h4s": "modgenlawson_44",
    "lawson45-gen-mod_4h4s": "modgenlawson_45",
    "pec423_2h2s": "pec_423",
    "pec433_2h3s": "pecec_433",
}


@pytest.mark.parametrize("alias", RES4LYF)
def test_a_name_of_res4lyfs(alias: str) -> None:
    assert ALIASES[alias] == RES4LYF[alias]
    assert METHODS[alias] is METHODS[RES4LYF[alias]]


def test_names_that_are_not_aliases_are_methods_of_their_own() -> None:
    for name in ("res_2s", "res_3s", "res_3s_lie", "res_3s_strehmel_weiner", "res_3s_sunstar", "res_multistep"):
        assert METHODS[name].name == name
    assert METHODS["etd1"] is METHODS["ddim"]
