"""A run of `urn sample`, and the folder it is kept in: every batch is on disk as soon as it is drawn.

While a run is under way its folder holds `samples.partial/`: `run.json`, the record of all that decides the samples, and one
file for each finished batch. In the end `samples.safetensors` takes its place, with the record in its metadata. A folder
holds one run: the same command goes on with it, another is refused unless it may overwrite.

A run that was interrupted goes on with the batches that it would have had, so it ends in the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from urn.model import Model
from urn.plan import Plan
from urn.sampling import sample

SAMPLES, SHEET, PLAN, PARTIAL, RECORD = "samples.safetensors", "samples.png", "plan.json", "samples.partial", "run.json"
FAILED = "samples.failed.safetensors"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What is drawn, by a model, or by a pipeline from its prompt (its `draw`, of the seeds of a batch). `record` holds all that
    decides it, as JSON values: runs of equal records draw the same."""

    model: Model | Callable[[Sequence[int]], Tensor]
    plan: Plan
    seeds: tuple[int, ...]
    labels: Tensor | None
    batch_size: int
    dtype: torch.dtype
    noise: str
    record: Record

    def parts(self) -> list[slice]:
        """The batches, as slices of the samples."""
        count, size = len(self.seeds), self.batch_size
        return [slice(first, min(first + size, count)) for first in range(0, count, size)]

    def draw(self, part: slice, told: Callable[[], None]) -> Tensor:
        """The samples of one batch; `told` is called after each model call."""
        if not isinstance(self.model, Model):
            return self.model(self.seeds[part]).to(self.dtype)
        conditioning = {} if self.labels is None else {"label": self.labels[part]}
        with torch.no_grad():
            x: Tensor = sample(
                self.model.telling(told),
                self.plan,
                seeds=self.seeds[part],
                conditioning=conditioning,
                dtype=self.dtype,
                noise=self.noise,
            )
        return x


class Folder:
    """The folder of a run.

    Raises:
        ValueError: it holds another run, and `overwrite` is False; the message says what differs.
    """

    def __init__(self, path: Path, run: Run, overwrite: bool) -> None:
        self.path, self.run = path, run
        held = None if overwrite else _held_record(path)
        if held is not None and held != run.record:
            raise ValueError(
                f"{path} holds another run ({_differences(held, run.record)}): choose another --out, or --overwrite it"
            )
        if held is None:
            if not overwrite and (path / PLAN).exists() and (path / PLAN).read_text().strip() != run.plan.to_json():
                raise ValueError(
                    f"{path / PLAN} is there already, and is another plan: choose another --out, or --overwrite"
                )
            self._start()

    def kept(self) -> dict[int, Tensor]:
        """The batches that are on disk already, by their place in the run."""
        parts = self.run.parts()
        if (self.path / SAMPLES).exists():
            x = load_file(self.path / SAMPLES)["x"]
            return {i: x[part] for i, part in enumerate(parts)}
        found = {i: _read_batch(self._batch(i), part) for i, part in enumerate(parts)}
        return {i: x for i, x in found.items() if x is not None}

    def keep(self, place: int, x: Tensor) -> None:
        """Write a finished batch."""
        _write_tensors(self._batch(place), {"x": x})

    def finish(self, x: Tensor) -> None:
        """Write plan and samples; the batches are dropped only once all is on disk."""
        _write_text(self.path / PLAN, self.run.plan.to_json() + "\n")
        _write_tensors(self.path / SAMPLES, self._described(slice(0, len(x)), x), {"urn": json.dumps(self.run.record)})
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)
        (self.path / FAILED).unlink(missing_ok=True)

    def keep_failed(self, part: slice, x: Tensor, finite: Tensor) -> Path:
        """Write a batch in which something is not finite, beside the run, which does not count it as drawn."""
        drawn = slice(part.start, part.start + len(x))
        _write_tensors(self.path / FAILED, {**self._described(drawn, x), "finite": finite})
        return self.path / FAILED

    def _described(self, part: slice, x: Tensor) -> dict[str, Tensor]:
        tensors = {"x": x, "seeds": torch.tensor(self.run.seeds[part], dtype=torch.uint64)}
        return tensors if self.run.labels is None else {**tensors, "labels": self.run.labels[part]}

    def _batch(self, place: int) -> Path:
        return self.path / PARTIAL / f"batch-{place:06}.safetensors"

    def _start(self) -> None:
        """An empty folder for this run: nothing of an earlier one may be taken for it."""
        for name in (SAMPLES, SHEET, FAILED):  # not the plan, which may be what `--plan` names; `finish` replaces it
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / PARTIAL, ignore_errors=True)
        (self.path / PARTIAL).mkdir(parents=True)
        _write_text(self.path / PARTIAL / RECORD, json.dumps(self.run.record, indent=1))


def fingerprint(model: Model) -> str | None:
    """A hash of a network's weights, None where it has none."""
    state = getattr(model.net, "state_dict", None)
    return None if state is None else digest_of(state())


def digest_of(state: Mapping[str, Tensor]) -> str:
    """A hash of named tensors."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _held_record(path: Path) -> Record | None:
    """The record of the run that a folder holds, None where it holds none."""
    if (path / SAMPLES).exists():
        try:
            with safe_open(path / SAMPLES, "pt") as file:
                text = (file.metadata() or {}).get("urn", "{}")
        except SafetensorError as error:
            raise ValueError(
                f"{path / SAMPLES} is damaged ({error}): choose another --out, or --overwrite it"
            ) from None
    elif (path / PARTIAL / RECORD).exists():
        text = (path / PARTIAL / RECORD).read_text()
    else:
        return None
    record: Record = json.loads(text)
    return record


def _differences(held: Record, wanted: Record) -> str:
    names = [name for name in {**wanted, **held} if held.get(name) != wanted.get(name)]
    return "; ".join(f"{name} was {held.get(name)!r}, is {wanted.get(name)!r}" for name in names)


def _read_batch(path: Path, part: slice) -> Tensor | None:
    """A finished batch, None where it is missing or of no use: it is drawn again, with the same result."""
    try:
        x = load_file(path)["x"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
    return x if len(x) == part.stop - part.start else None


def _write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """In one move, so that a file is there whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
