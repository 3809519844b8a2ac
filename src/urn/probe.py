"""Checks that a network predicts what its model says it does: one free of model calls in the first run, one on clean data.

The one on clean data knows what the network should have said. A network that was trained by least squares returns the mean
of its target given x: nothing made of x, of its output and of the data's moments then comes nearer to the target than the
output itself. So at some noise levels the best a x + b output + c w is fitted to the target, w what coordinates of the data's
means and variances would give; where that is much nearer than the output, what the model says of its time, its scale, its
sign, its process or its prediction is wrong.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from urn.arrays import as_tensor_of
from urn.model import Model
from urn.noise.sources import in_kind
from urn.plan import Array, Evaluate, Node, Rows
from urn.plan.rows import freeze_number, map_numbers
from urn.prediction import PREDICTIONS, as_tensor, pair_weights
from urn.processes import Process, components_of, is_between, with_side_input

LARGEST = 4.0  # mean square above which samples may well be garbage rather than the data of a network
FEWEST = 64  # samples, to tell a wrong network from chance between the ends
MISFIT = 1.1  # mean square error over that of the best fit, above which a network is not what it is said to be


class PredictionWarning(UserWarning):
    """A network's outputs are not the prediction that its model declares."""


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


def check_prediction(model: Model, x0: Any, **conditioning: Any) -> str | None:
    """Compare a network with clean data: one call at either end of its process, and three between.

    Where they do not fit, up to 9 calls more tell whether they would with time reversed, or 1000 times faster or slower.
    A network with guidance is no posterior mean: look at it without. Fewer than 64 samples are looked at at the ends alone.

    Args:
        model: the model; its process gives the ends.
        x0: some clean data, (B, *S), a tensor or an array of the kind that the network takes.
        conditioning: keyword arguments for the network.

    Returns:
        None where the outputs look as declared; else a sentence that says what they look like, also given as a
        `PredictionWarning`.

    Raises:
        ValueError: the process has a side input, components, or two ends that are data; or x0 is no batch of samples.

    Example:
        >>> target = urn.exact.Gaussian([1.0, 0.0], [0.2, 0.3])
        >>> check_prediction(target.model(Flow(), "velocity"), target.sample(64, seed=0)) is None
        True
    """
    process = model.process
    if with_side_input(process) is not None:
        raise ValueError(f"{process} has a side input, which this check does not know")
    if is_between(process) or len(components_of(process)) > 1:
        raise ValueError(f"{process} is not x = alpha x0 + sigma epsilon, which is all that this check knows")
    data = as_tensor_of(x0)
    if data is None or data.ndim < 2 or not len(data) or not data.is_floating_point():
        what = type(x0).__name__ if data is None else f"{data.dtype} of shape {tuple(data.shape)}"
        raise ValueError(f"x0={what} must be clean data, floating-point and of shape (B, *S)")
    generator = torch.Generator(data.device).manual_seed(0)
    looks = [_Look.at(model, t, x0, data, generator, conditioning) for t in process.t_finite]
    moments = [(float((data.double() ** 2).mean()),)] * 2
    notes = torch.stack([_note(look.output, look.x) for look in looks]).tolist()
    message = _judge(model, [look.node for look in looks], notes, moments)
    if len(data) >= FEWEST:
        times = _levels(model, math.sqrt(moments[0][0]))
        between = [_Look.at(model, t, x0, data, generator, conditioning) for t in times]
        worst = max((look.misfit(model.outputs[0], process), float(look.node.t)) for look in between)
        if message is None and worst[0] > MISFIT:
            message = (
                f"the network's outputs are not the {model.outputs[0]!r} that the model declares: at t = {worst[1]:.4g} "
                f"their mean square error is {worst[0]:.3g} times what can be made of them"
            )
        if message is not None:
            found = _explanation(model, between, conditioning)
            message += (
                f"; between the ends {found or 'they are no prediction of this process, whichever way its time runs'}"
            )
    if message is not None:
        warnings.warn(message, PredictionWarning, stacklevel=2)
    return message


@dataclass(frozen=True)
class _Look:
    """A network's output on noisy data at a node, with the data and the noise that they were made of."""

    node: Node
    x0: Tensor
    epsilon: Tensor
    x: Tensor
    given: Any  # x in the kind that the network takes
    output: Tensor

    @classmethod
    def at(
        cls, model: Model, t: float, x0: Any, data: Tensor, generator: torch.Generator, conditioning: dict[str, Any]
    ) -> _Look:
        node = Node(t, float(model.process.alpha(t)), float(model.process.sigma(t)))
        epsilon = torch.randn(data.shape, generator=generator, dtype=data.dtype, device=data.device)
        x = node.alpha * data + node.sigma * epsilon
        given = x if isinstance(x0, Tensor) else in_kind(x, x0)
        with torch.no_grad():
            output = as_tensor_of(model(given, t=t, **conditioning)[0])
        if output is None:
            raise ValueError(f"the network's output at t = {t} is neither a tensor nor an array")
        return cls(node, data.double(), epsilon.double(), x.double(), given, output.double())

    def again(self, model: Model, t: float, factor: float, conditioning: dict[str, Any]) -> _Look:
        """The same state, the network being shown `factor` times the label of t."""
        scale = 1.0 if model.input_scale is None else float(model.input_scale(self.node.t))
        with torch.no_grad():
            output = model.net(self.given * scale, factor * model.shown(t, self.given), **conditioning)
        value = as_tensor_of(output[0] if isinstance(output, (tuple, list)) else output)
        return self if value is None else replace(self, output=value.double())

    def weights(self, prediction: str, process: Process) -> tuple[Tensor, Tensor]:
        """Those of a prediction on (x0, epsilon)."""
        at = Node(as_tensor(self.node.t), as_tensor(self.node.alpha), as_tensor(self.node.sigma))
        p, q = pair_weights(prediction, at, process)
        return p, -1 / at.sigma if prediction == "score" else q

    def explains(self, prediction: str, process: Process, sign: float) -> bool:
        """Whether sign output says anything at all of the prediction's target, as zeros do not."""
        p, q = self.weights(prediction, process)
        target = p * self.x0 + q * self.epsilon
        return bool((sign * self.output - target).square().mean() < 0.9 * target.square().mean())

    def misfit(self, prediction: str, process: Process, sign: float = 1.0) -> float:
        """How many times nearer to the prediction's target the best fit is than sign output, in mean squares; 1 where
        chance could have made the difference."""
        p, q = self.weights(prediction, process)
        target = p * self.x0 + q * self.epsilon
        if not bool(torch.isfinite(self.output).all()):
            return math.inf
        parts = torch.stack([self.x.flatten(), self.output.flatten(), self._from_moments(p, q).flatten()], 1)
        parts = parts / parts.square().mean(0).sqrt().clamp(min=1e-300)
        weights = torch.linalg.pinv(parts.T @ parts, rtol=1e-12, hermitian=True) @ (parts.T @ target.flatten())
        best = (parts @ weights).reshape(target.shape)
        errors, least = ((value - target).square().flatten(1).mean(1) for value in (sign * self.output, best))
        gain = errors - least
        surely = gain.mean() > 3 * gain.std() / math.sqrt(len(gain))  # the fit is 6 standard errors off (0, 1, 0)
        return float(errors.mean() / least.mean().clamp(min=1e-300)) if bool(surely) else 1.0

    def _from_moments(self, p: Tensor, q: Tensor) -> Tensor:
        """E[p x0 + q epsilon | x] were every coordinate Gaussian, of the mean and variance of the other samples' data."""
        count = max(len(self.x0) - 1, 1)
        mean = (self.x0.sum(0) - self.x0) / count
        variance = (self.x0.square().sum(0) - self.x0.square()) / count - mean.square()
        alpha, sigma = as_tensor(self.node.alpha), as_tensor(self.node.sigma)
        white = (self.x - alpha * mean) / (alpha**2 * variance.clamp(min=0) + sigma**2)
        return p * (mean + alpha * variance * white) + q * sigma * white


def _levels(model: Model, scale: float) -> list[float]:
    """Three times at which the data are a third of the noise, as large, and three times as large, as near as there are."""
    process, times = model.process, []
    first, last = process.t_finite
    low, high = (float(process.lambda_(t)) for t in (first, last))
    for share in (1 / 3, 1.0, 3.0):
        t = float(process.t_of_lambda(min(max(math.log(share / max(scale, 1e-6)), low), high)))
        if model.integer_times:
            shown = t if model.label is None else float(model.label(t))
            t = float(round(t)) if shown == t else t
        times.append(t)
    return times


def _explanation(model: Model, looks: list[_Look], conditioning: dict[str, Any]) -> str | None:
    """Which other declaration the outputs fit, where one does: another prediction or sign, or another label."""
    ends = model.process.t_start + model.process.t_end
    Clock = Callable[[float], tuple[float, float]]  # a time to be shown, and what its label is multiplied by
    shown: dict[str, Clock] = {
        "": lambda t: (t, 1.0),
        "when shown its times in reverse, ": lambda t: (ends - t, 1.0),
        "when shown 1000 times its label, ": lambda t: (t, 1000.0),
        "when shown a thousandth of its label, ": lambda t: (t, 1e-3),
    }
    for words, clock in shown.items():
        tried = [look if not words else look.again(model, *clock(float(look.node.t)), conditioning) for look in looks]
        for prediction in (model.outputs[0], *PREDICTIONS):
            for sign in (1.0, -1.0):
                fits = max(look.misfit(prediction, model.process, sign) for look in tried) <= MISFIT
                if fits and any(look.explains(prediction, model.process, sign) for look in tried):
                    return f"{words}they are {'minus ' if sign < 0 else ''}{prediction!r}"
    return None


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
    if (message := _judge(model, [row.node for row in ends], notes, moments)) is not None:
        warnings.warn(message, PredictionWarning, stacklevel=3)


def _data_moments(node: Node, seen: float, sampled: float) -> tuple[float, float]:
    """What E[x0^2] may be, from the second moments of x at a node and of the samples: these may be garbage, if the
    declaration is wrong or the steps are few.

    The samples' where x can be made of such data and noise, else what x leaves for the data, at most 1; and 1.
    """
    if sampled <= LARGEST and abs(node.alpha**2 * sampled + node.sigma**2 - seen) <= 0.5 * seen:
        return sampled, 1.0
    return 1.0 if node.alpha == 0 else min(max(seen - node.sigma**2, 0.0) / node.alpha**2, 1.0), 1.0


def _judge(
    model: Model, nodes: list[Node], notes: list[list[float]], moments: Sequence[tuple[float, ...]]
) -> str | None:
    """What to say if another prediction fits more than twice as well, by more than chance: at the first node alone, whose x is
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
    return (
        f"the network's outputs look like {best!r}, not like the {declared!r} that the model declares: on its input they "
        f"have slope {slopes[0]:.3g} at t = {float(nodes[0].t):.4g} and {slopes[-1]:.3g} at t = {float(nodes[-1].t):.4g}"
    )


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
