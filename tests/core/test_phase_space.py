"""Phase-space Langevin diffusion: its marginals, its exact models, and states of two components through the front door."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import urn
from urn.exact import Gaussian, GaussianMixture, joint_model, joint_sample
from urn.plan import PlanError
from urn.processes import PhaseSpace, process_from_json, process_to_json

PROCESSES = [PhaseSpace(), PhaseSpace(gamma=0.0, nu=4.0, beta=4.0), PhaseSpace(gamma=0.5, nu=3.0, beta=6.0, spread=0.2)]
MIXTURE = GaussianMixture([0.3, 0.7], [[1.5, -0.5], [-0.8, 1.0]], [[[0.5, 0.2], [0.2, 0.3]], [[0.05, 0.0], [0.0, 0.4]]])


@pytest.mark.parametrize("process", PROCESSES)
def test_marginals_are_those_of_the_sde(process: PhaseSpace) -> None:
    """mean' = (beta/2) F mean and S' = (beta/2)(F S + S F^T) + beta D, by SciPy."""
    drift, rates, pace = process.drift.numpy(), np.diag(process.noise_rates.numpy()), process.beta / 2

    def slope(t: float, y: np.ndarray) -> np.ndarray:
        mean, covariance = y[:2], y[2:].reshape(2, 2)
        moved = drift @ covariance
        return pace * np.concatenate([drift @ mean, (moved + moved.T + 2 * rates).ravel()])

    start = np.array([1.0, 0.0, 0.0, 0.0, 0.0, process.spread * process.mass])
    times = torch.tensor([1e-4, 0.03, 0.4, 1.0], dtype=torch.float64)
    found = solve_ivp(slope, (0, 1), start, t_eval=times.numpy(), rtol=1e-12, atol=1e-15).y.T
    np.testing.assert_allclose(process.mean_weights(times).numpy(), found[:, :2], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(process.covariance(times).reshape(-1, 4).numpy(), found[:, 2:], rtol=1e-6, atol=1e-12)
    x_only = process.alpha(times), process.sigma(times) ** 2
    np.testing.assert_allclose(torch.stack(x_only, 1).numpy(), found[:, [0, 2]], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES)
def test_lambda_and_the_slopes(process: PhaseSpace) -> None:
    l = torch.linspace(-1.5, 5, 9, dtype=torch.float64, requires_grad=True)
    t = process.t_of_lambda(l)
    torch.testing.assert_close(process.lambda_(t), l, rtol=0, atol=1e-10)
    at = t.detach().requires_grad_()
    for value, slope in zip((process.alpha(at), process.sigma(at)), process.velocity_weights(at), strict=True):
        torch.testing.assert_close(torch.autograd.grad(value.sum(), at)[0], slope.detach(), rtol=1e-8, atol=1e-10)
    (by_lambda,) = torch.autograd.grad(t.sum(), l)
    (by_t,) = torch.autograd.grad(process.lambda_(at).sum(), at)
    torch.testing.assert_close(by_lambda, 1 / by_t, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("process", PROCESSES)
def test_exact_scores_are_gradients_of_the_joint_density(process: PhaseSpace) -> None:
    """Of the mixture in the four numbers (x, m) whose components are the pushed-forward ones."""
    t = 0.3
    weights, covariance = process.mean_weights(t), process.covariance(t)
    means = [torch.kron(weights, mean) for mean in torch.tensor([[1.5, -0.5], [-0.8, 1.0]], dtype=torch.float64)]
    spreads = torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.05, 0.0], [0.0, 0.4]]], dtype=torch.float64)
    identity = torch.eye(2, dtype=torch.float64)
    full = [torch.kron(torch.outer(weights, weights), one) + torch.kron(covariance, identity) for one in spreads]
    laws = [torch.distributions.MultivariateNormal(mean, one) for mean, one in zip(means, full, strict=True)]
    z = torch.cat(joint_sample(MIXTURE, process, t, 6, 4), 1).requires_grad_()
    log_p = torch.logsumexp(torch.stack([law.log_prob(z) for law in laws]) + torch.tensor([[0.3], [0.7]]).log(), 0)
    (expected,) = torch.autograd.grad(log_p.sum(), z)
    x, m = z.detach().split(2, 1)
    scores = joint_model(MIXTURE, process).net(x, m, torch.full((6,), t, dtype=torch.float64))
    torch.testing.assert_close(torch.cat(scores, 1), expected, rtol=1e-7, atol=1e-8)


def test_joint_draws_have_the_law_of_the_moments() -> None:
    process, t, data = PROCESSES[2], 0.2, Gaussian([1.0, -1.0], [[0.5, 0.2], [0.2, 0.3]])
    x, m = joint_sample(data, process, t, 40_000, 0)
    weights = process.mean_weights(t)
    expected = torch.kron(torch.outer(weights, weights), data.covariance) + torch.kron(
        process.covariance(t), torch.eye(2, dtype=torch.float64)
    )
    z = torch.cat([x, m], 1)
    torch.testing.assert_close(torch.cov(z.T), expected, rtol=0, atol=0.02)
    torch.testing.assert_close(z.mean(0), torch.kron(weights, data.mean), rtol=0, atol=0.02)


def drawn(model: urn.Model, **given: object) -> Tensor:
    settings = {"steps": 12, "grid": "lambda", "dtype": torch.float64, "seed": 5, **given}
    return urn.sample(model, "psld_heun", (6, 2), **settings)


@pytest.mark.parametrize("name", ["psld_heun", "psld_conjugate", "sscs"])
def test_what_the_network_predicts_does_not_matter(name: str) -> None:
    process = PROCESSES[2]
    scores = joint_model(MIXTURE, process)

    def epsilons(x: Tensor, m: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        factor = torch.linalg.cholesky(process.covariance(t))  # epsilon = -L^T score
        pair = torch.stack(scores.net(x, m, t), -1)
        return tuple((-pair @ factor.to(pair)).unbind(-1))

    nets = [scores, joint_model(MIXTURE, process, scores=False)]
    nets.append(replace(scores, net=epsilons, predicts=("epsilon", "epsilon_m")))
    plan = urn.compile_plan(name, process, 12, "lambda")
    one, *others = (urn.sample(net, plan, (6, 2), dtype=torch.float64, seed=5) for net in nets)
    for other in others:
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


def test_samples_from_the_prior_have_the_data_s_law() -> None:
    """Within four standard errors of mean and covariance, at 60 steps of a method of order two."""
    data = Gaussian([0.5, -1.0], [[0.5, 0.2], [0.2, 0.3]])
    x = urn.sample(joint_model(data, PROCESSES[2]), "psld_heun", (4000, 2), steps=60, seed=1, dtype=torch.float64)
    torch.testing.assert_close(x.mean(0), data.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(torch.cov(x.T), data.covariance, rtol=0, atol=0.06)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    # element by element: the exact network's matrix products round by the batch
    model = urn.Model(lambda x, m, t: (-torch.tanh(x) - m / 2, -m), PROCESSES[0], ("score", "score_m"))
    whole = drawn(model)
    assert torch.equal(drawn(model, batch_size=4), whole)
    x, m = torch.ones(2, 6, 2, dtype=torch.float64)
    given = urn.sample(model, "psld_heun", start=x, inputs={"m": m}, steps=12, grid="lambda")
    assert not torch.equal(given, whole)
    assert torch.equal(given[0], given[5])


def test_the_plan_is_a_value() -> None:
    plan = urn.compile_plan("sscs", PROCESSES[0], 4, "lambda")
    assert urn.Plan.from_json(plan.to_json()) == plan
    assert "input m ~ N(0, 0.5^2)" in str(plan)
    assert plan.stochastic
    assert plan.nfe == 4
    assert process_from_json(process_to_json(PROCESSES[2])) == PROCESSES[2]


def test_what_does_not_fit_is_refused() -> None:
    process, vp = PROCESSES[0], urn.VP.linear()
    with pytest.raises(ValueError, match=r"'ddim' is for states \(x\); those of PhaseSpace.* are \(x, m\)"):
        urn.compile_plan("ddim", process, 5)
    with pytest.raises(ValueError, match=r"'psld_heun' is for states \(x, m\); those of .* are \(x\)"):
        urn.compile_plan("psld_heun", vp, 5)
    with pytest.raises(ValueError, match="final='x0' is for states x alone"):
        urn.compile_plan("psld_euler", process, 5, "lambda", final="x0")
    with pytest.raises(PlanError, match="the plan needs m"):
        urn.sample(joint_model(MIXTURE, process), "psld_euler", start=torch.zeros(2, 2), steps=4)
    with pytest.raises(PlanError, match=r"predicts \('v',\) gives no 'score'"):
        urn.sample(urn.Model(lambda x, m, t: x, process, "v"), "psld_euler", (2, 2), steps=4)
    with pytest.raises(PlanError, match="singular"):
        urn.sample(
            joint_model(MIXTURE, process, scores=False),
            "psld_euler",
            start=torch.zeros(2, 2),
            inputs={"m": torch.zeros(2, 2)},
            grid=[0.0, 0.5],
        )
    with pytest.raises(ValueError, match="must be a coupled one"):
        joint_model(MIXTURE, vp)
    for bad in ({"gamma": -1.0}, {"gamma": 2.0, "nu": 2.0}, {"beta": 0.0}, {"spread": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            PhaseSpace(**bad)
