"""Every method passes the conformance kit, on every kind of process. A new method is tested by being registered."""

import pytest

import urn
from urn.methods import ALIASES

NAMES = [name for name in urn.METHODS if name not in ALIASES]
# the whole kit on VP; what depends on the process's clock or on alpha < 1, again on a flow and on VE
PROCESSES = {"vp": urn.VP.linear(), "flow": urn.Flow(), "ve": urn.VE()}


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", NAMES)
def test_method_passes_the_kit(name: str, process: str) -> None:
    report = urn.check(name, process=PROCESSES[process])
    assert report.passed, f"\n{report}"
