"""A schedule per block, in every registered method: each block is sampled as it is on its own process alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import urn
from urn.exact import Gaussian, elementwise_model, moments
from urn.methods import own_names
from urn.plan import FUNCTIONS, Apply, Combine, Evaluate, Plan, Row
from urn.plan.rows import Array
from urn.processes import VP, Blocks, Flow, Process

BLOCKS = Blocks((VP.linear(), VP.linear(0.1, 2.0)), (2, 1))
MIXED = Blocks((VP.linear(), Flow()), (2, 1))  # alpha is 0 at the start in one of them only
PARTS = (slice(0, 2), slice(2, 3))
DATA = Gaussian([0.5, -1.0, 2.0], [0.3, 0.5, 1.5])
ONE_FOR_ALL = "does not take a time per frame or a schedule per block"
REFUSED = {  # by the start of the name; what needs one lambda for a whole sample, and what no process may have
    "edm": ONE_FOR_ALL,
    "restart": ONE_FOR_ALL,
    "dpm_solver_v3": ONE_FOR_ALL,
    "annealed_langevin": "0 < sigma/alpha",
    "accelerated": "need alpha > 0",
    "euler_maruyama": "is not finite",
    "sgmse": "is not finite",
    "s4": "is not finite",
    "": "no time of one lambda",
}
RUNS = tuple(  # on BLOCKS: a method that stops running is seen
    name
    for line in (
        "ddim euler_ancestral ddpm ddpm_large ddpm_interpolated iddpm heun probability_flow probability_flow_heun",
        "probability_flow_rk4 reverse_diffusion euler_maruyama predictor_corrector sgmse s4 s4s dpmpp_2m",
        "dpmpp_3m dpmpp_3m_published dpmpp_2m_lower_final dpmpp_3m_published_lower_final dpmpp_1_sde dpmpp_2m_sde",
        "dpmpp_2m_sde_heun dpmpp_3m_sde dpmpp_3m_sde_published sde_dpm_solver_1 sde_dpm_solver_2m sa_solver",
        "sa_solver_2 sa_solver_3 sa_solver_pece sa_solver_published sa_solver_published_lower_final er_sde_1",
        "er_sde_2 er_sde_3 er_sde_3_published sit_sde flow_grpo cps cps_vanishing resshift deis_rho_2 deis_rho_3",
        "deis_rho_4 deis_rho_3_ramped deis_rho_4_ramped deis_log_rho_ramped deis_log_rho_lower_final ipndm pndm",
        "heunpp_2 gradient_estimation hb ghvb_2 ghvb_3 ghvb_4 accelerated_ddim accelerated_ddpm abnorsett_2",
        "res_multistep unip unipc unipc_lower_final unip_1 unip_2 unip_3 unip_4 unip_5 unipc_1 unipc_2 unipc_3",
        "unipc_4 unipc_5 unip_2_bh1 unip_3_bh1 unipc_2_bh1 unipc_3_bh1 unip_2_epsilon unip_3_epsilon",
        "unipc_2_epsilon unipc_3_epsilon",
    )
    for name in line.split()
)
# all blocks take the first step of alpha = 0
OTHER_FIRST_STEP = (
    "heun",
    "iia_heun",
    "pndm",
    "heunpp_2",
    "hb",
    "ghvb_2",
    "ghvb_3",
    "ghvb_4",
)
OTHER_LAST_STEP = ("probability_flow_heun", "probability_flow_rk4")  # evaluate where a frame is clean


def compiled(name: str, blocks: Blocks) -> Plan | None:
    """The plan, or None after checking that it is refused with a clear reason."""
    try:
        return urn.compile_plan(name, blocks, 5, "uniform")
    except ValueError as error:
        refusal = str(error)
    assert blocks is MIXED or name not in RUNS
    assert next(reason for start, reason in REFUSED.items() if name.startswith(start)) in refusal
    return None


def numbers(value: Any, part: slice) -> Tensor:
    """A coefficient over a block."""
    found = torch.tensor(value.values if isinstance(value, Array) else value, dtype=torch.float64)
    return found.expand(3)[part] if found.ndim == 0 or len(found) == 3 else found


def pairs(row: Row, alone: Row) -> Iterator[tuple[Any, Any]]:
    """The numbers of two rows, each beside its counterpart, after checking that all else is equal."""
    assert (type(row), row.defines, row.step) == (type(alone), alone.defines, alone.step)
    if isinstance(row, Combine) and isinstance(alone, Combine):
        ours, theirs = ({register: weight for weight, register in one.weights} for one in (row, alone))
        yield from ((ours.get(register, 0.0), theirs.get(register, 0.0)) for register in {*ours, *theirs})
    elif isinstance(row, Apply) and isinstance(alone, Apply):
        assert (row.function, row.inputs) == (alone.function, alone.inputs)
        for (name, a), (other, b) in zip(row.options, alone.options, strict=True):
            assert name == other
            yield a, b
    elif isinstance(row, Evaluate) and isinstance(alone, Evaluate):
        assert (row.t, row.outs, row.inputs) == (alone.t, alone.outs, alone.inputs)
    else:
        assert row == alone
    if (node := getattr(row, "node", None)) is not None:
        yield from ((node.alpha, alone.node.alpha), (node.sigma, alone.node.sigma))


@pytest.mark.parametrize("name", own_names())
def test_every_coefficient_is_that_of_the_block_alone(name: str) -> None:
    if (plan := compiled(name, BLOCKS)) is None:
        return
    for process, part in zip(BLOCKS.processes, PARTS, strict=True):
        alone = urn.compile_plan(name, process, 5, "uniform")
        for row, other in zip(plan.rows, alone.rows, strict=True):
            for ours, theirs in pairs(row, other):
                expected = torch.full((part.stop - part.start,), theirs, dtype=torch.float64)
                torch.testing.assert_close(numbers(ours, part), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("blocks", [BLOCKS, MIXED], ids=["VP, VP", "VP, Flow"])
@pytest.mark.parametrize("name", own_names())
def test_independent_blocks_come_out_as_alone(name: str, blocks: Blocks) -> None:
    plan = compiled(name, blocks)
    if plan is None or not_linear(plan) or (blocks is MIXED and name in OTHER_FIRST_STEP):
        return
    mean, covariance = moments(plan, DATA)
    for process, part in zip(blocks.processes, PARTS, strict=True):
        data = Gaussian(DATA.mean[part], DATA.covariance[part, part])
        alone = moments(urn.compile_plan(name, process, 5, "uniform"), data)
        torch.testing.assert_close(mean[part], alone[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(covariance[part, part], alone[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(covariance[2, :2], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("process", [VP.linear(), Flow()], ids=["VP", "Flow"])
@pytest.mark.parametrize("name", [name for name in RUNS if name not in (*OTHER_FIRST_STEP, *OTHER_LAST_STEP)])
def test_a_frame_that_ends_clean_beside_one_that_does_not(name: str, process: Process) -> None:
    """Each comes out as on its own times, at both ends: a step to sigma = 0 draws no noise in that frame alone."""
    two = Gaussian(DATA.mean[1:], DATA.covariance.diagonal()[1:])
    times = [torch.linspace(*ends, 6, dtype=torch.float64) for ends in ((1.0, 0.0), (0.9, 0.05))]
    try:
        plan = urn.compile_plan(name, process, grid=torch.stack(times, 1))
    except ValueError as error:
        refusal = str(error)
        assert name in ("euler_maruyama", "sgmse", "s4", "accelerated_ddim", "accelerated_ddpm")
        assert process == Flow()
        assert "alpha" in refusal
        return
    if not_linear(plan):
        return
    mean, covariance = moments(plan, two)
    for frame in (0, 1):
        alone = Gaussian(two.mean[frame : frame + 1], two.covariance[frame, frame].reshape(1))
        expected = moments(urn.compile_plan(name, process, grid=times[frame]), alone)
        torch.testing.assert_close(mean[frame], expected[0][0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(covariance[frame, frame], expected[1][0, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OTHER_FIRST_STEP)
def test_methods_with_one_first_step_for_all_blocks_converge(name: str) -> None:
    """At their order, less a quarter, on data whose blocks are correlated."""
    data = Gaussian([0.5, -1.0, 2.0], [[0.3, 0.1, 0.2], [0.1, 0.5, 0.3], [0.2, 0.3, 1.5]])
    errors = []
    for steps in (40, 80, 160):
        grid = 0.02 + 0.98 * torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        mean, covariance = moments(urn.compile_plan(name, MIXED, grid=grid), data)
        alpha, sigma = MIXED.alpha(0.02), MIXED.sigma(0.02)
        expected = alpha[:, None] * data.covariance * alpha + torch.diag(sigma**2)
        errors.append(float((mean - alpha * data.mean).norm() + (covariance - expected).norm()))
    order = urn.METHODS[name].order or 1
    assert torch.tensor(errors[:-1]).div(torch.tensor(errors[1:])).log2().min() > order - 0.25, errors


def not_linear(plan: Plan) -> bool:
    return any(isinstance(row, Apply) and not FUNCTIONS[row.function].linear for row in plan.rows)


def test_a_corrector_s_scale_per_block_reaches_the_samples() -> None:
    """`predictor_corrector` on independent blocks: the correction is e s + sqrt(2 e) z with an e of its own in each block."""
    plan = urn.compile_plan("predictor_corrector", BLOCKS, 3, "uniform", snr=0.1)
    seen: list[tuple[Tensor, ...]] = []

    def watch(row: Row, registers: Any) -> None:
        if isinstance(row, Apply):
            scale = torch.tensor(dict(row.options)["scale"].values)
            seen.append((*(registers[name] for name in (*row.inputs, row.out)), scale))

    urn.sample(elementwise_model(DATA, BLOCKS), plan, shape=(4, 3), seed=0, dtype=torch.float64, watch=watch)
    assert len(seen) == 2
    for x, score, z, corrected, scale in seen:
        assert scale[0] == scale[1] != scale[2]
        e = 2 * scale * (0.1 * z.norm(dim=1, keepdim=True) / score.norm(dim=1, keepdim=True)) ** 2
        torch.testing.assert_close(corrected, x + e * score + (2 * e).sqrt() * z, rtol=1e-12, atol=1e-12)
