"""What the tests of equalities share."""

from __future__ import annotations

from typing import Any

import pytest
from methods_cases import (
    GRIDS,
    PROCESSES,
)
from torch import Tensor

from urn.nodes import Nodes

on_every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


on_every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def nodes_of(process: Any, times: Tensor) -> Nodes:
    return Nodes(process, times)
