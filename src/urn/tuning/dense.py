"""Any deterministic plan with one call a step as weights of the start and of its predictions.

The executor runs a plan on symbols: a symbol is the row of weights that a state has on the start and on the predictions made
so far, and a model call notes the state that it is shown and answers with a new one. So the weights are those that really
act, whatever method made the plan.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from urn.compiler import compile_plan
from urn.executor import execute
from urn.method import one_of
from urn.model import Model
from urn.plan import Apply, Array, Evaluate, Plan, PlanError, Rows

Weights = tuple[tuple[float, ...], ...]


class Symbol:
    """A weighted sum of the start and of the predictions: its weights, the start's first."""

    def __init__(self, weights: np.ndarray[Any, Any]) -> None:
        self.weights = weights

    def __add__(self, other: Symbol) -> Symbol:
        return Symbol(self.weights + other.weights)

    def __mul__(self, factor: float) -> Symbol:
        return Symbol(self.weights * factor)


def dense_weights(plan: Plan, prediction: str = "x0") -> Weights:
    """The weights A_i, B_i0, ..., B_ii with which a plan makes each state that its network is shown, and its output.

    Args:
        plan: a deterministic plan of one model, whose sums are of numbers.
        prediction: what the B_ij are weights of, "x0" or "epsilon" or "v" or "velocity".

    Raises:
        ValueError: the plan draws noise, applies a map, calls several models, or has a number per coordinate.
        PlanError: the prediction has no finite weights at one of its calls.

    Example:
        >>> plan = compile_plan("unipc_3", VP.linear(), 8)
        >>> same = compile_plan("linear", VP.linear(), grid=plan.times, weights=dense_weights(plan))
    """
    one_of("prediction", prediction, ("x0", "epsilon", "v", "velocity"))
    _check(plan)
    size = plan.nfe + 1
    shown: list[Symbol] = []

    def net(x: Symbol, t: Any) -> Symbol:
        shown.append(x)
        return Symbol(np.eye(size)[len(shown)])

    start = Symbol(np.eye(size)[0])
    last: Symbol = execute(plan, Model(net, plan.process, predicts=prediction), {"x": start})["x"]
    if not shown or not np.array_equal(shown[0].weights, start.weights):
        raise ValueError(f"plan: {plan.method} does not call the model on its start first")
    return tuple(tuple(state.weights[: i + 2].tolist()) for i, state in enumerate([*shown[1:], last]))


def dense_plan(plan: Plan, prediction: str = "x0") -> Plan:
    """The plan that does the same by the method `linear`, on the times of its calls and of its output.

    Raises:
        ValueError: as `dense_weights`; or its calls are not at times in order, one a step.
    """
    weights = dense_weights(plan, prediction)
    calls = [row for row in plan.rows if isinstance(row, Evaluate)]
    times = [float(row.node.t) for row in calls] + [float(plan.outputs[0][2].t)]
    falling = [later < earlier for earlier, later in pairwise(times)]
    if not (all(falling) or not any(falling)) or len(set(times)) < len(times):
        raise ValueError(f"plan: {plan.method} calls the model at {times[:-1]}, which is not one call a step")
    shown = tuple(float(row.t) for row in calls)
    labels: dict[str, Any] = {} if shown == tuple(times[:-1]) else {"labels": shown}
    made: Plan = compile_plan("linear", plan.process, grid=times, weights=weights, prediction=prediction, **labels)
    return made


def can_be_dense(plan: Plan) -> bool:
    """Whether `dense_plan` takes it."""
    try:
        dense_plan(plan)
    except (ValueError, PlanError):
        return False
    return True


def _check(plan: Rows) -> None:
    method = getattr(plan, "method", "it")
    if not isinstance(plan, Plan):
        raise ValueError(f"plan={plan!r} must be a Plan")
    if plan.stochastic:
        raise ValueError(f"plan: {method} draws noise; only deterministic plans are weights of predictions")
    if [name for name, _ in plan.inputs] != ["x"]:
        raise ValueError(
            f"plan: {method} has the inputs {', '.join(name for name, _ in plan.inputs)}; x alone is needed"
        )
    for row in plan.rows:
        if isinstance(row, Apply):
            raise ValueError(f"plan: step {row.step} applies {row.function}; only sums and calls are weights")
        if isinstance(row, Evaluate) and (row.model != "main" or isinstance(row.t, Array)):
            raise ValueError(
                f"plan: step {row.step} calls {row.model!r} at {row.t}; one model and a time for all are needed"
            )
