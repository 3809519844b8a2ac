"""The tuned plans that Urn ships do what their records say, from starts that they were not tuned on."""

from __future__ import annotations

import pytest

import urn
from urn.exact import photographs_mixture
from urn.tuning import plan_within, shipped

SHIPPED = shipped()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_plan_keeps_its_promise(name):
    plan, record = SHIPPED[name]
    assert plan.nfe <= record.calls
    assert record.command.startswith("urn tune photographs-exact --process ")
    assert record.returned == "tuned"
    model = photographs_mixture().model(plan.process)
    method, grid = record.untuned.label.split(", ")
    plans = {
        "reference": plan_within(plan.process, "dpm_solver_3", 200),
        "untuned": plan_within(plan.process, method, record.calls, grid),
        "tuned": plan,
    }
    seeds = urn.sample_seeds(record.seed, record.held_out, first=record.starts)
    ends = {kind: urn.sample(model, one, seeds=seeds) for kind, one in plans.items()}
    errors = {kind: (ends[kind] - ends["reference"]).square().flatten(1).mean(1).sqrt() for kind in plans}
    assert float(errors["tuned"].median()) == pytest.approx(record.tuned.held_out.median, rel=0.02)
    assert float(errors["tuned"].median()) < 0.7 * float(errors["untuned"].median())
