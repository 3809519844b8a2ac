"""The five predictions as pairs of weights on (x0, epsilon), and the conversion of one into another.

```
epsilon   0 x0 + 1 epsilon
x0        1 x0 + 0 epsilon
v        -sigma x0 + alpha epsilon              Salimans & Ho 2022, arXiv 2202.00512
velocity  alpha' x0 + sigma' epsilon = dx/dt    Lipman et al. 2023, arXiv 2210.02747
score     0 x0 - (1/sigma) epsilon = grad log p_t(x)
```
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import Tensor

from urn.plan import Array, Evaluate, Node, PlanError
from urn.plan.rows import Number, Term, freeze_number
from urn.processes import CoupledProcess, Process, SideProcess, components_of, is_between, with_side_input

Prediction = Literal["epsilon", "x0", "v", "velocity", "score"]
PREDICTIONS: tuple[str, ...] = get_args(Prediction)


def check_prediction_name(name: str, value: object) -> None:
    """Refuse anything but the five predictions.

    Raises:
        ValueError: naming the argument, the value, and what is allowed.
    """
    if value not in PREDICTIONS:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(PREDICTIONS)}")


def pair_weights(prediction: str, node: Node, process: Process) -> tuple[Tensor, Tensor]:
    """The weights of a prediction on (x0, epsilon) at a node; those of the score without its factor -1/sigma."""
    one, zero = torch.ones_like(node.alpha), torch.zeros_like(node.alpha)
    if prediction == "x0":
        return one, zero
    if prediction == "v":
        return -node.sigma, node.alpha
    if prediction == "velocity":
        return process.velocity_weights(node.t)
    return zero, one  # epsilon, and the score up to its factor


def fold(wanted: str, row: Evaluate, process: Process, outputs: tuple[str, ...]) -> tuple[Term, ...]:
    """A wanted prediction as a weighted sum of the call's inputs and of what it returned, "output 0", "output 1", ...

    Args:
        wanted: one of `row.outs`: the name of an output, a prediction that follows from the first one, or, as
            "unconditional_x0", one that follows from the output "unconditional", of the first one's kind.
        row: the call; its first input is the state, its last the side input where the process has one.
        process, outputs: the model's.

    Raises:
        PlanError: it does not follow from these outputs, or has no finite weights there.
    """
    raw = tuple(f"output {place}" for place in range(len(outputs)))
    if wanted in outputs:
        return ((1.0, raw[outputs.index(wanted)]),)
    if is_between(process):
        return ((between_weight(outputs, wanted, row.node), raw[-1]),)
    if len(components_of(process)) > 1:
        on_inputs, on_outputs = joint_conversion(outputs, wanted, row.node, cast("CoupledProcess", process))
        return (*zip(on_outputs, raw, strict=True), *zip(on_inputs, row.inputs, strict=True))
    kind = wanted.removeprefix("unconditional_")
    source = outputs[0] if kind == wanted else "unconditional"
    if kind not in PREDICTIONS or source not in outputs:
        raise PlanError(f"step {row.step}: the plan wants {wanted!r}; model {row.model!r} returns {outputs}")
    on_x, on_output = conversion(outputs[0], kind, row.node, process)
    terms: tuple[Term, ...] = ((on_output, raw[outputs.index(source)]), (on_x, row.inputs[0]))
    if (side := with_side_input(process)) is not None:
        terms += ((side_weight(side, row.node, on_x, on_output, kind, outputs[0]), row.inputs[-1]),)
    return tuple(term for term in terms if not isinstance(term[0], float) or term[0] != 0.0) or terms[:1]


def conversion(network: str, wanted: str, node: Node, process: Process) -> tuple[Number, Number]:
    """Weights (a, b) with `wanted` = a x + b output, output being what a network that predicts `network` returned.

    With x = alpha x0 + sigma epsilon and output = p x0 + q epsilon, a and b solve a 2 x 2 system whose determinant is
    alpha q - sigma p: 1 for v under VP, 1 for the velocity of a flow, alpha for epsilon, -sigma for x0. A score is an
    epsilon divided by -sigma on either side.

    Args:
        network, wanted: predictions.
        node: the point of the process; floats and Arrays give such weights, tensors give tensors with their gradients.
        process: needed for the velocity's alpha' and sigma'.

    Raises:
        PlanError: the pair has no finite weights there, as epsilon to x0 at alpha = 0.
    """
    if network == wanted:
        return 0.0, 1.0
    at = Node(as_tensor(node.t), as_tensor(node.alpha), as_tensor(node.sigma))
    alpha, sigma = at.alpha, at.sigma
    if {network, wanted} == {"epsilon", "score"}:  # finite at alpha = 0 too, where the system below is not
        on_x, on_output = torch.zeros_like(sigma), -sigma if network == "score" else -1 / sigma
    else:
        p, q = pair_weights(network, at, process)
        r, s = pair_weights(wanted, at, process)
        determinant = alpha * q - sigma * p
        on_x, on_output = (r * q - s * p) / determinant, (alpha * s - sigma * r) / determinant
        if network == "score":
            on_output = on_output * -sigma
        if wanted == "score":
            on_x, on_output = on_x / -sigma, on_output / -sigma
    if not bool(torch.isfinite(on_x).all() & torch.isfinite(on_output).all()):
        advice = "shorten the grid to where it does, or use a network that predicts 'v' or 'velocity'"
        if not bool(alpha.any() | sigma.any()):  # the start of a bridge
            advice = "only a network that predicts 'x0' can start here; or start the grid later, from a state there"
        raise PlanError(
            f"a network that predicts {network!r} gives no finite {wanted!r} at t = {node.t} (alpha = {node.alpha}, "
            f"sigma = {node.sigma}): {advice}"
        )
    drafting = any(isinstance(number, Tensor) for number in (node.t, node.alpha, node.sigma))
    return (on_x, on_output) if drafting else (freeze_number(on_x), freeze_number(on_output))


def side_weight(side: SideProcess, node: Node, on_x: Number, on_output: Number, wanted: str, network: str) -> Number:
    """The weight of the side input y beside those of `conversion`.

    They hold for x - beta y, and for velocities without their beta' y.
    """
    beta, slope = side.beta(as_tensor(node.t)), side.beta_slope(as_tensor(node.t))
    weight = -as_tensor(on_x) * beta
    if wanted == "velocity":
        weight = weight + slope
    if network == "velocity":
        weight = weight - as_tensor(on_output) * slope
    return weight if isinstance(node.t, Tensor) else freeze_number(weight)


def joint_conversion(
    network: tuple[str, ...], wanted: str, node: Node, process: CoupledProcess
) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
    """Weights on the components and on the outputs that give one of "score", "score_m", ..., "epsilon", "epsilon_m", ...

    With a and S the weights of x0 in the means and the covariance given it, z = a x0 + L epsilon, L L^T = S, L lower:
    score = -L^-T epsilon, epsilon = -L^T score = L^-1 (z - a x0), from networks that predict ("x0",) or all of the others.

    Raises:
        PlanError: another pair, or S is singular there, as at the data end.
    """
    endings = tuple("" if name == "x" else f"_{name}" for name in process.components)
    scores, epsilons = (tuple(f"{kind}{ending}" for ending in endings) for kind in ("score", "epsilon"))
    if wanted not in (*scores, *epsilons) or network not in (scores, epsilons, ("x0",)):
        raise PlanError(
            f"a network of {process} that predicts {network} gives no {wanted!r}; networks that predict {scores}, {epsilons} "
            "or ('x0',) give scores and epsilons"
        )
    t = as_tensor(node.t)
    factor, failed = torch.linalg.cholesky_ex(process.covariance(t))
    if bool(failed):
        raise PlanError(f"cov[z | x0] of {process} at t = {node.t} is singular: {network} gives no {wanted!r} there")
    if network == scores:
        on_outputs = -factor.mT
    elif network == epsilons:
        on_outputs = -torch.linalg.inv(factor).mT
    else:
        on_outputs = torch.linalg.inv(factor)  # of z - a x0
        on_outputs = on_outputs if wanted in epsilons else -on_outputs.mT @ on_outputs
    row = on_outputs[(scores if wanted in scores else epsilons).index(wanted)]
    on_inputs, on_network = torch.zeros_like(row), row
    if network == ("x0",):
        on_inputs, on_network = row, (-row @ process.mean_weights(t))[None]
    if isinstance(node.t, Tensor):
        return tuple(on_inputs), tuple(on_network)
    return tuple(map(freeze_number, on_inputs)), tuple(map(freeze_number, on_network))


def between_weight(outputs: tuple[str, ...], wanted: str, node: Node) -> Number:
    """On an interpolant: what the last output, epsilon or score, is multiplied by to give the other of the two.

    Raises:
        PlanError: another pair, or an epsilon at sigma = 0.
    """
    sigma = as_tensor(node.sigma)
    if (outputs[-1], wanted) not in (("epsilon", "score"), ("score", "epsilon")):
        raise PlanError(
            f"a network of an interpolant that predicts {outputs} gives no {wanted!r}: it must be among its outputs, as in "
            "('velocity', 'epsilon') or ('velocity', 'score')"
        )
    weight = -sigma if wanted == "epsilon" else -1 / sigma
    if not bool(torch.isfinite(weight).all()):
        raise PlanError(f"sigma = 0 at t = {node.t}: epsilon gives no score there; take a diffusion that is 0 there")
    return weight if isinstance(node.sigma, Tensor) else freeze_number(weight)


def as_tensor(number: Number) -> Tensor:
    """A coefficient of any kind as a float64 tensor."""
    return torch.tensor(number.values) if isinstance(number, Array) else torch.as_tensor(number, dtype=torch.float64)
