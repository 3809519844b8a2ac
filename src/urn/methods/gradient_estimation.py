"""Gradient estimation: DDIM with the noise prediction extrapolated from the last one by a constant.

    x_next/alpha_next = x/alpha + (rho_next - rho_cur) [gamma epsilon_cur + (1 - gamma) epsilon_prev],   rho = sigma/alpha

The paper reads denoising as an approximate projection and DDIM as gradient descent on the squared distance to the data;
gamma = 2 (its default) is a better estimate of the gradient there. gamma = 1 is DDIM, and on even steps 3/2 would be the
second-order Adams-Bashforth rule; with any other the method is of order one.

Source: Permenter & Yuan 2024, Interpreting and Improving Diffusion Models Using the Euclidean Distance
Function, arXiv 2306.04848, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from urn.coefficients.exponential import EPSILON, Form
from urn.method import Steps, method, number
from urn.nodes import Nodes
from urn.plan import Node, Register
from urn.schemes.multistep import multistep

SOURCE = (
    "Permenter & Yuan 2024, Interpreting and Improving Diffusion Models Using the Euclidean Distance Function, "
    "arXiv 2306.04848"
)


@method(order=1, exact_for=("point",), source=SOURCE)
def gradient_estimation(nodes: Nodes, x: Register, gamma: float = 2.0) -> Steps:
    """The gradient-estimation sampler; its first step is DDIM's."""
    number("gamma", gamma, 0)
    return (yield from multistep(nodes, x, EPSILON, 2, partial(extrapolated_weights, gamma=gamma)))


def extrapolated_weights(form: Form, cur: Node, next: Node, points: Sequence[Node], gamma: float) -> list[Tensor]:
    """The step's total weight times gamma and 1 - gamma."""
    total = form.total(cur, next)
    return [total] if len(points) == 1 else [total * gamma, total * (1 - gamma)]
