"""Mean-reverting processes: slopes, inverses, ends, JSON, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from urn.processes import VP, Flow, MeanReverting, ResShift, process_from_json, process_to_json

PROCESSES = [
    MeanReverting(VP.linear(), 0.3),
    MeanReverting(Flow(shift=2.0), 2.0),
    MeanReverting.from_rates([0.1, 0.3, 0.4, 0.8], 0.4),
    ResShift(),
    ResShift(kappa=0.8, power=1.7, steps=4, eta_min=0.01, eta_max=0.9),
]


@pytest.fixture(params=PROCESSES, ids=repr)
def process(request):
    return request.param


def interior(process):
    first, last = process.t_finite
    return torch.linspace(first, last, 23, dtype=torch.float64)[1:-1] - 0.011


def test_slopes_are_the_derivatives(process):
    t = interior(process).requires_grad_()
    ours = (*process.velocity_weights(t), process.beta_slope(t))
    for function, slope in zip((process.alpha, process.sigma, process.beta), ours, strict=True):
        (expected,) = torch.autograd.grad(function(t).sum(), t)
        torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-10)


def test_lambda_and_its_inverse(process):
    t = interior(process)
    torch.testing.assert_close(process.lambda_(t), torch.log(process.alpha(t) / process.sigma(t)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.t_of_lambda(process.lambda_(t)), t, rtol=1e-9, atol=1e-9)


def test_below_the_first_time_of_resshift_the_root_is_linear():
    process = ResShift()
    t = torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64)
    torch.testing.assert_close(process.sigma(t), 2.0 * 0.02 * t)
    torch.testing.assert_close(process.beta_slope(t), 2 * 0.02**2 * t)
    torch.testing.assert_close(process.t_of_lambda(process.lambda_(t[1:])), t[1:])


def test_data_and_side_input_weigh_one_together(process):
    t = interior(process)
    torch.testing.assert_close(process.alpha(t) + process.beta(t), torch.ones_like(t))
    assert float(process.beta(process.domain[0])) == pytest.approx(0, abs=1e-15)
    assert float(process.prior_weight(process.t_start)) == 1.0


def test_they_are_written_and_read(process):
    assert process_from_json(process_to_json(process)) == process


@pytest.mark.parametrize(
    "make",
    [
        lambda: MeanReverting(VP.linear(), 0.0),
        lambda: MeanReverting("vp"),
        lambda: MeanReverting(ResShift()),
        lambda: MeanReverting.from_rates([0.1, -0.1], 0.5),
        lambda: MeanReverting.from_rates([0.1, 0.1], 0.5, remaining=1.0),
        lambda: ResShift(kappa=-1.0),
        lambda: ResShift(steps=1),
        lambda: ResShift(eta_min=0.5, eta_max=0.4),
        lambda: ResShift(eta_max=1.0),
    ],
)
def test_bad_parameters_are_refused(make):
    with pytest.raises(ValueError, match=r"must be|is needed"):
        make()
