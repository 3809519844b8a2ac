"""The training loop: its formulas, and that a stopped run ends in the bits of one that was not stopped."""

import math
import os
import signal
import threading

import pytest
import torch
from torch import nn

from urn import VP
from urn.nets import DigitsDenoiser, Recipe, TrainingInterrupted, digits, train
from urn.nets.digits_network import digits_loss
from urn.nets.loss import draw_times, v_loss
from urn.nets.training import move_average

PROCESS = VP.linear()


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_net():
    torch.manual_seed(3)
    return DigitsDenoiser(8, 8, embedding=8, heads=2, dropout=0.2)


def same_bits(left, right):
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class StopAt:
    """A loss that sends the process a Ctrl-C in its n-th call."""

    def __init__(self, loss, calls):
        self.loss, self.calls = loss, calls

    def __call__(self, net):
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return self.loss(net)


def test_a_run_stopped_twice_and_resumed_ends_in_the_same_bits(tmp_path):
    recipe, loss = Recipe(steps=12, warmup=3, seed=5), digits_loss(PROCESS, batch=16)
    whole = train(small_net(), loss, recipe, progress=False)
    file = tmp_path / "new" / "checkpoint.pt"
    for calls in (4, 5):
        with pytest.raises(
            TrainingInterrupted, match=r"stopped after \d of 12 updates; run the same again .*checkpoint"
        ):
            train(small_net(), StopAt(loss, calls), recipe, file, progress=False)
    parts = train(small_net(), loss, recipe, file, progress=False)
    assert parts.step == whole.step == 12
    assert same_bits(parts.net, whole.net)
    assert same_bits(parts.averaged, whole.averaged)
    assert parts.losses == whole.losses
    assert [f.name for f in file.parent.iterdir()] == ["checkpoint.pt"]


def test_a_finished_run_is_not_run_again(tmp_path):
    recipe, loss, file = Recipe(steps=3), digits_loss(PROCESS, batch=8), tmp_path / "c.pt"
    first = train(small_net(), loss, recipe, file, progress=False)
    again = train(small_net(), lambda net: pytest.fail("an update was made"), recipe, file, progress=False)
    assert same_bits(first.averaged, again.averaged)
    assert first.seconds == again.seconds


def test_the_seed_decides_and_the_callers_generator_is_left_alone():
    loss = digits_loss(PROCESS, batch=8)
    nets = [small_net() for _ in range(3)]
    before = torch.get_rng_state()
    one, two, other = (
        train(net, loss, Recipe(steps=3, seed=seed), progress=False) for net, seed in zip(nets, (0, 0, 1), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(one.net, two.net)
    assert not same_bits(one.net, other.net)


def test_an_interrupt_without_a_checkpoint_says_that_nothing_is_kept():
    before = signal.getsignal(signal.SIGINT)  # a job in a shell's background starts with it ignored
    with pytest.raises(KeyboardInterrupt, match="without a checkpoint file nothing is kept"):
        train(small_net(), StopAt(digits_loss(PROCESS, 8), 1), Recipe(steps=4), progress=False)
    assert signal.getsignal(signal.SIGINT) is before


def test_it_trains_in_a_thread_where_signals_cannot_be_handled():
    ends = []
    args = (small_net(), digits_loss(PROCESS, 8), Recipe(steps=2))
    thread = threading.Thread(target=lambda: ends.append(train(*args, progress=False)))
    thread.start()
    thread.join()
    assert ends[0].step == 2


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    loss, file = digits_loss(PROCESS, 8), tmp_path / "c.pt"
    train(small_net(), loss, Recipe(steps=2), file, progress=False)
    with pytest.raises(ValueError, match=r"c\.pt is of another run: steps was 2, is 3; seed was 0, is 1: remove it"):
        train(small_net(), loss, Recipe(steps=3, seed=1), file, progress=False)
    with pytest.raises(ValueError, match=r"the network had .*Linear\(in_features=8.*, has .*Linear\(in_features=16"):
        train(DigitsDenoiser(8, 8, embedding=16, heads=2, dropout=0.2), loss, Recipe(steps=2), file, progress=False)
    for change, difference in (({"heads": 4}, "heads=2.*heads=4"), ({"dropout": 0.3}, "p=0.2.*p=0.3")):
        net = DigitsDenoiser(**{**small_net().options, **change})
        with pytest.raises(ValueError, match=difference):
            train(net, loss, Recipe(steps=2), file, progress=False)
    train(small_net(), loss, Recipe(steps=3), file, resume=False, progress=False)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"hello" * 100])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    loss, file = digits_loss(PROCESS, 8), tmp_path / "c.pt"
    train(small_net(), loss, Recipe(steps=1), file, progress=False)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"checkpoint .*c\.pt is damaged or no checkpoint .* resume=False"):
        train(small_net(), loss, Recipe(steps=1), file, progress=False)


def test_a_foreign_file_is_refused_and_its_code_not_run(tmp_path):
    file = tmp_path / "c.pt"
    torch.save({"weights": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="is no checkpoint of Urn's training"):
        train(small_net(), digits_loss(PROCESS, 8), Recipe(steps=1), file, progress=False)


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(ValueError, match=r"the loss is nan after 0 updates"):
        train(small_net(), lambda net: net.inward.weight.sum() * math.nan, Recipe(steps=4), progress=False)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"clip": -1.0}, {"ema": 1.0}, {"warmup": -1}])
def test_wrong_recipes_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**{"steps": 10, **wrong})


def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine():
    recipe = Recipe(steps=1000, learning_rate=1.0, warmup=10)
    assert recipe.rate(0) == pytest.approx(0.1)
    assert recipe.rate(4) == pytest.approx(0.5, rel=1e-3)
    assert recipe.rate(500) == pytest.approx(0.505)
    assert recipe.rate(1000) == pytest.approx(0.01)


def test_the_average_of_the_weights():
    averaged, net = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        averaged.weight.fill_(1.0)
        net.weight.fill_(3.0)
        net.running_mean.fill_(7.0)
    move_average(averaged, net, 0.75)
    assert averaged.weight.item() == pytest.approx(0.75 * 1 + 0.25 * 3)
    assert averaged.running_mean.item() == 7.0


def test_the_average_follows_at_once_at_first():
    seen = []

    def loss(net):
        seen.append(net.weight.item())
        return -net.weight.sum()

    net = nn.Linear(1, 1, bias=False)
    end = train(net, loss, Recipe(steps=2, warmup=0, weight_decay=0.0, ema=0.9), progress=False)
    first, second, third = *seen, net.weight.item()
    after_one = first + (1 - 2 / 11) * (second - first)
    assert end.averaged.weight.item() == pytest.approx(after_one + (1 - 3 / 12) * (third - after_one))


def test_the_loss_is_zero_for_the_network_that_knows_v():
    x0, t = digits("test")[0][:16], draw_times(PROCESS, 16)
    alpha, sigma = (f(t).float().view(-1, 1, 1, 1) for f in (PROCESS.alpha, PROCESS.sigma))

    def knows(x, t, label):
        return (alpha * x - x0) / sigma  # from x = alpha x0 + sigma epsilon and alpha^2 + sigma^2 = 1

    def knows_x0_only(x, t, label):
        return -sigma * x0  # leaves alpha epsilon

    assert float(v_loss(knows, PROCESS, x0, None, t)) < 1e-6
    torch.manual_seed(0)
    expected = float((alpha**2).mean())
    assert float(v_loss(knows_x0_only, PROCESS, x0, None, t)) == pytest.approx(expected, rel=0.2)


def test_times_are_partly_uniform_and_partly_normal_in_lambda():
    torch.manual_seed(0)
    t = draw_times(PROCESS, 10_000, uniform_share=0.3, lambda_mean=0.5, lambda_std=0.8)
    assert t.dtype == torch.float64
    assert float(t.min()) >= 1e-3
    assert float(t.max()) <= 1
    uniform, rest = t[:3000], PROCESS.lambda_(t[3000:])
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(uniform.var()) == pytest.approx(1 / 12, rel=0.02)
    assert float(rest.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(rest.std()) == pytest.approx(0.8, rel=0.02)


def test_the_loss_of_the_digits_network_falls():
    recipe = Recipe(steps=60, warmup=5, learning_rate=1e-2)
    end = train(small_net(), digits_loss(PROCESS, 32), recipe, progress=False)
    assert len(end.losses) == 60
    assert sum(end.losses[:2]) / 2 > 0.7  # a network that returns zero has the mean of v^2, about 0.8
    assert sum(end.losses[-20:]) / 20 < 0.6
