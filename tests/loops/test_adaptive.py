"""Adaptive sampling against the exact flow of the mixture, and against fixed plans."""

import pytest
import torch

import urn
from urn.conformance.targets import MIXTURE, exact_end, states_at

PAIRS = ("dpm_solver_12", "dpm_solver_23", "dormand_prince")
PROCESSES = {"vp": urn.VP.linear(), "flow": urn.Flow(), "ve": urn.VE(0.05, 20.0)}


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("pair", PAIRS)
def test_error_follows_the_tolerance(pair: str, name: str) -> None:
    process = PROCESSES[name]
    start, end = process.t_finite
    x = states_at(process, start, 12)
    exact, model = exact_end(process, x, start, end), MIXTURE.model(process)
    errors, calls = [], []
    for tolerance in (1e-2, 1e-4, 1e-6)[: 2 if pair == "dpm_solver_12" else 3]:
        result = urn.sample_adaptive(model, pair, x, rtol=tolerance, atol=tolerance)
        errors.append(float((result.x - exact).abs().max()))
        calls.append(float(result.nfe.double().mean()))
        assert errors[-1] < 100 * tolerance  # the error of a whole trajectory, against that allowed in each step
    assert errors == sorted(errors, reverse=True)
    assert calls == sorted(calls)


@pytest.mark.parametrize("pair", PAIRS)
def test_samples_do_not_depend_on_their_batch(pair: str) -> None:
    process = urn.VP.linear()
    x, model = states_at(process, 1.0, 24), MIXTURE.model(process)
    together = urn.sample_adaptive(model, pair, x, rtol=1e-3, atol=1e-3)
    alone = urn.sample_adaptive(model, pair, x[2:3], rtol=1e-3, atol=1e-3)
    assert torch.allclose(together.x[2:3], alone.x, rtol=0, atol=1e-12)
    assert together.nfe[2] == alone.nfe[0]
    assert together.rejected[2] == alone.rejected[0]
    assert len(set(together.nfe.tolist())) > 1  # they really take steps of their own


@pytest.mark.parametrize("pair", PAIRS)
def test_encoding_and_decoding_come_back(pair: str) -> None:
    process = urn.VP.linear()
    start, end = process.t_finite
    x, model = MIXTURE.sample(6, 0), MIXTURE.model(process)
    gaps = []
    for tolerance in (1e-2, 1e-4):
        code = urn.sample_adaptive(model, pair, x, rtol=tolerance, atol=tolerance, t_from=end, t_to=start).x
        back = urn.sample_adaptive(model, pair, code, rtol=tolerance, atol=tolerance).x
        gaps.append(float((back - x).abs().max()))
    assert gaps[1] < gaps[0] / 10


def test_nfe_counts_calls_of_the_network() -> None:
    process, calls = urn.VP.linear(), 0
    exact = MIXTURE.model(process)

    def net(x, t):
        nonlocal calls
        calls += 1
        return exact.net(x, t)

    model = urn.Model(net, process, predicts="v", shape=(2,))
    result = urn.sample_adaptive(model, "dpm_solver_23", states_at(process, 1.0, 4))
    assert calls == int(result.nfe.max())


def test_wrong_arguments_are_refused() -> None:
    process = urn.VP.linear()
    model, x = MIXTURE.model(process), torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"pair='rk45' must be one of dpm_solver_12"):
        urn.sample_adaptive(model, "rk45", x)
    with pytest.raises(ValueError, match=r"rtol=-1"):
        urn.sample_adaptive(model, "dpm_solver_12", x, rtol=-1.0)
    with pytest.raises(ValueError, match=r"steps in lambda, which is infinite"):
        urn.sample_adaptive(model, "dpm_solver_12", x, t_to=0.0)
    with pytest.raises(urn.PlanError, match=r"3 trial steps did not suffice; the slowest sample came"):
        urn.sample_adaptive(model, "dpm_solver_12", x + 1, rtol=1e-9, atol=1e-9, max_trials=3)
