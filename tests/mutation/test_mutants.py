"""The quick part of the mutation test: coefficients of each method, 1 % larger, must be noticed. All: `make mutants`."""

from __future__ import annotations

import pytest
from mutants import mutants_of

import urn
from urn.conformance.targets import PHASE_SPACE
from urn.methods import own_names

VP = urn.VP.linear()
# no promise that the kit could hold them to: their formulas are compared with the papers' in tests/methods
WITHOUT_PROMISE = {"lawson_2a", "lawson_2b", "iddpm", "predictor_corrector", "sgmse", "s4", "annealed_langevin"}
# the mutant that is tried, where the middle one is for `make mutants` alone: only the formula tests see it
PLACES = {"psld_euler": 4}
NAMES = [name for name in (*own_names(), *own_names(("x", "m"))) if name not in WITHOUT_PROMISE]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_coefficient_is_noticed(name: str) -> None:
    process = VP if len(urn.METHODS[name].components) == 1 else PHASE_SPACE
    mutants = mutants_of(urn.METHODS[name], process)
    mutant = mutants[PLACES.get(name, len(mutants) // 2)]
    assert mutant.caught_by([process]) is not None, f"survived: {mutant}"


def test_the_method_itself_is_not_noticed() -> None:
    """With factor 1 the machinery finds nothing wrong, so what it finds is the mutation."""
    from dataclasses import replace

    for name in ("ddim", "dpmpp_2m", "probability_flow_heun", "reverse_diffusion"):
        assert replace(mutants_of(urn.METHODS[name], VP)[1], factor=1.0).caught_by([VP]) is None
