"""A check, free of model calls, that a network predicts what its model says it does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from urn.model import Model
from urn.plan import Array, Evaluate, Node, Rows
from urn.plan.rows import freeze_number, map_numbers
from urn.prediction import PREDICTIONS, as_tensor, pair_weights
from urn.processes import Process, with_side_input

LARGEST = 4.0  # mean square above which samples may well be garbage rather than the data of a network


class PredictionWarning(UserWarning):
    """A network's outputs look like another prediction than the one its model declares."""


def expected_slope(prediction: str, node: Node, process: Process, second_moment: float) -> tuple[float, float]:
    """E[output . x] / E[x . x] of an exact network at a node, and the unit in which a network's slope may be off it.

    With output = p x0 + q epsilon and M = E[x0^2] the slope is (p alpha M + q sigma) / (alpha^2 M + sigma^2), the same for
    the posterior mean that a network returns as for the prediction itself. At alpha -> 0 it is 1/sigma for epsilon and 0
    for x0; at sigma -> 0, 0 and 1/alpha. The unit is the output's size over that of x, at least 1 each but for a score.
    """
    at = Node(as_tensor(node.t), as_tensor(node.alpha), as_tensor(node.sigma))
    p, q = pair_weights(prediction, at, process)
    if prediction == "score":
        q = -1 / at.sigma
    x_squared = at.alpha**2 * second_moment + at.sigma**2
    slope = (p * at.alpha * second_moment + q * at.sigma) / x_squared
    size = -q if prediction == "score" else torch.sqrt(p**2 * min(second_moment, 1.0) + q**2).clamp(min=1.0)
    return float(slope), float(size / torch.sqrt(x_squared).clamp(min=1.0))


def check_prediction(model: Model, x0: Tensor, **conditioning: Any) -> str | None:
    """Compare a network with clean data at both ends of its process, one call each.

    Args:
        model: the model; its process gives the ends.
        x0: some clean data, (B, *S).
        conditioning: keyword arguments for the network.

    Returns:
        None where the outputs look as declared; else a sentence that says what they look like, also given as a
        `PredictionWarning`.
    """
    process, notes, nodes = model.process, [], []
    if with_side_input(process) is not None:
        raise ValueError(f"{process} has a side input, which this check does not know")
    generator = torch.Generator(x0.device).manual_seed(0)
    for t in process.t_finite:
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        epsilon = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        x = alpha * x0 + sigma * epsilon
        with torch.no_grad():
            output = model(x, t=t, **conditioning)[0]
        notes.append(_note(output, x))
        nodes.append(Node(t, alpha, sigma))
    moments = [(float((x0.double() ** 2).mean()),)] * 2
    return _judge(model, nodes, torch.stack(notes).tolist(), moments, stacklevel=3)


@dataclass
class Probe:
    """A network that also takes a note of its first and of its latest call."""

    net: Any
    notes: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Any, *rest: Any, **conditioning: Any) -> Any:
        result = self.net(x, *rest, **conditioning)
        output = result[0] if isinstance(result, (tuple, list)) else result
        if isinstance(x, Tensor) and isinstance(output, Tensor) and output.shape == x.shape:
            self.notes[1:] = [_note(output.detach(), x.detach())]
        return result


def _note(output: Tensor, x: Tensor) -> Tensor:
    """The slope of an output on x, the standard error that chance gives it, and the second moment of x."""
    output, x = output.double(), x.double()
    moment = (x**2).mean()
    return torch.stack([(output * x).mean() / moment, ((output**2).mean() / moment / x.numel()).sqrt(), moment])


_judged: WeakSet[Model] = WeakSet()


def first_look(model: Model) -> Probe | None:
    """A probe around the model's network the first time that it is sampled from, None afterwards."""
    if model in _judged:
        return None
    _judged.add(model)
    return Probe(model.net)


def judge_run(model: Model, plan: Rows, probe: Probe, samples: Tensor) -> None:
    """Warn if what the probe noted in a run of `plan` that ended in `samples` fits another prediction than declared."""
    rows = [row for row in plan.rows if isinstance(row, Evaluate)]
    ends: list[Evaluate] = map_numbers(tuple(rows[:1] + rows[-1:])[: len(probe.notes)], freeze_number)
    if any(isinstance(row.node.alpha, Array) for row in ends):
        return  # each coordinate at a time of its own
    ends = [row for row in ends if row is ends[0] or row.node.sigma < row.node.alpha / 5]  # between, little can be told
    scales = [1.0 if model.input_scale is None else float(model.input_scale(row.t)) for row in ends]
    notes = [  # of x, where the network saw scale x
        [slope * scale, error * scale, moment / scale**2]
        for (slope, error, moment), scale in zip(torch.stack(probe.notes).tolist(), scales, strict=False)
    ]
    sampled = float((samples.detach().double() ** 2).mean())
    moments = [_data_moments(row.node, seen, sampled) for row, (_, _, seen) in zip(ends, notes, strict=True)]
    _judge(model, [row.node for row in ends], notes, moments, stacklevel=4)


def _data_moments(node: Node, seen: float, sampled: float) -> tuple[float, float]:
    """What E[x0^2] may be, from the second moments of x at a node and of the samples: these may be garbage, if the
    declaration is wrong or the steps are few.

    The samples' where x can be made of such data and noise, else what x leaves for the data, at most 1; and 1.
    """
    if sampled <= LARGEST and abs(node.alpha**2 * sampled + node.sigma**2 - seen) <= 0.5 * seen:
        return sampled, 1.0
    return 1.0 if node.alpha == 0 else min(max(seen - node.sigma**2, 0.0) / node.alpha**2, 1.0), 1.0


def _judge(
    model: Model, nodes: list[Node], notes: list[list[float]], moments: Sequence[tuple[float, ...]], stacklevel: int
) -> str | None:
    """Warn if another prediction fits more than twice as well, by more than chance: at the first node alone, whose x is
    right whatever the network predicts, or at both."""
    gaps = {
        prediction: [_gap(prediction, model, *place) for place in zip(nodes, notes, moments, strict=True)]
        for prediction in PREDICTIONS
    }
    declared = model.outputs[0]
    for used in (1, len(nodes)):
        misfit = {prediction: max(gap for gap, _ in found[:used]) for prediction, found in gaps.items()}
        better = [prediction for prediction in PREDICTIONS if misfit[prediction] < misfit[declared] / 2]
        if better and 0.5 < max(gap - 4 * error for gap, error in gaps[declared][:used]) < float("inf"):
            break
    else:
        return None
    best, slopes = min(better, key=lambda prediction: max(gaps[prediction])), [slope for slope, _, _ in notes]
    message = (
        f"the network's outputs look like {best!r}, not like the {declared!r} that the model declares: on its input they "
        f"have slope {slopes[0]:.3g} at t = {float(nodes[0].t):.4g} and {slopes[-1]:.3g} at t = {float(nodes[-1].t):.4g}"
    )
    warnings.warn(message, PredictionWarning, stacklevel=stacklevel)
    return message


def _gap(
    prediction: str, model: Model, node: Node, note: list[float], moments: tuple[float, ...]
) -> tuple[float, float]:
    """How far a noted slope is off a prediction's, and chance's share of that, with the moment of the data that fits."""
    slope, error, _ = note
    gaps = []
    for moment in moments:
        expected, unit = expected_slope(prediction, node, model.process, moment)
        unit = max(unit, abs(expected))
        gaps.append((abs(expected - slope) / unit, error / unit))
    return min(gaps)
