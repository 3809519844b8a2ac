"""Networks of other people's conventions give the exact samples, and their own code's steps are ours to rounding."""

from __future__ import annotations

import doctest
import importlib
import itertools
import re
import runpy
from pathlib import Path

import foreign_networks as foreign
import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import urn
from urn.adapters import conventions
from urn.processes import VE, VP, Flow, LinearSignal, Polynomial, SubVP, Trigonometric

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conventions.md"
NORMAL = torch.randn(4, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
BETA = lambda u: 0.1 + 19.9 * u  # noqa: E731


def vp_score_ode(network):
    """score_sde's probability-flow ODE on VP, u from 1 to 1e-3: -beta/2 (x + score), score = -net(x, 999 u)/std."""

    def slope(x, u):
        std = torch.sqrt(1 - torch.exp(-0.5 * u**2 * 19.9 - u * 0.1))[:, None]
        return -0.5 * BETA(u)[:, None] * (x - network(x, 999 * u) / std)

    return slope


def sub_vp_ode(u_to_net=foreign.score_sde_sub_vp):
    def slope(x, u):
        decay = torch.exp(-0.5 * u**2 * 19.9 - u * 0.1)[:, None]
        std = 1 - decay
        rate = BETA(u)[:, None]
        return -0.5 * rate * x + 0.5 * rate * (1 - decay**2) * u_to_net(x, 999 * u) / std

    return slope


def noise_to_velocity(path):
    """SiT's ODE of a noise network: alpha'/alpha x - (alpha'/alpha sigma - sigma') noise."""

    def slope(x, t):
        a, s, da, ds = (value[:, None] for value in foreign.PATHS[path](t))
        return da / a * x - (da / a * s - ds) * foreign.towards_data(path, "epsilon")(x, t)

    return slope


# A model; the slope of its own code's ODE; from where to where that runs, in its own time; and the same times in the process's.
cond_ot, gvp, vp = (foreign.towards_data(path) for path in ("cond_ot", "cosine", "vp"))
CASES = {
    "flow_matching": (conventions.flow_matching(cond_ot), cond_ot, (0.0, 1.0), (1.0, 0.0)),
    "flow_matching cosine": (conventions.flow_matching(gvp, "cosine"), gvp, (0.0, 1.0), (1.0, 0.0)),
    "flow_matching vp": (conventions.flow_matching(vp, "vp"), vp, (0.0, 0.999), (1.0, 1e-3)),
    "flow_matching linear_vp": (
        conventions.flow_matching(foreign.towards_data("linear_vp"), "linear_vp"),
        foreign.towards_data("linear_vp"),
        (0.0, 0.98),
        (1.0, 0.02),
    ),
    "flow_matching polynomial": (
        conventions.flow_matching(foreign.towards_data("polynomial"), Polynomial(3.0)),
        foreign.towards_data("polynomial"),
        (0.0, 1.0),
        (1.0, 0.0),
    ),
    "sit": (conventions.sit(gvp, "gvp"), gvp, (0.0, 1.0), (1.0, 0.0)),
    "sit noise": (
        conventions.sit(foreign.towards_data("cond_ot", "epsilon"), predicts="epsilon"),
        noise_to_velocity("cond_ot"),
        (0.05, 1.0),
        (0.95, 0.0),
    ),
    "rectified_flow": (
        conventions.rectified_flow(foreign.rectified_flow),
        lambda x, t: foreign.rectified_flow(x, 999 * t),
        (0.0, 1.0),
        (1.0, 0.0),
    ),
    "sd3": (conventions.sd3(foreign.sd3), lambda x, t: foreign.sd3(x, 1000 * t), (1.0, 0.0), (1.0, 0.0)),
    "flux": (conventions.flux(foreign.flux), foreign.flux, (1.0, 0.0), (1.0, 0.0)),
    "score_sde": (
        conventions.score_sde(foreign.score_sde_vp),
        vp_score_ode(foreign.score_sde_vp),
        (1.0, 1e-3),
        (1.0, 1e-3),
    ),
    "score_sde sub-vp": (
        conventions.score_sde(foreign.score_sde_sub_vp, SubVP()),
        sub_vp_ode(),
        (1.0, 0.02),
        (1.0, 0.02),
    ),
    "score_sde ve": (
        conventions.score_sde(foreign.score_sde_ve, VE(0.01, 50.0)),
        lambda x, sigma: -sigma[:, None] * foreign.score_sde_ve(x, sigma),
        (50.0, 0.01),
        (50.0, 0.01),
    ),
    "edm": (
        conventions.edm(foreign.edm),
        lambda x, s: (x - foreign.edm(x, s)) / s[:, None],
        (80.0, 0.01),
        (80.0, 0.01),
    ),
    "edm_raw": (
        conventions.edm_raw(foreign.edm_raw(0.6), 0.6),
        lambda x, s: (x - foreign.edm(x, s)) / s[:, None],
        (80.0, 0.01),
        (80.0, 0.01),
    ),
    "k_diffusion": (
        conventions.k_diffusion(foreign.edm, 0.03, 14.6),
        lambda x, s: (x - foreign.edm(x, s)) / s[:, None],
        (14.6, 0.03),
        (14.6, 0.03),
    ),
}


def start_of(model, times):
    return NORMAL * float(model.process.prior_std(times[0]))


@pytest.mark.parametrize("name", CASES)
def test_euler_is_that_of_its_own_code(name):
    model, slope, (first, last), (start, end) = CASES[name]
    steps = 7
    x = start_of(model, (start, end))
    times = torch.linspace(first, last, steps + 1, dtype=torch.float64)
    y = x
    for t, after in itertools.pairwise(times):
        y = y + (after - t) * slope(y, t.expand(len(y)))
    ours = urn.sample(
        model, "probability_flow", start=x, grid=torch.linspace(start, end, steps + 1, dtype=torch.float64)
    )
    assert float((ours - y).abs().max()) <= 1e-12 * max(1.0, float(x.abs().max()))


@pytest.mark.parametrize("name", CASES)
def test_the_samples_are_the_exact_ones(name):
    """Beside SciPy's DOP853 at 1e-11 on the ODE of its own code."""
    model, slope, (first, last), (start, end) = CASES[name]
    first, start = (first + 0.02, start - 0.02) if "polynomial" in name else (first, start)  # its velocity is 0 at 0
    x = start_of(model, (start, end))

    def flat(t, values):
        state = torch.from_numpy(values.reshape(x.shape))
        return slope(state, torch.full((len(x),), t, dtype=torch.float64)).numpy().ravel()

    exact = solve_ivp(flat, (first, last), x.numpy().ravel(), "DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    points = 301 if "polynomial" in name else 161
    even = torch.linspace(1, 0, points, dtype=torch.float64)
    power = 7.0 if isinstance(model.process, VE) else 1.0
    times = (end ** (1 / power) + (start ** (1 / power) - end ** (1 / power)) * even) ** power
    times[0], times[-1] = start, end
    ours = urn.sample(model, "butcher_6", start=x, grid=times, clock="t")
    np.testing.assert_allclose(ours.numpy().ravel(), exact, atol=1e-6)


@pytest.mark.parametrize("predicts", ["epsilon", "x0", "v"])
@pytest.mark.parametrize(
    ("betas", "values"), [("linear", foreign.LINEAR), ("cosine", foreign.COSINE), ("scaled_linear", foreign.SCALED)]
)
def test_ddim_on_a_table_is_guided_diffusions(betas, values, predicts):
    """x0 from the network's output, then sqrt(abar) x0 + sqrt(1 - abar) eps, at integer times."""
    network, table = foreign.ddpm(values, predicts), foreign.abar(values)
    times = [999, 749, 499, 249, 0]
    y = NORMAL
    for t, after in itertools.pairwise(times):
        a, s = table[t].sqrt(), (1 - table[t]).sqrt()
        output = network(y, torch.full((len(y),), t))
        x0 = {"epsilon": (y - s * output) / a, "x0": output, "v": a * y - s * output}[predicts]
        y = table[after].sqrt() * x0 + (1 - table[after]).sqrt() * (y - a * x0) / s
    model = conventions.ddpm(network, betas, predicts)
    ours = urn.sample(model, "ddim", start=NORMAL, grid=[float(t) for t in times])
    assert float((ours - y).abs().max()) <= 1e-11
    given = conventions.ddpm(network, values, predicts)
    same = urn.sample(given, "ddim", start=NORMAL, grid=[float(t) for t in times])
    assert float((ours - same).abs().max()) <= 1e-11


def test_learned_variance_and_rescaled_timesteps():
    """A network of twice the channels, shown t 1000/T, as guided-diffusion's of 4000 steps."""
    betas = torch.linspace(0.1 / 4000, 20 / 4000, 4000, dtype=torch.float64)
    inner, seen = foreign.ddpm(betas), []

    def network(x, t):
        seen.append(float(t[0]))
        return torch.cat([inner(x, 4 * t), 0.5 * torch.ones_like(x)], 1)

    model = conventions.ddpm(network, "linear", steps=4000, learned_variance=True, rescale_timesteps=True)
    x = urn.sample(model, "iddpm", start=NORMAL, grid=[3999.0, 2000.0, 3.0], seed=0)
    assert seen == [999.75, 500.0]
    plain = conventions.ddpm(inner, betas)
    half = urn.Model(lambda x, t: (inner(x, t), 0.5 * torch.ones_like(x)), plain.process, ("epsilon", "variance"))
    assert torch.allclose(x, urn.sample(half, "iddpm", start=NORMAL, grid=[3999.0, 2000.0, 3.0], seed=0), atol=1e-9)
    with pytest.raises(ValueError, match="learned_variance=True"):
        urn.sample(conventions.ddpm(network, steps=4000), "ddim", start=NORMAL, grid=[3999.0, 3.0])


@pytest.mark.parametrize("gamma", ["brownian", "bsquared", "sinesquared"])
def test_stochastic_interpolants_run_from_the_base_to_the_data(gamma):
    """b and eta = -E[z] of two mixtures, in t from the base; Euler as their code makes it, and the SDE's drift."""
    gammas = {
        "brownian": lambda t: (t * (1 - t)) ** 0.5,
        "bsquared": lambda t: t * (1 - t),
        "sinesquared": lambda t: torch.sin(torch.pi * t) ** 2,
    }
    second = urn.exact.GaussianMixture([1.0], [[0.5, 0.0, -0.5]], [[0.3, 0.2, 0.4]])
    first = urn.exact.GaussianMixture(foreign.WEIGHTS, foreign.MEANS, foreign.VARIANCES)
    process = conventions.stochastic_interpolant(lambda x, t: x, gamma=gamma).process
    pair = urn.exact.BetweenMixtures(first, second, process)
    assert torch.allclose(process.sigma(0.3), gammas[gamma](torch.tensor(0.7, dtype=torch.float64)))

    def b(x, t):
        assert t.shape == (1,)
        return -pair.velocity(x, 1 - float(t))

    def eta(x, t):
        return -pair.epsilon(x, 1 - float(t))

    base = second.sample(4, seed=0)
    times = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    y = base
    for t, after in itertools.pairwise(times):
        y = y + (after - t) * b(y, t[None])
    ours = urn.sample(
        conventions.stochastic_interpolant(b, gamma=gamma), "probability_flow", start=base, grid=1 - times
    )
    assert float((ours - y).abs().max()) < 1e-12
    x, t = base, torch.tensor([0.4], dtype=torch.float64)
    with_eta = conventions.stochastic_interpolant(b, gamma=gamma, eta=eta)
    velocity, epsilon = with_eta(x, t=0.6)
    assert torch.allclose(epsilon, pair.epsilon(x, 0.6))
    assert torch.allclose(velocity, -b(x, t))
    with_score = conventions.stochastic_interpolant(b, gamma=gamma, score=lambda x, t: pair.score(x, 1 - float(t)))
    drawn = [
        urn.sample(model, "sit_sde", start=base, grid=[0.9, 0.5, 0.2], seed=0, w=process.sigma)
        for model in (with_eta, with_score)
    ]
    assert torch.allclose(*drawn, atol=1e-12)


def test_one_sided_interpolants_are_flows():
    model = conventions.stochastic_interpolant(lambda x, t: cond_ot(x, t.expand(len(x))), "one-sided-linear")
    grid = torch.linspace(1, 0, 6, dtype=torch.float64)
    expected = urn.sample(CASES["flow_matching"][0], "probability_flow", start=NORMAL, grid=grid)
    assert torch.equal(urn.sample(model, "probability_flow", start=NORMAL, grid=grid), expected)
    trig = conventions.stochastic_interpolant(lambda x, t: x, "one-sided-trig")
    assert trig.process == Trigonometric()


class CondOTScheduler:
    pass


class PolynomialConvexScheduler:
    n = 3


class VPScheduler:
    beta_min, beta_max = 0.2, 15.0


class LinearVPScheduler:
    pass


class CosineScheduler:
    pass


def test_flow_matchings_schedulers_are_known_by_name():
    expected = [
        (CondOTScheduler(), Flow()),
        (PolynomialConvexScheduler(), Polynomial(3.0)),
        (VPScheduler(), VP.linear(0.2, 15.0)),
        (LinearVPScheduler(), LinearSignal()),
        (CosineScheduler(), Trigonometric()),
    ]
    for scheduler, process in expected:
        assert conventions.flow_matching(cond_ot, scheduler).process == process


def test_flow_matchings_own_solver_agrees():
    """Its Euler on its schedulers, where that library is installed."""
    solver = pytest.importorskip("flow_matching.solver")
    schedulers = importlib.import_module("flow_matching.path.scheduler")
    wrapper = importlib.import_module("flow_matching.utils").ModelWrapper
    for scheduler, path in (
        (schedulers.CondOTScheduler(), "cond_ot"),
        (schedulers.CosineScheduler(), "cosine"),
        (schedulers.PolynomialConvexScheduler(3), "polynomial"),
    ):
        inner = foreign.towards_data(path)

        class Network(wrapper):
            def forward(self, x, t, inner=inner, **extras):
                return inner(x, t.expand(len(x)))

        network = Network(torch.nn.Identity())
        theirs = solver.ODESolver(velocity_model=network).sample(
            x_init=NORMAL, step_size=0.125, method="euler", time_grid=torch.tensor([0.0, 1.0], dtype=torch.float64)
        )
        grid = torch.linspace(1, 0, 9, dtype=torch.float64)
        ours = urn.sample(conventions.flow_matching(network, scheduler), "probability_flow", start=NORMAL, grid=grid)
        assert float((ours - theirs).abs().max()) < 1e-12


def test_diffusers_outputs_are_taken_as_they_come():
    class Output:
        sample = torch.ones(4, 3)

    for wrapped in (Output(), (torch.ones(4, 3),)):
        for model in (conventions.sd3(lambda x, t, w=wrapped: w), conventions.ddpm(lambda x, t, w=wrapped: w)):
            assert torch.equal(model(torch.zeros(4, 3), t=0.0)[0], torch.ones(4, 3))


WRONG = {
    "path='ot' must be one of cond_ot, cosine, vp, linear_vp": lambda: conventions.flow_matching(cond_ot, "ot"),
    "path=3 must be one of": lambda: conventions.flow_matching(cond_ot, 3),
    "predicts='score' must be one of velocity, x0, epsilon": lambda: conventions.flow_matching(
        cond_ot, predicts="score"
    ),
    "path='cosine' must be one of linear, gvp, vp": lambda: conventions.sit(cond_ot, "cosine"),
    "predicts='noise' must be one of velocity, score, epsilon": lambda: conventions.sit(cond_ot, predicts="noise"),
    "net=None must be a network": lambda: conventions.edm(None),
    "sigma_data=0 must be a positive": lambda: conventions.edm_raw(cond_ot, 0),
    "sigma_min=90.0 must be below": lambda: conventions.edm(cond_ot, 90.0),
    "betas='quadratic' must be one of linear, scaled_linear, cosine": lambda: conventions.ddpm(cond_ot, "quadratic"),
    "steps=1 must be an integer": lambda: conventions.ddpm(cond_ot, steps=1),
    "predicts='velocity' must be one of epsilon, x0, v": lambda: conventions.ddpm(cond_ot, predicts="velocity"),
    "must be VP.linear": lambda: conventions.score_sde(cond_ot, Flow()),
    "path='trig' must be one of linear, encoding": lambda: conventions.stochastic_interpolant(cond_ot, "trig"),
    "gamma='zero' must be one of": lambda: conventions.stochastic_interpolant(cond_ot, gamma="zero"),
    "eta and score are both given": lambda: conventions.stochastic_interpolant(cond_ot, eta=cond_ot, score=cond_ot),
    "follow from the drift": lambda: conventions.stochastic_interpolant(cond_ot, "one-sided-linear", eta=cond_ot),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_use_is_refused(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        WRONG[message]()


def test_the_table_says_what_the_networks_are_shown():
    for row in conventions.CONVENTIONS:
        seen = []

        def net(x, t, seen=seen):
            seen.append(float(t[0]))
            return x

        ends = (0.002, 80.0) if row.name == "k_diffusion" else ()
        model = getattr(conventions, row.name)(net, *ends)
        for t in (model.process.t_start, max(model.process.t_end, 0.0)):
            model(torch.zeros(2, 3, dtype=torch.float64), t=t)
        assert seen == [pytest.approx(shown, abs=1e-4) for shown in (row.at_noise, row.at_data)]
    assert {row.name for row in conventions.CONVENTIONS} == {
        name
        for name in conventions.__all__
        if callable(getattr(conventions, name)) and name not in ("Convention", "table")
    }


def test_the_page_has_the_table_and_its_code_runs():
    page = PAGE.read_text()
    assert conventions.table() in page, "put urn.adapters.conventions.table() into docs/conventions.md"
    names = {"__name__": "page"}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "conventions.md", "exec", dont_inherit=True), names)
    assert "minus 'velocity'" in names["said"]


@pytest.mark.parametrize("module", ["flows", "diffusions"])
def test_the_examples_of_the_docstrings_run(module):
    found = importlib.import_module(f"urn.adapters.conventions.{module}")
    found.torch = torch
    result = doctest.testmod(found)
    assert result.attempted
    assert not result.failed


def test_the_example_tells_right_from_wrong(capsys):
    runpy.run_path(str(ROOT / "examples" / "other_conventions.py"))
    lines = capsys.readouterr().out.splitlines()
    verdicts = dict(zip(lines[::2], lines[1::2], strict=True))
    silent = [name for name, said in verdicts.items() if "nothing to say against it" in said]
    assert len(verdicts) == 7
    assert [name.split()[0] for name in silent] == ["flow_matching(net,"]
    assert "off by 0" in silent[0]


@pytest.mark.parametrize("name", ["flow_matching", "edm_raw", "ddpm", "stochastic_interpolant", "sd3"])
def test_networks_of_arrays_have_conventions_too(name):
    """The same network on NumPy's arrays gives the same samples."""

    def on_arrays(network):
        return lambda x, t: network(torch.from_numpy(np.array(x)), torch.from_numpy(np.array(t))).numpy()

    constructor, network = {
        "flow_matching": (conventions.flow_matching, cond_ot),
        "edm_raw": (conventions.edm_raw, foreign.edm_raw(0.5)),
        "ddpm": (conventions.ddpm, foreign.ddpm(foreign.LINEAR)),
        "stochastic_interpolant": (
            lambda net: conventions.stochastic_interpolant(net, "one-sided-linear"),
            lambda x, t: cond_ot(x, t.expand(len(x))),
        ),
        "sd3": (conventions.sd3, foreign.sd3),
    }[name]
    model = constructor(network)
    grid = [999.0, 600.0, 300.0, 100.0, 0.0] if name == "ddpm" else None
    start = NORMAL * float(model.process.prior_std(model.process.t_start))
    options = {"steps": 4, "grid": grid}
    expected = urn.sample(model, "ddim", start=start, **options).numpy()
    found = urn.sample(constructor(on_arrays(network)), "ddim", start=start.numpy(), **options)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(start.numpy()).max())
