"""What a search reports: an objective's figures in closed form, the gain, and a file that keeps them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

import urn
from urn.tuning import ToReference
from urn.tuning.objectives import Own, ToData
from urn.tuning.record import Entry, Record
from urn.tuning.surrogate import spearman
from urn.tuning.task import Figure, figure_of

PROCESS = urn.VP.linear()


def normals(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_paired_figure_is_the_rms_and_quantiles_of_the_starts_errors() -> None:
    target = normals(1, 41, 2, 3)
    errors = torch.arange(1, 42, dtype=torch.float64) / 10  # of each start, root mean square over its six coordinates
    moved = target + errors[:, None, None] * torch.tensor([[2.0, -1.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    found = figure_of(ToReference(), moved, target)
    assert found.estimate == pytest.approx(float(errors.square().mean().sqrt()), rel=1e-12)
    assert found.median == pytest.approx(2.1, rel=1e-12)
    assert found.q90 == pytest.approx(3.7, rel=1e-12)
    # squared errors over starts have this standard error; the interval is nearly two of them wide each way
    squares = errors.square()
    width = float(squares.std() / math.sqrt(41)) / (2 * found.estimate)
    assert found.low == pytest.approx(found.estimate - 1.96 * width, abs=0.4 * width)
    assert found.high == pytest.approx(found.estimate + 1.96 * width, abs=0.4 * width)


def test_a_figure_of_data_or_of_ones_own_has_no_quantiles() -> None:
    samples, data = normals(2, 30, 2), normals(3, 40, 2) + 0.4
    of_data = figure_of(ToData(data), samples, data)
    assert of_data.estimate == pytest.approx(urn.metrics.energy_distance(samples, data), rel=1e-12)
    own = figure_of(Own(lambda x: x.square().mean()), samples, None)
    assert own.estimate == pytest.approx(float(samples.square().mean()), rel=1e-12)
    assert own.low < own.estimate < own.high
    assert (of_data.median, of_data.q90, own.median, own.q90) == (None,) * 4


def test_halves_of_the_data_and_data_given_for_the_held_out() -> None:
    data, others = normals(4, 21, 2), normals(5, 9, 2)

    def run(plan: object) -> torch.Tensor:
        raise AssertionError("data are no samples")

    train, held_out = (ToData(data).target(run, PROCESS, one) for one in (False, True))
    assert (len(train), len(held_out)) == (10, 11)
    assert sorted(torch.cat([train, held_out]).tolist()) == sorted(data.tolist())
    assert torch.equal(ToData(data, held_out=others).target(run, PROCESS, False), data)
    assert torch.equal(ToData(data, held_out=others).target(run, PROCESS, True), others)
    assert ToData(data, "mmd").value(train, held_out) == urn.metrics.mmd(train, held_out)


def test_the_reference_is_a_plan_of_order_three_and_so_many_calls() -> None:
    plan = ToReference(30).reference(PROCESS)
    assert (plan.method, plan.nfe) == ("dpm_solver_3", 30)
    own = urn.compile_plan("ddim", PROCESS, 50)
    assert ToReference(plan=own).reference(PROCESS) is own
    assert ToReference(plan=own).target(lambda one: one, PROCESS, True) is own


def test_spearmans_correlation_with_ties() -> None:
    """Ranks 1, 2.5, 2.5, 4 and 2, 1, 4, 3: less their means their products add up to 1.5, their squares to 4.5 and 5."""
    assert spearman((0.1, 7.0, 7.0, 9.0), (2.0, -1.0, 50.0, 3.0)) == pytest.approx(1.5 / math.sqrt(4.5 * 5), rel=1e-12)


def record() -> Record:
    def entry(label: str, value: float) -> Entry:
        return Entry(label, 5, Figure(value / 2, 0.0, math.inf), Figure(value, value - 1, value + 1, 0.3 * value, None))

    return Record(
        tuner="ld3",
        options={"rounds": 3, "limit": math.inf},
        model="m",
        process="p",
        objective="o",
        calls=5,
        seed=1,
        starts=8,
        held_out=9,
        evaluations=100,
        judging=20,
        seconds=1.5,
        tuned=entry("a", 2.0),
        untuned=entry("b", 7.0),
        returned="tuned",
        tried=(("a", 5, 1.0, False, 40), ("c", 4, -math.inf, True, 60)),
        notes={"none": None, "rows": [1, 2.5]},
    )


def test_the_gain_is_of_held_out_figures_and_one_where_the_untuned_plan_is_returned() -> None:
    assert record().gain == 3.5
    assert replace(record(), returned="untuned").gain == 1.0


def test_a_record_keeps_infinite_figures_in_json() -> None:
    made = record()
    written = made.to_json()
    assert (written["seconds"], written["options"]["limit"]) == (1.5, {"float": "inf"})
    assert Record.from_json(json.loads(json.dumps(written, allow_nan=False))) == made
