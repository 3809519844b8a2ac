"""The record of a search: how a plan was found, what it costs, how good it is on starts it has not seen, and beside what.

A tuned plan is a file with both: `{"format": "urn-tuned", "version": 1, "plan": {...}, "record": {...}}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from urn.plan import Plan, PlanError
from urn.tuning.search import Tried
from urn.tuning.task import Figure

FORMAT, VERSION = "urn-tuned", 1


@dataclass(frozen=True)
class Entry:
    """A plan with its figures on training starts and on starts held out."""

    label: str
    calls: int
    train: Figure
    held_out: Figure


@dataclass(frozen=True)
class Record:
    """How a plan was found.

    Attributes:
        tuner: its name; `options` those it was given.
        model, process: what it was tuned for, in words.
        objective: what was made small.
        calls: the budget, model calls a sample.
        seed: of the starts and of the search.
        starts, held_out: how many of each.
        evaluations: model calls times samples that the search took, the reference's included; `judging` those of the
            held-out figures.
        seconds: that the search took.
        tuned, untuned: the best plan found, and the best of those that the search was seeded with, by training starts.
        returned: "tuned", or "untuned" where that is better on the held-out starts.
        tried: (label, calls, value on training starts, pruned, evaluations until then) of every trial.
        command: what makes it again.
        versions: of Urn and torch.
        notes: what the tuner has to say beside its plans.
    """

    tuner: str
    options: dict[str, Any]
    model: str
    process: str
    objective: str
    calls: int
    seed: int
    starts: int
    held_out: int
    evaluations: int
    judging: int
    seconds: float
    tuned: Entry
    untuned: Entry
    returned: str
    tried: tuple[tuple[str, int, float, bool, int], ...]
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """How many times smaller the returned plan's held-out figure is than the best untuned plan's; nan where one of them is
        negative, as of a reward."""
        if self.returned == "untuned":
            return 1.0
        best, plain = self.tuned.held_out.estimate, self.untuned.held_out.estimate
        if min(best, plain) < 0:
            return math.nan
        return plain / best if best else math.inf

    def __str__(self) -> str:
        from urn.tuning.text import table

        return table(self)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; infinite figures as their text."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @staticmethod
    def from_json(data: dict[str, Any]) -> Record:
        """The record that `to_json` wrote."""
        values = _restored(data)
        entries = {
            name: Entry(
                values[name]["label"],
                values[name]["calls"],
                Figure(*values[name]["train"]),
                Figure(*values[name]["held_out"]),
            )
            for name in ("tuned", "untuned")
        }
        tried = tuple((one[0], one[1], one[2], one[3], one[4]) for one in values["tried"])
        return Record(**{**values, **entries, "tried": tried})


class Tuned(NamedTuple):
    """A plan, and how it was found."""

    plan: Plan
    record: Record

    def save(self, path: str | Path) -> Path:
        """Write both to a JSON file, which `urn.tuning.load` reads."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "plan": json.loads(self.plan.to_json()),
            "record": self.record.to_json(),
        }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        return path


def load(path: str | Path) -> Tuned:
    """The tuned plan of a file that `Tuned.save` wrote.

    Raises:
        PlanError: the file is not one, is of a later version, or was damaged.
        FileNotFoundError: there is no such file.
    """
    return read(Path(path).read_text(), str(path))


def read(text: str, where: str) -> Tuned:
    """The tuned plan of a file's text."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(f"{where}: not JSON, so not a tuned plan: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise PlanError(f"{where}: not a tuned plan: 'format' is {found!r}, not {FORMAT!r}")
    if content.get("version") != VERSION:
        raise PlanError(f"{where}: a tuned plan of version {content.get('version')!r}; this Urn reads {VERSION}")
    try:
        record = Record.from_json(content["record"])
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"{where}: its record cannot be read: {type(error).__name__}: {error}") from None
    return Tuned(Plan.from_json(json.dumps(content["plan"])), record)


def tried_rows(tried: Sequence[Tried]) -> tuple[tuple[str, int, float, bool, int], ...]:
    """Trials as a record keeps them."""
    return tuple((one.label, one.plan.nfe, one.value, one.pruned, one.evaluations) for one in tried)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:  # infinite or nan
        return {"float": repr(value)}
    return value if value is None or isinstance(value, (str, bool, int, float)) else repr(value)


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        return float(value["float"]) if set(value) == {"float"} else {k: _restored(v) for k, v in value.items()}
    return [_restored(item) for item in value] if isinstance(value, list) else value
