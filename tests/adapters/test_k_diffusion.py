"""The functions for k-diffusion and ComfyUI: what they show the model and the callback, and their noise."""

from __future__ import annotations

import doctest
import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from adapters_hosts import LEVELS, SIGMAS, START, TARGET, Denoiser, by_urn
from torch import Tensor

import urn
from urn.adapters import k_diffusion
from urn.adapters.k_diffusion import sampler
from urn.method import combine, evaluate
from urn.noise import SeededNoise
from urn.processes import VE, Flow


@pytest.mark.parametrize("method", ["unipc_3", "heun", "dpm_solver_3", "sa_solver_3", "edm", "restart"])
@pytest.mark.parametrize(("process", "sigmas"), [(VE(), SIGMAS), (Flow(), LEVELS)], ids=repr)
def test_it_is_urns_own_run(method: str, process: Any, sigmas: Tensor) -> None:
    denoiser, start = Denoiser(process), START.clone()
    x = sampler(method, process=process)(denoiser, start, sigmas, {"seed": 5}, disable=True)
    assert torch.equal(x, by_urn(method, process, sigmas, seed=5))
    assert torch.equal(start, START)
    plan = urn.compile_plan(method, process, grid=sigmas)
    assert [float(sigma[0]) for _, sigma, _ in denoiser.calls] == [r.t for r in plan.rows if r.kind == "evaluate"]


def test_the_model_is_shown_a_sigma_per_sample_and_the_extra_arguments() -> None:
    denoiser, cond = Denoiser(), object()
    given = {"cond": cond, "t": 3}
    sampler("euler")(denoiser, START, SIGMAS, given, disable=True)
    assert len(denoiser.calls) == 5
    for (_, sigma, extra), expected in zip(denoiser.calls, SIGMAS, strict=False):
        assert sigma.shape == (4,)
        assert (sigma == expected).all()
        assert extra == given
        assert extra["cond"] is cond


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    denoiser, told = Denoiser(), []
    x = sampler("dpmpp_2m_sde")(denoiser, START.to(dtype), SIGMAS.float(), callback=told.append, disable=True)
    assert x.dtype == dtype
    assert all(shown.dtype == sigma.dtype == dtype for shown, sigma, _ in denoiser.calls)
    assert all(info["sigma"].dtype == info["sigma_hat"].dtype == torch.float32 for info in told)
    exact = by_urn("dpmpp_2m_sde", VE(), SIGMAS)
    assert float((x.double() - exact).abs().max()) < {2: 0.05, 4: 1e-5, 8: 1e-6}[dtype.itemsize]


def test_no_graph_is_kept() -> None:
    weight = torch.ones((), requires_grad=True, dtype=torch.float64)
    assert not sampler("euler")(lambda x, sigma: weight * x / 2, START, SIGMAS, disable=True).requires_grad


# ---- the callback


@pytest.mark.parametrize("final", [None, "x0"])
@pytest.mark.parametrize(
    "method", ["euler", "heun", "dpm_2", "unipc_3", "unipc_5", "deis_4", "heunpp_2", "restart", "sa_solver_pece", "edm"]
)
def test_the_callback_is_told_of_every_point_once(method: str, final: str | None) -> None:
    denoiser, told = Denoiser(), []
    x = sampler(method, final=final)(denoiser, START, SIGMAS, callback=told.append, disable=True)
    assert [info["i"] for info in told] == [0, 1, 2, 3, 4]
    for info in told:
        assert set(info) == {"x", "i", "sigma", "sigma_hat", "denoised"}
        assert info["sigma"] == SIGMAS[info["i"]]
        assert torch.equal(info["denoised"], TARGET.x0(info["x"], VE(), float(info["sigma_hat"])))
        if method != "edm":
            assert info["sigma_hat"] == info["sigma"]
    assert torch.equal(told[0]["x"], START) == (method != "edm")
    if final == "x0":
        assert torch.equal(x, told[-1]["denoised"])


def test_the_callback_sees_the_final_state_of_each_point() -> None:
    """With Heun the model is called twice at a point; the state that the next step starts from is told."""
    told: list[dict[str, Any]] = []
    sampler("heun")(Denoiser(), START, SIGMAS, callback=told.append, disable=True)
    for info in told[1:]:
        part = sampler("heun")(Denoiser(), START, SIGMAS[: info["i"] + 1], disable=True)
        assert torch.allclose(info["x"], part, rtol=0, atol=1e-12)


def test_the_callback_after_churn_is_told_of_the_larger_sigma() -> None:
    told: list[dict[str, Any]] = []
    edm = sampler("edm", s_churn=1.0, s_min=0.0, s_max=math.inf)
    edm(Denoiser(), START, SIGMAS, callback=told.append, disable=True)
    for info in told:
        assert float(info["sigma_hat"] / info["sigma"]) == pytest.approx(1.2, abs=1e-12)


def test_the_callback_of_steps_over_several_intervals() -> None:
    told: list[dict[str, Any]] = []
    sampler("dpm_fast")(Denoiser(), START, SIGMAS[:5], callback=told.append, disable=True)
    assert [info["i"] for info in told] == [0, 3]  # steps of order three and one over four intervals


def test_what_a_callback_raises_ends_the_run() -> None:
    class StopError(Exception):
        pass

    def stop(info: dict[str, Any]) -> None:
        raise StopError

    denoiser = Denoiser()
    with pytest.raises(StopError):
        sampler("euler")(denoiser, START, SIGMAS, callback=stop, disable=True)
    assert len(denoiser.calls) == 1


@pytest.mark.parametrize("disable", [None, False, True])
def test_the_bar_counts_intervals(disable: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import tqdm.auto

    made, whole = [], tqdm.auto.tqdm

    def noted(*args: Any, **options: Any) -> Any:
        made.append((options, whole(*args, **options)))
        return made[-1][1]

    monkeypatch.setattr(tqdm.auto, "tqdm", noted)
    seen: list[int] = []
    sampler("heun")(Denoiser(), START, SIGMAS, callback=lambda info: seen.append(made[0][1].n), disable=disable)
    ((options, bar),) = made
    assert disable is not False or seen == [0, 1, 2, 3, 4]
    assert options["disable"] is disable
    assert bar.total == 5
    assert bar.n == (5 if disable is False else 0)


# ---- noise


def test_noise_does_not_depend_on_the_batch() -> None:
    run = sampler("dpmpp_2m_sde")
    seeds = list(urn.sample_seeds(7, 4))
    whole = run(Denoiser(), START, SIGMAS, {"seed": 7}, disable=True)
    assert torch.equal(whole[:2], run(Denoiser(), START[:2], SIGMAS, {"seed": 7}, disable=True))
    turned = run(Denoiser(), START.flip(0), SIGMAS, disable=True, seed=seeds[::-1])
    assert torch.equal(whole, turned.flip(0))
    assert not torch.equal(whole, run(Denoiser(), START, SIGMAS, {"seed": 8}, disable=True))
    assert torch.equal(whole, run(Denoiser(), START, SIGMAS, {"seed": 8}, disable=True, seed=7))
    assert torch.equal(whole, run(Denoiser(), START, SIGMAS, disable=True, seed=torch.tensor(7)))
    assert torch.equal(run(Denoiser(), START, SIGMAS, disable=True), by_urn("dpmpp_2m_sde", VE(), SIGMAS, seed=0))


def test_torchs_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    sampler("euler_ancestral")(Denoiser(), START, SIGMAS, disable=True)
    assert torch.equal(before, torch.get_rng_state())


def test_a_noise_sampler_is_asked_with_sigmas() -> None:
    asked: list[tuple[Tensor, Tensor]] = []

    def noise_sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        asked.append((sigma, sigma_next))
        interval = (float(sigma), float(sigma_next))
        return SeededNoise(urn.sample_seeds(0, 4)).normal(interval, 0, START)

    sigmas = SIGMAS.float()
    x = sampler("euler_ancestral")(Denoiser(), START, sigmas, None, None, True, noise_sampler)
    assert torch.equal(x, by_urn("euler_ancestral", VE(), sigmas.double()))
    assert asked == list(pairwise(sigmas[:-1]))  # none in the step to 0
    assert all(value.dtype == torch.float32 and value.ndim == 0 for pair in asked for value in pair)


@pytest.mark.parametrize("given", [{}, {"seed": 1}])
def test_s_noise_scales_all_noise(given: dict[str, Any]) -> None:
    """x is linear in the noise where the model does not look at x: the step down, then s_noise times the noise."""
    none, one, much = (
        sampler("euler_ancestral", s_noise=0.5)(
            lambda x, s, **_: 0 * x, START, SIGMAS[:2], given, disable=True, s_noise=s
        )
        for s in (0.0, 1.0, 1.3)
    )
    half = sampler("euler_ancestral", s_noise=0.5)(lambda x, s, **_: 0 * x, START, SIGMAS[:2], given, disable=True)
    assert torch.allclose(much - none, 1.3 * (one - none), rtol=0, atol=1e-12)
    assert torch.allclose(half - none, 0.5 * (one - none), rtol=0, atol=1e-12)
    assert float((one - none).abs().min()) > 0.01


# ---- the rest


def test_fewer_than_two_sigmas_are_no_step() -> None:
    for sigmas in (SIGMAS[:0], SIGMAS[:1]):
        denoiser = Denoiser()
        assert sampler("euler")(denoiser, START, sigmas, disable=True) is START
        assert not denoiser.calls


def test_one_step_to_the_clean_prediction() -> None:
    x = sampler("unipc_3", final="x0")(Denoiser(), START, torch.tensor([10.0, 0.0]), disable=True)
    assert torch.equal(x, TARGET.x0(START, VE(), 10.0))
    with pytest.raises(ValueError, match="no option eta"):
        sampler("unipc_3", final="x0")(Denoiser(), START, torch.tensor([10.0, 0.0]), disable=True, eta=1.0)


def test_final_leaves_sigmas_that_do_not_end_in_0() -> None:
    ends = [sampler("dpmpp_2m", final=final)(Denoiser(), START, SIGMAS[:-1], disable=True) for final in (None, "x0")]
    assert torch.equal(*ends)


def jump(nodes: Any, x: str, share: float = 1.0) -> Any:
    """Each step to a share of the clean prediction."""
    for cur, next in nodes.steps():
        x0 = yield evaluate(x, cur, "x0")
        x = yield combine(next, (share, x0))
    return x


def test_a_method_of_ones_own() -> None:
    x = sampler(jump, share=0.5)(lambda x, sigma: x, START, SIGMAS, disable=True)
    assert torch.allclose(x, START / 2**5, rtol=0, atol=1e-15)
    y = sampler(jump, share=0.5)(lambda x, sigma: x, START, SIGMAS, disable=True, share=2.0)
    assert torch.allclose(y, START * 2**5, rtol=1e-15, atol=0)


def test_the_example_runs() -> None:
    assert doctest.testmod(k_diffusion) == (0, 4)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, urn; had = {*sys.modules}; import urn.adapters.k_diffusion; print(*sorted({*sys.modules} - had))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["urn.adapters", "urn.adapters.k_diffusion", "urn.adapters.k_diffusion.running"]


def test_samplers_have_names() -> None:
    assert sampler("unipc_3").__name__ == "sample_unipc_3"  # type: ignore[attr-defined]
