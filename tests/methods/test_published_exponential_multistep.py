"""Exponential methods with earlier predictions: Norsett's, Krogstad's generalized Lawson, PEC pairs, ComfyUI's RES."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from methods_cases import bent, compiled
from methods_exponential import krogstad_4, phi, shares
from methods_published import Array, assert_close, exact, numbers, start, urns

from urn.processes import VE, VP


def even(process: Any, steps: int) -> Any:
    return process.t_of_lambda(torch.linspace(-1.0, 1.0, steps + 1, dtype=torch.float64))


@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
@pytest.mark.parametrize("name", ["abnorsett_2", "dpmpp_3m", "unip_4"])
def test_abnorsett_on_an_even_grid(name: str, prediction: str) -> None:
    """Norsett's weights of N_n, N_(n-1), ...: the last step of a plan, from its own earlier states."""
    if prediction == "epsilon" and name == "dpmpp_3m":
        return
    process = VP.linear()
    times = even(process, 6)
    z = -2.0 / 6 if prediction == "x0" else 2.0 / 6
    p = shares(z)
    expected = {
        "abnorsett_2": [p(1) + p(2), -p(2)],
        "dpmpp_3m": [p(1) + 3 / 2 * p(2) + p(3), -2 * p(2) - 2 * p(3), p(2) / 2 + p(3)],
        "unip_4": [
            p(1) + 11 / 6 * p(2) + 2 * p(3) + p(4),
            -3 * p(2) - 5 * p(3) - 3 * p(4),
            3 / 2 * p(2) + 4 * p(3) + 3 * p(4),
            -p(2) / 3 - p(3) - p(4),
        ],
    }[name]
    plan = compiled(name, process, times, **({} if prediction == "x0" else {"prediction": prediction}))
    scale = process.alpha(times[-1]) if prediction == "x0" else -process.sigma(times[-1])
    found = np.array([float(w) for w, _ in plan.rows[-1].weights[1:]]) / float(scale * abs(z))
    assert np.abs(found - expected).max() < 1e-10


def interpolated(points: list[float], u: Array, j: int) -> Array:
    return np.prod([(u - q) / (points[j] - q) for i, q in enumerate(points) if i != j], axis=0) + 0 * u


def weights(z: float, points: list[float], c: float) -> list[float]:
    """int_0^c e^((c - u) z) l_j(u) du by the trapezoid of a fine grid's Gauss rule."""
    nodes, w = np.polynomial.legendre.leggauss(24)
    u = (nodes + 1) / 2 * c
    return [float((w / 2 * c * np.exp((c - u) * z) * interpolated(points, u, j)).sum()) for j in range(len(points))]


class WithHistory:
    """Krogstad's generalized integrating factor, and PEC, on uneven grids, from their definitions."""

    def __init__(self, process: Any, prediction: str) -> None:
        self.alpha, self.sigma, self.lambda_, self.t_of_lambda = numbers(process)
        self.x0 = prediction == "x0"
        self.scale = self.alpha if self.x0 else self.sigma
        made = exact(process, prediction)
        self.n = lambda y, t: (1 if self.x0 else -1) * made(self.scale(t) * y, t)

    def run(self, x: Array, times: list[float], step: Callable[..., Array], history: int) -> Array:
        past: list[tuple[float, Array]] = []
        for s, t in pairwise(times):
            y, now = x / self.scale(s), self.n(x / self.scale(s), s)
            h = self.lambda_(t) - self.lambda_(s)
            points = [0.0, *((l - self.lambda_(s)) / h for l, _ in past)]
            x = self.scale(t) * step(y, s, t, h, -h if self.x0 else h, points, [now, *(n for _, n in past)])
            past = [(self.lambda_(s), now), *past][:history]
        return x

    def lawson(self, modified: bool) -> Callable[..., Array]:
        def step(y: Array, s: float, t: float, h: float, z: float, points: list[float], known: list[Array]) -> Array:
            def flow(c: float) -> Array:
                return math.exp(c * z) * y + h * sum(w * n for w, n in zip(weights(z, points, c), known, strict=True))

            def rest(stage: Array, c: float) -> Array:
                at = np.array(c)
                polynomial = sum(interpolated(points, at, j) * n for j, n in enumerate(known))
                place = t if c == 1 else self.t_of_lambda(self.lambda_(s) + c * h)
                return self.n(stage, place) - polynomial

            half = math.exp(z / 2)
            two = flow(0.5)
            r2 = rest(two, 0.5)
            r3 = rest(flow(0.5) + h / 2 * r2, 0.5)
            r4 = rest(flow(1.0) + h * half * r3, 1.0)
            last = 1 / 6
            if modified:
                end = [*points, 1.0]
                last = weights(z, end, 1.0)[-1] - 2 / 3 * half * float(interpolated(end, np.array(0.5), len(points)))
            return flow(1.0) + h * (half / 3 * (r2 + r3) + last * r4)

        return step

    def pec(self, corrections: int) -> Callable[..., Array]:
        def step(y: Array, s: float, t: float, h: float, z: float, points: list[float], known: list[Array]) -> Array:
            if len(points) < 3:  # started by Krogstad's
                c, a, b = krogstad_4(z)
                n: list[Array] = []
                for row, share in zip([*a, b], [*c, 1.0], strict=True):
                    stage = math.exp(share * z) * y + h * sum((w * m for w, m in zip(row, n, strict=True)), 0 * y)
                    at = t if share == 1 else self.t_of_lambda(self.lambda_(s) + share * h)
                    n.append(self.n(stage, at))
                return stage
            made = math.exp(z) * y + h * sum(w * n for w, n in zip(weights(z, points, 1.0), known, strict=True))
            for _ in range(corrections):
                of = weights(z, [*points, 1.0], 1.0)
                made = math.exp(z) * y + h * sum(w * n for w, n in zip(of, [*known, self.n(made, t)], strict=True))
            return made

        return step


@pytest.mark.parametrize("prediction", ["x0", "epsilon"])
@pytest.mark.parametrize("process", [VP.linear(), VE()], ids=["vp", "ve"])
def test_with_history_from_the_definitions(process: Any, prediction: str) -> None:
    times, method = bent(process, 6), WithHistory(process, prediction)
    for known in (2, 3, 4, 5):
        for name, modified in (("genlawson_4", False), ("modgenlawson_4", True)):
            expected = method.run(start(process, times), times.tolist(), method.lawson(modified), known - 1)
            assert_close(urns(name, process, times, prediction=prediction, known=known), expected)
    for name, corrections in (("pec_423", 1), ("pecec_433", 2)):
        expected = method.run(start(process, times), times.tolist(), method.pec(corrections), 2)
        assert_close(urns(name, process, times, prediction=prediction), expected)


def test_comfyuis_res_multistep() -> None:
    """In its own sigma, with t = -log sigma: b1 = phi_1 - phi_2/c2, b2 = phi_2/c2, c2 = (t_prev - t)/h; ends with x0."""
    process, sigmas = VE(), [4.0, 2.6, 1.5, 0.8, 0.35, 0.0]
    x0, x, old = exact(process, "x0"), start(process, sigmas), None
    for i, (cur, next) in enumerate(pairwise(sigmas)):
        d = x0(x, cur)
        if next == 0:
            x = d
        elif old is None:
            x = x + (x - d) / cur * (next - cur)
        else:
            h = math.log(cur / next)
            c2 = -math.log(sigmas[i - 1] / cur) / h
            x = math.exp(-h) * x + h * ((phi(1, -h) - phi(2, -h) / c2) * d + phi(2, -h) / c2 * old)
        old = d
    assert_close(urns("res_multistep", process, sigmas, predicts="x0"), x)
