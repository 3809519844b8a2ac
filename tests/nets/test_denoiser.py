"""The digits network: shapes, labels, dtypes, and that its attention can be perturbed by hooks."""

import pytest
import torch

from urn.nets import DigitsDenoiser
from urn.nets.denoiser import SelfAttention


@pytest.fixture
def net():
    """A small network whose zero layers were filled, so that every part of it shows in the output."""
    torch.manual_seed(0)
    net = DigitsDenoiser(8, 16, embedding=8, heads=2, dropout=0.5).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


X, T = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0.0, 0.01, 0.5, 1.0])


def test_the_output_is_like_x_and_depends_on_x_t_and_label(net):
    label = torch.tensor([1, 2, 3, 10])
    output = net(X, T, label)
    assert output.shape == X.shape
    assert torch.isfinite(output).all()
    for other in (net(X + 0.1, T, label), net(X, T + 0.01, label), net(X, T, (label + 1) % 11)):
        assert ((other - output).flatten(1).abs().amax(1) > 1e-3).all()


def test_none_ten_and_negative_labels_are_the_null_class(net):
    expected = net(X, T, None)
    for label in (torch.full((4,), 10), torch.full((4,), -1), torch.tensor([-7, 10, -1, 10]), torch.tensor(10)):
        assert torch.equal(net(X, T, label), expected)
    assert not torch.allclose(net(X, T, torch.zeros(4).long()), expected)


def test_samples_do_not_see_each_other(net):
    label = torch.tensor([1, 2, 3, 10])
    alone = torch.cat([net(X[i : i + 1], T[i : i + 1], label[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, net(X, T, label))


@pytest.mark.parametrize(
    ("x", "label", "message"),
    [
        (torch.zeros(4, 3, 8, 8), None, r"x of shape \(4, 3, 8, 8\)"),
        (X, torch.tensor([0, 1, 2, 11]), r"label=11 must be 0 ... 9"),
        (X, torch.zeros(3).long(), r"label: torch.int64 of shape \(3,\)"),
        (X, torch.zeros(4), r"label: torch.float32"),
    ],
)
def test_wrong_inputs_are_refused(net, x, label, message):
    with pytest.raises(ValueError, match=message):
        net(x, T, label)


@pytest.mark.parametrize(
    "options", [{"width": 12}, {"coarse_width": 0}, {"heads": 3}, {"heads": 0}, {"embedding": 7}, {"dropout": 1.0}]
)
def test_wrong_sizes_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DigitsDenoiser(**options)


def test_it_computes_in_its_own_dtype_and_returns_that_of_x(net):
    label = torch.tensor([1, 2, 3, 10])
    assert net(X.double(), T.double(), label).dtype == torch.float64
    exact = net.double()(X.double(), T.double(), label)
    torch.testing.assert_close(net.float()(X, T, label), exact.float(), rtol=1e-4, atol=1e-4)
    half = net.bfloat16()(X, T, label)  # an angle of 1000 t radians in bfloat16 would be noise
    assert half.dtype == torch.float32
    assert (half - exact).norm() < 0.05 * exact.norm()


def test_dropout_acts_in_training_only(net):
    assert torch.equal(net(X, T), net(X, T))
    net.train()
    assert not torch.equal(net(X, T), net(X, T))


@pytest.mark.parametrize("name", ["attention_coarse", "attention_fine"])
def test_attention_can_be_replaced_by_the_identity(net, name):
    attention = getattr(net, name)
    assert isinstance(attention, SelfAttention)
    plain = net(X, T)
    handle = attention.attend.register_forward_hook(lambda module, inputs, output: inputs[2])
    assert (net(X, T) - plain).abs().max() > 1e-3
    handle.remove()
    assert torch.equal(net(X, T), plain)


def test_attention_is_softmax_of_scaled_products(net):
    q, k, v = torch.randn(3, 2, 2, 5, 4)
    expected = torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v
    torch.testing.assert_close(net.attention_fine.attend(q, k, v), expected)
