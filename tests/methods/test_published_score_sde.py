"""Score-SDE against its paper's appendices."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from methods_cases import bent, normals
from methods_published import TABLE, Array, assert_close, exact, numbers, start, urns

from urn.processes import VE, VP, linear_betas


def test_reverse_diffusion_of_ve() -> None:
    """Song et al. 2021, equation 46: x_i = x_(i+1) + (s_(i+1)^2 - s_i^2) score + sqrt(s_(i+1)^2 - s_i^2) z."""
    s = np.exp(np.linspace(math.log(3.0), math.log(0.05), 7))
    score, z = exact(VE(), "score"), normals(6).numpy()
    x = start(VE(), s)
    for i in range(6):
        b = s[i] ** 2 - s[i + 1] ** 2
        x = x + b * score(x, s[i]) + math.sqrt(b) * z[i]
    assert_close(urns("reverse_diffusion", VE(), s, z), x)


def test_reverse_diffusion_of_vp_and_its_predictor_corrector() -> None:
    """Appendix G, algorithms 3 and 5: x_i = (2 - sqrt(1 - beta)) x + beta score + sqrt(beta) z, then Langevin steps with
    epsilon = 2 alpha_i (r |z|/|g|)^2, alpha_i = 1 - beta_i that of x_i itself; the last predictor without noise."""
    beta = linear_betas(40, 1e-3, 0.25).numpy()
    score, z = exact(TABLE, "score"), normals(3 * 40).numpy()
    for r, corrections in ((None, 0), (0.16, 1), (0.1, 2)):
        x, drawn = start(TABLE, [*range(39, -2, -1)]), iter(z)
        for i in range(39, -1, -1):  # the predictor of the transition i, to x_(i-1)
            x = (2 - math.sqrt(1 - beta[i])) * x + beta[i] * score(x, i)
            if i == 0:
                break
            x = x + math.sqrt(beta[i]) * next(drawn)
            for _ in range(corrections):
                g, noise = score(x, i - 1), next(drawn)
                norms = np.linalg.norm(noise, axis=1) / np.linalg.norm(g, axis=1)  # per sample
                epsilon = (2 * (1 - beta[i - 1]) * (r * norms) ** 2)[:, None]
                x = x + epsilon * g + np.sqrt(2 * epsilon) * noise
        if corrections:
            found = urns("predictor_corrector", TABLE, [*range(39, -2, -1)], z, snr=r, corrections=corrections)
        else:
            found = urns("reverse_diffusion", TABLE, [*range(39, -2, -1)], z)
        assert_close(found, x)


def test_predictor_corrector_of_ve() -> None:
    """Algorithms 2 and 4: epsilon = 2 (r |z|/|g|)^2, also after the last predictor, which has noise."""
    s = np.exp(np.linspace(math.log(3.0), math.log(0.05), 7))
    score, z = exact(VE(), "score"), normals(12).numpy()
    x = start(VE(), s)
    for i in range(6):
        b = s[i] ** 2 - s[i + 1] ** 2
        x = x + b * score(x, s[i]) + math.sqrt(b) * z[2 * i]
        g, noise = score(x, s[i + 1]), z[2 * i + 1]
        epsilon = (2 * (0.2 * np.linalg.norm(noise, axis=1) / np.linalg.norm(g, axis=1)) ** 2)[:, None]
        x = x + epsilon * g + np.sqrt(2 * epsilon) * noise
    assert_close(urns("predictor_corrector", VE(), s, z, snr=0.2), x)


def test_euler_maruyama_of_vp() -> None:
    """dx = [-beta x/2 - beta score] dt + sqrt(beta) dw, backwards."""
    process, times = VP.linear(), bent(VP.linear(), 8)
    score, z = exact(process, "score"), normals(8).numpy()
    x = start(process, times)
    for i, (t, t_next) in enumerate(pairwise(times.tolist())):
        beta, dt = 0.1 + t * (20 - 0.1), t_next - t
        x = x + (-beta * x / 2 - beta * score(x, t)) * dt + math.sqrt(beta * -dt) * z[i]
    assert_close(urns("euler_maruyama", process, times, z), x)


@pytest.mark.parametrize("name", ["probability_flow", "probability_flow_rk4"])
def test_the_probability_flow_ode_of_vp(name: str) -> None:
    """dx/dt = -beta (x + score)/2, by Euler and by the classical Runge-Kutta method."""
    process, times = VP.linear(), bent(VP.linear(), 8)
    score = exact(process, "score")

    def f(x: Array, t: float) -> Array:
        return -(0.1 + t * (20 - 0.1)) * (x + score(x, t)) / 2

    x = start(process, times)
    for t, t_next in pairwise(times.tolist()):
        d = t_next - t
        k_1 = f(x, t)
        if name == "probability_flow":
            x = x + d * k_1
            continue
        k_2 = f(x + d / 2 * k_1, t + d / 2)
        k_3 = f(x + d / 2 * k_2, t + d / 2)
        k_4 = f(x + d * k_3, t + d)
        x = x + d * (k_1 + 2 * k_2 + 2 * k_3 + k_4) / 6
    assert_close(urns(name, process, times), x)


@pytest.mark.parametrize("repeats", [2, 5])
@pytest.mark.parametrize("process", [VE(), VP.linear()], ids=repr)
def test_annealed_langevin_algorithm_1(process: object, repeats: int) -> None:
    """Song & Ermon 2019: a_i = epsilon sigma_i^2/sigma_L^2; x + a_i/2 score + sqrt(a_i) z, T times at each level. Elsewhere
    than on VE it is that on x/alpha, whose score is alpha times x's."""
    alpha, sigma, _, at = numbers(process)
    levels, last = [2.0, 0.7, 0.25, 0.1], 2e-3
    times = [at(-math.log(level)) for level in levels]
    score, z = exact(process, "score"), normals(4 * repeats).numpy()
    x = start(process, times) / alpha(times[0])
    for i, (level, t) in enumerate(zip(levels, times, strict=True)):
        assert sigma(t) / alpha(t) == pytest.approx(level)
        a = last * level**2 / levels[-1] ** 2
        for k in range(repeats):
            x = x + a / 2 * alpha(t) * score(alpha(t) * x, t) + math.sqrt(a) * z[i * repeats + k]
    found = urns("annealed_langevin", process, times, z, step_ratio=last / levels[-1] ** 2, repeats=repeats)
    assert_close(found / alpha(times[-1]), x)
