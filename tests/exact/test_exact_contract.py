"""What all targets promise, for every process."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from exact_targets import MEANS, TARGETS, states
from scipy.stats import multivariate_normal

from urn.exact import Empirical, Gaussian, GaussianMixture
from urn.model import Model
from urn.processes import VE, VP, Flow

KINDS = ("epsilon", "x0", "v", "velocity", "score")


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-9) -> None:
    """Equal to rtol of the largest entry of b."""
    torch.testing.assert_close(a, b, rtol=0, atol=rtol * max(1.0, b.abs().max().item()))


def columns(process, t, x):
    t = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
    return t, process.alpha(t)[:, None], process.sigma(t)[:, None]


def test_score_is_the_gradient_of_log_density(target, process, times):
    for t in times:
        x = states(target, process, t).requires_grad_()
        (gradient,) = torch.autograd.grad(target.log_density(x, process, t).sum(), x)
        close(target.score(x, process, t), gradient)


def test_x0_and_epsilon_recompose_x(target, process, times):
    for t in times:
        x = states(target, process, t)
        _, alpha, sigma = columns(process, t, x)
        close(alpha * target.x0(x, process, t) + sigma * target.epsilon(x, process, t), x, 1e-13)


def test_five_kinds_are_combinations_of_x0_and_epsilon(target, process, times):
    for time in times:
        x = states(target, process, time)
        t, alpha, sigma = columns(process, time, x)
        alpha_slope, sigma_slope = (weight[:, None] for weight in process.velocity_weights(t))
        x0, epsilon = target.x0(x, process, time), target.epsilon(x, process, time)
        close(target.prediction(x, process, time, "v"), alpha * epsilon - sigma * x0, 1e-12)
        close(target.prediction(x, process, time, "velocity"), alpha_slope * x0 + sigma_slope * epsilon, 1e-12)
        close(target.prediction(x, process, time, "score"), -epsilon / sigma, 1e-12)


def test_posterior_covariance_is_the_jacobian_of_x0(target, process, times):
    """Cov(x0 | x) = (sigma^2 / alpha) d E[x0 | x] / dx, Tweedie's second formula."""
    for t in times:
        x = states(target, process, t)
        _, alpha, sigma = columns(process, t, x)
        jacobian = torch.autograd.functional.jacobian(lambda x, t=t: target.x0(x, process, t).sum(0), x).transpose(0, 1)
        mean, covariance = target.posterior(x, process, t)
        close(mean, target.x0(x, process, t), 1e-13)
        close(covariance, (sigma**2 / alpha)[:, :, None] * jacobian, 1e-9)


def test_one_time_per_sample_is_each_sample_alone(target, process, times):
    t = times[-1]
    x = states(target, process, t)
    for kind in KINDS:
        alone = [target.prediction(x[i : i + 1], process, t[i].item(), kind) for i in range(len(x))]
        close(target.prediction(x, process, t, kind), torch.cat(alone), 1e-13)


def prior_mean(target):
    """E[x0] by the target's own parameters."""
    if isinstance(target, Gaussian):
        return target.mean
    return target.weights @ target.means if isinstance(target, GaussianMixture) else target.data.mean(0)


def one_dimensional():
    """The targets' first two laws on a line, and their densities by SciPy."""
    mixture = GaussianMixture([0.7, 0.3], [[1.2], [-2.0]], [0.09, 1.7])
    return {
        "gaussian": (Gaussian([1.2], 0.3), lambda y: multivariate_normal(1.2, 0.3).pdf(y)),
        "mixture": (
            mixture,
            lambda y: 0.7 * multivariate_normal(1.2, 0.09).pdf(y) + 0.3 * multivariate_normal(-2.0, 1.7).pdf(y),
        ),
    }


@pytest.mark.parametrize("name", one_dimensional())
def test_posterior_and_density_by_quadrature_on_a_line(name, process, times):
    target, density = one_dimensional()[name]
    grid = np.linspace(-12, 12, 24001)
    prior, width = density(grid), grid[1] - grid[0]
    for t in times[:3]:
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        x = states(target, process, t, count=3)
        mean, covariance = target.posterior(x, process, t)
        for i, value in enumerate(x[:, 0].tolist()):
            joint = prior * np.exp(-((value - alpha * grid) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)
            mass = joint.sum() * width
            expected = (joint * grid).sum() * width / mass
            spread = (joint * (grid - expected) ** 2).sum() * width / mass
            assert mean[i, 0].item() == pytest.approx(expected, rel=1e-8, abs=1e-8)
            assert covariance[i, 0, 0].item() == pytest.approx(spread, rel=1e-8)
            assert target.log_density(x, process, t)[i].item() == pytest.approx(np.log(mass), rel=1e-8, abs=1e-8)


def test_mixture_posterior_by_quadrature_in_a_plane():
    covariances = np.array([[[0.7, 0.3], [0.3, 0.2]], [[0.05, -0.04], [-0.04, 0.4]]])
    target = GaussianMixture([0.8, 0.2], [[1.0, -0.5], [-1.0, 0.8]], covariances)
    axis = np.linspace(-6, 6, 601)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    prior = 0.8 * multivariate_normal([1.0, -0.5], covariances[0]).pdf(grid)
    prior += 0.2 * multivariate_normal([-1.0, 0.8], covariances[1]).pdf(grid)
    for process, t in ((VP.linear(), 0.35), (VE(), 0.6), (Flow(), 0.6)):
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        x = states(target, process, t, count=2)
        mean, covariance = (value.numpy() for value in target.posterior(x, process, t))
        for i in range(2):
            share = prior * np.exp(-((x[i].numpy() - alpha * grid) ** 2).sum(1) / (2 * sigma**2))
            share /= share.sum()
            np.testing.assert_allclose(mean[i], share @ grid, atol=1e-8)
            np.testing.assert_allclose(covariance[i], np.cov(grid.T, aweights=share, ddof=0), atol=1e-8)


def test_empirical_predictions_by_explicit_sums(process, times):
    data = MEANS.numpy()
    target = Empirical(MEANS)
    for t in times[:3]:
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        x = states(target, process, t, count=3)
        for i, row in enumerate(x.numpy()):
            share = np.array([multivariate_normal(alpha * y, sigma**2).pdf(row) for y in data]) / 3
            x0 = (share / share.sum()) @ data
            np.testing.assert_allclose(target.x0(x, process, t)[i], x0, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(
                target.epsilon(x, process, t)[i], (row - alpha * x0) / sigma, rtol=1e-9, atol=1e-9
            )
            assert target.log_density(x, process, t)[i].item() == pytest.approx(np.log(share.sum()), rel=1e-10)


@pytest.mark.parametrize("name", [*one_dimensional(), "empirical"])
def test_log_density_integrates_to_one(name, process, times):
    target = Empirical(MEANS[:, :1]) if name == "empirical" else one_dimensional()[name][0]
    for t in times[:3]:
        half = 5 * float(process.alpha(t)) + 9 * float(process.sigma(t)) + 6
        grid = torch.linspace(-half, half, 20001, dtype=torch.float64)
        total = torch.trapezoid(target.log_density(grid[:, None], process, t).exp(), grid).item()
        assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("process", "ends"), [(VP.linear(), (0.0,)), (VP.cosine(), (1.0, 0.0)), (Flow(), (1.0, 0.0)), (VE(), (0.0,))]
)
def test_limits_at_both_ends(target, process, ends):
    """At alpha = 0, x says nothing of x0 and is epsilon; at sigma = 0, it is x0 and says nothing of epsilon."""
    for t in ends:
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        x = states(target, process, t)
        x0, epsilon, v = (target.prediction(x, process, t, kind) for kind in ("x0", "epsilon", "v"))
        if alpha == 0:
            if not getattr(target, "neighbours", None):  # all points are then equally near: any three may be kept
                close(x0, prior_mean(target).expand(6, 3), 1e-13)
            close(epsilon, x / sigma, 1e-13)
            close(target.score(x, process, t), -x / sigma**2, 1e-13)
            assert target.log_density(x, process, t).isfinite().all()
        else:
            close(x0, x / alpha, 1e-13)
            close(epsilon, torch.zeros_like(x), 1e-13)
        close(v, alpha * epsilon - sigma * x0, 1e-13)
        mean, covariance = target.posterior(x, process, t)
        close(mean, x0, 1e-12)
        assert covariance.isfinite().all()


def test_values_approach_the_ends_continuously(target):
    process = VP.cosine()
    truncated = getattr(target, "neighbours", None)  # which points are nearest changes at alpha = 0
    for end, near in ((0.0, 1e-12),) if truncated else ((1.0, 1 - 1e-9), (0.0, 1e-12)):
        x = states(target, process, end)
        for kind in ("x0", "epsilon", "v"):
            close(target.prediction(x, process, near, kind), target.prediction(x, process, end, kind), 1e-4)


def test_singleprecision_agrees_with_double(target, process, times):
    for t in times:
        x = states(target, process, t).float()
        for kind in KINDS:
            single, double = (target.prediction(y, process, t, kind) for y in (x, x.double()))
            assert single.dtype == torch.float32
            close(single.double(), double, 2e-4)
        close(target.log_density(x, process, t).double(), target.log_density(x.double(), process, t), 2e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_single_and_returns_half(target, dtype):
    process = VP.linear()
    x = states(target, process, 0.4).to(dtype)
    for result in (*target.posterior(x, process, 0.4), target.log_density(x, process, 0.4)):
        assert result.dtype == dtype
    v = target.prediction(x, process, torch.full((6,), 0.4), "v")
    assert v.dtype == dtype
    torch.testing.assert_close(v, target.prediction(x.float(), process, 0.4, "v").to(dtype), rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, on its first jvp
def test_derivative_in_t_is_each_samples_own(target):
    """Equal times are computed once, but not where they carry derivatives."""
    process, step = VP.linear(), 1e-6
    x = states(target, process, 0.4)
    t = torch.full((6,), 0.4, dtype=torch.float64)
    predict = lambda t: target.prediction(x, process, t, "v")  # noqa: E731
    central = (predict(0.4 + step) - predict(0.4 - step)) / (2 * step)
    tangent = torch.arange(1.0, 7.0, dtype=torch.float64)
    _, forward = torch.func.jvp(predict, (t,), (tangent,))
    close(forward, central * tangent[:, None], 1e-5)
    (backward,) = torch.autograd.grad(predict(t.requires_grad_()).sum(), t)
    close(backward, central.sum(1), 1e-5)


def test_sample_has_the_laws_mean_and_covariance(target):
    """At alpha = 0 the posterior is the prior, so it gives the covariance; 5 standard errors, fixed seed."""
    if getattr(target, "neighbours", None):
        target = Empirical(target.data)
    draws = target.sample(100_000, 3)
    mean, covariance = prior_mean(target), target.posterior(draws[:1], Flow(), 1.0)[1][0]
    error = (covariance.diagonal() / len(draws)).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * error).all()
    products = (draws - mean)[:, :, None] * (draws - mean)[:, None, :]
    error = products.std(0) / len(draws) ** 0.5
    assert ((products.mean(0) - covariance).abs() < 5 * error + 1e-12).all()


def test_sample_depends_on_its_seed_alone(target):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draws = target.sample(5, 7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(target.sample(5, 7), draws)
    assert not torch.equal(target.sample(5, 8), draws)
    assert target.sample(5, 7, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_model_is_the_prediction(target, kind):
    process = Flow()
    model = target.model(process, predicts=kind)
    assert isinstance(model, Model)
    assert (model.predicts, model.process, model.shape) == (kind, process, target.shape)
    x, t = states(target, process, 0.3), torch.linspace(0.2, 0.9, 6, dtype=torch.float64)
    assert torch.equal(model.net(x, t), target.prediction(x, process, t, kind))


def test_model_predicts_v_unless_told_otherwise(target):
    model = target.model(VP.cosine())
    assert model.predicts == "v"
    assert model.net(states(target, VP.cosine(), 1.0), torch.ones(6)).isfinite().all()


def test_shapes_are_the_events():
    for target in (
        Gaussian(torch.arange(12.0), 0.5, shape=(3, 2, 2)),
        GaussianMixture([1.0], torch.arange(12.0)[None], 0.5, shape=(3, 2, 2)),
        Empirical(torch.arange(24.0).reshape(2, 3, 2, 2)),
    ):
        x = target.sample(4, 0)
        assert x.shape == (4, 3, 2, 2)
        assert target.x0(x, VE(), 0.3).shape == x.shape
        assert target.log_density(x, VE(), 0.3).shape == (4,)
        mean, covariance = target.posterior(x, VE(), 0.3)
        assert (mean.shape, covariance.shape) == ((4, 12), (4, 12, 12))
        assert target.sample(0, 0).shape == (0, 3, 2, 2)
        assert target.x0(x[:0], VE(), 0.3).shape == (0, 3, 2, 2)


def test_first_use_under_inference_mode_does_not_forbid_gradients():
    with torch.inference_mode():
        fresh = GaussianMixture([0.4, 0.6], MEANS[:2].tolist(), [0.1, 0.7])
        fresh.x0(torch.ones(1, 3, dtype=torch.float64), VE(), 0.5)
    x = torch.ones(1, 3, dtype=torch.float64, requires_grad=True)
    fresh.x0(x, VE(), 0.5).sum().backward()
    assert x.grad.isfinite().all()


def test_wrong_calls_name_argument_value_and_what_is_allowed(target):
    x = states(target, VE(), 0.5)
    with pytest.raises(ValueError, match=r"kind='noise'.*epsilon, x0, v, velocity, score"):
        target.prediction(x, VE(), 0.5, "noise")
    with pytest.raises(ValueError, match=r"x has shape \(6, 2\).*\(3,\)"):
        target.x0(x[:, :2], VE(), 0.5)
    with pytest.raises(ValueError, match=r"torch.int64.*floating"):
        target.x0(x.long(), VE(), 0.5)
    with pytest.raises(ValueError, match=r"t has shape \(4,\).*\(6,\)"):
        target.x0(x, VE(), torch.full((4,), 0.5))


def test_all_targets_have_the_same_methods():
    contract = ("sample", "x0", "epsilon", "score", "prediction", "log_density", "posterior", "model")
    for target in TARGETS.values():
        for name in contract:
            parameters = list(inspect.signature(getattr(target, name)).parameters)
            wanted = list(inspect.signature(getattr(Gaussian, name)).parameters)[1:]
            assert parameters[: len(wanted)] == wanted
