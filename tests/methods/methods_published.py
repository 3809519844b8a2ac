"""What the tests against papers' formulas share: NumPy numbers of a process, and Urn's plan on the same start and noise.

They use nothing of Urn but the numbers of a process and the exact predictions: no plan, node, coefficient or quadrature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from methods_cases import MIXTURE, Listed, compiled, gap, start_states

import urn
from urn.processes import VE, VP, Flow, linear_betas

Array = np.ndarray[Any, Any]


Predict = Callable[[Array, float], Array]


CLOSE = 1e-10


TABLE = VP.from_betas(linear_betas(40, 1e-3, 0.25))  # a DDPM of forty steps


CONTINUOUS = pytest.mark.parametrize("process", [VP.linear(), VP.cosine(), VE(), Flow()], ids=repr)


def exact(process: Any, kind: str) -> Predict:
    return lambda x, t: MIXTURE.prediction(torch.from_numpy(x), process, float(t), kind).numpy()


def numbers(process: Any) -> tuple[Callable[[float], float], ...]:
    """alpha, sigma, lambda and t_of_lambda as functions of floats."""
    named = process.alpha, process.sigma, process.lambda_, process.t_of_lambda
    return tuple(lambda t, f=f: float(f(float(t))) for f in named)


def start(process: Any, times: Any) -> Array:
    return start_states(compiled("ddim", process, times)).numpy()


def urns(method: str, process: Any, times: Any, z: Any = (), predicts: str = "v", **options: Any) -> Array:
    """What Urn's plan makes of the same start and the same noise."""
    plan = compiled(method, process, times, **options)
    x = torch.from_numpy(start(process, times))
    source = Listed([torch.as_tensor(row) for row in z])
    return urn.execute(plan, MIXTURE.model(process, predicts), {"x": x}, source)["x"].numpy()


def assert_close(found: Array, expected: Array, tolerance: float = CLOSE) -> None:
    assert gap(torch.from_numpy(found), torch.from_numpy(expected)) < tolerance
