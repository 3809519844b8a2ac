"""Scheduler by scheduler: UrnScheduler with a scheduler's config draws what that scheduler draws, or it is said why not."""

from __future__ import annotations

import logging
from pathlib import Path

import diffusers
import pytest
from adapters_schedulers import AGREES, AGREES_32, PAIRS, REFUSED, Pair, table

from urn.adapters.diffusers import UrnScheduler

PAGE = Path(__file__).parents[2] / "docs" / "diffusers.md"


@pytest.fixture(autouse=True)
def quiet():
    diffusers.utils.logging.set_verbosity(logging.ERROR)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.agrees], ids=lambda p: f"{p.name} {p}")
def test_a_scheduler_and_a_plan_agree(pair: Pair):
    if pair.name == "DPMSolverSDE":
        pytest.importorskip("torchsde")
    assert pair.distance() < AGREES
    assert pair.distance(double=False) < AGREES_32


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if not pair.agrees], ids=lambda p: f"{p.name} {p}")
def test_where_they_do_not_it_is_no_rounding(pair: Pair):
    assert pair.distance() > 50 * AGREES


def test_every_scheduler_is_in_the_table():
    names = {name.removesuffix("Scheduler") for name in dir(diffusers.schedulers) if name.endswith("Scheduler")}
    assert names == {pair.name for pair in PAIRS} | set(REFUSED)
    for name in set(REFUSED) - {"CogVideoXDPM"}:
        with pytest.raises(ValueError, match=f"source='{name}Scheduler' is not supported"):
            UrnScheduler.from_config({"_class_name": f"{name}Scheduler"})


def test_the_page_has_this_table():
    assert table() in PAGE.read_text(), "run `make diffusers-table`"
