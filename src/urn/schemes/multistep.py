"""Multistep schemes: a step predicted from earlier predictions, and corrected, or not, with the one made at its end.

Every multistep family is this scheme with its own weights: DPM-Solver++ multistep, DEIS, UniPC, Adams methods, and with
noise their SDE forms and SA-Solver.

**Start.** A p-step rule lacks history at first. `ramp` takes what is there, orders 1, 2, ... p - 1, as the papers do; one
Euler step has a local error O(h^2), so the whole is of order two at most however high p is. `lifted` treats the first
p - 1 steps as one block that starts from x at the first node: state k of the block is integrated from there with all
predictions so far, so no low-order state is ever built upon. A prediction made at a state of error O(h^k) is good enough
for order k + 1; for p <= 3 that costs no evaluation, beyond (p - 2)(p - 3)/2 are made again. The block interpolates in
sigma/(alpha + sigma), which spaces its points evenly: in rho, where the first steps are longest, the weights would be huge.

**End.** A step to sigma = 0 takes the polynomial's value there. Peers lower the order instead, to ..., 2, 1 in the last
steps (`lower_final`), which makes the whole of order two at most.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from urn.coefficients.exponential import Form, Weights, by_share, integral_weights
from urn.method import Steps, combine, evaluate, noise
from urn.nodes import Nodes, is_clean, noise_weight
from urn.plan import Combine, Node, Register

INTEGRATED = ("x0", "epsilon")  # the predictions that a step may integrate
DIFFERENCES = (
    "lambda",
    "halved",
    "t",
    "ratio",
    "share",
)  # what a polynomial may be in; halved: lambda, with its shortcut
Predictions = dict[str, Register]
History = list[tuple[Node, Predictions]]
Start = Callable[[Nodes, Register, Form, int], Generator[Any, Any, tuple[Register, History]]]
FormOfStep = Callable[[Node, Node], Form]
Newest = Callable[[History], Generator[Any, Any, History]]


def multistep(
    nodes: Nodes,
    x: Register,
    form: Form | FormOfStep,
    order: int,
    predict: Weights,
    correct: Weights | None = None,
    start: Start | None = None,
    lower_final: bool = False,
    corrected_from: int | None = None,
    evaluate_corrected: bool = False,
    newest: Newest | None = None,
) -> Steps:
    """The scheme, as rows.

    Args:
        form: the prediction that is integrated; with a rate above 1 every step draws noise, which its predictor and its
            corrector share. Where it differs from step to step, a function (cur, next) -> form.
        order: predictions that a predictor uses; fewer while there are fewer.
        predict: weights of the predictions at points, newest first.
        correct: the same with the step's end as the newest point; it needs no evaluation, since the next step starts with
            the one made there. None for no corrector.
        start: makes the first states and predictions (`lifted`); None ramps up.
        lower_final: whether the last steps use ..., 2, 1 predictions, and their correctors at most one more.
        corrected_from: predictions that a corrector uses, that at the step's end among them; by default order + 1.
        evaluate_corrected: whether the model is called again at a corrected state (PECE), or not (PEC).
        newest: makes the history that a step uses, and every later one, of that before; None leaves it as it is.
    """
    form_of = (lambda cur, next: form) if isinstance(form, Form) else form
    if start is None:
        history: History = [(yield from predictions(nodes[0], x))]
    else:
        x, history = yield from start(nodes, x, form_of(nodes[0], nodes[1]), order)
    steps = list(nodes.steps())[history[0][0].index :]
    for left, (cur, next) in zip(range(len(steps), 0, -1), steps, strict=True):
        stepping = form_of(cur, next)
        if newest is not None:
            history = yield from newest(history)
        extra: list[tuple[Any, Register]] = []
        if stepping.noisy and not is_clean(next):
            std = elementwise(stepping, cur, next, Form.noise_std)
            extra = [(noise_weight(next, std), (yield noise(cur, next)))]
        used = history[: min(order, left) if lower_final else order]
        predicted = yield step_row(stepping, predict, cur, next, x, used, extra)
        if next.index == len(nodes) - 1:
            return str(predicted)
        here = yield from predictions(next, predicted)
        if correct is None:
            x = predicted
        else:
            points = [here, *used] if corrected_from is None else [here, *history][:corrected_from]
            x = yield step_row(stepping, correct, cur, next, x, points[: left + 1] if lower_final else points, extra)
            if evaluate_corrected:
                here = yield from predictions(next, x)
        history.insert(0, here)
    return x


def lifted(nodes: Nodes, x: Register, form: Form, order: int) -> Generator[Any, Any, tuple[Register, History]]:
    """The first order - 1 steps as one block from the start; see the module's docstring.

    Before round k the predictions at nodes 0 ... k - 1 have errors O(h^k). State k is integrated from node 0 with all of
    them, error O(h^(k+1)); with the prediction there, those at 1 ... k - 1 are made again, error O(h^(k+1)), where a
    later round needs it. At the end the last state is integrated again with the prediction made there: a corrector.
    """
    first, rounds, state = nodes[0], min(order - 1, len(nodes) - 1), x
    weights = partial(integral_weights, variable=by_share)
    block: History = [(yield from predictions(first, x))]  # oldest first
    for k in range(1, rounds + 1):
        state = yield step_row(form, weights, first, nodes[k], x, block)
        if k == len(nodes) - 1:
            return state, [(nodes[k], {})]
        block.append((yield from predictions(nodes[k], state)))
        for j in range(1, k if k <= order - 2 else 1):
            again = yield step_row(form, weights, first, nodes[j], x, block)
            block[j] = yield from predictions(nodes[j], again)
    if rounds:
        state = yield step_row(form, weights, first, nodes[rounds], x, block)
    return state, block[::-1]


def predictions(node: Node, x: Register) -> Generator[Any, Any, tuple[Node, Predictions]]:
    """One call that gives both predictions: beside an end of the process the other one is needed; rows drop the unused."""
    x0, epsilon = yield evaluate(x, node, "x0", "epsilon")
    return node, {"x0": x0, "epsilon": epsilon}


def step_row(
    form: Form,
    weights: Weights,
    cur: Node,
    next: Node,
    x: Register,
    history: History,
    extra: Sequence[tuple[Any, Register]] = (),
) -> Combine:
    """One step as a row: carry x, the weighted predictions of the history, and whatever is added."""
    points = [node for node, _ in history]
    terms = [
        (w if inside is None else torch.where(inside, w, torch.zeros_like(w)), made[one.prediction])
        for one, inside in form.apart(cur)
        for w, (_, made) in zip(weights(one, cur, next, points), history, strict=True)
    ]
    return combine(next, (elementwise(form, cur, next, Form.carry), x), *terms, *extra)


def elementwise(form: Form, cur: Node, next: Node, of: Callable[[Form, Node, Node], Tensor]) -> Tensor:
    """A number of a step in the form that is finite at cur, in every element."""
    (made, _), *others = [(of(one, cur, next), inside) for one, inside in form.apart(cur)]
    for other, inside in others:
        made = other if inside is None else torch.where(inside, other, made)
    return made
