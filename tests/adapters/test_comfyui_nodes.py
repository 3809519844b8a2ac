"""The ComfyUI nodes in a small host with ComfyUI's interfaces: loaded as it loads them, run as it runs them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy_host
import pytest
import torch
from comfy_host import CONST, EPS, V_PREDICTION, CFGGuider, Model, run_node, sample_custom_advanced, sampling_of

import urn
from urn.adapters.k_diffusion import plan_sampler, plan_sigmas, sampler
from urn.exact import GaussianMixture
from urn.processes import VE, Flow

FOLDER = Path(__file__).parents[2] / "integrations" / "comfyui"
CENTRES = [[1.5, -0.5, 0.3, 0.0], [-0.8, 1.0, 0.0, -0.4]]
TARGET = GaussianMixture([0.3, 0.7], CENTRES, [0.3, 0.1], shape=(1, 2, 2), labels=[0, 1])
KINDS = {
    "eps": sampling_of(EPS, comfy_host.ModelSamplingDiscrete),
    "v": sampling_of(V_PREDICTION, comfy_host.ModelSamplingDiscrete),
    "edm": sampling_of(V_PREDICTION, comfy_host.ModelSamplingContinuousEDM),
    "flow": sampling_of(CONST, comfy_host.ModelSamplingDiscreteFlow, 1.0),
    "flow, shift 3": sampling_of(CONST, comfy_host.ModelSamplingDiscreteFlow, 3.0),
    "flux": sampling_of(CONST, comfy_host.ModelSamplingDiscreteFlow, 3.158, 10000),
}
EMPTY = {"samples": torch.zeros(3, 1, 2, 2)}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.delenv("URN_COMFYUI_LISTS", raising=False)
    given = comfy_host.modules(tmp_path)
    for name, module in given.items():
        monkeypatch.setitem(sys.modules, name, module)
    had = set(sys.modules)
    loaded = comfy_host.load_custom_node(FOLDER)
    yield SimpleNamespace(**loaded.NODE_CLASS_MAPPINGS, module=loaded, samplers=given["comfy.samplers"], input=tmp_path)
    for name in {*sys.modules} - had:
        if name.startswith(str(FOLDER).replace(".", "_x_")):
            del sys.modules[name]


def model_of(kind: str, scale: float = 1.0) -> Model:
    return Model(TARGET, KINDS[kind], scale)


def start_of(model: Model, sigmas: torch.Tensor, seed: int) -> torch.Tensor:
    """What KSAMPLER makes of the seed's noise and an empty latent."""
    noise = torch.randn(EMPTY["samples"].shape, generator=torch.Generator().manual_seed(seed))
    whole = abs(float(sigmas[0]) / float(model.model_sampling.sigma_max) - 1) < 1e-5
    return noise * (sigmas[0] if model.flow else torch.sqrt(1 + sigmas[0] ** 2) if whole else sigmas[0])


def test_the_folder_keeps_comfyuis_contract(host: Any) -> None:
    assert set(host.module.NODE_CLASS_MAPPINGS) == set(host.module.NODE_DISPLAY_NAME_MAPPINGS)
    for name, node in host.module.NODE_CLASS_MAPPINGS.items():
        assert name.startswith("Urn")
        inputs = node.INPUT_TYPES()
        assert set(inputs) <= {"required", "optional", "hidden"}
        for kind, *options in {**inputs["required"], **inputs.get("optional", {})}.values():
            assert isinstance(kind, (str, list))
            assert all(isinstance(one, dict) for one in options)
            if isinstance(kind, list):
                assert kind
                assert options[0].get("default", kind[0]) in kind
        assert isinstance(node.RETURN_TYPES, tuple)
        assert set(node.RETURN_TYPES) <= {"SAMPLER", "SIGMAS", "URN_SPECTRUM"}
        assert callable(getattr(node, node.FUNCTION))
        assert node.CATEGORY.startswith("sampling/custom_sampling/")
    methods = host.UrnSampler.INPUT_TYPES()["required"]["method"][0]
    assert {"unipc_3", "euler_cfg_pp", "res_2s", "dpmpp_2m_sde"} <= set(methods) < set(urn.METHODS)
    assert not {"psld_euler", "iddpm"} & set(methods)


def test_without_the_package_the_folder_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install urn-samplers"):
        comfy_host.load_custom_node(FOLDER)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["euler", "deis_3", "dpmpp_2m_sde"])
def test_a_sampler_draws_what_urn_draws(kind: str, method: str, host: Any) -> None:
    model = model_of(kind, scale=0.5)
    (sigmas,) = run_node(host.UrnScheduler, model=model, grid="simple", steps=7)
    (made,) = run_node(host.UrnSampler, method=method)
    guider, seen = CFGGuider(model), []
    latent = sample_custom_advanced(guider, made, sigmas, EMPTY, 5, lambda i, x0, x, total: seen.append((i, total)))
    process = Flow() if model.flow else VE()
    exact = TARGET.model(process, "x0")
    expected = urn.sample(exact, method, start=start_of(model, sigmas, 5).double(), grid=sigmas.double(), seed=5)
    torch.testing.assert_close(latent, (expected / 0.5).float(), rtol=1e-4, atol=1e-4)
    assert seen == [(i, 7) for i in range(7)]
    assert guider.calls == pytest.approx(sigmas[:-1].tolist())


@pytest.mark.parametrize(("options", "given"), [('{"eta": 0.5}', {"eta": 0.5}), ("{}", {}), ("", {})])
def test_options_reach_the_method(options: str, given: dict[str, Any], host: Any) -> None:
    model = model_of("eps")
    (sigmas,) = run_node(host.UrnScheduler, model=model, grid="karras_clean", steps=5)
    (made,) = run_node(host.UrnSampler, method="ddim", options=options, s_noise=0.9)
    drawn = sample_custom_advanced(CFGGuider(model), made, sigmas, EMPTY, 2)
    denoiser = TARGET.model(VE(), "x0")
    own = sampler("ddim", s_noise=0.9, **given)
    expected = own(
        lambda x, s, **_: denoiser.net(x.double(), s).float(),
        start_of(model, sigmas, 2),
        sigmas,
        {"seed": 2},
        disable=True,
    )
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)


def test_the_last_step_may_be_the_models_prediction(host: Any) -> None:
    model = model_of("eps")
    (sigmas,) = run_node(host.UrnScheduler, model=model, grid="simple", steps=6)
    drawn = {}
    for name, last in (("dpmpp_2m", "x0"), ("dpmpp_2m", "the method's"), ("dpmpp_2m_lower_final", "the method's")):
        (made,) = run_node(host.UrnSampler, method=name, last_step=last)
        drawn[name, last] = sample_custom_advanced(CFGGuider(model), made, sigmas, EMPTY)
    torch.testing.assert_close(
        drawn["dpmpp_2m", "x0"], drawn["dpmpp_2m_lower_final", "the method's"], atol=1e-5, rtol=1e-5
    )
    assert float((drawn["dpmpp_2m", "x0"] - drawn["dpmpp_2m", "the method's"]).abs().max()) > 1e-3


def test_noise_is_the_seeds_and_torchs_generator_is_left_alone(host: Any) -> None:
    model = model_of("flow")
    (sigmas,) = run_node(host.UrnScheduler, model=model, steps=6)
    (made,) = run_node(host.UrnSampler, method="euler_ancestral")
    first, again, other = (sample_custom_advanced(CFGGuider(model), made, sigmas, EMPTY, seed) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    before = torch.get_rng_state()
    made.sampler_function(lambda x, s, **_: 0 * x, EMPTY["samples"], sigmas, {"seed": 0}, None, True)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("cfg", [1.0, 2.5])
def test_cfg_pp_through_a_guider(cfg: float, host: Any) -> None:
    model = model_of("eps")
    (sigmas,) = run_node(host.UrnScheduler, model=model, grid="karras_clean", steps=5)
    (made,) = run_node(host.UrnSampler, method="euler_cfg_pp")
    guider = CFGGuider(model, positive=None, negative=0, cfg=cfg)
    drawn = sample_custom_advanced(guider, made, sigmas, EMPTY, 1)
    x = start_of(model, sigmas, 1).double()
    for cur, next in itertools.pairwise(sigmas.double()):
        cond = TARGET.x0(x, VE(), float(cur))
        without = TARGET.x0(x, VE(), float(cur), label=torch.zeros(3, dtype=torch.long))
        guided = without + cfg * (cond - without)
        x = guided + next * (x - without) / cur
    torch.testing.assert_close(drawn, x.float(), rtol=1e-4, atol=1e-4)
    assert "sampler_post_cfg_function" not in model.model_options


@pytest.mark.parametrize("kind", ["eps", "flow, shift 3"])
def test_inpainting_keeps_what_is_masked(kind: str, host: Any) -> None:
    """The wrapper noises what is kept for every call; the result is the host's own Euler's."""
    model = model_of(kind)
    mask = torch.tensor([[[[1.0, 0.0], [0.5, 1.0]]]])
    latent = {"samples": torch.full((3, 1, 2, 2), 0.7), "noise_mask": mask.expand(3, -1, -1, -1)}
    (sigmas,) = run_node(host.UrnScheduler, model=model, grid="simple", steps=6, denoise=0.6)
    (made,) = run_node(host.UrnSampler, method="euler")

    def euler(model: Any, x: Any, sigmas: Any, extra_args: Any, callback: Any, disable: Any) -> Any:
        for cur, next in itertools.pairwise(sigmas):
            denoised = model(x, cur.expand(len(x)), **extra_args)
            x = x + (x - denoised) / cur * (next - cur)
        return x

    theirs = sample_custom_advanced(CFGGuider(model), comfy_host.KSAMPLER(euler), sigmas, latent, 3)
    ours = sample_custom_advanced(CFGGuider(model), made, sigmas, latent, 3)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.allclose(ours[..., 0, 1], torch.tensor(0.7), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_sigmas_run_from_the_models_noisiest_level_to_zero(kind: str, host: Any) -> None:
    model = model_of(kind)
    table = kind in ("eps", "v")
    for grid in host.UrnScheduler.INPUT_TYPES()["required"]["grid"][0]:
        if grid in ("trailing", "leading", "linspace") and not table:
            continue
        for steps in (1, 2, 9):
            (sigmas,) = run_node(host.UrnScheduler, model=model, grid=grid, steps=steps)
            assert sigmas.dtype == torch.float32
            assert float(sigmas[-1]) == 0
            assert bool((sigmas.diff() < 0).all())
            assert len(sigmas) == steps + 1 or grid in ("ddim_uniform", "beta_levels", "beta57")
            if grid not in ("ddim_uniform", "leading"):
                assert float(sigmas[0]) == pytest.approx(float(model.model_sampling.sigma_max), rel=2e-3)
    (sigmas,) = run_node(host.UrnScheduler, model=model, grid="simple", steps=12)
    torch.testing.assert_close(sigmas, comfy_host.simple(model.model_sampling, 12), rtol=1e-5, atol=1e-7)


def test_denoise_keeps_the_last_steps(host: Any) -> None:
    model = model_of("eps")
    (whole,) = run_node(host.UrnScheduler, model=model, grid="karras_clean", steps=20)
    (half,) = run_node(host.UrnScheduler, model=model, grid="karras_clean", steps=10, denoise=0.5)
    assert torch.equal(half, whole[-11:])
    (none,) = run_node(host.UrnScheduler, model=model, denoise=0.0)
    assert len(none) == 0
    (made,) = run_node(host.UrnSampler)
    latent = {"samples": torch.ones(3, 1, 2, 2)}
    assert torch.equal(sample_custom_advanced(CFGGuider(model), made, none, latent), latent["samples"])
    for few in (none, whole[:1]):  # and a function that is called nevertheless hands its start back
        assert torch.equal(
            sampler("euler")(lambda x, s: 0 * x, latent["samples"], few, disable=True), latent["samples"]
        )


def test_a_grid_takes_its_options(host: Any) -> None:
    (sigmas,) = run_node(host.UrnScheduler, model=model_of("edm"), grid="karras_clean", steps=8, options='{"rho": 3}')
    expected = urn.grids.karras_clean(VE(0.002, 80.0), 8, rho=3)
    torch.testing.assert_close(sigmas, expected.float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", ["eps", "flow, shift 3", "edm"])
def test_computed_grids_are_those_of_the_library(kind: str, host: Any) -> None:
    model = model_of(kind)
    process, _ = _process(host, model)
    for node, grid, options in (
        (host.UrnGITS, "gits", {"method": "dpm_2", "discount": 1.1, "candidates": 40}),
        (host.UrnOptimalSteps, "optimal_steps", {"method": "dpmpp_2s", "candidates": 40}),
    ):
        (sigmas,) = run_node(node, model=model, steps=6, exponent=1.5, data_std=0.8, **options)
        times = urn.GRIDS[grid](process, 6, exponent=1.5, data_std=0.8, **options)
        expected = process.sigma(times) if model.flow else process.sigma(times) / process.alpha(times)
        if expected[-1] > 0:
            times = urn.GRIDS[grid](process, 5, exponent=1.5, data_std=0.8, **options)
            expected = torch.cat([process.sigma(times), torch.zeros(1)])
        torch.testing.assert_close(sigmas, expected.float(), rtol=1e-6, atol=1e-9)
    (sigmas,) = run_node(host.UrnAlignYourSteps, model=model, steps=6, data_std=0.8)
    times = urn.grids.ays(process, 5, data_std=0.8)
    expected = process.sigma(times) if model.flow else process.sigma(times) / process.alpha(times)
    torch.testing.assert_close(sigmas[:-1], expected.float(), rtol=1e-6, atol=0)
    assert float(sigmas[-1]) == 0
    (last,) = run_node(host.UrnAlignYourSteps, model=model, steps=3, denoise=0.5, data_std=0.8)
    assert torch.equal(last, sigmas[-4:])


def _process(host: Any, model: Model) -> Any:
    return sys.modules[f"{host.module.__name__}.host"].process_of(model.model_sampling)


def test_the_models_process_is_found(host: Any) -> None:
    assert _process(host, model_of("flow")) == (Flow(), 1000)
    assert _process(host, model_of("flow, shift 3")) == (Flow(3.0), 1000)
    process, levels = _process(host, model_of("flux"))
    assert levels == 10000
    assert process.shift == pytest.approx(3.158, rel=1e-5)
    edm, _ = _process(host, model_of("edm"))
    assert (edm.sigma_min, edm.sigma_max) == pytest.approx((0.002, 80.0))
    table, _ = _process(host, model_of("v"))
    own = urn.VP.from_betas(urn.processes.scaled_linear_betas())
    assert table.alphas_cumprod == pytest.approx(own.alphas_cumprod, rel=1e-5)


@pytest.mark.parametrize(("kind", "sigmas"), [("flow", [0.1, 0.5, 0.6, 1.0]), ("eps", [0.1, 0.5, 0.4, 1.0])])
def test_models_of_another_kind_are_refused(kind: str, sigmas: list[float], host: Any) -> None:
    model = model_of(kind)
    strange = type("Strange", (type(model.model_sampling),), {})()
    strange.sigmas = torch.tensor(sigmas)
    model.model_sampling = strange
    with pytest.raises(ValueError, match="Urn: this "):
        run_node(host.UrnScheduler, model=model)


def test_a_spectrum_is_measured_on_latents_at_the_models_scale(host: Any) -> None:
    latents = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    (spectrum,) = run_node(host.UrnSpectrum, model=model_of("eps", scale=0.5), latents={"samples": latents})
    torch.testing.assert_close(spectrum, urn.grids.measured_spectrum(latents * 0.5))
    (with_it,) = run_node(host.UrnOptimalSteps, model=model_of("eps"), steps=6, spectrum=spectrum)
    (without,) = run_node(host.UrnOptimalSteps, model=model_of("eps"), steps=6)
    assert not torch.allclose(with_it, without, rtol=0.01)


def write(host: Any, plan: Any, name: str = "plan.json") -> str:
    (host.input / name).write_text(plan.to_json())
    return name


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("final", [None, "x0"])
def test_a_plan_runs_from_its_file(kind: str, final: str | None, host: Any) -> None:
    model = model_of(kind)
    process: Any = Flow() if kind == "flow" else VE()
    top = float(model.model_sampling.sigma_max)
    levels = [top, top / 2, top / 8, top / 32]  # which float32 holds: noise is told apart by the sigmas' last digit
    times = levels if final else [*levels, 0.0]
    plan = urn.compile_plan("dpmpp_2m_sde", process, grid=times, final=final)
    made, sigmas = run_node(host.UrnPlanSampler, file=write(host, plan), s_noise=0.8)
    assert sigmas.tolist() == [*levels, 0.0]
    drawn = sample_custom_advanced(CFGGuider(model), made, sigmas, EMPTY, 9)
    (same,) = run_node(host.UrnSampler, method="dpmpp_2m_sde", last_step=final or "the method's", s_noise=0.8)
    assert torch.allclose(drawn, sample_custom_advanced(CFGGuider(model), same, sigmas, EMPTY, 9), atol=1e-4)
    assert host.UrnPlanSampler.IS_CHANGED("plan.json", 1.0) != host.UrnPlanSampler.IS_CHANGED(
        write(host, urn.compile_plan("heun", process, grid=times), "other.json"), 1.0
    )


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            urn.compile_plan("ddim", urn.VP.linear(), 4),
            r"plan\.json: the plan is of VP\.linear.*compile it on VE\(\) or Flow\(\)",
        ),
        (urn.compile_plan("ddim", Flow(3.0), 4), r"the plan is of Flow\(shift=3\.0\)"),
        (None, r"file='plan\.json': there is no "),
        ("not a plan", r"plan\.json: "),
    ],
)
def test_plans_that_do_not_suit_are_refused_before_the_run(plan: Any, message: str, host: Any) -> None:
    if isinstance(plan, str):
        (host.input / "plan.json").write_text(plan)
    elif plan is not None:
        write(host, plan)
    with pytest.raises(ValueError, match=message):
        run_node(host.UrnPlanSampler)


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ([10.0, 3.0, 0.0], r"sigmas has 3 values and the plan was compiled on 4: \[10\.0, 3\.0, 1\.0, 0\.0\]"),
        ([10.0, 3.0, 1.001, 0.0], r"sigmas\[2\]=1\.00\d* does not match the plan's 1\.0"),
        ([10.0, 3.0, 1.0, 0.5], r"sigmas\[3\]=0\.5 does not match the plan's 0\.0"),
    ],
)
def test_a_plan_refuses_other_sigmas(sigmas: list[float], message: str, host: Any) -> None:
    plan = urn.compile_plan("heun", VE(), grid=[10.0, 3.0, 1.0, 0.0])
    made, own = run_node(host.UrnPlanSampler, file=write(host, plan))
    guider = CFGGuider(model_of("eps"))
    with pytest.raises(ValueError, match=message):
        sample_custom_advanced(guider, made, torch.tensor(sigmas), EMPTY)
    assert not guider.calls
    with pytest.raises(ValueError, match=r"the plan is of VE.* and the model of a flow"):
        sample_custom_advanced(CFGGuider(model_of("flow")), made, own / 10, EMPTY)
    with pytest.raises(ValueError, match="a plan has its options in it: eta cannot be given; s_noise can"):
        plan_sampler(plan)(lambda x, s: x, EMPTY["samples"], plan_sigmas(plan), eta=0.5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"options": "{eta: 0.5}"}, r"options='\{eta: 0\.5\}' is not JSON"),
        ({"options": "[0.5]"}, r"options='\[0\.5\]' must be a JSON object"),
        ({"options": '{"eta": 0.5}'}, r"method 'deis_3' has no option eta=0\.5; its options: "),
        ({"method": "dpmpp_9m"}, "'dpmpp_9m' not in "),
        ({"s_noise": -1.0}, "s_noise: -1.0 is outside 0.0 to 100.0"),
    ],
)
def test_a_sampler_refuses_wrong_inputs(inputs: dict[str, Any], message: str, host: Any) -> None:
    with pytest.raises(ValueError, match=message):
        run_node(host.UrnSampler, **inputs)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"options": '{"rho": 5}'}, "grid 'uniform' has no option rho; its options: none"),
        ({"grid": "karras_clean", "options": '{"rho": -5}'}, "rho=-5 must be a positive finite number"),
        ({"grid": "trailing"}, "grid='trailing' is made of a table's integer times"),
        ({"steps": 0}, "steps: 0 is outside 1 to 10000"),
    ],
)
def test_a_scheduler_refuses_wrong_inputs(inputs: dict[str, Any], message: str, host: Any) -> None:
    with pytest.raises(ValueError, match=message):
        run_node(host.UrnScheduler, model=model_of("flow"), **inputs)


def test_a_handler_refuses_wrong_steps(host: Any) -> None:
    handler = host.samplers.SCHEDULER_HANDLERS["urn_uniform"].handler
    for steps in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"steps={steps!r} must be an integer of at least 1"):
            handler(KINDS["eps"], steps)


@pytest.mark.parametrize("kind", ["eps", "flow", "edm"])
def test_grids_are_computed_for_every_method_offered(kind: str, host: Any) -> None:
    for node in (host.UrnGITS, host.UrnOptimalSteps):
        for method in node.INPUT_TYPES()["required"]["method"][0]:
            (sigmas,) = run_node(node, model=model_of(kind), method=method, steps=3, candidates=8)
            assert bool((sigmas.diff() < 0).all())
            assert len(sigmas) == 4


def test_the_lists_of_ksampler(host: Any) -> None:
    samplers = host.samplers
    assert samplers.SAMPLER_NAMES is samplers.KSampler.SAMPLERS
    assert {"urn_deis_3", "urn_unipc_3_x0", "urn_dpmpp_2s"} <= set(samplers.SAMPLER_NAMES)
    assert {"urn_deis_3", "urn_unipc_3_x0"} <= set(samplers.KSAMPLER_NAMES)
    assert {"beta57", "bong_tangent", "urn_lambda", "urn_gits", "urn_optimal_steps"} <= set(samplers.SCHEDULER_NAMES)
    assert set(samplers.SCHEDULER_HANDLERS) == set(samplers.SCHEDULER_NAMES)
    model = model_of("eps")
    drawn = comfy_host.ksampler(samplers, CFGGuider(model), "urn_unipc_3_x0", "urn_optimal_steps", 6, EMPTY, 2)
    (sigmas,) = run_node(host.UrnOptimalSteps, model=model, steps=6)
    (made,) = run_node(host.UrnSampler, method="unipc_3", last_step="x0")
    assert torch.equal(drawn, sample_custom_advanced(CFGGuider(model), made, sigmas, EMPTY, 2))


@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_the_grids_in_the_lists_take_any_number_of_steps(kind: str, host: Any) -> None:
    for name, (handler, use_ms) in host.samplers.SCHEDULER_HANDLERS.items():
        for steps in (1, 2, 70):
            sigmas = handler(KINDS[kind], steps)
            assert use_ms
            assert bool((sigmas.diff() < 0).all())
            assert float(sigmas[-1]) == 0
            assert len(sigmas) == steps + 1 or name == "beta57"


def test_what_is_listed_can_be_chosen(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    register = sys.modules[f"{host.module.__name__}.lists"].register
    assert register() == []  # they are there already
    before = list(host.samplers.SAMPLER_NAMES)
    assert register("none") == []
    assert register("res_3s, dpmpp_2m_sde:x0, heun") == ["urn_heun"]
    assert [*before, "urn_heun"] == host.samplers.SAMPLER_NAMES
    monkeypatch.setenv("URN_COMFYUI_LISTS", "dpmpp_9m")
    with pytest.raises(ValueError, match="URN_COMFYUI_LISTS: dpmpp_9m is not a method for ComfyUI"):
        register()
    everything = register("all")
    assert {f"urn_{name}" for name in ("midpoint", "lms", "restart")} <= set(everything)
    for name in host.samplers.SAMPLER_NAMES:
        assert name in ("euler", "heun", "ddim", "uni_pc", "uni_pc_bh2") or hasattr(
            host.samplers.k_diffusion_sampling, f"sample_{name}"
        )


def test_another_packs_scheduler_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = comfy_host.modules(tmp_path)
    samplers: Any = given["comfy.samplers"]
    theirs = samplers.SchedulerHandler(comfy_host.simple)
    samplers.SCHEDULER_HANDLERS["beta57"] = theirs
    samplers.SCHEDULER_NAMES.append("beta57")
    for name, module in given.items():
        monkeypatch.setitem(sys.modules, name, module)
    comfy_host.load_custom_node(FOLDER)
    assert samplers.SCHEDULER_HANDLERS["beta57"] is theirs
    assert samplers.SCHEDULER_NAMES.count("beta57") == 1
