"""Rollouts: means, stds and log-densities of noisy rows, in closed form, and their gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import urn
from urn.conformance.targets import GAUSSIAN, MIXTURE, states_at
from urn.exact.affine import Affine, AffineNoise, affine_model
from urn.plan import Combine, Noise, PlanError
from urn.processes import VP, Flow

FLOW = Flow()
TIMES = [0.95, 0.8, 0.55, 0.3, 0.1]
NOISY = [
    "flow_grpo",
    "cps",
    "ddpm",
    "dpmpp_2m_sde",
    "sa_solver",
    "sa_solver_pece",
    "er_sde_3",
    "seeds_3",
    "sit_sde",
    "edm",
]


def plan_of(method: Any, times: Any = TIMES, process: Any = FLOW, **options: Any) -> Any:
    return urn.compile_plan(method, process, grid=times, **options)


def start(count: int = 6) -> Tensor:
    return states_at(FLOW, TIMES[0], count)


class Affineness(torch.nn.Module):
    """A network with parameters: velocity = x weight + shift t."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64))
        self.shift = torch.nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x @ self.weight + self.shift * t[:, None]


@pytest.mark.parametrize("method", NOISY)
def test_samples_are_those_of_sample_and_densities_those_of_torch(method: str) -> None:
    plan, model = plan_of(method), MIXTURE.model(FLOW)
    run = urn.rollout(plan, model, start=start(), seed=3)
    looked_at = urn.sample(model, plan, start=start(), seed=3, watch=lambda row, registers: None)
    assert torch.equal(run.x, looked_at)
    torch.testing.assert_close(run.x, urn.sample(model, plan, start=start(), seed=3))
    assert torch.equal(run.start, start())
    assert len(run.transitions) == sum(isinstance(row, Noise) for row in plan.rows)
    for one in run.transitions:
        expected = Normal(one.mean, one.std).log_prob(one.value).sum(1)
        assert torch.allclose(one.log_density, expected, rtol=1e-12, atol=1e-12)
    assert torch.allclose(run.log_density, sum(one.log_density for one in run.transitions))


def test_mean_and_std_are_the_formulas_own() -> None:
    """Flow-GRPO's step, written out; a log-density is a sum over dimensions."""
    model, eta = MIXTURE.model(FLOW), 0.7
    run, x = urn.rollout(plan_of("flow_grpo"), model, start=start()), start()
    for one, s, t in zip(run.transitions, TIMES[:-1], TIMES[1:], strict=True):
        v, std, dt = MIXTURE.prediction(x, FLOW, s, "velocity"), eta * math.sqrt(s / (1 - s)), t - s
        mean = x + (v + std**2 / (2 * s) * (x + (1 - s) * v)) * dt
        assert torch.allclose(one.mean, mean, atol=1e-12)
        assert one.std == pytest.approx(std * math.sqrt(-dt), rel=1e-12)
        z = (one.value - mean) / one.std
        constant = 2 * math.log(one.std * math.sqrt(2 * math.pi))
        assert torch.allclose(one.log_density, -(z**2).sum(1) / 2 - constant, atol=1e-10)
        x = one.value
    assert torch.equal(x, run.x)


def test_images_are_summed_over_all_their_elements() -> None:
    model = urn.Model(lambda x, t: 1.0 * x, FLOW, "velocity")
    run = urn.rollout(plan_of("cps"), model, (3, 2, 4, 4))
    one = run.transitions[0]
    assert one.log_density.shape == (3,)
    expected = Normal(one.mean.double(), one.std).log_prob(one.value.double()).flatten(1).sum(1)
    assert torch.allclose(one.log_density.double(), expected, rtol=1e-5)


@pytest.mark.parametrize("method", ["ddpm", "dpmpp_2m_sde", "sa_solver", "seeds_2", "flow_grpo"])
def test_the_sum_over_a_path_is_the_exact_joint_density_on_gaussian_data(method: str) -> None:
    """The values of all noisy rows are jointly Gaussian given the start; their law by exact affine numbers."""
    plan = plan_of(method, TIMES[:4])
    x = states_at(FLOW, TIMES[0], 1, GAUSSIAN)
    run = urn.rollout(plan, GAUSSIAN.model(FLOW), start=x, seed=1)
    registers = [one.register for one in run.transitions]
    laws: list[Affine] = []

    def keep(row: Any, values: Any) -> None:
        if isinstance(row, Combine) and row.out in registers:
            laws.append(values[row.out])

    urn.execute(plan, affine_model(GAUSSIAN, FLOW), {"x": Affine(x[0])}, AffineNoise(), watch=keep)
    names = list(dict.fromkeys(name for law in laws for name in law.parts))
    zero = torch.zeros(2, 2, dtype=torch.float64)
    matrix = torch.cat([torch.cat([law.parts.get(name, zero) for name in names], 1) for law in laws])
    joint = MultivariateNormal(torch.cat([law.mean for law in laws]), matrix @ matrix.T)
    path = torch.cat([one.value[0] for one in run.transitions])
    assert float(run.log_density[0]) == pytest.approx(float(joint.log_prob(path)), rel=1e-9)


@pytest.mark.parametrize("method", [*NOISY, "restart"])
def test_a_path_is_scored_again_under_its_own_model(method: str) -> None:
    options = {"intervals": ((0.5, 1.5, 2),)} if method == "restart" else {}
    plan, model = plan_of(method, **options), MIXTURE.model(FLOW)
    run = urn.rollout(plan, model, start=start(), seed=3)
    again = urn.rollout(plan, model, path=run)
    assert torch.allclose(again.log_density, run.log_density, rtol=1e-9, atol=1e-9)
    assert torch.allclose(again.x, run.x, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(a.value, b.value) for a, b in zip(again.transitions, run.transitions, strict=True))


def test_a_path_under_another_model_keeps_its_values_and_changes_its_means() -> None:
    plan = plan_of("flow_grpo")
    run = urn.rollout(plan, MIXTURE.model(FLOW), start=start(), seed=3)
    other = urn.rollout(plan, GAUSSIAN.model(FLOW), path=run)
    for one, two in zip(run.transitions, other.transitions, strict=True):
        assert torch.equal(one.value, two.value)
        assert float((one.mean - two.mean).abs().max()) > 1e-2
        assert torch.allclose(two.log_density, Normal(two.mean, two.std).log_prob(one.value).sum(1))


@pytest.mark.parametrize("method", ["flow_grpo", "sa_solver", "seeds_2", "dpmpp_2m_sde"])
def test_the_gradient_to_the_networks_parameters_is_the_finite_difference(method: str) -> None:
    """Of the density of fixed values, through every row between two noisy ones, noise that is read again included."""
    net, plan = Affineness(), plan_of(method)
    model = urn.Model(net, FLOW, "velocity")
    run = urn.rollout(plan, model, start=start(3), seed=3, gradients=True)
    gradients = torch.autograd.grad(run.log_density.sum(), list(net.parameters()))
    scored = urn.rollout(plan, model, path=run, gradients=True)
    for a, b in zip(gradients, torch.autograd.grad(scored.log_density.sum(), list(net.parameters())), strict=True):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-8)
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        found = torch.zeros_like(parameter)
        for i in range(parameter.numel()):
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter.view(-1)[i] += step
                ends.append(float(urn.rollout(plan, model, path=run).log_density.sum()))
                with torch.no_grad():
                    parameter.view(-1)[i] -= step
            found.view(-1)[i] = (ends[0] - ends[1]) / 2e-5
        assert torch.allclose(gradient, found.detach(), rtol=1e-5, atol=1e-5)


def test_values_carry_no_gradient_and_without_gradients_nothing_does() -> None:
    model = urn.Model(Affineness(), FLOW, "velocity")
    run = urn.rollout(plan_of("flow_grpo"), model, start=start(), gradients=True)
    assert run.log_density.requires_grad
    assert not any(one.value.requires_grad for one in run.transitions)
    assert not urn.rollout(plan_of("flow_grpo"), model, start=start()).log_density.requires_grad


def test_only_the_window_of_a_mixed_plan_has_densities() -> None:
    plan = urn.compile_plan(urn.mixed(("ddim", 2), ("flow_grpo", 3), "dpmpp_2m"), FLOW, 8)
    run = urn.rollout(plan, MIXTURE.model(FLOW), (5, 2))
    assert [one.step for one in run.transitions] == [2, 3, 4]
    assert torch.equal(run.of_step(3)[0].mean, run.transitions[1].mean)
    for step in (0, 5, 99):
        with pytest.raises(PlanError, match=rf"step {step} draws no noise: .* 2, 3, 4"):
            run.of_step(step)


def test_a_deterministic_plan_has_no_density() -> None:
    run = urn.rollout(plan_of("ddim"), MIXTURE.model(FLOW), start=start())
    assert run.transitions == ()
    with pytest.raises(PlanError, match="no noisy row"):
        _ = run.log_density
    with pytest.raises(PlanError, match="steps that do: none"):
        run.of_step(0)


def test_noise_that_goes_through_a_map_is_refused() -> None:
    plan = urn.compile_plan("predictor_corrector", VP.linear(), 3)
    with pytest.raises(PlanError, match="goes through langevin_correction"):
        urn.rollout(plan, MIXTURE.model(VP.linear()), (2, 2))


def test_two_noises_of_one_row_that_are_read_again_are_refused() -> None:
    from urn.method import combine, evaluate, noise

    def twice(nodes, x, again=True):
        cur, next = nodes[0], nodes[1]
        x0 = yield evaluate(x, cur, "x0")
        z, w = (yield noise(cur, next)), (yield noise(cur, next))
        y = yield combine(next, (next.alpha, x0), (0.3, z), (0.4, w))
        return (yield combine(next, (1.0, y), (0.1 if again else 0.0, z)))

    run = urn.rollout(urn.compile_plan(twice, FLOW, grid=[0.9, 0.5], again=False), MIXTURE.model(FLOW), (2, 2))
    assert run.transitions[0].std == pytest.approx(0.5)
    with pytest.raises(PlanError, match="read again"):
        urn.rollout(urn.compile_plan(twice, FLOW, grid=[0.9, 0.5]), MIXTURE.model(FLOW), (2, 2))


def test_wrong_arguments_are_refused() -> None:
    model = MIXTURE.model(FLOW)
    with pytest.raises(ValueError, match="must be a compiled plan"):
        urn.rollout("flow_grpo", model, (2, 2))
    run = urn.rollout(plan_of("flow_grpo"), model, start=start())
    with pytest.raises(PlanError, match="of another plan"):
        urn.rollout(plan_of("flow_grpo", [0.9, 0.5]), model, path=run)
