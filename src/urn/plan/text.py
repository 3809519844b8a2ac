"""Plans as text: the table that a person reads beside the paper, and the difference of two plans."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .plan import Plan
from .rows import Apply, Array, Combine, Evaluate, Law, Node, Noise, Number, Row


def table(plan: Plan) -> str:
    """One line a row: step, what is computed, and the node that a state is at."""
    lines = [_title(plan), *(_input(name, law) for name, law in plan.inputs)]
    body = [
        (str(row.step), _formula(row), row.node if isinstance(row, (Combine, Apply)) else None) for row in plan.rows
    ]
    body += [("end", f"{name} = {register}", node) for name, register, node in plan.outputs]
    width = min(max(len(formula) for _, formula, _ in body), 84)
    lines.append(f"{'step':>4}  {'row':<{width}}  {'t':>10} {'alpha':>9} {'sigma':>9} {'lambda':>8}")
    previous = ""
    for step, formula, node in body:
        lines.append(f"{'' if step == previous else step:>4}  {formula:<{width}}  {_place(node)}".rstrip())
        previous = step
    return "\n".join(lines)


def diff(one: Plan, other: Plan, tolerance: float = 0.0) -> str:
    """A line for every row of either plan that the other does not have, by place in the program."""
    lines = []
    if one.process != other.process:
        lines.append(f"process: {one.process} | {other.process}")
    for name in dict(one.inputs) | dict(other.inputs):
        laws = [dict(plan.inputs).get(name) for plan in (one, other)]
        if not _same_law(laws[0], laws[1], tolerance):
            lines += [f"{sign}      {_input(name, law, 12)}" for sign, law in zip("-+", laws, strict=True) if law]
    for i in range(max(len(one.rows), len(other.rows))):
        rows = [plan.rows[i] if i < len(plan.rows) else None for plan in (one, other)]
        if not _same(rows[0], rows[1], tolerance):
            lines += [f"{sign} {i:>3}  {_formula(row, 12)}" for sign, row in zip("-+", rows, strict=True) if row]
    outputs = [{name: (register, node) for name, register, node in plan.outputs} for plan in (one, other)]
    for name in outputs[0] | outputs[1]:
        (a, node_a), (b, node_b) = (given.get(name, (None, None)) for given in outputs)
        if a != b or not _close(node_a, node_b, tolerance):
            lines.append(f"output {name}: {a} at t = {node_a and node_a.t} | {b} at t = {node_b and node_b.t}")
    return "\n".join(lines)


def _title(plan: Plan) -> str:
    options = "".join(f", {name}={value}" for name, value in plan.options)
    facts = [
        "no order claimed" if plan.order is None else f"order {plan.order}",
        "stochastic" if plan.stochastic else "deterministic",
        f"{plan.steps} steps",
        f"{plan.nfe} evaluations in {plan.rounds} rounds",
        f"{plan.registers} registers",
    ]
    return f"{plan.method}{options} on {plan.process}: {', '.join(facts)}"


def _input(name: str, law: Law, digits: int = 6) -> str:
    if law.node is None:
        return f"input {name}"
    mean = _sum(law.mean, digits) or "0"
    return f"input {name} ~ N({mean}, {_number(law.std, digits)}^2) at t = {_number(law.node.t, digits)}"


def _formula(row: Row, digits: int = 6) -> str:
    if isinstance(row, Combine):
        return f"{row.out} = {_sum(row.weights, digits)}"
    if isinstance(row, Noise):
        start, end = (_number(t) for t in row.interval)
        return f"{row.out} = noise({start} to {end}, stream {row.stream})"
    if isinstance(row, Apply):
        options = "".join(f", {name}={_number(value)}" for name, value in row.options)
        return f"{row.out} = {row.function}({', '.join(row.inputs)}{options})"
    model = "" if row.model == "main" else f"{row.model}: "
    outs = ", ".join(f"{register} = {wanted}" for register, wanted in row.outs)
    return f"{model}{outs}({', '.join(row.inputs)}; t = {_number(row.t, digits)})"


def _sum(weights: Any, digits: int = 6) -> str:
    text = ""
    for weight, register in weights:
        negative = not isinstance(weight, Array) and weight < 0
        sign = (" - " if negative else " + ") if text else ("-" if negative else "")
        text += f"{sign}{_number(weight if isinstance(weight, Array) else abs(weight), digits)} {register}"
    return text


def _number(value: Number, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, (int, float)) else str(value)


def _place(node: Node | None) -> str:
    if node is None:
        return ""
    if isinstance(node.alpha, Array):
        return f"{_number(node.t):>10} {node.alpha} {node.sigma}"
    lambda_ = "inf" if node.lambda_ == math.inf else f"{node.lambda_:.4f}"
    return f"{node.t:>10.6g} {node.alpha:>9.6f} {node.sigma:>9.6f} {lambda_:>8}"


def _same(a: Row | None, b: Row | None, tolerance: float) -> bool:
    """Whether two rows do the same: same registers, coefficients within `tolerance` relative to their row's largest."""
    if a is None or b is None or type(a) is not type(b):
        return False
    if isinstance(a, Combine) and isinstance(b, Combine):
        if a.out != b.out:
            return False
        left, right = ({register: weight for weight, register in row.weights} for row in (a, b))
        scale = max((_largest(w) for w, _ in (*a.weights, *b.weights)), default=1.0)
        return all(
            _distance(left.get(r, 0.0), right.get(r, 0.0)) <= tolerance * scale for r in left.keys() | right.keys()
        )
    if isinstance(a, Evaluate) and isinstance(b, Evaluate):
        same = (a.outs, a.inputs, a.model) == (b.outs, b.inputs, b.model)
        return same and _close(a.node, b.node, tolerance) and _distance(a.t, b.t) <= tolerance * max(1.0, _largest(a.t))
    if isinstance(a, Noise) and isinstance(b, Noise):
        gap = max(abs(s - t) for s, t in zip(a.interval, b.interval, strict=True))
        return (a.out, a.stream) == (b.out, b.stream) and gap <= tolerance * max(map(abs, (*a.interval, 1.0)))
    return a == b


def _same_law(a: Law | None, b: Law | None, tolerance: float) -> bool:
    if a is None or b is None or not _close(a.node, b.node, tolerance):
        return False
    means = _same(Combine("", a.mean), Combine("", b.mean), tolerance)
    return means and _distance(a.std, b.std) <= tolerance * max(1.0, _largest(a.std))


def _close(a: Node | None, b: Node | None, tolerance: float) -> bool:
    if a is None or b is None:
        return a is b
    return all(
        _distance(getattr(a, n), getattr(b, n)) <= tolerance * max(1.0, _largest(a.t)) for n in ("t", "alpha", "sigma")
    )


def _distance(a: Number, b: Number) -> float:
    a, b = (n.values if isinstance(n, Array) else n for n in (a, b))
    return float(np.max(np.abs(np.subtract(a, b))))


def _largest(a: Number) -> float:
    return float(np.max(np.abs(a.values if isinstance(a, Array) else a)))
