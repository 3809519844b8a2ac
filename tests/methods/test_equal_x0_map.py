"""Maps of x0 between the model call and the method: by their formula, and the method itself where the map does nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from methods_cases import bent, compiled, gap, run, start_states

from urn import mapped_x0
from urn.conformance.targets import MIXTURE
from urn.processes import VE, VP, Flow


@pytest.mark.parametrize("process", [VP.linear(), Flow(), VE()], ids=repr)
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "deis_3", "heun", "probability_flow_heun", "unipc_3"])
def test_a_map_that_does_nothing_leaves_the_method(name: str, process: object) -> None:
    plan = compiled(name, process, bent(process, 6))
    x = start_states(plan)
    wide = compiled(mapped_x0(name, "clip", low=-1e9, high=1e9), process, bent(process, 6))
    assert gap(run(wide, x), run(plan, x)) < 1e-11


def test_clipped_ddim_by_its_formula() -> None:
    """x_next = alpha_next d + sigma_next (x - alpha d)/sigma with d = clip(x0)."""
    process = VP.linear()
    times = bent(process, 5)
    plan = compiled(mapped_x0("ddim", "clip", low=-0.5, high=0.7), process, times)
    x = y = start_states(plan)
    for t, t_next in pairwise(times):
        d = MIXTURE.prediction(y, process, float(t), "x0").clip(-0.5, 0.7)
        epsilon = (y - process.alpha(t) * d) / process.sigma(t)
        y = process.alpha(t_next) * d + process.sigma(t_next) * epsilon
    assert gap(run(plan, x), y) < 1e-12
    assert not torch.allclose(run(compiled("ddim", process, times), x), y)


def test_an_unknown_map_is_named() -> None:
    with pytest.raises(ValueError, match="function='clop'"):
        mapped_x0("ddim", "clop")
