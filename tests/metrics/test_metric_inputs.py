"""What all metrics promise alike: kinds of input, messages, no global randomness, examples that run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

from urn import metrics

METRICS = [
    metrics.density_coverage,
    metrics.energy_distance,
    metrics.frechet_distance,
    metrics.mmd,
    metrics.precision_recall,
    metrics.sliced_wasserstein,
    metrics.wasserstein,
]
MODULES = [module.name for module in pkgutil.iter_modules(metrics.__path__, "urn.metrics.")]

every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


@every_metric
def test_bad_input_is_named(metric, skewed) -> None:
    x = skewed(10, 3, 0)
    spoilt = x.clone()
    spoilt[2, 0], spoilt[2, 1], spoilt[7, 2] = float("nan"), float("nan"), float("inf")
    with pytest.raises(ValueError, match="samples must be finite, got NaN or infinity in 2 of 10 rows"):
        metric(spoilt, x)
    with pytest.raises(ValueError, match="data must be finite, got NaN or infinity in 2 of 10 rows"):
        metric(x, spoilt)
    with pytest.raises(ValueError, match=r"samples and data must have the same sample shape S, got \(3,\) and \(2,\)"):
        metric(x, x[:, :2])
    with pytest.raises(ValueError, match=r"\(1, 3\) and \(3, 1\)"):  # equal when flattened, and still a mistake
        metric(x[:, None], x[:, :, None])
    with pytest.raises(ValueError, match=r"samples must have shape .* with N >= 2 .*, got \(1, 3\)"):
        metric(x[:1], x)
    with pytest.raises(ValueError, match=r"data must have shape .*, got \(10, 0\)"):
        metric(x, x[:, :0])
    with pytest.raises(TypeError, match=r"samples must be a torch.Tensor of shape \(N, \*S\), got ndarray"):
        metric(x.numpy(), x)
    with pytest.raises(TypeError, match=r"data must be real, got torch\.complex64"):
        metric(x, x.to(torch.complex64))


@every_metric
def test_shape_dtype_and_gradients_do_not_matter(metric, skewed) -> None:
    x, y = (10 * skewed(20, 12, 0)).round(), (5 + 8 * skewed(25, 12, 1)).round()
    truth = metric(x, y)
    assert metric(x.reshape(20, 3, 4).float().requires_grad_(), y.reshape(25, 3, 4).int()) == truth
    assert metric(x, y.bfloat16().double()) == metric(x, y.bfloat16())


@every_metric
def test_one_flat_axis_is_points_on_a_line(metric, skewed) -> None:
    x, y = skewed(20, 1, 0), skewed(25, 1, 1)
    assert metric(x[:, 0], y[:, 0]) == metric(x, y)


@every_metric
def test_nothing_global_is_drawn_or_overwritten(metric, skewed) -> None:
    x, y = skewed(20, 3, 0), skewed(25, 3, 1)
    state, copies = torch.get_rng_state(), (x.clone(), y.clone())
    assert metric(x, y) == metric(x, y)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_metric
def test_a_gpu_agrees_with_the_cpu(metric, skewed) -> None:
    x, y = skewed(300, 8, 0), skewed(200, 8, 1, rate=0.8)
    assert metric(x.cuda(), y) == pytest.approx(metric(x, y), rel=1e-9)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
