"""The log-likelihood by the probability flow against the mixture's own density."""

import pytest
import torch

import urn
from urn.conformance.targets import MIXTURE, states_at

PROCESSES = {"vp": urn.VP.linear(), "flow": urn.Flow(), "ve": urn.VE(0.05, 20.0)}


@pytest.mark.parametrize("predicts", ["epsilon", "x0", "v", "velocity"])
@pytest.mark.parametrize("name", PROCESSES)
def test_equals_the_exact_log_density(name: str, predicts: str) -> None:
    process = PROCESSES[name]
    start, end = process.t_finite
    x = states_at(process, end, 8)
    found = urn.log_likelihood(
        MIXTURE.model(process, predicts), x, 100, prior=lambda y: MIXTURE.log_density(y, process, start)
    )
    assert torch.allclose(found, MIXTURE.log_density(x, process, end), rtol=0, atol=1e-4)


def test_error_falls_at_the_order_of_the_method() -> None:
    process = urn.VP.linear()
    start, end = process.t_finite
    x = states_at(process, end, 8)
    exact, model = MIXTURE.log_density(x, process, end), MIXTURE.model(process)
    for method, order in (("probability_flow", 1), ("probability_flow_heun", 2), ("probability_flow_rk4", 4)):
        errors = []
        for steps in (64, 128):
            found = urn.log_likelihood(
                model, x, steps, method=method, prior=lambda y: MIXTURE.log_density(y, process, start)
            )
            errors.append(float((found - exact).abs().max()))
        assert errors[0] / errors[1] > 2 ** (order - 0.25)


def test_hutchinson_is_unbiased() -> None:
    """The mean over many independent single probes is within four standard errors of the exact value."""
    process = urn.VP.linear()
    model = MIXTURE.model(process)
    x = states_at(process, 1e-3, 1).expand(400, 2)
    exact = urn.log_likelihood(model, x[:1], 30)
    guesses = urn.log_likelihood(model, x, 30, probes=1, seeds=range(400))
    assert guesses.std() > 0.05
    assert abs(float(guesses.mean() - exact)) < 4 * float(guesses.std()) / 20


def test_the_density_of_a_standard_prior_integrates_to_one() -> None:
    """exp log p of the model's own law, on a grid over all of it: it must be a density whatever the steps."""
    process = urn.VP.linear()
    data = urn.exact.GaussianMixture([0.3, 0.7], [[1.0], [-0.7]], [[0.09], [0.02]])
    points = torch.linspace(-4, 4, 801, dtype=torch.float64).unsqueeze(1)
    density = urn.log_likelihood(data.model(process), points, 60).exp()
    assert float(density.sum() * 0.01) == pytest.approx(1, abs=2e-4)


def test_wrong_arguments_are_refused() -> None:
    model, x = MIXTURE.model(urn.VP.linear()), torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"method='ddim' must be probability_flow"):
        urn.log_likelihood(model, x, method="ddim")
    with pytest.raises(ValueError, match=r"probes=0 must be None or at least 1"):
        urn.log_likelihood(model, x, probes=0)
