"""Explicit exponential Runge-Kutta steps in lambda, alone or with earlier predictions.

```
y = x/alpha:  dy/dlambda = -y + x0          the x0 form, z = -h
y = x/sigma:  dy/dlambda =  y - epsilon     the epsilon form, z = h
```

so that stage i, at the share c_i of the step in lambda, is

    x_i = (sigma_i/sigma_cur) x + alpha_i h sum_j a_ij(z) x0_j
    x_i = (alpha_i/alpha_cur) x - sigma_i h sum_j a_ij(z) epsilon_j

A step that touches alpha = 0 or sigma = 0, where h is infinite, is taken by the singlestep scheme of order at most three
(`singlestep`), whose stages are placed in sigma/(alpha + sigma); the predictions kept begin anew after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from urn.coefficients.exponential import EPSILON, X0
from urn.coefficients.exponential_tableaus import ExponentialTableau, Phi, Rule
from urn.method import Steps, combine, evaluate, one_of
from urn.nodes import Nodes, touches_end
from urn.plan import Node, Register
from urn.schemes.singlestep import ORDERS

FORMS = {"x0": X0, "epsilon": EPSILON}
PastRule = Callable[[Phi, Sequence[float]], ExponentialTableau]


def exponential_runge_kutta(nodes: Nodes, x: Register, prediction: str, order: int, rule: Rule) -> Steps:
    """The same tableau on every interval of the grid."""
    return (yield from with_history(nodes, x, prediction, order, lambda p, past: rule(p)))


def with_history(
    nodes: Nodes, x: Register, prediction: str, order: int, rule: PastRule, history: int = 0, start: Rule | None = None
) -> Steps:
    """Steps that also use predictions made at up to `history` earlier nodes.

    Args:
        prediction: "x0" or "epsilon".
        order: of the method; bounds that of a step at an end of the process.
        rule: the tableau, of p and the places of the earlier nodes in steps before cur, newest first (so -1 on an even
            grid). Each row has their weights, newest first, before those of the stages.
        history: earlier predictions used; fewer while there are fewer.
        start: a tableau for steps with fewer; by default the rule's own.
    """
    one_of("prediction", prediction, FORMS)
    past: list[tuple[Node, Register]] = []
    for cur, next in nodes.steps():
        form = FORMS[prediction]
        if touches_end(cur, next):
            past = []
            x = yield from ORDERS[min(order, 3)](form, nodes, cur, next, x)
            continue
        h = next.lambda_ - cur.lambda_
        p = Phi(-h if prediction == "x0" else h)
        if start is not None and len(past) < history:
            tableau, slopes = start(p), []
        else:
            tableau = rule(p, [(node.lambda_ - cur.lambda_) / h for node, _ in past])
            slopes = [register for _, register in past]
        first = len(slopes)
        here, y = cur, x
        for row, share in zip((*tableau.a[1:], tableau.b), (*tableau.c[1:], 1), strict=True):
            slopes.append((yield evaluate(y, here, prediction)))
            here = next if share == 1 else nodes.between(cur, next, share)
            size = here.alpha * h if prediction == "x0" else -here.sigma * h
            terms = [(size * a, slope) for a, slope in zip(row, slopes, strict=True) if isinstance(a, Tensor) or a]
            y = yield combine(here, (form.carry(cur, here), x), *terms)
        past = [(cur, slopes[first]), *past][:history]
        x = y
    return x
