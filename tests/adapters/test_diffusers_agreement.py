"""Scheduler by scheduler: UrnScheduler with a scheduler's config draws what that scheduler draws, or it is said why not."""

from __future__ import annotations

import logging
from pathlib import Path

import diffusers
import pytest
import torch
from adapters_agreement import net, prepared
from adapters_schedulers import AGREES, AGREES_32, PAIRS, REFUSED, Pair, table

import urn
from urn.adapters.diffusers import UrnScheduler

VERSION = "0.42"  # the page's; others have other schedulers
MEASURED = pytest.mark.skipif(
    not diffusers.__version__.startswith(VERSION), reason=f"the table is of diffusers {VERSION}"
)
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


@MEASURED
def test_every_scheduler_is_in_the_table():
    names = {name.removesuffix("Scheduler") for name in dir(diffusers.schedulers) if name.endswith("Scheduler")}
    assert names == {pair.name for pair in PAIRS} | set(REFUSED)
    for name in set(REFUSED) - {"CogVideoXDPM"}:
        with pytest.raises(ValueError, match=f"source='{name}Scheduler' is not supported"):
            UrnScheduler.from_config({"_class_name": f"{name}Scheduler"})


@MEASURED
def test_the_page_has_this_table():
    assert table() in PAGE.read_text(), "run `make diffusers-table`"


def test_ipndm_is_the_method_on_its_circle_after_its_first_step():
    """alpha = cos(pi t/2), sigma = sin(pi t/2), a v network. At t = 1, where alpha = 0, its first step divides 0 by 1e-8, so
    that what the network returns there changes nothing."""
    name, start = "IPNDMScheduler", torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    with prepared({name}, start, double=True):
        scheduler, firsts = diffusers.IPNDMScheduler(), []
        for output in (start, 5 * start):
            scheduler.set_timesteps(10)
            firsts.append(scheduler.step(output, 1.0, start).prev_sample)
        assert torch.equal(*firsts)
        scheduler.set_timesteps(10)
        scheduler.betas, scheduler.alphas = scheduler.betas[1:], scheduler.alphas[1:]
        scheduler.timesteps, x = scheduler.timesteps[1:], start
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, 300 * t), t, x).prev_sample
    model = urn.Model(lambda x, t: net(x, 300 * t[0]), urn.VP.cosine(offset=1e-15), "v")
    found = urn.sample(model, "ipndm", grid=[*scheduler.timesteps.tolist(), 0.0], start=start)
    assert float((found - x).abs().max() / x.abs().max()) < AGREES
