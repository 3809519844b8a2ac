"""USF: an exponential multistep scheme in which every choice may differ from step to step.

With D the predictions made so far, x0 or epsilon as step i says, p a polynomial through the last of them and k = 1 + eta,

    x_next = (sigma_next/sigma_s) e^(-eta h) x_s + alpha_next int k e^(-k (lambda_next - l)) p_x0(l) dl + noise
    x_next = (alpha_next/alpha_s) x_s + k alpha_next int p_epsilon drho + noise

from the state at node s: the step's start (`origins` 0), or one before it, the paper's starting point. The noise is that of
`dpmpp_2m_sde` and `sde_dpm_solver_2m`. A corrector repeats the step with the prediction made at its end, at no evaluation.

Every option is a tuple with one entry per step, or one value for all steps:

    orders        predictions of the polynomial, fewer where there are fewer (the paper's Taylor order + 1)
    predictions   "x0" or "epsilon"
    differences   what the polynomial is in: "lambda", "ratio" (sigma/alpha), "t", "share"; or "halved": lambda, and with two
                  points the shortcut of DPM-Solver++(2M) and UniPC (the paper's derivative estimation)
    correctors    whether the step is corrected; the last one never is
    origins       how many nodes before its start the step is integrated from
    etas          its noise
    labels        the time that the network is shown in the call at the step's start, None for the node's
    models        the name of the model that is called there

Constant choices give `ddim`, `dpmpp_2m`, `unip_2`, `unipc_1` to `unipc_3`, `deis_rho_3_ramped`, `dpmpp_2m_sde`, ...; origins
also give the lifted starts of `dpmpp_3m`, `deis_2`, `deis_3`, `adams_pc_3`, and a last step of order one `final="x0"`.

Source: Liu, Ning, Lin, Yang, Wang 2024, A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models,
arXiv 2312.07243, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import (
    Form,
    Weights,
    by_lambda,
    by_ratio,
    by_share,
    halved_weights,
    integral_weights,
)
from urn.method import Steps, at_least_one, evaluate, method, noise, number, one_of
from urn.nodes import Nodes, is_clean, noise_weight
from urn.plan import Register
from urn.schemes.multistep import DIFFERENCES, INTEGRATED, History, elementwise, step_row

SOURCE = (
    "Liu, Ning, Lin, Yang, Wang 2024, A Unified Sampling Framework for Solver Searching of Diffusion Probabilistic Models, "
    "arXiv 2312.07243"
)


def _facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Order where every step is alike: a ramped start allows two, with a corrector three."""
    etas, orders = options["etas"], options["orders"]
    stochastic = any(number("etas", eta, 0) > 0 for eta in _entries(etas))
    alike = not any(isinstance(value, tuple) for value in (orders, options["correctors"], etas))
    epsilon = "epsilon" in _entries(options["predictions"])
    order: int | None = None
    if alike and options["origins"] == 0 and options["labels"] is None:
        p = at_least_one("orders", orders)
        order = min(p + 1, 3) if options["correctors"] is True and not stochastic else min(p, 2)
    return {"order": order, "stochastic": stochastic, "exact_for": () if stochastic and epsilon else ("point",)}


@method(order=2, exact_for=("point",), source=SOURCE, facts=_facts)
def usf(
    nodes: Nodes,
    x: Register,
    orders: int | tuple[int, ...] = 2,
    predictions: str | tuple[str, ...] = "x0",
    differences: str | tuple[str, ...] = "lambda",
    correctors: bool | tuple[bool, ...] = False,
    origins: int | tuple[int, ...] = 0,
    etas: float | tuple[float, ...] = 0.0,
    labels: float | tuple[float | None, ...] | None = None,
    models: str | tuple[str, ...] = "main",
) -> Steps:
    """A multistep scheme of any choices in any step: order, prediction, differences, corrector, origin, noise, label, model."""
    count = len(nodes) - 1
    forms = [
        Form(*pair)
        for pair in zip(
            _each("predictions", predictions, count, lambda v: one_of("predictions", v, INTEGRATED)),
            [1.0 + eta for eta in _each("etas", etas, count, lambda v: number("etas", v, 0))],
            strict=True,
        )
    ]
    used = _each("orders", orders, count, lambda v: at_least_one("orders", v))
    schemes = _each("differences", differences, count, lambda v: one_of("differences", v, DIFFERENCES))
    corrected = _each("correctors", correctors, count, partial(_truth, "correctors"))
    back = _each("origins", origins, count, partial(_whole, "origins"))
    shown = _each("labels", labels, count, partial(_label, "labels"))
    asked = _each("models", models, count, partial(_name, "models"))
    for i, (form, steps) in enumerate(zip(forms, back, strict=True)):
        if form.noisy and steps:
            raise ValueError(f"origins={origins!r} must be 0 in step {i}, which draws noise (etas={etas!r})")

    history: History = []
    states = [x]
    for i, (cur, next) in enumerate(nodes.steps()):
        if i == 0 or not corrected[i - 1]:  # else the call was made for the corrector
            history.insert(0, (yield from _call(nodes, i, states[i], shown[i], asked[i])))
        form, weights = forms[i], _weights(nodes, schemes[i])
        start = max(i - back[i], 0)
        extra: list[tuple[Any, Register]] = []
        if form.noisy and not is_clean(next):
            std = elementwise(form, cur, next, Form.noise_std)
            extra = [(noise_weight(next, std), (yield noise(cur, next)))]
        step = partial(step_row, form, weights, nodes[start], next, states[start])
        points = history[: used[i]]
        state = yield step(points, extra)
        if corrected[i] and i + 1 < count:
            here = yield from _call(nodes, i + 1, state, shown[i + 1], asked[i + 1])
            state = yield step([here, *points], extra)
            history.insert(0, here)
        states.append(state)
    return states[-1]


def _call(nodes: Nodes, i: int, x: Register, label: float | None, model: str) -> Any:
    """The call at node i, which gives both predictions."""
    shown = None if label is None else torch.as_tensor(label, dtype=torch.float64)
    x0, epsilon = yield evaluate(x, nodes[i], "x0", "epsilon", model=model, shown=shown)
    return nodes[i], {"x0": x0, "epsilon": epsilon}


def _weights(nodes: Nodes, scheme: str) -> Weights:
    if scheme == "halved":
        return halved_weights
    variables: dict[str, Callable[[Tensor], Tensor]] = {
        "lambda": by_lambda,
        "t": nodes.process.t_of_lambda,
        "ratio": by_ratio,
        "share": by_share,
    }
    return partial(integral_weights, variable=variables[scheme])


def _entries(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _each(name: str, value: Any, count: int, check: Callable[[Any], Any]) -> list[Any]:
    """One entry per step, each checked; a single value is for all.

    Raises:
        ValueError: another number of entries, or an entry that is not allowed.
    """
    if not isinstance(value, (tuple, list)):
        return [check(value)] * count
    if len(value) != count:
        raise ValueError(f"{name}={value!r} must be one value, or {count} of them: one per step")
    return [check(one) for one in value]


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be True or False")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name}={value!r} must be an integer of at least 0")
    return value


def _label(name: str, value: Any) -> Any:
    plain = value.detach().item() if isinstance(value, Tensor) and value.ndim == 0 else value
    if plain is None or (isinstance(plain, (int, float)) and not isinstance(plain, bool) and plain - plain == 0):
        return value
    raise ValueError(f"{name}={value!r} must be a finite time, or None for the node's own")


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}={value!r} must be the name of a model: 'main', or one of your own")
    return value
