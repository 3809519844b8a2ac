"""Every method passes the conformance kit, on every kind of process. A new method is tested by being registered."""

import pytest

import urn
from urn.methods import ALIASES

NAMES = [name for name in urn.METHODS if name not in ALIASES]
# the whole kit on VP; what depends on the process's clock or on alpha < 1, again on a flow and on VE
PROCESSES = {"vp": urn.VP.linear(), "flow": urn.Flow(), "ve": urn.VE()}
LONG = {"iddpm", "annealed_langevin"}  # their laws are sampled


def slow(name: str, process: str) -> bool:
    """Elsewhere than on VP one name of every function is enough for each change; the others by `make test-slow`."""
    function = urn.METHODS[name].function
    first = next(other for other in NAMES if urn.METHODS[other].function is function)
    return process != "vp" and (name != first or name in LONG)


LONG |= {
    "luan_ostermann_5",
    "luan_4",
    "luan_5",
    "luan_alhsmy_6_15s",
    "luan_alhsmy_6",
}  # six to sixteen evaluations a step
CASES = [
    pytest.param(name, process, marks=[pytest.mark.slow] if slow(name, process) else [])
    for name in NAMES
    for process in PROCESSES
]


@pytest.mark.parametrize(("name", "process"), CASES)
def test_method_passes_the_kit(name: str, process: str) -> None:
    report = urn.check(name, process=PROCESSES[process])
    assert report.passed, f"\n{report}"
