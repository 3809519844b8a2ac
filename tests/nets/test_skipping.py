"""Skipped blocks: what comes out, what it costs, and that the network is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import urn
from urn.nets import load_digits, skippable, without
from urn.nets.denoiser import DigitsDenoiser


def states() -> torch.Tensor:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_skipped_block_hands_on_its_input() -> None:
    net = DigitsDenoiser().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    model = urn.Model(net, urn.VP.linear(), "v", shape=(1, 8, 8))
    x, t = states(), 0.4
    whole = model(x, t=t)[0]
    with torch.no_grad():
        c = net.condition(torch.full((3,), t), torch.full((3,), 10))
        fine = net.down_block(net.inward(x), c)
        coarse = net.coarse_block_1(net.down(fine), c)  # then neither attention nor the second block
        fine = net.up_block.skip(torch.cat([net.up(coarse), fine], 1))
        expected = net.outward(net.attention_fine(fine))
    thin = without(model, ["attention_coarse", "coarse_block_2", "up_block"])
    assert torch.allclose(thin(x, t=t)[0], expected, atol=1e-6)
    assert torch.equal(model(x, t=t)[0], whole)
    assert not torch.allclose(whole, expected, atol=1e-3)
    assert next(thin.net.parameters()) is next(net.parameters())


def test_the_cost_is_the_share_of_multiplications() -> None:
    model = load_digits()
    found = skippable(model, ["coarse_block_1", "coarse_block_2"], most=2)
    assert list(found) == ["without coarse_block_1", "without coarse_block_2", "without coarse_block_1 coarse_block_2"]
    one, other, both = (cost for _, cost in found.values())
    block = 2 * 64 * 64 * 9 * 16 + 64 * 128  # two convolutions at 4 x 4 and a linear layer
    assert 1 - one == pytest.approx(1 - other)
    assert 1 - both == pytest.approx(2 * (1 - one))
    assert both < one < 1
    from urn.nets.skipping import multiplications

    assert (1 - one) * multiplications(model) == pytest.approx(block)


def test_a_plan_can_ask_another_model_in_each_call() -> None:
    model = load_digits()
    thin = without(model, ["attention_fine"])
    plan = urn.compile_plan("usf", model.process, 3, models=("main", "thin", "main"))
    mixed = urn.execute(plan, {"main": model, "thin": thin}, {"x": states()})["x"]
    plain = urn.execute(urn.compile_plan("usf", model.process, 3), model, {"x": states()})["x"]
    assert 1e-4 < float((mixed - plain).abs().max()) < 2


def test_what_cannot_be_skipped_is_refused() -> None:
    model = load_digits()
    with pytest.raises(ValueError, match="no submodule 'middle'"):
        without(model, ["middle"])
    with pytest.raises(ValueError, match="cannot be skipped"):
        skippable(model, ["down"])
    with pytest.raises(ValueError, match="most=2"):
        skippable(model, ["up_block"], most=2)
    with pytest.raises(ValueError, match=r"torch.nn.Module"):
        without(urn.Model(lambda x, t: x, urn.VP.linear(), shape=(2,)), ["a"])
