"""Every "equals" of processes."""

from __future__ import annotations

import pytest
import torch
from methods_cases import (
    gap,
)

from urn.processes import VP, Flow, SubVP, Tabulated, cosine_betas, linear_betas, scaled_linear_betas


def test_sub_vp_has_vps_alpha_and_one_minus_its_square() -> None:
    t = torch.linspace(0, 1, 23, dtype=torch.float64)
    vp, sub = VP.linear(), SubVP()
    assert torch.equal(sub.alpha(t), vp.alpha(t))
    assert gap(sub.sigma(t), 1 - vp.alpha(t) ** 2) < 1e-14


def test_scaled_linear_is_stable_diffusions_table_in_continuous_time() -> None:
    table, process = VP.from_betas(scaled_linear_betas(1000)), VP.scaled_linear()
    t = torch.arange(1000, dtype=torch.float64)
    # B(t) is the integral of what the table sums, and -log(1 - beta) is beta + beta^2/2: both are O(1/1000) of it
    assert float((table.lambda_(t) - process.lambda_((t + 1) / 1000)).abs().max()) < 0.05


def test_the_linear_process_is_ddpms_table_in_continuous_time() -> None:
    table, process = VP.from_betas(linear_betas(1000)), VP.linear()
    t = torch.arange(1000, dtype=torch.float64)
    assert float((table.lambda_(t) - process.lambda_((t + 1) / 1000)).abs().max()) < 0.06


def test_the_cosine_tables_alphas_are_the_cosine_processs_up_to_the_clip() -> None:
    table, process = VP.from_betas(cosine_betas(1000)), VP.cosine()
    t = torch.arange(999, dtype=torch.float64)
    assert gap(table.alpha(t), process.alpha((t + 1) / 1000)) < 1e-12
    assert float(process.alpha(1.0)) == 0.0
    assert float(table.alpha(999.0)) > 0.0


def test_a_tables_lambda_is_linear_between_integers() -> None:
    table = Tabulated.from_betas(scaled_linear_betas(100))
    ends = table.lambda_(torch.tensor([41.0, 42.0], dtype=torch.float64))
    assert float(table.lambda_(41.3)) == pytest.approx(float(ends[0] + 0.3 * (ends[1] - ends[0])), rel=1e-13)


def test_the_velocity_of_the_straight_flow_is_epsilon_minus_x0() -> None:
    assert [w.tolist() for w in Flow().velocity_weights(torch.tensor([0.1, 0.8], dtype=torch.float64))] == [
        [-1.0, -1.0],
        [1.0, 1.0],
    ]
