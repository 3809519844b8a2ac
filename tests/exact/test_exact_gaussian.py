"""What a Gaussian alone can say: its flow, its reverse kernel, its moments and its affine network."""

from __future__ import annotations

import pytest
import torch
from exact_targets import FACTOR, MEAN, states
from scipy.integrate import solve_ivp

from urn.exact import Gaussian
from urn.processes import VP, Flow, Tabulated

TARGET = Gaussian(MEAN, FACTOR @ FACTOR.T)
EYE = torch.eye(3, dtype=torch.float64)


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=rtol * max(1.0, b.abs().max().item()))


def kernel(process, t_from, t_to):
    """The reverse kernel as (matrix, offset, covariance)."""
    offset, covariance = TARGET.transition(torch.zeros(1, 3, dtype=torch.float64), process, t_from, t_to)
    image, _ = TARGET.transition(EYE, process, t_from, t_to)
    return (image - offset).T, offset[0], covariance


def test_flow_solves_the_probability_flow_ode(process, times):
    # a table's velocity jumps at every integer, where no ODE solver has an order: stay between two
    ways = (
        ((33.9, 33.1), (2.1, 2.9)) if isinstance(process, Tabulated) else ((times[0], times[2]), (times[2], times[1]))
    )
    for t_from, t_to in ways:
        x = states(TARGET, process, t_from, count=2)

        def velocity(t, y):
            y = torch.from_numpy(y).reshape(2, 3)
            return TARGET.prediction(y, process, float(t), "velocity").flatten().numpy()

        solution = solve_ivp(velocity, (t_from, t_to), x.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-12)
        expected = torch.from_numpy(solution.y[:, -1]).reshape(2, 3)
        close(TARGET.flow(x, process, t_from, t_to), expected, 1e-8)


def test_flow_is_invertible_and_composes(process, times):
    first, middle, last = times[:3]
    x = states(TARGET, process, first)
    there = TARGET.flow(x, process, first, last)
    close(TARGET.flow(TARGET.flow(x, process, first, middle), process, middle, last), there)
    close(TARGET.flow(there, process, last, first), x)
    mixed = torch.tensor([first, middle] * 3, dtype=torch.float64)
    close(TARGET.flow(x, process, mixed, last)[::2], there[::2])


def test_flow_reaches_both_ends():
    x = states(TARGET, Flow(), 1.0)
    data = TARGET.flow(x, Flow(), 1.0, 0.0)
    white = torch.linalg.eigh(TARGET.covariance)
    expected = MEAN + ((x @ white.eigenvectors) * white.eigenvalues.sqrt()) @ white.eigenvectors.T
    close(data, expected)
    close(TARGET.flow(data, Flow(), 0.0, 1.0), x, 1e-9)


def test_flow_of_a_singular_gaussian_ends_on_its_plane():
    flat = Gaussian(MEAN, FACTOR[:, :1] @ FACTOR[:, :1].T)
    data = flat.flow(states(flat, Flow(), 1.0), Flow(), 1.0, 0.0)
    normal = torch.linalg.svd(FACTOR[:, :1]).U[:, 1:]
    close((data - MEAN) @ normal, torch.zeros(6, 2, dtype=torch.float64), 1e-12)
    back = flat.flow(data, Flow(), 0.0, 1.0)
    close(back @ normal, torch.zeros(6, 2, dtype=torch.float64), 1e-12)
    assert back.isfinite().all()
    close(flat.x0(data, Flow(), 0.0), data, 1e-12)


def test_moments_are_those_of_the_forward_process(process, times):
    for t in times[:3]:
        alpha, sigma = process.alpha(t), process.sigma(t)
        mean, covariance = TARGET.moments(process, t)
        close(mean, alpha * MEAN, 1e-14)
        close(covariance, alpha**2 * FACTOR @ FACTOR.T + sigma**2 * EYE, 1e-14)


def test_transition_is_the_conditional_of_the_joint_law(process, times):
    """By the Schur complement of the 6 x 6 joint covariance, without eigenvectors."""
    covariance = FACTOR @ FACTOR.T
    for t_from, t_to in ((times[0], times[1]), (times[1], times[2])):
        (a, s), (b, u) = ((process.alpha(t), process.sigma(t)) for t in (t_from, t_to))
        cross = a * b * covariance + (a / b) * u**2 * EYE
        before, after = a**2 * covariance + s**2 * EYE, b**2 * covariance + u**2 * EYE
        gain = cross @ torch.linalg.inv(before)
        matrix, offset, noise = kernel(process, t_from, t_to)
        close(matrix, gain, 1e-9)
        close(offset, b * MEAN - a * gain @ MEAN, 1e-9)
        close(noise, after - gain @ cross, 1e-9)


def test_transitions_compose(process, times):
    """Chapman-Kolmogorov: two reverse kernels in a row are the kernel of the whole way."""
    first, middle, last = times[:3]
    a, b, c = kernel(process, first, middle)
    d, e, f = kernel(process, middle, last)
    matrix, offset, covariance = kernel(process, first, last)
    close(d @ a, matrix)
    close(d @ b + e, offset)
    close(d @ c @ d.T + f, covariance)


def test_transitions_carry_marginals_to_marginals(process, times):
    matrix, offset, noise = kernel(process, times[0], times[2])
    mean, covariance = TARGET.moments(process, times[0])
    close(matrix @ mean + offset, TARGET.moments(process, times[2])[0])
    close(matrix @ covariance @ matrix.T + noise, TARGET.moments(process, times[2])[1])


def test_transition_to_clean_data_is_the_posterior():
    x = states(TARGET, VP.linear(), 0.4)
    mean, covariance = TARGET.transition(x, VP.linear(), 0.4, 0.0)
    expected_mean, expected_covariance = TARGET.posterior(x, VP.linear(), 0.4)
    close(mean, expected_mean)
    close(covariance, expected_covariance[0])


def test_transition_from_pure_noise_forgets_it():
    mean, covariance = TARGET.transition(states(TARGET, Flow(), 1.0), Flow(), 1.0, 0.6)
    expected_mean, expected_covariance = TARGET.moments(Flow(), 0.6)
    close(mean, expected_mean.expand(6, 3))
    close(covariance, expected_covariance)


def test_short_transition_keeps_its_digits():
    """To first order in h the noise has variance beta h, also where the states are in single precision."""
    process, t = VP.linear(), 0.5
    for dtype, h in ((torch.float32, 1e-6), (torch.float64, 1e-9)):
        _, covariance = TARGET.transition(states(TARGET, process, t).to(dtype), process, t, t - h)
        close(covariance / (process.rate(t) * h).to(dtype), EYE.to(dtype), 1e-4)


def test_transition_refuses_to_go_towards_noise():
    x = states(TARGET, Flow(), 0.4)
    for t_to in (0.4, 0.7):
        with pytest.raises(ValueError, match=rf"t_to is {t_to}.*t_from, which is 0.4"):
            TARGET.transition(x, Flow(), 0.4, t_to)


@pytest.mark.parametrize("covariance", [FACTOR @ FACTOR.T, torch.tensor([0.8, 0.05, 0.3]), 0.4])
def test_affine_net_is_x0_and_epsilon(process, times, covariance):
    target = Gaussian(MEAN, covariance)
    for t in (*times[:3], process.t_end):
        x = states(target, process, t)
        to_x0, x0_offset, to_epsilon, epsilon_offset = target.affine_net(process)(t)
        close(x @ to_x0.T + x0_offset, target.x0(x, process, t), 1e-12)
        close(x @ to_epsilon.T + epsilon_offset, target.epsilon(x, process, t), 1e-12)


def test_affine_net_keeps_the_mean_near_the_data():
    """b0 = sigma^2 M^-1 m is far below m - alpha A0 m's rounding."""
    process = VP.linear()
    _, offset, _, _ = Gaussian([3.0], 2.0).affine_net(process)(1e-12)
    assert offset.item() == pytest.approx(float(process.sigma(1e-12)) ** 2 * 3 / 2, rel=1e-9, abs=0)


def test_covariance_comes_back_from_every_form():
    close(TARGET.covariance, FACTOR @ FACTOR.T, 1e-14)
    close(
        Gaussian(MEAN, [0.8, 0.05, 0.3]).covariance,
        torch.diag(torch.tensor([0.8, 0.05, 0.3], dtype=torch.float64)),
        1e-14,
    )
    close(Gaussian(MEAN, 0.4).covariance, 0.4 * EYE, 1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], 1.0), r"mean has shape \(1, 1\).*\(d,\)"),
        (([1.0, float("nan")], 1.0), "mean .*finite"),
        (([1.0, 2.0], [1.0, 1.0, 1.0]), r"covariance has shape \(3,\).*\(\), \(2,\) or \(2, 2\)"),
        (([1.0, 2.0], [[1.0, 0.5], [0.2, 1.0]]), r"covariance must be symmetric.*0.3"),
        (([1.0, 2.0], [[1.0, 2.0], [2.0, 1.0]]), r"covariance must be .*positive semi-definite.*-1"),
        (([1.0, 2.0], [1.0, -0.5]), r"covariance must be .*positive semi-definite.*-0.5"),
        (([1.0, 2.0], float("inf")), "covariance must be finite"),
        (([1.0, 2.0], 1.0, (3, 1)), r"shape is \(3, 1\).*2 elements"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        Gaussian(*arguments)
