"""SiT's SDE, Flow-GRPO, CPS and Restart against their papers' formulas; and what CPS's constant eta does to the law."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from methods_cases import GAUSSIAN, bent, compiled, geometric, law_order_of, normals
from methods_published import CONTINUOUS, assert_close, exact, numbers, start, urns

from urn.exact.affine import output_law
from urn.plan import Noise
from urn.processes import VE, VP, Flow

FLOW = Flow()
SHAPES = {
    "constant": lambda t: 1.0,
    "sigma": lambda t: t,
    "kl": lambda t: 2 * t / (1 - t),
    "decreasing": lambda t: (math.cos(math.pi * (1 - t)) + 1) ** 2 / 4,
    "increasing-decreasing": lambda t: math.sin(math.pi * (1 - t)) ** 2,
}


def euler_maruyama(w: Any, times: list[float], z: Any) -> Any:
    """Equation 4 on the linear interpolant, data at t = 0."""
    velocity, score = exact(FLOW, "velocity"), exact(FLOW, "score")
    x = start(FLOW, torch.tensor(times, dtype=torch.float64))
    for i, (s, t) in enumerate(pairwise(times)):
        noise = math.sqrt(w(s) * (s - t)) * z[i] if t > 0 else 0.0
        x = x + (t - s) * (velocity(x, s) - w(s) / 2 * score(x, s)) + noise
    return x


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("end", [0.1, 0.0])
def test_sit_sde_on_the_linear_interpolant(name: str, end: float) -> None:
    times, z = [0.95, 0.8, 0.5, 0.2, end], normals(4).numpy()
    drawn = z if end else z[:3]
    assert_close(urns("sit_sde", FLOW, times, drawn, w=name), euler_maruyama(SHAPES[name], times, z))
    twice = euler_maruyama(lambda t: 2 * SHAPES[name](t), times, z)
    assert_close(urns("sit_sde", FLOW, times, drawn, w=name, scale=2.0), twice)
    assert_close(
        urns("sit_sde", FLOW, times, drawn, w=lambda t: 2 * t**2), euler_maruyama(lambda t: 2 * t * t, times, z)
    )


@pytest.mark.parametrize(("last", "kind"), [("tweedie", "x0"), ("euler", "velocity")])
def test_sits_other_last_steps(last: str, kind: str) -> None:
    times, z = [0.95, 0.6, 0.3, 0.0], normals(3).numpy()
    y = euler_maruyama(SHAPES["sigma"], times[:-1], z)
    made = exact(FLOW, kind)(y, 0.3)
    expected = made if last == "tweedie" else y - 0.3 * made
    assert_close(urns("sit_sde", FLOW, times, z[:2], last=last), expected)


@pytest.mark.parametrize("option", [{"w": "SBDM"}, {"w": None}, {"last": "mean "}, {"last": None}, {"scale": -1.0}])
def test_sit_refuses_what_it_does_not_know(option: dict[str, Any]) -> None:
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=rf"{name}={value!r} must be"):
        compiled("sit_sde", FLOW, [0.9, 0.5], **option)


@pytest.mark.parametrize("last_noise", [False, True])
def test_flow_grpo_equation_9(last_noise: bool) -> None:
    times, z, eta = [1.0, 0.8, 0.5, 0.2, 0.0], normals(4).numpy(), 0.7
    velocity, x = exact(FLOW, "velocity"), start(FLOW, [1.0, 0.8])
    for i, (s, t) in enumerate(pairwise(times)):
        std = eta * math.sqrt(s / (1 - (s if s < 1 else times[1])))  # the authors' code: 1 - sigma_1 at the start
        v, dt = velocity(x, s), t - s
        noise = std * math.sqrt(-dt) * z[i] if t > 0 or last_noise else 0.0
        x = x + (v + std**2 / (2 * s) * (x + (1 - s) * v)) * dt + noise
    found = urns("flow_grpo", FLOW, times, z if last_noise else z[:3], eta=eta, last_noise=last_noise)
    assert_close(found, x)


def test_flow_grpo_refuses_a_last_noise_that_is_no_bool() -> None:
    with pytest.raises(ValueError, match=r"last_noise=1 must be True or False"):
        compiled("flow_grpo", FLOW, [0.9, 0.5], last_noise=1)


@CONTINUOUS
@pytest.mark.parametrize("name", ["cps", "cps_vanishing"])
def test_cps(process: Any, name: str) -> None:
    """x_s = (1 - s) x0 + s cos(eta pi/2) x1 + s sin(eta pi/2) z, with alpha for 1 - s and sigma for s."""
    alpha, sigma, _, _ = numbers(process)
    times, z = geometric(process, 5), normals(5).numpy()
    x0, epsilon, x = exact(process, "x0"), exact(process, "epsilon"), start(process, times)
    for i, (s, t) in enumerate(pairwise(times.tolist())):
        u, v = sigma(s) / (alpha(s) + sigma(s)), sigma(t) / (alpha(t) + sigma(t))
        angle = 0.6 * math.pi / 2 * (1.0 if name == "cps" else math.sqrt((u - v) / u))
        d, e = x0(x, s), epsilon(x, s)
        x = alpha(t) * d + sigma(t) * (math.cos(angle) * e + math.sin(angle) * z[i])
    assert_close(urns(name, process, times, z, eta=0.6), x)


def test_the_law_of_a_constant_eta_does_not_converge_and_of_a_vanishing_one_does() -> None:
    assert law_order_of("cps", FLOW, (24, 48, 96)) < 0.2
    assert law_order_of("cps_vanishing", FLOW, (24, 48, 96)) > 0.75


@CONTINUOUS
@pytest.mark.parametrize("s_noise", [1.0, 1.003])
def test_restart_algorithm_2(process: Any, s_noise: float) -> None:
    """EDM's grid and Heun on x/alpha, restarted twice from the grid's point nearest to 0.3 up to 1.1 in three steps."""
    alpha, sigma, _, t_of_lambda = numbers(process)
    epsilon, times, z = exact(process, "epsilon"), geometric(process, 6), normals(2).numpy()

    def heun(x: Any, a: float, b: float) -> Any:
        slopes = []
        for rho, y in ((a, x), (b, None)):
            t = t_of_lambda(-math.log(rho))
            slopes.append(epsilon((x + (b - a) * slopes[0] if y is None else y) * alpha(t), t))
        return x + (b - a) * (slopes[0] + slopes[1]) / 2

    rho = [sigma(t) / alpha(t) for t in times.tolist()]
    place = int(np.argmin(np.abs(np.log(rho) - math.log(0.3))))
    assert 0 < place < 6
    x = start(process, times) / alpha(float(times[0]))
    for i, (a, b) in enumerate(pairwise(rho), 1):
        x = heun(x, a, b)
        for k in range(2 if i == place else 0):
            x = x + math.sqrt(1.1**2 - b**2) * s_noise * z[k]
            down = [(1.1 ** (1 / 7) + j / 3 * (b ** (1 / 7) - 1.1 ** (1 / 7))) ** 7 for j in range(4)]
            for c, d in pairwise(down):
                x = heun(x, c, d)
    given = {"intervals": ((0.3, 1.1, 2, 3),), "s_noise": s_noise}
    assert_close(urns("restart", process, times, z, **given), x * alpha(float(times[-1])))


def test_restart_repeats_the_grids_own_points() -> None:
    times = geometric(VE(), 8)
    plan = compiled("restart", VE(), times, intervals=((0.3, 1.1, 3), (0.8, 2.0, 1)))
    rows = [row for row in plan.rows if isinstance(row, Noise)]
    assert len(rows) == 4
    assert all(row.interval[0] < row.interval[1] and row.stream > 0 for row in rows)
    assert [row.interval[1] for row in rows] == pytest.approx([2.0, 1.1, 1.1, 1.1])
    down = compiled("heun", VE(), times).nfe
    between = [sum(1 for t in times.tolist() if row.interval[0] < t < row.interval[1]) for row in rows]
    assert plan.nfe == down + 2 * sum(n + 1 for n in between)
    assert plan.times == tuple(times.tolist())


def test_a_jump_keeps_the_law_exactly() -> None:
    """After an exact way down only the repeats' own errors are added: on Gaussian data, with fine grids, nothing is left."""
    process, times = VP.linear(), bent(VP.linear(), 60, -1.0, 2.0)
    mean, covariance = GAUSSIAN.moments(process, times[-1])
    found = output_law(compiled("restart", process, times, intervals=((0.14, 1.0, 4),), inner="dpmpp_3m"), GAUSSIAN)
    assert float((found.mean - mean).norm() + (found.covariance - covariance).norm()) < 1e-3
    more = output_law(compiled("restart", process, times, intervals=((0.14, 1.0, 4),), s_noise=1.1), GAUSSIAN)
    assert float((more.covariance - covariance).norm()) > 1e-2


BAD_INTERVALS = [
    None,
    3,
    (0.1, 0.3, 2),
    ((0.3, 0.1, 2),),
    ((0.0, 0.3, 2),),
    ((0.1, 0.3, 0),),
    ((0.1, 0.3, 1.5),),
    ((0.1, 0.3),),
]


@pytest.mark.parametrize("bad", BAD_INTERVALS, ids=str)
def test_restart_refuses_bad_intervals(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"intervals=.* must be"):
        compiled("restart", VE(), geometric(VE(), 4), intervals=bad)


@pytest.mark.parametrize("bad", [None, 3, "ddpm", "euler_a"])
def test_restart_refuses_an_inner_method_that_is_none_or_stochastic(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"inner=.* must be a deterministic method"):
        compiled("restart", VE(), geometric(VE(), 4), inner=bad)


def test_an_interval_without_room_is_left_out() -> None:
    times = geometric(VE(), 4)
    assert compiled("restart", VE(), times, intervals=((0.001, 0.01, 2),)).rows == compiled("heun", VE(), times).rows
