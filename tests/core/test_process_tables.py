"""Tabulated processes against diffusers, and every process as a value: JSON, equality, and refused parameters."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from core_cases import PROCESSES, TABLES, interior

from urn.processes import (
    VE,
    VP,
    Cosine,
    Flow,
    SubVP,
    Tabulated,
    cosine_betas,
    linear_betas,
    process_from_json,
    process_to_json,
    register_process,
    scaled_linear_betas,
)

OURS = {
    "linear": linear_betas(1000, 1e-4, 0.02),
    "scaled_linear": scaled_linear_betas(1000, 0.00085, 0.012),
    "squaredcos_cap_v2": cosine_betas(1000),
}
ENDS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "squaredcos_cap_v2": (1e-4, 0.02)}


@pytest.mark.parametrize("schedule", OURS)
def test_tables_are_those_of_diffusers(schedule):
    from diffusers import DDPMScheduler

    start, end = ENDS[schedule]
    peer = DDPMScheduler(1000, beta_schedule=schedule, beta_start=start, beta_end=end)
    np.testing.assert_allclose(OURS[schedule].numpy(), peer.betas.numpy(), rtol=2e-6, atol=1e-9)
    table = Tabulated.from_betas(OURS[schedule])
    # diffusers multiplies 1000 factors in float32: 1000 roundings of 1 - beta and of the product, 2^-24 each, and at the
    # end of the cosine table 1 - 0.999 has lost three digits
    np.testing.assert_allclose(table.alphas_cumprod, peer.alphas_cumprod.numpy(), rtol=2e-4)
    np.testing.assert_allclose(table.alphas_cumprod[:100], peer.alphas_cumprod[:100].numpy(), rtol=2e-6)
    t = torch.arange(1000, dtype=torch.float64)
    np.testing.assert_allclose(table.alpha(t).numpy(), np.sqrt(table.alphas_cumprod), rtol=1e-12)
    np.testing.assert_allclose(table.sigma(t).numpy(), np.sqrt(1 - np.array(table.alphas_cumprod)), rtol=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
def test_zero_terminal_snr_is_that_of_diffusers(schedule):
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    peer = torch.cumprod(1 - rescale_zero_terminal_snr(OURS[schedule]), 0)  # in float64
    ours = Tabulated.from_betas(OURS[schedule], zero_terminal_snr=True)
    np.testing.assert_allclose(ours.alphas_cumprod, peer.numpy(), rtol=1e-10, atol=1e-18)
    assert ours.alphas_cumprod[-1] == 0.0
    assert ours.alphas_cumprod[0] == pytest.approx(Tabulated.from_betas(OURS[schedule]).alphas_cumprod[0], rel=1e-14)
    assert ours == VP.from_betas(OURS[schedule]).with_zero_terminal_snr()


@pytest.mark.parametrize("schedule", OURS)
def test_fractional_times_are_interpolated_as_in_diffusers(schedule):
    from diffusers import EulerDiscreteScheduler

    table = Tabulated.from_betas(OURS[schedule])
    squared = np.array(table.alphas_cumprod)
    log_sigmas = np.log(np.sqrt((1 - squared) / squared))
    sigmas = np.exp(np.linspace(log_sigmas[0], log_sigmas[-1], 301))
    peer = np.array([EulerDiscreteScheduler()._sigma_to_t(sigma, log_sigmas) for sigma in sigmas])
    ours = table.t_of_lambda(torch.from_numpy(-np.log(sigmas))).numpy()
    np.testing.assert_allclose(ours, peer, rtol=0, atol=1e-8)


def test_lambda_is_linear_between_integers_and_the_angle_beside_an_infinite_end():
    table = Tabulated((0.9, 0.5, 0.1, 0.0))
    lambdas = [0.5 * math.log(a / (1 - a)) for a in (0.9, 0.5, 0.1)]
    assert float(table.lambda_(0.25)) == pytest.approx(0.75 * lambdas[0] + 0.25 * lambdas[1], abs=1e-14)
    assert float(table.lambda_(1.5)) == pytest.approx((lambdas[1] + lambdas[2]) / 2, abs=1e-14)
    # tan(angle) = sigma/alpha; the angle is 0 at t = -1 and pi/2 at t = 3
    first, last = math.atan(math.exp(-lambdas[0])), math.atan(math.exp(-lambdas[2]))
    assert float(table.sigma(-0.3)) == pytest.approx(math.sin(0.7 * first), abs=1e-15)
    assert float(table.alpha(-0.3)) == pytest.approx(math.cos(0.7 * first), abs=1e-15)
    assert float(table.sigma(2.5)) == pytest.approx(math.sin((last + math.pi / 2) / 2), abs=1e-15)
    assert table.t_finite == (2.0, 0.0)
    assert float(table.t_of_lambda(table.lambda_(2.5))) == pytest.approx(2.5, abs=1e-12)
    assert float(table.t_of_lambda(table.lambda_(-0.3))) == pytest.approx(-0.3, abs=1e-12)


@pytest.mark.parametrize("name", PROCESSES)
def test_json_gives_back_an_equal_process(name):
    process = PROCESSES[name]
    back = process_from_json(json.loads(json.dumps(process_to_json(process))))
    assert type(back) is type(process)
    assert back == process
    assert hash(back) == hash(process)
    assert pickle.loads(pickle.dumps(process)) == process
    t = interior(process, 5)
    assert torch.equal(back.lambda_(t), process.lambda_(t))


def test_processes_of_other_parameters_are_not_equal():
    every = [*PROCESSES.values(), VP.linear(0.1, 20.5), VE(0.001, 80.0), Flow(2.0), VP.cosine(0.01), SubVP(0.2, 20.0)]
    assert len(set(every)) == len(every)


def test_a_process_of_ones_own_goes_through_json():
    @register_process("test-half-flow")
    @dataclass(frozen=True)
    class HalfFlow:
        levels: tuple[float, ...]
        t_start = 0.5

    own = HalfFlow((0.25, 1e-300))
    assert process_from_json(json.loads(json.dumps(process_to_json(own)))) == own

    @dataclass(frozen=True)
    class Nameless:
        pass

    with pytest.raises(ValueError, match="@register_process"):
        process_to_json(Nameless())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "vpp"}, "process kind 'vpp' is unknown; known: .*tabulated"),
        ({}, "process kind None is unknown"),
        ({"kind": "vp", "beta": 1.0}, "process 'vp': .*beta"),
        ({"kind": "flow", "shift": -1.0}, "shift=-1.0 must be a positive finite number"),
    ],
)
def test_foreign_json_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        process_from_json(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VP.linear(beta_min=0.0), r"beta_min=0\.0 must be a positive finite number"),
        (lambda: VP.linear(beta_max=math.nan), "beta_max=nan must be"),
        (lambda: VP.linear("0.1"), "beta_min='0.1' must be"),
        (lambda: VP.scaled_linear(beta_max=math.inf), "beta_max=inf must be"),
        (lambda: VP(power=3), "power=3 must be 1"),
        (lambda: SubVP(beta_max=-1.0), r"beta_max=-1\.0 must be"),
        (lambda: Cosine(offset=0.0), r"offset=0\.0 must be"),
        (lambda: Flow(shift=math.nan), "shift=nan must be"),
        (lambda: VE(sigma_min=-1.0), r"sigma_min=-1\.0 must be"),
        (lambda: VE(sigma_min=3.0, sigma_max=2.0), r"sigma_min=3\.0 must be below sigma_max=2\.0"),
        (lambda: Tabulated((0.5,)), "a table of 1 entries: at least 2"),
        (lambda: Tabulated((0.5, 0.6)), r"alphas_cumprod\[1\]=0\.6 must decrease"),
        (lambda: Tabulated((1.0, 0.5)), r"alphas_cumprod\[0\]=1\.0 must decrease strictly from below 1"),
        (lambda: Tabulated((0.5, -0.1)), r"alphas_cumprod\[1\]=-0\.1"),
        (lambda: Tabulated((0.5, math.nan)), r"alphas_cumprod\[1\]=nan"),
        (lambda: VP.from_betas([0.1, 1.5]), r"betas must be a one-dimensional array of numbers in \(0, 1\]"),
        (lambda: VP.from_betas([0.1, math.nan]), "betas must be"),
        (lambda: VP.from_betas([[0.1, 0.2]]), "betas must be"),
        (lambda: VP.from_betas([0.1, 1.0, 0.1]), r"alphas_cumprod\[2\]=0\.0 must decrease"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tables_print_short_and_hold_plain_floats():
    for name, table in TABLES.items():
        assert isinstance(table.alphas_cumprod, tuple), name
        assert all(isinstance(value, float) for value in table.alphas_cumprod), name
        assert repr(table).startswith(f"Tabulated({len(table.alphas_cumprod)} steps"), name
