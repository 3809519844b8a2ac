"""Every method passes the conformance kit, on every kind of process. A new method is tested by being registered."""

import pytest

import urn
from urn.methods import ALIASES

NAMES = [name for name in urn.METHODS if name not in ALIASES]
# the whole kit on VP; what depends on the process's clock or on alpha < 1, again on a flow and on VE
PROCESSES = {"vp": urn.VP.linear(), "flow": urn.Flow(), "ve": urn.VE()}
LONG = {"iddpm", "annealed_langevin"}  # their laws are sampled: elsewhere than on VP by `make test-slow`
CASES = [
    pytest.param(name, process, marks=[pytest.mark.slow] if name in LONG and process != "vp" else [])
    for name in NAMES
    for process in PROCESSES
]


@pytest.mark.parametrize(("name", "process"), CASES)
def test_method_passes_the_kit(name: str, process: str) -> None:
    report = urn.check(name, process=PROCESSES[process])
    assert report.passed, f"\n{report}"
