"""A plan cut at its model calls: where the loop is somebody else's, each piece is run when the network's output is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

from urn.executor import execute
from urn.model import Model
from urn.noise import Interval
from urn.plan import Combine, Evaluate, Law, Noise, Plan, PlanError, Row, Rows
from urn.prediction import fold

Generators = Generator | list[Generator] | None
Identity = tuple[Interval, int]


@dataclass(frozen=True)
class Segment(Rows):
    """The rows from one model call to the next, in which what the network returned is an input, and a prediction a weighted
    sum of it; its outputs are the registers that later segments read.

    Attributes:
        shown: the register that the call is shown.
        given: the name of the output that is shown next; "x", the sample, in the last segment.
    """

    shown: str
    given: str


def segments(plan: Plan, model: Model) -> tuple[Segment, ...]:
    """The plan's segments on a model, one per call.

    Raises:
        PlanError: the model cannot give what the plan wants, or is not the only one; or the first call is not shown the start
            as it is: whoever runs the loop shows the start before any row.
    """
    calls = [place for place, row in enumerate(plan.rows) if isinstance(row, Evaluate)]
    if not calls or plan.rows[calls[0]].reads != ("x",):
        raise PlanError(
            f"{plan.method}: its first model call is not at the start x (noise is added to x first, or x is changed); a pipeline "
            "shows the network its latents as they are: set churn to 0, or take another method"
        )
    if other := sorted({row.model for row in plan.rows if isinstance(row, Evaluate)} - {"main"}):
        raise PlanError(
            f"{plan.method}: it calls {', '.join(other)} beside the pipeline's network, which alone is 'main'"
        )
    before, first = plan.rows[: calls[0]], plan.rows[calls[0]]  # noise that is named early, but used later
    ordered, calls[0] = (first, *before, *plan.rows[calls[0] + 1 :]), 0
    last, end = plan.outputs[0][1], plan.outputs[0][2]
    cut: list[Segment] = []
    needed: set[str] = {last}
    for start, stop in reversed(list(zip(calls, [*calls[1:], len(ordered)], strict=True))):
        call = cast("Evaluate", ordered[start])
        folds = {out: fold(wanted, call, plan.process, model.outputs) for out, wanted in call.outs}
        sums = (Combine(out, terms, step=call.step) for out, terms in folds.items())
        rows = (*sums, *ordered[start + 1 : stop])
        handed = (("x", last, end),) if not cut else tuple((name, name, end) for name in sorted(needed))
        given = cut[-1].shown if cut else "x"
        defined = {name for row in rows for name in row.defines}
        needed = (needed | {name for row in rows for name in row.reads}) - defined
        inputs = tuple((name, Law(None)) for name in sorted(needed))
        needed = (needed - set(returned(model))) | set(call.reads)
        cut.append(Segment(inputs, rows, handed, call.reads[0], given))
    return tuple(reversed(cut))


def returned(model: Model) -> tuple[str, ...]:
    """The names that `fold` has for what the network returns."""
    return tuple(f"output {place}" for place in range(len(model.outputs)))


@dataclass(frozen=True)
class Run:
    """A plan on its way through a pipeline. A step makes the next Run and changes nothing, so that copies stay apart.

    Attributes:
        plan: what is run.
        model: says what the network returns; it is not called.
        position: model calls done.
        registers: the tensors that are still needed.
        drawn: the noise that a later row names again, by (interval, stream).
        kept: the noises that more than one row names.
    """

    plan: Plan
    model: Model
    segments: tuple[Segment, ...]
    position: int = 0
    registers: Mapping[str, Tensor] = field(default_factory=dict)
    drawn: Mapping[Identity, Tensor] = field(default_factory=dict)
    kept: frozenset[Identity] = frozenset()

    @staticmethod
    def of(plan: Plan, model: Model) -> Run:
        """A run that has not begun.

        Raises:
            PlanError: the model cannot give what the plan wants, or a pipeline cannot run it.
        """
        count = Counter((row.interval, row.stream or 0) for row in _noises(plan.rows))
        kept = frozenset(identity for identity, times in count.items() if times > 1)
        return Run(plan, model, segments(plan, model), kept=kept)

    @cached_property
    def shown(self) -> tuple[float, ...]:
        """The times at which the network is called, in the process's own t."""
        return tuple(row.t for row in self.plan.rows if isinstance(row, Evaluate))

    def begins(self, place: int) -> bool:
        """Whether a state alone, at the time shown, is enough to go on from call `place`."""
        here, calls = self.segments[place], [row for row in self.plan.rows if isinstance(row, Evaluate)]
        before = {
            (row.interval, row.stream or 0) for row in _noises(self.plan.rows[: self.plan.rows.index(calls[place])])
        }
        after = {(row.interval, row.stream or 0) for segment in self.segments[place:] for row in _noises(segment.rows)}
        alone = {name for name, _ in here.inputs} <= {here.shown, *returned(self.model)}
        return alone and calls[place].node.t == calls[place].t and before.isdisjoint(after)

    def step(self, outputs: tuple[Any, ...], sample: Tensor, generator: Generators) -> tuple[Run, Tensor]:
        """What comes after a model call that was shown `sample` and returned `outputs`: the Run, and what is shown next."""
        here = self.segments[self.position]
        if self.registers and (was := next(iter(self.registers.values())).shape) != sample.shape:
            raise ValueError(f"sample has shape {tuple(sample.shape)}, in the step before it had {tuple(was)}")
        if isinstance(generator, list) and len(generator) != len(sample):
            raise ValueError(f"generator: {len(generator)} are given for {len(sample)} samples; one each is needed")
        source = Drawing(generator, self.drawn, self.kept)
        registers = {"x": sample, **self.registers, here.shown: sample}
        registers.update(zip(returned(self.model), self.model.accepted(outputs, sample), strict=True))
        found = execute(here, {}, registers, source)
        after = Run(self.plan, self.model, self.segments, self.position + 1, found, source.drawn, self.kept)
        return after, found[here.given]


class Drawing:
    """Noise as diffusers draws it: from one generator, from one per sample, or, for None, from torch's own."""

    def __init__(self, generator: Generators, drawn: Mapping[Identity, Tensor], kept: frozenset[Identity]) -> None:
        self.generator, self.drawn, self.kept = generator, dict(drawn), kept

    def normal(self, interval: Interval, stream: int, like: Tensor) -> Tensor:
        """See `urn.noise.NoiseSource`."""
        found: Tensor | None = self.drawn.get((interval, stream))
        if found is None:
            found = randn_tensor(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)
            if (interval, stream) in self.kept:
                self.drawn[interval, stream] = found
        return found


def _noises(rows: tuple[Row, ...]) -> list[Noise]:
    return [row for row in rows if isinstance(row, Noise)]


def calls_per_step(plan: Plan) -> int:
    """Model calls per step, where step i begins with call i times this (the last two may have fewer); else 1."""
    shown = [row.t for row in plan.rows if isinstance(row, Evaluate)]
    calls: int = len(shown) - (plan.times[-1] == shown[-1])  # less that of final="x0"
    if plan.steps == 1:
        return calls
    for count in range(-(-calls // plan.steps), calls):
        begins = [shown[count * i] == t for i, t in enumerate(plan.times[:-1]) if count * i < calls]
        if len(begins) >= plan.steps - 1 and all(begins):
            return count
    return 1
