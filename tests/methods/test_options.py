"""Every bad option of every method is a ValueError that names the option, its value and what is allowed."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import torch
from methods_cases import bent, compiled, gap, run, start_states

from urn.coefficients.model_statistics import ModelStatistics
from urn.methods import METHODS, own_names
from urn.plan import PlanError
from urn.processes import VE, VP, Flow

NAN, INF = math.nan, math.inf
NOT_NUMBERS = [None, "x", "0.5", [0.5], True, 1j, torch.tensor([0.5, 0.5])]
SHARE = [-0.1, 0, 1, 1.5, NAN, INF, -INF, *NOT_NUMBERS]  # must lie inside (0, 1)
UNIT = [-0.1, 1.1, NAN, INF, *NOT_NUMBERS]  # must lie in [0, 1]
NOT_NEGATIVE = [-0.1, NAN, INF, -INF, *NOT_NUMBERS]
POSITIVE = [0, *NOT_NEGATIVE]
COUNT = [0, -1, 1.5, 2.0, NAN, None, "2", [2], True]
PREDICTION = ["x", "v", "", None, 1, True, ["x0"]]

# option: the values that no method takes for it
BAD: dict[str, list[Any]] = {
    "fraction": UNIT,
    "r": SHARE,
    "snr": POSITIVE,
    "step_ratio": [0, 4, 5, *NOT_NEGATIVE],
    "s_churn": NOT_NEGATIVE,
    "s_min": NOT_NEGATIVE,
    "s_max": [-1, 0.01, NAN, *NOT_NUMBERS],  # below s_min = 0.05
    "s_noise": NOT_NEGATIVE,
    "corrections": COUNT,
    "repeats": COUNT,
    "order": COUNT,
    "corrector": [-1, 1.5, 2.0, NAN, "2", [2], True],
    "tau": [-0.1, NAN, INF, (1.0, 2.0, 1.0), (1.0, 0.5), (-1.0, 0.1, 1.0), (1.0, NAN, 2.0), *NOT_NUMBERS],
    "phi": ["er_sde_6", "", None, 1, True, ["ode"]],
    "known": COUNT,
    "c2": [-0.1, 0, 1.5, NAN, INF, -INF, *NOT_NUMBERS],
    "c3": [-0.1, 0, 1.5, NAN, INF, -INF, *NOT_NUMBERS],
    "gamma": NOT_NEGATIVE,
    "beta": [0, *UNIT],
    "tableau": ["rk5", "", None, 1, True],
    "clock": ["lambda", "", None, 1, True],
    "rounds": [value for value in COUNT if value is not None],
    "prediction": PREDICTION,
    "size": ["bh3", "BH1", None, 1],
    "variable": ["rho", "", None, 1],
    "statistics": ["measured", 1.0, (1.0, 0.0, 0.0), True],
    "correct": ["sometimes", "", None, 1, True],
    "ratios": ["1", 1.0, (), (1.0,), (1.0, NAN, 1.0, 1.0, 1.0, 1.0), (0.9,) * 6, True],
    "coefficients": ["1", 1.0, (), ((1.0,),), ((1.0, NAN),) * 6, ((),) * 6, (1.0,) * 6, True],
}
PLAIN = {"rk38": "ralston_4", "pareschi_russo": "qin_zhang"}  # another tableau for those that have the one tried first
IN_UNIT = {
    "euler_cfg_pp",
    "res_multistep_ancestral",
    "ddim",
    "euler_ancestral",
    "cps",
    "cps_vanishing",
    "resshift",
}  # their eta ends at 1; elsewhere it may be larger
NAMES = own_names()


def bad_values(name: str, option: str) -> list[Any]:
    if option == "eta":
        return UNIT if name in IN_UNIT else NOT_NEGATIVE
    if (name, option) == ("linear", "prediction"):
        return ["score", "noise", 1]  # it takes v and velocity too
    return NOT_NEGATIVE if (name, option) == ("s4", "snr") else BAD[option]


def covered() -> list[tuple[str, str]]:
    """(method, option) for every option that this file knows; one that it does not know fails in the test below."""
    return [(name, option) for name in NAMES for option in METHODS[name].defaults if option == "eta" or option in BAD]


# families whose options are not listed here have tests of their own, each in a file named in this table
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("sit_sde", "flow_grpo", "restart"), "test_published_flow_sde.py"),
    "usf": "test_equal_usf.py",
    **dict.fromkeys(("amed", "epd", "s4s"), "test_published_s4s_amed.py"),
    "linear": "../tuning/test_dense.py",
}


@pytest.mark.parametrize(("name", "option"), covered(), ids=str)
def test_a_bad_option_is_a_value_error_that_names_it(name: str, option: str) -> None:
    for value in bad_values(name, option):
        with pytest.raises(ValueError, match=rf"\b{option}=") as caught:
            compiled(name, VP.linear(), bent(VP.linear(), 3), **{option: value})
        assert not isinstance(caught.value, PlanError), f"{option}={value!r} was noticed only in the coefficients"
        assert "must be" in str(caught.value)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_facts_of_a_bad_option_are_refused_as_early(name: str) -> None:
    """`with_options` alone, without a grid, refuses what its facts depend on; it never fails in another way."""
    for option in METHODS[name].defaults:
        for value in ("x", None, [1], NAN):
            with contextlib.suppress(ValueError):
                METHODS[name].with_options(**{option: value})


@pytest.mark.parametrize("name", NAMES)
def test_an_option_that_a_method_does_not_have_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"has no option etta=0.5; its options: "):
        compiled(name, VP.linear(), bent(VP.linear(), 3), etta=0.5)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_default_that_works(name: str) -> None:
    method = METHODS[name]
    times = bent(VE(), 3)
    defaults = {option: {**method.defaults, **method.fixed}[option] for option in method.defaults}
    if name == "annealed_langevin":
        defaults["repeats"] = 2
        assert method.defaults["repeats"] == 100
        plan = compiled(name, VE(), times, repeats=2)
    else:
        plan = compiled(name, VE(), times)
    assert compiled(name, VE(), times, **defaults).rows == plan.rows


@pytest.mark.parametrize(("name", "option"), covered(), ids=str)
def test_a_good_option_changes_the_plan(name: str, option: str) -> None:
    """An option that is taken and then not used would pass every other test."""
    others: dict[str, Any] = {
        "eta": 0.37,
        "fraction": 0.21,
        "r": 0.37,
        "snr": 0.3,
        "step_ratio": 0.05,
        "s_churn": 0.5,
        "s_min": 0.9,
        "s_max": 0.9,
        "s_noise": 1.01,
        "corrections": 2,
        "repeats": 2,
        "order": 2,
        "corrector": 2,
        "tau": 0.37,
        "phi": "sde",
        "known": 3,
        "c2": 0.37,
        "c3": 0.6,
        "gamma": 1.3,
        "beta": 0.37,
        "tableau": "pareschi_russo" if METHODS[name].function is METHODS["gauss_legendre_2"].function else "rk38",
        "clock": "t",
        "rounds": 9,
        "prediction": "epsilon",
        "size": "bh1",
        "variable": "ratio",
        "statistics": ModelStatistics.constant(l=0.3, s=-0.4, b=0.2),
        "correct": "never",
        "ratios": (1.0, 1.0, 0.9, 1.1, 1.05, 0.95),
        "coefficients": ((1.0, 0.2),) * 6,
    }
    if name == "s4s":
        others["coefficients"] = ((1.0,), (1.2, -0.2), *[(1.2, -0.3, 0.1)] * 4)
    fixed = {**METHODS[name].defaults, **METHODS[name].fixed}
    value = (
        others[option]
        if fixed[option] != others[option]
        else {"order": 3, "known": 2, "prediction": "x0", "size": "bh2", "corrector": 3, "tableau": PLAIN.get(name)}[
            option
        ]
    )
    if option == "size" and (fixed["order"] > 3 if name.startswith("unipc") else fixed["order"] != 2):
        return  # B(h) stands in steps with one extra point alone, and a lifted start has none
    times = bent(Flow(), 6)
    one = compiled(name, Flow(), times, **({"repeats": 3} if "repeats" in fixed and option != "repeats" else {}))
    other = compiled(name, Flow(), times, **{**({"repeats": 3} if "repeats" in fixed else {}), option: value})
    assert one.rows != other.rows


def test_the_ends_of_a_range_are_allowed() -> None:
    times = bent(VP.linear(), 3)
    for eta in (0, 0.0, 1, 1.0, torch.tensor(0.5)):
        compiled("ddim", VP.linear(), times, eta=eta)
    for eta in (0, 1.5, 3):
        for name in ("dpmpp_2m_sde", "dpmpp_sde", "dpmpp_2s_ancestral", "dpmpp_1_sde"):
            plan = compiled(name, VP.linear(), times, eta=eta)
            assert bool(torch.isfinite(run(plan)).all())
    compiled("edm", VE(), bent(VE(), 3), s_min=0.0, s_max=INF)
    compiled("edm", VE(), bent(VE(), 3), s_min=1.0, s_max=1.0)
    compiled("ddpm_interpolated", VP.linear(), times, fraction=0)
    compiled("ddpm_interpolated", VP.linear(), times, fraction=1)


def test_more_noise_than_the_reverse_sdes_still_ends_in_the_right_law_of_a_point() -> None:
    """eta above 1 adds more noise and removes more: exact on a point mass in the SDE forms, capped in the ancestral ones."""
    from urn.exact import Gaussian
    from urn.exact.affine import moments

    point, process = Gaussian([1.3, -2.1], 0.0), Flow()
    times = bent(process, 4)
    for name in ("dpmpp_1_sde", "dpmpp_2m_sde", "dpmpp_2s_ancestral"):
        mean, covariance = moments(compiled(name, process, times, eta=2.0), point)
        sigma = process.sigma(times[-1])
        assert gap(mean, process.alpha(times[-1]) * point.mean) < 1e-9
        assert gap(covariance, sigma**2 * torch.eye(2, dtype=torch.float64)) < 1e-9


def test_options_that_contradict_each_other_name_both_ends() -> None:
    with pytest.raises(ValueError, match=r"s_max=0\.1 must be at least 0\.5"):
        compiled("edm", VE(), bent(VE(), 3), s_min=0.5, s_max=0.1)


def test_every_option_of_every_method_is_known_here() -> None:
    """A new option belongs in `BAD`, or its family in `ELSEWHERE` with the file that tests it."""
    known = {*BAD, "eta"}
    unknown = {
        (name, option)
        for name in NAMES
        for option in METHODS[name].defaults
        if option not in known and name not in ELSEWHERE
    }
    assert not unknown


def test_a_named_method_takes_its_fixed_option_again() -> None:
    assert (
        compiled("unipc_3", Flow(), bent(Flow(), 5), order=2).rows == compiled("unipc_2", Flow(), bent(Flow(), 5)).rows
    )
    assert not compiled("euler_ancestral", Flow(), bent(Flow(), 5), eta=0.0).stochastic


def test_steps_fewer_than_the_order_still_make_a_plan() -> None:
    """A multistep method of order p on fewer than p steps takes what there is."""
    for name in [name for name in NAMES if "order" in METHODS[name].defaults] + ["dpmpp_3m", "dpmpp_3m_sde"]:
        for steps in (1, 2, 3):
            plan = compiled(name, Flow(), bent(Flow(), steps))
            assert bool(torch.isfinite(run(plan, start_states(plan))).all())
    assert compiled("dpmpp_3m", Flow(), bent(Flow(), 1), final="x0").nfe == 2
