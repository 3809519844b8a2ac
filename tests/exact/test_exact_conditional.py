"""Data given a side input, against the joint Gaussian conditioned by hand and against derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from urn.conformance.targets import MIXTURE
from urn.exact import Conditional, Gaussian
from urn.processes import VP, MeanReverting, ResShift

A, B = np.array([[0.8, 0.3], [-0.2, 0.9]]), np.array([0.1, -0.4])
C = np.array([[0.3, 0.1], [0.1, 0.2]])
TARGET = Conditional(Gaussian([0.0, 0.0], C), A, B)
PROCESSES = [MeanReverting(VP.linear(), 0.4), ResShift(kappa=1.1)]
X, Y = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(params=PROCESSES, ids=lambda p: type(p).__name__)
def process(request):
    return request.param


def middle(process):
    return 0.4 * process.t_start


def test_the_posterior_of_the_joint_gaussian(process):
    """y ~ N(0, I), x0 | y, x_t | x0, y written as one Gaussian in (x0, x_t, y), and conditioned on x_t and y."""
    t = middle(process)
    alpha, beta, sigma = (float(f(t)) for f in (process.alpha, process.beta, process.sigma))
    identity, zero = np.eye(2), np.zeros((2, 2))
    root = np.linalg.cholesky(C)
    x0 = np.hstack([A, root, zero])  # on (y, r, epsilon)
    state = alpha * x0 + np.hstack([beta * identity, zero, sigma * identity])
    seen = np.vstack([state, np.hstack([identity, zero, zero])])
    values = np.hstack([X.numpy() - alpha * B, Y.numpy()])
    gain = (x0 @ seen.T) @ np.linalg.inv(seen @ seen.T)
    np.testing.assert_allclose(TARGET.x0(X, Y, process, t).numpy(), values @ gain.T + B, rtol=1e-9, atol=1e-10)


def test_predictions_belong_together(process):
    t = middle(process)
    alpha, beta, sigma = (float(f(t)) for f in (process.alpha, process.beta, process.sigma))
    d_alpha, d_sigma = (float(w) for w in process.velocity_weights(t))
    target = Conditional(MIXTURE, A, B)
    x0, epsilon, v, velocity, score = (
        target.prediction(X, Y, process, t, kind) for kind in ("x0", "epsilon", "v", "velocity", "score")
    )
    torch.testing.assert_close(alpha * x0 + beta * Y + sigma * epsilon, X)
    torch.testing.assert_close(v, alpha * epsilon - sigma * x0)
    torch.testing.assert_close(velocity, d_alpha * x0 + float(process.beta_slope(t)) * Y + d_sigma * epsilon)
    torch.testing.assert_close(score, -epsilon / sigma)
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(target.log_density(x, Y, process, t).sum(), x)
    torch.testing.assert_close(score, gradient)


def test_the_flow_moves_with_the_velocity(process):
    t, step = middle(process), 1e-5 * process.t_start
    there, back = (TARGET.flow(X, Y, process, t, t + d) for d in (step, -step))
    velocity = TARGET.prediction(X, Y, process, t, "velocity")
    torch.testing.assert_close((there - back) / (2 * step), velocity, rtol=1e-6, atol=1e-7)


def test_the_transition_keeps_the_law_of_the_process(process):
    """Drawn through the exact reverse kernel, x_to given y has mean alpha m + beta y and covariance alpha^2 C + sigma^2."""
    t, u = middle(process), 0.5 * middle(process)
    at = {s: tuple(float(f(s)) for f in (process.alpha, process.beta, process.sigma)) for s in (t, u)}

    def mean(s):
        return at[s][0] * TARGET.mean(Y) + at[s][1] * Y

    found, kernel = TARGET.transition(mean(t), Y, process, t, u)
    torch.testing.assert_close(found, mean(u))
    gain = torch.stack(
        [TARGET.transition(mean(t) + torch.eye(2, dtype=torch.float64)[i], Y, process, t, u)[0] - found for i in (0, 1)]
    )[:, 0].T
    c = torch.from_numpy(C)
    law = {s: at[s][0] ** 2 * c + at[s][2] ** 2 * torch.eye(2) for s in (t, u)}
    torch.testing.assert_close(gain @ law[t] @ gain.T + kernel, law[u])


def test_samples_and_model():
    x0 = TARGET.sample(Y.repeat(2000, 1), seed=1)
    residual = x0 - TARGET.mean(Y.repeat(2000, 1))
    torch.testing.assert_close(torch.cov(residual.T), torch.from_numpy(C), rtol=0.1, atol=0.02)
    process = PROCESSES[0]
    (found,) = TARGET.model(process, "x0")(X, Y, t=0.4)
    assert torch.equal(found, TARGET.x0(X, Y, process, 0.4))
    images = Conditional(Gaussian([0.0] * 4, 0.1, shape=(1, 2, 2)), 0.5)
    assert images.x0(torch.ones(3, 1, 2, 2), torch.ones(3, 1, 2, 2), process, 0.4).shape == (3, 1, 2, 2)


def test_refusals():
    with pytest.raises(ValueError, match="matrix has shape"):
        Conditional(Gaussian([0.0, 0.0], 1.0), matrix=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="must be a Gaussian"):
        Conditional(MIXTURE).flow(X, Y, PROCESSES[0], 0.5, 0.4)
