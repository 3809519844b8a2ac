"""CFG++: under guidance, the step's noise is that of the unconditional prediction, and ComfyUI's methods with its name.

With D the guided and U the unconditional estimate of x0, epsilon_U = (x - alpha U)/sigma, h = lambda_next - lambda_cur and
r = h_prev/h, the methods are, all data in the units of x/alpha,

    euler, euler_ancestral     x_next = D + (sigma/alpha)_next epsilon_U                   CFG++; ancestral steps as in `ddim`
    dpmpp_2m                   ... + (1 - e^-h)/(2 r) (D - U_prev)
    gradient_estimation        ... + (gamma - 1) ((sigma/alpha)_next - (sigma/alpha)_cur) (epsilon_U - epsilon_U_prev)
    res_multistep              x_next = e^-h (x + D - U) + b_1 U + b_2 U_prev, b the weights of `res_multistep`
    res_multistep_ancestral    the same down to a smaller sigma, then noise
    dpmpp_2s_ancestral         `dpmpp_2s_ancestral` from x + D - U, its stage and its end

all but the first ComfyUI's own; first steps and steps to sigma = 0 are the first's. Without guidance, D = U, each is the
method that it is named after. The network must predict "unconditional" too: `urn.classifier_free_guidance(...,
keep_unconditional=True)` gives it. CFG++'s scale is the paper's lambda in [0, 1].

Source: Chung, Kim, Park, Nam, Ye 2024, CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models,
arXiv 2406.08070.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import X0, integral_weights
from urn.method import Steps, combine, evaluate, method, noise, number, rewritten
from urn.methods.ddim import ddim
from urn.methods.dpmpp_sde import ancestral_split
from urn.nodes import Nodes, is_clean
from urn.plan import Evaluate, Node, Read, Register, Row

SOURCE = (
    "Chung, Kim, Park, Nam, Ye 2024, CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models, "
    "arXiv 2406.08070"
)
COMFYUI = "ComfyUI 2024, k_diffusion/sampling.py, after Chung et al. 2024, CFG++, arXiv 2406.08070"


def _facts(options: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"stochastic": number("eta", options["eta"], 0, 1) != 0}


@method(order=1, source=SOURCE, facts=_facts)
def euler_cfg_pp(nodes: Nodes, x: Register, eta: float = 0.0) -> Steps:
    """CFG++ on DDIM: the guided x0 and the unconditional noise."""

    def rewrite(request: Row | Read) -> Generator[Any, Any, Any]:
        if isinstance(request, Evaluate):
            outs = tuple((out, "unconditional_epsilon" if name == "epsilon" else name) for out, name in request.outs)
            request = replace(request, outs=outs)
        return (yield request)

    return (yield from rewritten(ddim(nodes, x, eta=eta), rewrite))


@method(order=2, source=COMFYUI)
def dpmpp_2m_cfg_pp(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver++(2M) with CFG++."""
    prev: tuple[Node, Register] | None = None
    for cur, next in nodes.steps():
        x0, u, epsilon = yield evaluate(x, cur, "x0", "unconditional_x0", "unconditional_epsilon")
        terms = [(next.alpha, x0), (next.sigma, epsilon)]
        if prev is not None and not is_clean(next):
            share = X0.total(cur, next) / 2 * _ratio(prev[0], cur, next)
            terms += [(share, x0), (-share, prev[1])]
        x = yield combine(next, *terms)
        prev = (cur, u)
    return x


@method(order=1, source=COMFYUI)
def gradient_estimation_cfg_pp(nodes: Nodes, x: Register, gamma: float = 2.0) -> Steps:
    """The gradient-estimation sampler with CFG++."""
    number("gamma", gamma, 0)
    prev: tuple[Node, Register] | None = None
    for cur, next in nodes.steps():
        x0, epsilon = yield evaluate(x, cur, "x0", "unconditional_epsilon")
        terms = [(next.alpha, x0), (next.sigma, epsilon)]
        if prev is not None:
            share = (gamma - 1) * (next.sigma - next.alpha * cur.sigma / cur.alpha)
            share = torch.where(prev[0].alpha == 0, 0.0, share)  # pure noise has told nothing
            terms += [(share, epsilon), (-share, prev[1])]
        x = yield combine(next, *terms)
        prev = (cur, epsilon)
    return x


@method(order=2, source=COMFYUI)
def res_multistep_cfg_pp(nodes: Nodes, x: Register) -> Steps:
    """RES of order two with CFG++."""
    return (yield from _res(nodes, x, 0.0))


@method(order=1, stochastic=True, source=COMFYUI)
def res_multistep_ancestral_cfg_pp(nodes: Nodes, x: Register) -> Steps:
    """RES of order two with CFG++, down to a smaller sigma, then noise."""
    return (yield from _res(nodes, x, 1.0))


@method(order=2, nfe=2, stochastic=True, source=COMFYUI)
def dpmpp_2s_ancestral_cfg_pp(nodes: Nodes, x: Register) -> Steps:
    """DPM-Solver++(2S) ancestral with CFG++."""
    for cur, next in nodes.steps():
        x0, u, epsilon = yield evaluate(x, cur, "x0", "unconditional_x0", "unconditional_epsilon")
        if is_clean(next):
            x = yield combine(next, (next.alpha, x0), (next.sigma, epsilon))
            continue
        down, up = ancestral_split(cur, next, 1.0)
        middle = nodes.between(cur, nodes.at_lambda(down.lambda_), 0.5)
        y = yield combine(middle, (X0.total(cur, middle), x0), *_shifted(cur, middle, x, x0, u))
        x0_middle = yield evaluate(y, middle, "x0")
        z = yield noise(cur, next)
        x = yield combine(next, (X0.total(cur, down), x0_middle), *_shifted(cur, down, x, x0, u), (up, z))
    return x


def _res(nodes: Nodes, x: Register, eta: float) -> Steps:
    prev: tuple[Node, Register] | None = None
    for cur, next in nodes.steps():
        x0, u, epsilon = yield evaluate(x, cur, "x0", "unconditional_x0", "unconditional_epsilon")
        down, up = ancestral_split(cur, next, eta)
        if prev is None or is_clean(next):
            terms = [(next.alpha, x0), (down.sigma, epsilon)]
        else:
            b1, b2 = integral_weights(X0, cur, down, [cur, prev[0]])
            terms = [*_shifted(cur, down, x, x0, u), (b1, u), (b2, prev[1])]
        if eta > 0 and not is_clean(next):
            terms.append((up, (yield noise(cur, next))))
        x = yield combine(next, *terms)
        prev = (cur, u)
    return x


def _shifted(cur: Node, next: Node, x: Register, x0: Register, u: Register) -> list[tuple[Tensor, Register]]:
    """What a step carries of x + alpha (D - U)."""
    carry = X0.carry(cur, next)
    return [(carry, x), (carry * cur.alpha, x0), (-carry * cur.alpha, u)]


def _ratio(prev: Node, cur: Node, next: Node) -> Tensor:
    """h/h_prev, 0 from alpha = 0."""
    known = prev.alpha > 0
    before = torch.where(known, cur.lambda_ - torch.where(known, prev.lambda_, 0.0), 1.0)
    return torch.where(known, (next.lambda_ - cur.lambda_) / before, 0.0)
