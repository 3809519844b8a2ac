"""Every method passes the conformance kit, on every kind of process. A new method is tested by being registered."""

import pytest

import urn
from urn.methods import own_names

NAMES = own_names()
# the whole kit on VP; what depends on the process's clock or on alpha < 1, again on a flow and on VE
PROCESSES = {"vp": urn.VP.linear(), "flow": urn.Flow(), "ve": urn.VE()}
LONG = {  # a sampled law; many rows a step; six to sixteen evaluations a step
    *("iddpm", "annealed_langevin", "seeds_2", "seeds_3"),
    *("luan_ostermann_5", "luan_4"),
}
TALL = {  # three implicit stages and more, or six and more explicit ones: made by the same code as their smaller relatives
    *("gauss_legendre_3", "gauss_legendre_4", "gauss_legendre_5"),
    *("radau_ia_3", "radau_iia_3", "radau_iia_5", "radau_iia_7", "radau_iia_9", "radau_iia_11"),
    *("lobatto_iiia_3", "lobatto_iiia_4", "lobatto_iiib_4", "lobatto_iiic_3", "lobatto_iiic_4"),
    *("luan_5", "luan_alhsmy_6_15s", "luan_alhsmy_6", "butcher_6"),
}

TABLEAUS = {urn.METHODS[name].function for name in ("rk38", "gauss_legendre_2", "modgenlawson_4")}
SHORT = {"midpoint", "heun_3", "rk38", "gauss_legendre_2", "radau_iia_2", "lobatto_iiic_2", "crouzeix_2"}


def slow(name: str, process: str) -> bool:
    """For each change one name of every function is enough on a flow, one of every module on VE, and some of those that differ
    by a tableau, whose numbers `test_tableaus.py` checks; the others by `make test-slow`."""
    function = urn.METHODS[name].function
    first = next(other for other in NAMES if urn.METHODS[other].function is function)
    if name in TALL or (function in TABLEAUS and name not in {*SHORT, first}):
        return True
    of_module = next(other for other in NAMES if urn.METHODS[other].function.__module__ == function.__module__)
    return process != "vp" and (name != (of_module if process == "ve" else first) or name in LONG)


CASES = [
    pytest.param(name, process, marks=[pytest.mark.slow] if slow(name, process) else [])
    for name in NAMES
    for process in PROCESSES
]


@pytest.mark.parametrize(("name", "process"), CASES)
def test_method_passes_the_kit(name: str, process: str) -> None:
    report = urn.check(name, process=PROCESSES[process])
    assert report.passed, f"\n{report}"


@pytest.mark.parametrize("name", own_names(("x", "m")))
def test_method_on_phase_space_passes_the_kit(name: str) -> None:
    report = urn.check(name)
    assert report.passed, f"\n{report}"
