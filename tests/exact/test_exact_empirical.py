"""What data sets add: chunks, nearest neighbours with their bound, labels, and the limit of no noise."""

from __future__ import annotations

import pytest
import torch
from exact_targets import POINTS, states

from urn.exact import Empirical, GaussianMixture
from urn.processes import VE, VP, Flow

KINDS = ("epsilon", "x0", "v", "velocity", "score")


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=rtol * max(1.0, b.abs().max().item()))


def cloud(count: int = 400, dimension: int = 5) -> torch.Tensor:
    """Points of unequal scales along the axes, on one side of the origin."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(count, dimension, generator=generator).double() ** 2 * torch.linspace(0.3, 4.0, dimension).double()
    )


def test_equals_a_mixture_of_vanishing_covariance(process, times):
    exact, limit = Empirical(POINTS), GaussianMixture(torch.full((6,), 1 / 6).double(), POINTS, 1e-13)
    for t in times:
        x = states(exact, process, t)
        for kind in KINDS:
            close(exact.prediction(x, process, t, kind), limit.prediction(x, process, t, kind), 1e-8)
        close(exact.log_density(x, process, t), limit.log_density(x, process, t), 1e-8)
        for a, b in zip(exact.posterior(x, process, t), limit.posterior(x, process, t), strict=True):
            close(a, b, 1e-8)


@pytest.mark.parametrize("neighbours", [None, 20])
@pytest.mark.parametrize("chunk", [1, 7, 399])
def test_chunks_do_not_matter(chunk, neighbours):
    whole = Empirical(cloud(), chunk=400, neighbours=neighbours)
    parts = Empirical(cloud(), chunk=chunk, neighbours=neighbours)
    for t in (0.9, 0.3, 0.02, 0.0):
        x = states(whole, Flow(), t)
        close(parts.prediction(x, Flow(), t, "v"), whole.prediction(x, Flow(), t, "v"))
        if t:
            close(parts.log_density(x, Flow(), t), whole.log_density(x, Flow(), t), 1e-10)
        for a, b in zip(parts.posterior(x, Flow(), t), whole.posterior(x, Flow(), t), strict=True):
            close(a, b)
        close(parts.truncation_bound(x, Flow(), t), whole.truncation_bound(x, Flow(), t))


def test_no_tensor_of_batch_times_data_times_dimension():
    """64 states, 20 000 points, 50 dimensions: 512 MB if it were made. Only a chunk's products are."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result._base is None:
                largest = max(largest, result.numel())
            return result

    target = Empirical(torch.rand(20000, 50), chunk=1000)
    x = torch.rand(64, 50)
    with Watch():
        target.prediction(x, Flow(), 0.1, "v")
    assert largest <= 64 * 1000


@pytest.mark.parametrize("neighbours", [1, 5, 50])
def test_truncation_bound_holds(neighbours):
    data = cloud()
    exact, near = Empirical(data), Empirical(data, neighbours=neighbours, chunk=64)
    for process, times in (
        (Flow(), (1.0, 0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.0)),
        (VE(), (5.0, 0.5, 0.1)),
        (VP.linear(), (0.3, 0.03)),
    ):
        for t in times:
            x = states(exact, process, t, count=40)
            error = (near.x0(x, process, t) - exact.x0(x, process, t)).norm(dim=1)
            assert (error <= near.truncation_bound(x, process, t) + 1e-12).all()


def test_truncation_bound_is_useful_at_small_noise():
    data = cloud()
    near = Empirical(data, neighbours=20)
    bounds = {t: near.truncation_bound(states(near, VE(), t, count=40), VE(), t) for t in (0.3, 0.1, 0.03)}
    assert bounds[0.03].max() < 1e-12 * near.diameter_bound
    assert bounds[0.1].max() < 1e-3 * near.diameter_bound
    assert bounds[0.3].max() < 0.9 * near.diameter_bound
    # nor is it much too large: it takes the points left out to be all as near as the first and as far off as possible
    x = states(near, VE(), 0.3, count=40)
    error = (near.x0(x, VE(), 0.3) - Empirical(data).x0(x, VE(), 0.3)).norm(dim=1)
    assert (near.truncation_bound(x, VE(), 0.3) < 1000 * error).all()


def test_truncation_bound_is_zero_without_truncation():
    assert Empirical(POINTS).truncation_bound(POINTS, VE(), 1.0).tolist() == [0.0] * 6


def test_diameter_bound_is_no_less_than_the_diameter():
    for data in (cloud(), POINTS, torch.tensor([[0.0, 0.0], [1.0, 1.0]])):
        diameter = torch.cdist(data, data).max().item()
        assert diameter * (1 - 1e-6) <= Empirical(data).diameter_bound <= 2 * diameter


def test_nearest_are_those_of_x_over_alpha():
    """With one neighbour x0 is the point nearest to x / alpha, not to x."""
    near = Empirical(torch.tensor([[1.0], [0.25], [-3.0]]), neighbours=1)
    x = torch.tensor([[0.45]])
    assert near.x0(x, Flow(), 0.5).item() == 1.0
    assert near.x0(x, VE(), 0.5).item() == 0.25


def test_without_noise_x0_is_the_nearest_point():
    target = Empirical(cloud())
    x = cloud()[:8] + 1e-3
    for t in (0.0, 1e-9, 1e-6):
        close(target.x0(x, VE(), t), cloud()[:8])


def test_large_offsets_keep_their_digits_in_single_precision():
    """Logits of size 10^9: their differences would be lost in float32."""
    data = torch.tensor([[100.0, 3.0], [100.0, 3.004]])
    x = torch.tensor([[100.0, 3.002]])
    target, t = Empirical(data), 0.003
    gap = (x[0, 1].double() - data[:, 1].double()).square() / (-2 * t**2)
    expected = gap.softmax(0) @ data[:, 1].double()
    assert target.x0(x, VE(), t)[0, 1].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("neighbours", [None, 2])
def test_a_label_restricts_to_its_points(neighbours):
    labels = torch.tensor([1, 1, 0, 0, 1, 0])
    target = Empirical(POINTS, labels=labels, neighbours=neighbours, chunk=2)
    parts = {label: Empirical(POINTS[labels == label], neighbours=neighbours) for label in (0, 1)}
    x, label = states(target, Flow(), 0.6), torch.tensor([0, 1, -1, 1, 0, 0])
    everything = Empirical(POINTS, neighbours=neighbours)
    for name in ("x0", "score", "log_density"):
        result = getattr(target, name)(x, Flow(), 0.6, label=label)
        expected = [
            getattr(parts.get(int(k), everything), name)(x[i : i + 1], Flow(), 0.6) for i, k in enumerate(label)
        ]
        close(result, torch.cat(expected))
    net = target.model(Flow(), predicts="x0").net
    t = torch.full((6,), 0.6, dtype=torch.float64)
    assert torch.equal(net(x, t, label=label), target.x0(x, Flow(), 0.6, label=label))


def test_truncation_bound_counts_the_class_alone():
    """All of class 0 is kept, so nothing is lost there; of class 1 all but one point is."""
    labels = torch.tensor([1, 1, 0, 0, 1, 1])
    target, whole = Empirical(POINTS, labels=labels, neighbours=3), Empirical(POINTS, labels=labels)
    x, label = states(target, Flow(), 0.8), torch.tensor([0, 1, 0, 1, 1, 1])
    bound = target.truncation_bound(x, Flow(), 0.8, label=label)
    error = (target.x0(x, Flow(), 0.8, label=label) - whole.x0(x, Flow(), 0.8, label=label)).norm(dim=1)
    assert (bound[label == 0] == 0).all()
    assert (error <= bound + 1e-12).all()
    assert (bound[label == 1] < target.diameter_bound / 2 + 1e-12).all()


def test_a_class_smaller_than_the_neighbours_is_all_of_it():
    labels = torch.tensor([1, 1, 0, 1, 1, 1])
    target = Empirical(POINTS, labels=labels, neighbours=4)
    only = torch.zeros(6).long()
    close(target.x0(POINTS, VE(), 0.5, label=only), POINTS[2].expand(6, 3))
    assert target.truncation_bound(POINTS, VE(), 0.5, label=only).tolist() == [0.0] * 6


def test_samples_are_points_of_the_class_asked_for():
    labels = torch.tensor([1, 1, 0, 0, 1, 1])
    target = Empirical(POINTS, labels=labels)
    wanted = torch.tensor([0, 1, -1]).repeat(3000)
    draws = target.sample(9000, 0, label=wanted)
    index = (draws[:, None] == POINTS).all(2).double().argmax(1)
    assert (draws == POINTS[index]).all()
    assert (labels[index][wanted >= 0] == wanted[wanted >= 0]).all()
    for value, expected in (
        (0, [0, 0, 1 / 2, 1 / 2, 0, 0]),
        (1, [1 / 4, 1 / 4, 0, 0, 1 / 4, 1 / 4]),
        (-1, [1 / 6] * 6),
    ):
        counts = torch.bincount(index[wanted == value], minlength=6) / 3000
        torch.testing.assert_close(counts, torch.tensor(expected).float(), atol=0.03, rtol=0)


def test_data_are_kept_in_their_precision():
    data = torch.rand(3, 2)
    assert Empirical(data).data.data_ptr() == data.data_ptr()
    assert Empirical(torch.tensor([[0, 16], [8, 4]])).data.dtype == torch.float64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": [1.0, 2.0]}, r"data has shape \(2,\).*\(N, \*S\)"),
        ({"data": torch.empty(0, 3)}, r"data has shape \(0, 3\)"),
        ({"data": [[1.0], [float("nan")]]}, "data .*finite"),
        ({"data": [[1.0], [float("inf")]]}, "data .*finite"),
        ({"data": [[1.0], [2.0]], "chunk": 0}, "chunk is 0.*1 or more"),
        ({"data": [[1.0], [2.0]], "neighbours": 2}, "neighbours is 2.*1 to 1"),
        ({"data": [[1.0], [2.0]], "neighbours": 0}, "neighbours is 0"),
        ({"data": [[1.0], [2.0]], "shape": (2,)}, r"shape is \(2,\).*1 elements"),
        ({"data": [[1.0], [2.0]], "labels": [0]}, r"labels has shape \(1,\)"),
    ],
)
def test_constructor_names_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        Empirical(**options)
