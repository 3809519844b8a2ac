"""ER-SDE-Solvers: multistep solvers of the reverse SDE with any noise scale phi.

On x/alpha, with rho = sigma/alpha (the paper's sigma_t on VE and lambda_t on VP) and D the x0 predictions,

    x_next/alpha_next = (phi_next/phi_cur) x/alpha - phi_next int (phi'/phi^2) D d rho
                        + sqrt(rho_next^2 - rho_cur^2 (phi_next/phi_cur)^2) z

where D runs through the last predictions as a polynomial in rho, which is integrated exactly; of order one, D constant, the
integral is (1 - phi_next/phi_cur) D. phi is rho times a function
that does not fall. It is the SDE with tau^2 = d log phi / d log rho - 1 times the reverse SDE's noise variance (`sa_solver`'s
tau), so that phi = rho is the ODE, of order one `ddim`, else `adams` with prediction="x0", variable="ratio" from lower
orders; and phi = rho^2 the reverse SDE, of order one `dpmpp_1_sde`, DDPM's step. The paper's:

    er_sde_1   rho (e^(-1/rho) + 10)     er_sde_2   rho^1.5     er_sde_3   rho^2.5
    er_sde_4   rho^0.9 log10(1 + 100 rho^1.5)     er_sde_5   rho (e^(rho^0.3) + 10)

Third order: the exact quadratic, and the paper's Taylor terms, in which the first derivative is the last difference alone:
`er_sde_published`, whose integrals the authors and ComfyUI take by sums over 100 and 200 points. `order` is that of the law.

Source: Cui et al. 2023, Elucidating the Solution Space of Extended Reverse-Time SDE, arXiv 2309.06169, prop. 3-5, app. A.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import X0, Form, by_ratio, integral_weights, short_slope_third
from urn.coefficients.running import SquaredTau, running
from urn.method import Steps, at_least_one, method
from urn.nodes import Nodes
from urn.plan import Register
from urn.schemes.multistep import FormOfStep, multistep

SOURCE = "Cui et al. 2023, Elucidating the Solution Space of Extended Reverse-Time SDE, arXiv 2309.06169"

Phi = str | Callable[[Tensor], Tensor]


def _facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    form_of(options["phi"])
    return {"order": min(at_least_one("order", options["order"]), 2), "stochastic": options["phi"] != "ode"}


@method(order=2, stochastic=True, exact_for=("point",), source=SOURCE, facts=_facts)
def er_sde(nodes: Nodes, x: Register, order: int = 3, phi: Phi = "er_sde_5") -> Steps:
    """ER-SDE-Solver of any order and noise scale: "ode", "sde", "er_sde_1" to "er_sde_5", or a function of sigma/alpha."""
    weights = partial(integral_weights, variable=by_ratio)
    return (yield from multistep(nodes, x, form_of(phi), at_least_one("order", order), weights))


@method(order=2, stochastic=True, exact_for=("point",), source=SOURCE, facts=_facts)
def er_sde_published(nodes: Nodes, x: Register, order: int = 3, phi: Phi = "er_sde_5") -> Steps:
    """ER-SDE-Solver with the paper's Taylor terms, which differ at order three; ComfyUI's `er_sde`."""
    weights = partial(short_slope_third, variable=by_ratio)
    return (yield from multistep(nodes, x, form_of(phi), at_least_one("order", order), weights))


def form_of(phi: Phi) -> Form | FormOfStep:
    """The form of the steps for a noise scale.

    Raises:
        ValueError: phi is neither a known name nor callable.
    """
    if isinstance(phi, str) and phi in SCALES:
        made = SCALES[phi]
        return made if isinstance(made, Form) else running(made)
    if not callable(phi):
        raise ValueError(f"phi={phi!r} must be one of {', '.join(SCALES)}, or a function of sigma/alpha")
    return running(partial(slope_of, phi))


def slope_of(phi: Callable[[Tensor], Tensor], l: Tensor) -> Tensor:
    """tau^2 = d log phi / d log rho - 1 at rho = e^(-l), by automatic differentiation.

    Raises:
        ValueError: it is negative: no noise has a negative variance.
    """
    with torch.enable_grad():
        log_rho = -l if l.requires_grad else (-l).detach().requires_grad_()
        value = torch.log(phi(torch.exp(log_rho))).sum()
        (slope,) = torch.autograd.grad(value, log_rho, create_graph=l.requires_grad)
    found: Tensor = slope - 1
    if bool((found < -1e-9).any()):
        raise ValueError(
            f"phi={phi!r} must grow at least as fast as sigma/alpha: its slope is {float(slope.min()):.6g}"
        )
    return torch.where(found < 1e-12, torch.zeros_like(found), found)


def _scale_1(l: Tensor) -> Tensor:
    inverse = torch.exp(l)
    return inverse * torch.sigmoid(-inverse - math.log(10))


def _scale_4(l: Tensor) -> Tensor:
    y = 100 * torch.exp(-1.5 * l)
    return 1.5 * y / ((1 + y) * torch.log1p(y)) - 0.1


def _scale_5(l: Tensor) -> Tensor:
    power = torch.exp(-0.3 * l)
    return 0.3 * power * torch.sigmoid(power - math.log(10))


SCALES: dict[str, Form | SquaredTau] = {
    "ode": X0,
    "sde": Form("x0", 2.0),
    "er_sde_1": _scale_1,
    "er_sde_2": Form("x0", 1.5),
    "er_sde_3": Form("x0", 2.5),
    "er_sde_4": _scale_4,
    "er_sde_5": _scale_5,
}
