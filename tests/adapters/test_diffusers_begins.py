"""Runs that begin in the middle, as image-to-image does: every method, plans that were given, and what cannot begin there."""

from __future__ import annotations

import diffusers
import pytest
import torch
from adapters_loops import executed, gap, net, normal, per_sample, seeded
from torch import Tensor

import urn
from urn.adapters.diffusers import UrnScheduler
from urn.method import combine, evaluate, noise

CONFIG = diffusers.DDIMScheduler(clip_sample=False).config


def loop(scheduler: UrnScheduler, begin: int, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    for t in scheduler.timesteps[begin:]:
        x = scheduler.step(net(x, t), t, x, generator=generator).prev_sample
    return x


def begun(method: str, step: int = 4, steps: int = 8) -> UrnScheduler:
    scheduler = UrnScheduler.from_config(CONFIG, method=method)
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(step * scheduler.order)
    return scheduler


METHODS = (
    "ddim ddpm heun heunpp_2 dpm_solver_3 dpmpp_2s dpmpp_2m dpmpp_3m_sde unipc_3 adams_pc_3 deis_rho_rk4 sa_solver_3 er_sde_3 "
    "seeds_3 radau_iia_3 lobatto_iiic_3 luan_alhsmy_6 restart"
)


@pytest.mark.parametrize("method", METHODS.split())
def test_it_is_the_plan_on_the_times_that_remain(method):
    """Methods with more calls in a step, with fewer in the last ones, and with history."""
    scheduler, x = begun(method), normal(2, 2, 4, 4)
    times = scheduler.plan.times
    begin = scheduler.begin_index
    assert float(scheduler.timesteps[begin]) == times[0]
    assert scheduler.plan == urn.compile_plan(method, scheduler.process, grid=list(times))
    assert gap(loop(scheduler, begin, x, seeded(5)), executed(scheduler, per_sample, x, seeded(5))) < 2e-5


def test_methods_that_begin_with_further_calls_are_refused_there():
    for method in ("deis_4", "pndm", "unipc_5", "adams_pc_4"):
        with pytest.raises(ValueError, match=f"{method} cannot begin there"):
            begun(method)


def test_blocks_of_steps_begin_where_one_does():
    """DPM-Solver-fast has three steps in a block, and between blocks it knows only the state."""
    whole, scheduler, x = begun("dpm_solver_fast", 0), begun("dpm_solver_fast", 3), normal(2, 2, 4, 4)
    end = loop(whole, 0, x)
    whole.set_timesteps(8)
    for t in whole.timesteps[:3]:
        x = whole.step(net(x, t), t, x).prev_sample
    assert torch.equal(loop(scheduler, 3, x), end)
    with pytest.raises(ValueError, match="begin_index=4: dpm_solver_fast cannot begin there"):
        begun("dpm_solver_fast", 4)


@pytest.mark.parametrize("method", ["ddim", "heun", "dpmpp_sde", "dpm_solver_3"])
def test_a_plan_of_one_step_methods_goes_on_from_any_of_its_steps(method):
    process = UrnScheduler.from_config(CONFIG).process
    plan = urn.compile_plan(method, process, steps=6, grid="quadratic")
    scheduler, x = UrnScheduler.from_config(CONFIG, plan=plan), normal(2, 2, 4, 4)
    scheduler.set_timesteps(6)
    begin = 2 * scheduler.order
    scheduler.set_begin_index(begin)
    rest = UrnScheduler.from_config(CONFIG, plan=urn.compile_plan(method, process, grid=list(plan.times[2:])))
    rest.set_timesteps(4)
    assert scheduler.timesteps[begin:].tolist() == rest.timesteps.tolist()
    assert torch.equal(loop(scheduler, begin, x, seeded(5)), loop(rest, 0, x, seeded(5)))
    assert scheduler.plan == plan
    with pytest.raises(ValueError, match="the plan has ended after its"):
        scheduler.step(x, scheduler.timesteps[-1], x)


def test_a_plan_that_needs_more_than_the_state_is_refused():
    process = UrnScheduler.from_config(CONFIG).process
    mixed = urn.compile_plan(urn.mixed(("ddim", 3), "dpmpp_2m"), process, steps=8, grid="quadratic")
    scheduler = UrnScheduler.from_config(CONFIG, plan=mixed)
    scheduler.set_timesteps(8)
    for begin in (1, 2, 3):
        scheduler.set_begin_index(begin)
    with pytest.raises(
        ValueError, match=r"begin_index=5: .*needs more than the state, and as it is a plan that was given"
    ):
        scheduler.set_begin_index(5)


@urn.method(order=None, stochastic=True, source="test")
def noise_kept(nodes, x):
    """Every step adds the noise of the first again: the state alone does not tell it."""
    for cur, next in nodes.steps():
        x0 = yield evaluate(x, cur, "x0")
        z = yield noise(nodes[0], nodes[1], 5)
        x = yield combine(next, (next.alpha, x0), (next.sigma, z))
    return x


def test_a_noise_drawn_before_is_more_than_the_state():
    process = UrnScheduler.from_config(CONFIG).process
    plan = urn.compile_plan(noise_kept, process, grid=[999.0, 500.0, 100.0, 0.0])
    scheduler = UrnScheduler.from_config(CONFIG, plan=plan)
    scheduler.set_timesteps(3)
    with pytest.raises(ValueError, match="needs more than the state"):
        scheduler.set_begin_index(1)


@urn.method(order=None, source="test")
def shown_late(nodes, x):
    """The network is shown another time than the state's, so the noise that a pipeline adds would be another's."""
    for cur, next in nodes.steps():
        x0, epsilon = yield evaluate(x, cur, "x0", "epsilon", shown=0.9 * cur.t)
        x = yield combine(next, (next.alpha, x0), (next.sigma, epsilon))
    return x


def test_a_call_that_is_shown_another_time_is_no_start():
    process = UrnScheduler.from_config(CONFIG).process
    plan = urn.compile_plan(shown_late, process, grid=[999.0, 500.0, 100.0, 0.0])
    scheduler = UrnScheduler.from_config(CONFIG, plan=plan)
    scheduler.set_timesteps(3)
    with pytest.raises(ValueError, match="shown_late cannot begin there"):
        scheduler.set_begin_index(1)
