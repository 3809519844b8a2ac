"""urn compare and urn check: figures against the library's own, and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from cli_runs import fails, run
from PIL import Image

import urn
from urn.conformance.targets import exact_end
from urn.exact import GaussianMixture, digits_mixture

PROCESS = urn.VP.linear()


def test_errors_are_those_to_the_exact_trajectory():
    """The reference is a fine plan; against the exact end of every start the figures must be the same."""
    data = digits_mixture()
    model = data.model(PROCESS)
    entries = urn.compare(model, ["ddim", "adams_pc_3"], [5, 10], count=16, seed=3)
    from urn.noise import SeededNoise, sample_seeds

    x = SeededNoise(sample_seeds(3, 16)).normal((0.0, 0.0), 0, torch.empty(16, 1, 8, 8, dtype=torch.float64))
    exact = exact_end(PROCESS, x, 1.0, 0.0, data)
    for entry in entries:
        y = urn.sample(model, entry.plan, start=x)
        assert entry.estimate == pytest.approx(float((y - exact).square().mean().sqrt()), rel=0.02)
        assert entry.low < entry.estimate < entry.high
    by_name = {(entry.method, entry.plan.nfe): entry.estimate for entry in entries}
    assert by_name["adams_pc_3", 10] < by_name["adams_pc_3", 5] < by_name["ddim", 5]


def test_distances_tell_a_sampler_of_other_data():
    """On one target the distance to its own data is near zero, to other data it is their distance."""
    own = GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-0.7, 0.4]], [[0.09, 0.2], [0.02, 0.1]])
    x0 = own.sample(600, 5, torch.float32)
    (near,) = urn.compare(own.model(PROCESS), ["dpmpp_2m_sde"], [40], count=600, data=x0)
    (far,) = urn.compare(own.model(PROCESS), ["dpmpp_2m_sde"], [40], count=600, data=x0 + 1)
    assert near.low < 0.01
    assert abs(near.estimate) < 0.02
    assert far.estimate > 0.5
    assert math.isnan(near.median)


def test_compare_prints_every_row_and_draws_a_plot(tmp_path):
    out = tmp_path / "new" / "plot.png"
    result = run("compare", "digits-exact", "--methods", "ddim,heun", "--steps", "4,6", "--count", 8, "--out", out)
    assert [line.split("│")[3].strip() for line in result.stdout.splitlines() if "│" in line] == ["4", "6", "7", "11"]
    assert Image.open(out).size[0] > 500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "ddim,dmp"], "method='dmp' is unknown"),
        (["--methods", "ddpm"], "method 'ddpm' draws noise, so it has no trajectory to compare: pass data"),
        (["--steps", "5,0"], "--steps '5,0' must be integers of at least 1"),
        (["--steps", "five"], "--steps 'five' must be integers of at least 1"),
    ],
)
def test_compare_refuses(arguments, said):
    assert said in fails("compare", "digits-exact", *arguments)


def test_check_says_what_it_found_and_exits_accordingly():
    result = run("check", "ddim", "--process", "flow")
    assert "ddim: passed" in result.stdout
    assert "fitted 1.0" in result.stdout
    assert "method='dim' is unknown" in fails("check", "dim")
    assert "has no option eta" in fails("check", "dpmpp_2m", "--option", "eta=1")
