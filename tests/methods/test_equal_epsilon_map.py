"""DualFast and Levenberg-Marquardt-Langevin: by their formulas, and what they are without their changes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from methods_cases import bent, compiled, gap, run, start_states

from urn.conformance.targets import MIXTURE
from urn.processes import VE, VP, Flow
from urn.schemes.epsilon_map import dualfast, levenberg_marquardt

SIGMAS = [4.0, 2.6, 1.5, 0.8, 0.35, 0.1]
METHODS = ["ddim", "dpmpp_2m", "deis_3", "heun", "unipc_3"]


@pytest.mark.parametrize("process", [VP.linear(), Flow(), VE()], ids=repr)
@pytest.mark.parametrize("name", METHODS)
def test_without_a_change_they_are_the_method(name: str, process: object) -> None:
    times = bent(process, 6)
    plan = compiled(name, process, times)
    x = start_states(plan)
    for same in (dualfast(name, share=0.0), levenberg_marquardt(name, memory=0.0, damping=1e-6)):
        assert gap(run(compiled(same, process, times), x), run(plan, x)) < 1e-6 if "marquardt" in same.name else 1e-12


@pytest.mark.parametrize("reference", ["first", "previous"])
def test_dualfast_on_ddim(reference: str) -> None:
    plan = compiled(dualfast("ddim", share=0.4, reference=reference), VE(), SIGMAS)
    x = y = start_states(plan)
    made: list[torch.Tensor] = []
    for cur, next in pairwise(SIGMAS):
        e = MIXTURE.prediction(y, VE(), cur, "epsilon")
        c = 0.4 * (1 - (SIGMAS[0] - cur) / (SIGMAS[0] - SIGMAS[-1]))
        mixed = e if not made else (1 - c) * e + c * made[0 if reference == "first" else -1]
        made.append(e)
        y = y + (next - cur) * mixed
    assert gap(run(plan, x), y) < 1e-12


@pytest.mark.parametrize(("damping", "memory"), [(1e-3, 0.0), (0.5, 0.3), (0.1, 0.9)])
def test_levenberg_marquardt_on_ddim(damping: float, memory: float) -> None:
    plan = compiled(levenberg_marquardt("ddim", damping, memory), VE(), SIGMAS)
    x = y = start_states(plan)
    before = None
    for cur, next in pairwise(SIGMAS):
        e = MIXTURE.prediction(y, VE(), cur, "epsilon")
        turned = e
        if before is not None:
            m = memory * before + (1 - memory) * e
            identity = torch.eye(2, dtype=torch.float64)
            # Sherman-Morrison: damping times the inverse of damping I + m m^T
            inverse = identity - m[:, :, None] * m[:, None, :] / (damping + (m * m).sum(1))[:, None, None]
            h = (inverse @ e[:, :, None])[:, :, 0]
            turned = h * e.norm(dim=1, keepdim=True) / h.norm(dim=1, keepdim=True)
        before = e
        y = y + (next - cur) * turned
    assert gap(run(plan, x), y) < 1e-10


def test_they_do_not_look_across_samples() -> None:
    plan = compiled(levenberg_marquardt("dpmpp_2m", 0.1, 0.5), Flow(), bent(Flow(), 5))
    x = start_states(plan)
    assert gap(run(plan, x[3:4]), run(plan, x)[3:4]) < 1e-12


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (dualfast, {"share": -0.1}, "share=-0.1"),
        (dualfast, {"share": 1.5}, "share=1.5"),
        (dualfast, {"reference": "last"}, "reference='last'"),
        (levenberg_marquardt, {"damping": 0.0}, "damping=0.0"),
        (levenberg_marquardt, {"memory": 1.1}, "memory=1.1"),
        (levenberg_marquardt, {"method": "ddmi"}, "method='ddmi'"),
    ],
)
def test_bad_options_are_named(make: object, options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make(**{"method": "ddim", **options})
