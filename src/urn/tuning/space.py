"""The free choices of a plan: which there are, as parameters of an Optuna study, as a vector for a predictor, and how
candidates are drawn, changed and crossed. Every black-box tuner searches such a space.

The times of n steps are n numbers, the logarithms of the steps' shares of the angle atan(sigma/alpha) (`urn.tuning.times`);
their ends are fixed. So any numbers are a grid in order. For a network of integer times the grid is rounded, and times that
fall together are moved apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from urn.grids.spaced import is_table
from urn.prediction import as_tensor
from urn.processes import Process
from urn.schemes.multistep import DIFFERENCES, INTEGRATED
from urn.tuning.candidates import CHOICES, HOMOGENEOUS, Candidate, untuned_candidates
from urn.tuning.times import angle, gaps_of, times_of

if TYPE_CHECKING:
    import optuna

    from urn.tuning.search import Search

Random = np.random.Generator
SMALLEST = -10.0  # of the logarithm of a step's share of the angle
CHANGED = 2.0  # choices that a mutation draws again
WIDTHS = (0.02, 0.5)  # between which lies the std of a mutation of these logarithms


@dataclass(frozen=True)
class Space:
    """Which choices of a candidate are free, and what each may be.

    Attributes:
        process: the forward process.
        base: the candidate around which it lies; what is not free is as there, its ends among it.
        times: whether the inner times are free.
        orders, predictions, differences, correctors, origins, models: what a step may choose from; () for not free.
        etas: the largest noise of a step, 0 for not free.
        labels: the largest share by which a shown time is moved, at most 0.5; 0 for not free.
        integer: whether times are integers.

    Raises:
        ValueError: a choice that `urn.methods.usf` does not have, or fewer integer times than steps.

    Example:
        >>> space = Space(urn.VP.linear(), Candidate((1.0, 0.3, 0.0), orders=(1, 2)))
        >>> space.candidate(space.parameters(space.base)) == space.base
        True
    """

    process: Process
    base: Candidate
    times: bool = True
    orders: tuple[int, ...] = (1, 2, 3)
    predictions: tuple[str, ...] = INTEGRATED
    differences: tuple[str, ...] = DIFFERENCES
    correctors: tuple[bool, ...] = (False, True)
    origins: tuple[int, ...] = (0, 1)
    etas: float = 0.0
    labels: float = 0.0
    models: tuple[str, ...] = ()
    integer: bool = False

    def __post_init__(self) -> None:
        allowed = {"predictions": INTEGRATED, "differences": DIFFERENCES, "correctors": (False, True)}
        for name, names in allowed.items():
            if bad := [one for one in getattr(self, name) if one not in names]:
                raise ValueError(
                    f"{name}={getattr(self, name)!r}: {bad[0]!r} must be one of {', '.join(map(str, names))}"
                )
        for name, least in (("orders", 1), ("origins", 0)):
            if any(isinstance(one, bool) or not isinstance(one, int) or one < least for one in getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r} must be integers of at least {least}")
        if not 0 <= self.labels <= 0.5:
            raise ValueError(f"labels={self.labels!r} must be between 0 and 0.5")
        if not (self.etas >= 0 and math.isfinite(self.etas)):
            raise ValueError(f"etas={self.etas!r} must be a finite number of at least 0")
        if self.etas > 0 and set(self.origins) - {0}:
            raise ValueError(f"origins={self.origins!r} must be (0,) where steps may draw noise (etas={self.etas!r})")
        if self.integer and self.base.times[0] + 1 < self.base.steps:
            raise ValueError(f"steps={self.base.steps} is more than the integer times of {self.process}")
        if self.integer and self.labels:
            raise ValueError(f"labels={self.labels!r} must be 0 for a network that takes integer times only")

    @property
    def steps(self) -> int:
        """Intervals of every candidate's grid."""
        return self.base.steps

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """The free choices as Optuna's distributions, by the parameters' names."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        found: dict[str, optuna.distributions.BaseDistribution] = {}
        if self.times:
            found |= {f"gap_{i}": FloatDistribution(SMALLEST, 0.0) for i in range(self.steps)}
        for name, i in self._places():
            choices = self._of(name)
            if isinstance(choices, tuple):
                found[f"{name}_{i}"] = CategoricalDistribution(choices)
            else:
                found[f"{name}_{i}"] = FloatDistribution(-choices if name == "labels" else 0.0, choices)
        return found

    def parameters(self, candidate: Candidate) -> dict[str, Any]:
        """A candidate as parameters.

        Raises:
            ValueError: it lies outside.
        """
        if reason := self.refusal(candidate):
            raise ValueError(f"candidate: {reason}")
        found: dict[str, Any] = {}
        if self.times:
            gaps = gaps_of(self.process, torch.tensor(candidate.times, dtype=torch.float64))
            found |= {f"gap_{i}": max(min(float(gap), 0.0), SMALLEST) for i, gap in enumerate(gaps)}
        return found | {f"{name}_{i}": getattr(candidate, name)[i] for name, i in self._places()}

    def candidate(self, parameters: Mapping[str, Any]) -> Candidate:
        """The candidate of parameters."""
        times = self.base.times
        if self.times:
            times = self._grid(np.array([parameters[f"gap_{i}"] for i in range(self.steps)]))
        made: dict[str, list[Any]] = {name: list(values) for name, values in self.base.choices().items()}
        for name, i in self._places():
            made[name][i] = parameters[f"{name}_{i}"]
        return self._made(times, made)

    def refusal(self, candidate: Candidate) -> str:
        """Why a candidate lies outside; "" where it does not."""
        if candidate.steps != self.steps:
            return f"it has {candidate.steps} steps, not {self.steps}"
        if (candidate.times[0], candidate.times[-1]) != (self.base.times[0], self.base.times[-1]):
            ends = candidate.times[0], candidate.times[-1]
            return f"it runs between {ends}, not {self.base.times[0], self.base.times[-1]}"
        if not self.times and candidate.times != self.base.times:
            return "it has other times, which are not free"
        if self.integer and any(t != round(t) for t in candidate.times):
            return "it has times that are no integers"
        free = set(self._places())
        for name in CHOICES:
            choices = self._of(name)
            for i, (value, fixed) in enumerate(zip(getattr(candidate, name), getattr(self.base, name), strict=True)):
                if (name, i) not in free:
                    if value != fixed:
                        return f"{name}[{i}]={value!r} is not free; it is {fixed!r}"
                elif value not in choices if isinstance(choices, tuple) else abs(value) > choices:
                    return f"{name}[{i}]={value!r} must be one of {choices!r}"
        return ""

    def vector(self, candidate: Candidate) -> np.ndarray[Any, Any]:
        """A candidate as numbers for a predictor: the inner angles, and every free choice, one number per alternative."""
        angles = angle(self.process, torch.tensor(candidate.times, dtype=torch.float64))
        parts = [angles[1:-1].numpy(), -np.log(np.maximum(-angles.diff().numpy(), 1e-12))]
        for name, i in self._places():
            choices, value = self._of(name), getattr(candidate, name)[i]
            if isinstance(choices, tuple) and name != "orders":
                parts.append(np.array([float(value == one) for one in choices]))
            else:
                parts.append(np.array([float(value)]))
        return np.concatenate(parts)

    def random(self, rng: Random) -> Candidate:
        """A candidate with its steps' shares of the angle from a flat Dirichlet, and every choice as likely as any other."""
        gaps = np.log(np.maximum(rng.dirichlet(np.ones(self.steps)), math.exp(SMALLEST)))
        drawn: dict[str, Any] = {f"gap_{i}": gap for i, gap in enumerate(gaps)} if self.times else {}
        return self.candidate(drawn | {f"{name}_{i}": self._draw(name, rng) for name, i in self._places()})

    def mutate(self, candidate: Candidate, rng: Random, rate: float = 0.0) -> Candidate:
        """A candidate with a few choices drawn again, and some steps' shares changed by a normal of a random size.

        Args:
            rate: how likely each choice is to be drawn again; by default CHANGED of them in the mean, in one child of two none.
        """
        changed = self.parameters(candidate)
        places = self._places()
        likely = rate or (CHANGED / len(places) if places and not (self.times and rng.random() < 0.5) else 0.0)
        if self.times:
            width = math.exp(rng.uniform(*np.log(WIDTHS)))
            moved = rng.random(self.steps) < rng.uniform(1 / self.steps, 1)
            for place in np.flatnonzero(moved):
                changed[f"gap_{place}"] += width * rng.normal()
        for name, i in places:
            if rng.random() < likely:
                changed[f"{name}_{i}"] = self._draw(name, rng, near=changed[f"{name}_{i}"])
        return self._within(changed)

    def cross(self, one: Candidate, other: Candidate, rng: Random) -> Candidate:
        """A child: each step's choices from either parent, its times at a random point between theirs."""
        first, second = self.parameters(one), self.parameters(other)
        share = rng.uniform()
        mother = rng.random(self.steps) < rng.uniform(0.2, 0.8)
        child = {}
        for name, value in first.items():
            what, _, place = name.rpartition("_")
            child[name] = (1 - share) * value + share * second[name] if what == "gap" else value
            if what != "gap" and mother[int(place)]:
                child[name] = second[name]
        return self._within(child)

    def _within(self, parameters: Mapping[str, Any]) -> Candidate:
        return self.candidate({n: max(v, SMALLEST) if n.startswith("gap_") else v for n, v in parameters.items()})

    def _of(self, name: str) -> Any:
        """What a choice may be: a tuple of values, or the largest of a range."""
        return getattr(self, name)

    def _places(self) -> list[tuple[str, int]]:
        """(choice, step) of all that are free: where there is something to choose from."""
        last = self.steps - 1
        found = []
        for name in CHOICES:
            choices = self._of(name)
            many = len(choices) > 1 if isinstance(choices, tuple) else choices > 0
            first = (
                1 if name in ("orders", "origins") else 0
            )  # the first step has one prediction, and no node before it
            until = last if name in ("correctors", "etas") else last + 1  # the last step is not corrected
            found += [(name, i) for i in range(first, until) if many]
        return found

    def _draw(self, name: str, rng: Random, near: float | None = None) -> Any:
        choices = self._of(name)
        if isinstance(choices, tuple):
            return choices[int(rng.integers(len(choices)))]
        low = -choices if name == "labels" else 0.0
        if near is None:
            return float(rng.uniform(low, choices)) if rng.random() < 0.5 else 0.0
        return 0.0 if rng.random() < 0.2 else float(np.clip(near + 0.2 * choices * rng.normal(), low, choices))

    def _grid(self, gaps: np.ndarray[Any, Any]) -> tuple[float, ...]:
        """The times of gaps, with the ends as they are."""
        start, end = self.base.times[0], self.base.times[-1]
        times = times_of(self.process, torch.from_numpy(gaps), start, end).tolist()
        return self.settled(times)

    def settled(self, given: Sequence[float]) -> tuple[float, ...]:
        """Times as the network takes them: integers where it needs them; apart, and on a table not below its last, 0."""
        times = list(given)
        if not (self.integer or is_table(self.process)):
            return tuple(times)
        apart = 1.0 if self.integer else 1e-3
        if self.integer:
            times = [float(round(t)) for t in times]
        inner = range(1, self.steps)
        for i in inner:
            times[i] = min(times[i], times[i - 1] - apart)
        for j in reversed(inner):
            times[j] = max(times[j], (self.steps - 1 - j) * apart, times[j + 1] + apart)
        return (self.base.times[0], *times[1:-1], self.base.times[-1])

    def _made(self, times: tuple[float, ...], made: dict[str, list[Any]]) -> Candidate:
        """What has no effect in its plainest form, so that equal plans are equal candidates."""
        for i in range(self.steps):
            made["orders"][i] = min(made["orders"][i], i + 1)
            made["origins"][i] = min(made["origins"][i], i)
            if made["etas"][i] > 0:
                made["origins"][i] = 0
        return replace(self.base, times=times, **{name: tuple(values) for name, values in made.items()})


def space_of(
    search: Search, calls: int | None = None, methods: Sequence[str] = tuple(HOMOGENEOUS), **free: Any
) -> Space:
    """The space of a search's task, around the best untuned plan that is a candidate and runs between the usual ends.

    Args:
        calls: steps, where they are not the budget's.
        methods: of the untuned plans that it may lie around.
        free: what is free, as `Space` takes it.

    Raises:
        ValueError: a choice that is not allowed, or no plan of so many calls.
    """
    task = search.task
    process, whole = task.model.process, task.model.integer_times
    values = {one.label: one.value for one in search.tried if one.untuned}
    found = untuned_candidates(process, calls or task.calls, methods, whole=whole)
    start = float(as_tensor(process.t_start))
    every = [(values.get(label, math.inf), place, one) for place, (label, one) in enumerate(found)]
    if free.get("etas"):
        free = {"origins": (0,), **free}
    inside = [one for one in every if one[2].steps == (calls or task.calls) and one[2].times[0] == start]
    for name, choices in free.items():
        if isinstance(choices, tuple) and choices:
            inside = [one for one in inside if set(getattr(one[2], name)) <= set(choices)]
    if not inside:
        raise ValueError(f"steps={calls or task.calls}: no untuned plan of so many calls on {process} is in the space")
    return Space(process, min(inside)[2], integer=whole, **free)
