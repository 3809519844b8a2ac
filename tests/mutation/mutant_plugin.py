"""A pytest plugin: run any tests with one mutant in place of its method.

`URN_MUTANT='[name, place, [roles], term]' pytest -p mutant_plugin tests/methods/test_published_*.py`
"""

from __future__ import annotations

import json
import os
from dataclasses import replace

from mutants import Mutant

import urn
from urn.compiling import Compiling
from urn.plan import Rows
from urn.plan.rows import without_dead_rows

name, place, roles, term = json.loads(os.environ["URN_MUTANT"])
MUTANT = Mutant(urn.METHODS[name], (place, tuple(roles)), term)
original = Compiling.rows_so_far


def rows_so_far(self: Compiling, last: str) -> Rows:
    """The compiled rows, with the mutant's coefficient where they are the mutant's method."""
    plan = without_dead_rows(original(self, last))  # as in a finished plan, where mutants are counted
    return replace(plan, rows=MUTANT.rows(plan)) if self.where.startswith(f"{name} on ") else plan


Compiling.rows_so_far = rows_so_far
