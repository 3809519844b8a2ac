"""ER-SDE-Solvers against their paper's propositions, integrals by SciPy, and the SDE's tau against phi by differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from methods_cases import compiled, geometric, normals
from methods_published import CONTINUOUS, Array, assert_close, exact, numbers, start, urns
from scipy.integrate import quad

from urn.methods.er_sde import SCALES
from urn.processes import VE, VP, Flow

PHI: dict[str, Callable[[float], float]] = {
    "ode": lambda s: s,
    "sde": lambda s: s**2,
    "er_sde_1": lambda s: s * (math.exp(-1 / s) + 10),
    "er_sde_2": lambda s: s**1.5,
    "er_sde_3": lambda s: s**2.5,
    "er_sde_4": lambda s: s**0.9 * math.log10(1 + 100 * s**1.5),
    "er_sde_5": lambda s: s * (math.exp(s**0.3) + 10),
}


def er_sde(process: Any, times: Any, z: Array, phi: Callable[[float], float], order: int) -> Array:
    """Propositions 3 to 5 on x/alpha: Euler's step, then the Taylor terms of first and second differences of x0."""
    alpha, sigma, _, _ = numbers(process)
    x0, at = exact(process, "x0"), times.tolist()
    rho = [sigma(t) / alpha(t) for t in at]
    x, made, slopes = start(process, times) / alpha(at[0]), [], []
    for i, (s, t) in enumerate(pairwise(rho)):
        made.append(x0(x * alpha(at[i]), at[i]))
        r = phi(t) / phi(s)
        x = r * x + (1 - r) * made[i] + math.sqrt(max(t**2 - s**2 * r**2, 0.0)) * z[i]
        if i > 0 and order > 1:
            slopes.append((made[i] - made[i - 1]) / (rho[i] - rho[i - 1]))
            whole = quad(lambda u: 1 / phi(u), t, s, epsabs=1e-13, epsrel=1e-13)[0]
            x = x + (t - s + whole * phi(t)) * slopes[-1]
        if i > 1 and order > 2:
            bend = 2 * (slopes[-1] - slopes[-2]) / (rho[i] - rho[i - 2])
            moment = quad(lambda u, s=s: (u - s) / phi(u), t, s, epsabs=1e-13, epsrel=1e-13)[0]
            x = x + ((t - s) ** 2 / 2 + moment * phi(t)) * bend
    return alpha(at[-1]) * x


@CONTINUOUS
@pytest.mark.parametrize("order", [1, 2, 3])
def test_er_sde_5_of_every_order(process: Any, order: int) -> None:
    times, z = geometric(process, 6), normals(6).numpy()
    expected = er_sde(process, times, z, PHI["er_sde_5"], order)
    name = "er_sde_3_published" if order == 3 else f"er_sde_{order}"
    assert_close(urns(name, process, times, z), expected)


@pytest.mark.parametrize("name", SCALES)
def test_every_named_noise_scale(name: str) -> None:
    process = VP.linear()
    times, z = geometric(process, 5), normals(5).numpy()
    z = 0 * z if name == "ode" else z
    expected = er_sde(process, times, z, PHI[name], 3)
    assert_close(urns("er_sde_3_published", process, times, z, phi=name), expected)


@pytest.mark.parametrize("name", ["sde", "er_sde_1", "er_sde_4", "er_sde_5"])
def test_a_function_is_the_named_scale(name: str) -> None:
    written = {
        "sde": lambda s: s**2,
        "er_sde_1": lambda s: s * (torch.exp(-1 / s) + 10),
        "er_sde_4": lambda s: s**0.9 * torch.log10(1 + 100 * s**1.5),
        "er_sde_5": lambda s: s * (torch.exp(s**0.3) + 10),
    }
    times = geometric(VE(), 5)
    one, other = compiled("er_sde_3", VE(), times, phi=name), compiled("er_sde_3", VE(), times, phi=written[name])
    assert one.diff(other, 1e-11) == ""


def test_the_exact_third_order_is_the_interpolated_quadratic() -> None:
    """Of data whose x0 prediction is a quadratic in sigma/alpha, a step of the exact rule makes no error."""
    from urn.coefficients.exponential import by_ratio, integral_weights, short_slope_third
    from urn.methods.er_sde import form_of
    from urn.nodes import Nodes

    process = Flow()
    nodes = Nodes(process, geometric(process, 4))
    s, t = (float(n.sigma / n.alpha) for n in (nodes[2], nodes[3]))
    form = form_of("er_sde_5")(nodes[2], nodes[3])  # type: ignore[operator]
    points, phi = [nodes[2], nodes[1], nodes[0]], PHI["er_sde_5"]
    derivative = [quad(lambda u, k=k: k * u ** (k - 1) / phi(u), t, s, epsabs=1e-13)[0] for k in (1, 2)]
    for k, slopes in ((1, derivative[0]), (2, derivative[1])):
        exactly = float(nodes[3].alpha) * (t**k - phi(t) / phi(s) * s**k + phi(t) * slopes)
        values = [float(p.sigma / p.alpha) ** k for p in points]
        weights = [float(w) for w in integral_weights(form, nodes[2], nodes[3], points, by_ratio)]
        assert sum(w * v for w, v in zip(weights, values, strict=True)) == pytest.approx(exactly, rel=1e-11)
        short = [float(w) for w in short_slope_third(form, nodes[2], nodes[3], points, by_ratio)]
        assert (sum(w * v for w, v in zip(short, values, strict=True)) == pytest.approx(exactly, rel=1e-9)) == (k == 1)


def test_a_scale_that_falls_is_refused() -> None:
    with pytest.raises(ValueError, match="must grow at least as fast"):
        compiled("er_sde_3", VE(), geometric(VE(), 4), phi=lambda s: s**0.5)
