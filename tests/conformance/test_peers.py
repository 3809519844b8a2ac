"""Other libraries' samplers under the kit: known good ones, known bad ones, exact laws, and what is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import diffusers as installed
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import urn
from urn.cli import app
from urn.conformance import Report, checks, peers
from urn.conformance.peers import samplers
from urn.conformance.peers.facts import NOT_RUN
from urn.conformance.peers.network import shares_of
from urn.conformance.peers.schedulers import scheduler_names
from urn.conformance.probing import Draw, Drawn, Interval, probed_moments
from urn.conformance.subject import Subject
from urn.conformance.targets import GAUSSIAN, fitting_times
from urn.exact.affine import moments

PROCESS = urn.VP.linear()


def has_k_diffusion() -> bool:
    try:
        samplers.load_sampling()
    except ImportError:
        return False
    return True


needs_k_diffusion = pytest.mark.skipif(not has_k_diffusion(), reason="k-diffusion is not installed")


def fitted(subject: Subject) -> checks.Check:
    """The order, or that of the law, alone."""
    return (checks.law if subject.stochastic else checks.order)(subject, PROCESS)


# known good and known bad


def test_ddim_passes_and_is_of_order_one() -> None:
    report = urn.check(peers.diffusers("DDIMScheduler"))
    assert report.passed, f"\n{report}"
    assert report.order == pytest.approx(1, abs=0.1)
    assert report["point mass"].numbers["error"] < 1e-12
    assert report["cost"].numbers["calls"] == 1
    assert report["own grid"].numbers["error 80"] < report["own grid"].numbers["error 20"] / 3


@pytest.mark.parametrize(
    ("options", "expected", "verdict"),
    [
        ({}, 2, "pass"),
        ({"use_karras_sigmas": True}, 2, "pass"),
        ({"solver_order": 3}, 2, "FAIL"),  # it starts with one Euler step
    ],
)
def test_dpm_solver_fits_order_two(options: dict[str, Any], expected: int, verdict: str) -> None:
    check = fitted(peers.diffusers("DPMSolverMultistep", **options))
    assert check.numbers["order"] == pytest.approx(expected, abs=0.2), check.detail
    assert check.verdict == verdict


@pytest.mark.parametrize("options", [{"solver_type": "bh1"}, {"predict_x0": False}])
def test_unipc_to_sigma_zero_is_nan(options: dict[str, Any]) -> None:
    subject = peers.diffusers("UniPCMultistepScheduler", **options)
    ends, own = checks.ends(subject, PROCESS), subject.more[-1](subject, PROCESS)
    assert ends.verdict == own.verdict == "FAIL"
    assert "24 of 24 samples not finite in 10 steps" in own.detail


def test_a_law_that_does_not_converge_is_caught() -> None:
    """All of the noise is drawn anew in every step."""
    check = fitted(peers.diffusers("FlowMatchEulerDiscrete", stochastic_sampling=True))
    assert check.verdict == "FAIL"
    assert check.numbers["error"] > 0.5


def test_a_step_size_averaged_over_the_batch_is_caught() -> None:
    assert checks.batch(peers.diffusers("ScoreSdeVe"), PROCESS).verdict == "FAIL"
    assert checks.batch(peers.diffusers("ScoreSdeVe", correct_steps=0), PROCESS).verdict == "pass"


@needs_k_diffusion
def test_k_diffusions_heun_is_of_order_two_and_costs_two_calls() -> None:
    subject = peers.k_diffusion("sample_heun")
    check = fitted(subject)
    assert check.verdict == "pass"
    assert check.numbers["order"] == pytest.approx(2, abs=0.1)
    assert subject.more[0](subject, PROCESS).numbers["calls"] == 2


@needs_k_diffusion
def test_k_diffusions_adaptive_sampler_looks_across_its_batch() -> None:
    assert checks.batch(peers.k_diffusion("dpm_adaptive"), PROCESS).verdict == "FAIL"


@pytest.mark.parametrize("double", [True, False])
def test_schedulers_run_on_the_nodes_themselves(double: bool) -> None:
    """The same DDIM in float64 by Urn's plan, to rounding: every node is an entry of the table, and none is rounded."""
    times = fitting_times(PROCESS, 7)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = GAUSSIAN.model(PROCESS)
    y = peers.diffusers("DDIM", double=double).run(model, x, times, range(5))
    expected = urn.sample(model, urn.compile_plan("ddim", PROCESS, grid=times), start=x)
    assert torch.allclose(y, expected, rtol=0, atol=1e-12 if double else 1e-5)
    assert double or not torch.allclose(y, expected, rtol=0, atol=1e-12)


# exact laws


def by_plan(method: str, change: float = 1.0) -> Drawn:
    """One of Urn's methods, its noise handed in."""
    times = fitting_times(PROCESS, 9)
    plan = urn.compile_plan(method, PROCESS, grid=times)

    def drawn(x: Tensor, draw: Draw) -> Tensor:
        class Source:
            def normal(self, interval: Interval, stream: int, like: Tensor) -> Tensor:
                return draw(interval if stream == 0 else None, like) * change

        result: Tensor = urn.execute(plan, GAUSSIAN.model(PROCESS), {"x": x}, Source())["x"]
        return result

    return drawn


@pytest.mark.parametrize("method", ["ddpm", "dpmpp_2m_sde", "dpmpp_sde", "euler_ancestral"])
def test_a_probed_law_is_the_plans_exact_law(method: str) -> None:
    times = fitting_times(PROCESS, 9)
    found = probed_moments(by_plan(method), *GAUSSIAN.moments(PROCESS, float(times[0])))
    assert found is not None
    for one, other in zip(found, moments(urn.compile_plan(method, PROCESS, grid=times), GAUSSIAN), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_a_probed_law_sees_one_percent_of_noise() -> None:
    start = GAUSSIAN.moments(PROCESS, float(fitting_times(PROCESS, 9)[0]))
    one, other = (probed_moments(by_plan("ddpm", change), *start) for change in (1.0, 1.01))
    assert one is not None
    assert other is not None
    assert float((one[1] - other[1]).abs().max()) > 1e-4


def test_overlapping_intervals_are_of_one_path() -> None:
    """W(0, 1) sqrt(1) + W(0, 3) sqrt(3) + W(1, 3) sqrt(2): of variances 1, 3, 2, and covariances 1, 0, 2."""

    def drawn(x: Tensor, draw: Draw) -> Tensor:
        return (
            x + draw((1.0, 0.0), x) + 3**0.5 * draw((3.0, 0.0), x) + 2**0.5 * draw((3.0, 1.0), x) + 0.5 * draw(None, x)
        )

    found = probed_moments(drawn, torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64))
    assert found is not None
    assert torch.allclose(found[1], (1 + 3 + 2 + 2 * (1 + 0 + 2) + 0.25) * torch.eye(2, dtype=torch.float64))


def test_what_is_not_affine_is_not_probed() -> None:
    def clipped(x: Tensor, draw: Draw) -> Tensor:
        return (x + draw(None, x)).clamp(-1, 1)

    assert probed_moments(clipped, torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)) is None


# refused


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("DPMSolverMultistepp", {}, "has no scheduler 'DPMSolverMultistepp'; did you mean DPMSolverMultistepScheduler"),
        ("LCMScheduler", {}, "cannot be run on an exact model: made for a distilled network"),
        ("DDIM", {"solver_order": 2}, "DDIMScheduler has no option solver_order=2; its options: .*beta_start.*, eta"),
        ("DPMSolverMultistep", {"solver_type": "rk4"}, "refuses {'solver_type': 'rk4'}"),
        ("DPMSolverMultistep", {"algorithm_type": "dpmsolver"}, "refuses .*final_sigmas_type"),
    ],
)
def test_what_diffusers_does_not_have_is_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        peers.diffusers(name, **options)


@needs_k_diffusion
def test_what_k_diffusion_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="has no sampler 'sample_dpmpp_2n'; did you mean sample_dpmpp_2m"):
        peers.k_diffusion("sample_dpmpp_2n")
    with pytest.raises(ValueError, match="sample_dpmpp_2m has no option eta=1; its options: none"):
        peers.k_diffusion("dpmpp_2m", eta=1)


def test_what_is_missing_is_said_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"diffusers:DDIM needs diffusers: pip install 'urn-samplers\[diffusers\]'"):
        peers.diffusers("DDIM")
    samplers.load_sampling.cache_clear()
    monkeypatch.delitem(sys.modules, "k_diffusion", raising=False)
    monkeypatch.delitem(sys.modules, "k_diffusion.sampling", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs k-diffusion .*: pip install --no-deps k-diffusion"):
        peers.k_diffusion("heun")


def test_a_scheduler_that_needs_more_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = type(
        "DPMSolverSDEScheduler", (), {"_backends": ["torch", "torchsde"]}
    )  # as diffusers has it without torchsde
    monkeypatch.setattr(installed.schedulers, "DPMSolverSDEScheduler", stand_in)
    with pytest.raises(ImportError, match="DPMSolverSDEScheduler needs torchsde: pip install torchsde"):
        peers.diffusers("DPMSolverSDE")


@pytest.mark.parametrize(
    "name", ["diffusers:DDIM", "diffusers:EulerDiscrete", pytest.param("k_diffusion:euler", marks=needs_k_diffusion)]
)
def test_a_start_at_alpha_zero_is_refused(name: str) -> None:
    check = checks.ends(peers.read_peer(name, {}), urn.Flow())
    assert check.verdict == "info"
    assert "takes no start at alpha = 0" in check.detail


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "IPNDM"])
def test_others_start_there(name: str) -> None:
    assert checks.ends(peers.diffusers(name), urn.Flow()).verdict == "pass"


def test_options_go_to_the_subject_and_not_to_the_kit() -> None:
    with pytest.raises(ValueError, match="options eta are a method's"):
        urn.check(peers.diffusers("DDIM"), eta=1)


def test_every_scheduler_that_is_not_run_is_one_of_diffusers() -> None:
    assert {f"{name}Scheduler" for name in NOT_RUN} <= {*scheduler_names()}


@pytest.mark.parametrize("name", ["DDIMScheduler", "IPNDMScheduler"])
def test_files_are_left_as_they_were(name: str) -> None:
    module = sys.modules[getattr(installed, name).__module__]
    before = dict(vars(module))
    checks.repeatable(peers.diffusers(name), PROCESS)
    assert vars(module) == before
    assert torch.get_default_dtype() == torch.float32


@needs_k_diffusion
def test_k_diffusion_is_loaded_without_its_package() -> None:
    code = (
        "import sys; from urn.conformance.peers import k_diffusion; "
        "assert 'diffusers' not in sys.modules and 'torchsde' not in sys.modules; k_diffusion('heun'); "
        "print(*[name for name in sys.modules if name.partition('.')[0] in ('k_diffusion', 'torchvision', 'clip')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


# the command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["diffuser:DDIM"], "'diffuser:DDIM' must be a method, or diffusers:NAME or k_diffusion:NAME"),
        (["diffusers:"], "must be a method, or"),
        (["diffusers:DDIM", "--option", "eta"], "option 'eta' is not name=value"),
        (["diffusers:DDIM", "--option", "order=3"], "has no option order=3"),
    ],
)
def test_the_command_refuses(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["check", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_command_reads_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Subject] = []

    def check(subject: Subject, **_: Any) -> Report:
        seen.append(subject)
        return Report(subject.name, (), 0.0, subject.notes)

    monkeypatch.setattr(urn, "check", check)
    options = ["--option", "use_karras_sigmas=true", "--option", "solver_order=3", "--option", "solver_type=heun"]
    result = CliRunner().invoke(app, ["check", "diffusers:DPMSolverMultistepScheduler", *options])
    assert result.exit_code == 0, result.output
    assert seen[0].name.endswith(
        "DPMSolverMultistepScheduler, use_karras_sigmas=True, solver_order=3, solver_type=heun"
    )
    assert seen[0].order == 3
    assert "documented order 3" in result.stdout


def test_the_nodes_are_the_tables_entries() -> None:
    from urn.conformance.peers.grids import placed

    shares = shares_of(PROCESS, fitting_times(PROCESS, 6))
    where = placed("HeunDiscrete", {"timestep_spacing": None}, shares, {})
    kept = torch.cumprod(1 - torch.tensor(where.settings["trained_betas"], dtype=torch.float64), 0)
    ratio = torch.tensor([s / (1 - s) for s in shares], dtype=torch.float64).flip(0)
    assert torch.allclose(kept, 1 / (1 + ratio**2), rtol=1e-14, atol=0)
    assert where.left_out == 1
