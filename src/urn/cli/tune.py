"""urn tune: find the best plan for a model and a number of model calls; and what is done with tuned plans."""

from __future__ import annotations

import inspect
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from urn.model import Model

from .models import MODELS, class_count, open_model
from .plans import OptionsOption
from .screen import console, say, show_plan
from .specs import PROCESSES, read_options, read_process

SHOWN = 12  # lines of what was tried
LADDER = (0.5, 0.75, 1.5, 2.0)  # budgets beside the one asked for, at which the picture shows untuned plans
PLAN_LINES = 40


class ObjectiveName(str, Enum):
    reference = "reference"
    energy = "energy"
    frechet = "frechet"
    mmd = "mmd"


class DType(str, Enum):
    float64 = "float64"
    float32 = "float32"


def tune_command(
    model: Annotated[str, typer.Argument(help=f"{', '.join(MODELS)}, or a folder with a saved model or pipeline.")],
    steps: Annotated[str, typer.Option(help="Budgets: model calls a sample, separated by commas.")] = "8",
    tuner: Annotated[str, typer.Option(help="A tuner (`urn tuners`).")] = "auto",
    objective: Annotated[
        ObjectiveName, typer.Option(help="Distance to a fine reference trajectory, or to training digits.")
    ] = ObjectiveName.reference,
    process: Annotated[
        str | None, typer.Option(help=f"Of an exact model: {', '.join(PROCESSES)}, with options as in flow:shift=3.")
    ] = None,
    starts: Annotated[int, typer.Option(help="Training starts.", min=8)] = 1024,
    held_out: Annotated[int, typer.Option(help="Starts to judge by, never trained on.", min=8)] = 1024,
    seed: Annotated[int, typer.Option(help="Of all starts and of the search.", min=0)] = 0,
    trials: Annotated[int | None, typer.Option(help="Limit: plans tried.", min=1)] = None,
    evaluations: Annotated[int | None, typer.Option(help="Limit: model calls times samples.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="Limit: time of a search.", min=0.0)] = 90.0,
    storage: Annotated[
        str, typer.Option(help="A SQLite file, or a database's address: where trials are kept; `none` for nowhere.")
    ] = "runs/tune.db",
    study: Annotated[str | None, typer.Option(help="Name of the search in the storage.")] = None,
    option: OptionsOption = None,
    dtype: Annotated[DType, typer.Option(metavar="DTYPE", help="Of the states: float32 or float64.")] = DType.float32,
    out: Annotated[Path, typer.Option(help="Folder for the tuned plans and the plot.")] = Path("out"),
) -> None:
    """Find the best plan for a model at a number of model calls, by measurement.

    Untuned plans are measured first; the tuner starts from the best. What is
    returned is judged on starts that nothing was chosen by. A search that was
    killed goes on when the same command is given again.
    """
    import urn
    from urn.tuning import ToReference, TuningError, TuningInterrupted, plot

    budgets = _budgets(steps)
    on = None if process is None else read_process(process)
    opened = open_model(model, on)
    classes = class_count(model, opened)
    labels = {"label": torch.arange(starts + held_out) % classes} if classes else None
    data = None if objective is ObjectiveName.reference else _data(model, opened)
    goal = ToReference(kept={}) if data is None else objective.value  # the reference is run once for all budgets
    found = []
    for calls in budgets:
        with _terminated():
            try:
                one = urn.tune(
                    opened,
                    calls,
                    tuner=tuner,
                    objective=goal,
                    data=data,
                    starts=starts,
                    held_out=held_out,
                    seed=seed,
                    conditioning=labels,
                    trials=trials,
                    evaluations=evaluations,
                    seconds=seconds,
                    storage=None if storage == "none" else storage,
                    study=_study(study, calls, budgets)
                    or f"{model} {on or opened.process} {tuner} {objective.value} {calls} calls seed {seed}",
                    dtype=getattr(torch, dtype.value),
                    progress=sys.stderr.isatty(),
                    **read_options(option or ()),
                )
            except TuningInterrupted as stopped:
                _say_interrupted(stopped, calls, out, storage)
                raise typer.Exit(130) from None
            except TuningError as error:
                if error.plan is not None:
                    say(f"the best plan so far: {_save_stopped(error, calls, out)}", stderr=True)
                raise
        one = one._replace(record=replace(one.record, model=model, command=_command()))
        found.append(one)
        show_plan(one.plan, PLAN_LINES)
        say()
        console().print(_table(one.record))
        say(str(one.record))
        path = one.save(out / f"{_name(model, process or str(opened.process))}-{calls}.json")
        say(f"\nwritten: {path}; draw by it: urn sample {shlex.quote(model)} --plan {path}, or in Python", "dim")
        say(f'    x = urn.sample(model, urn.tuning.load("{path}").plan, shape=(64, *model.shape), seed=1)\n')
    records = [one.record for one in found]
    picture = plot.draw(records, list(_ladder(opened, records, goal, labels, dtype)), out / "tune.png")
    say(f"plot: {picture}")


def tuners_command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A tuner's name.")] = None,
) -> None:
    """List the tuners; of one, its documentation, options and defaults."""
    from urn.tuning import find_tuner, tuners

    if name is None:
        table = Table("name", "needs", "what it does, and its source", box=None)
        for one in tuners().values():
            needs = ", ".join(
                word for word, needed in (("gradients", one.gradients), ("reference", one.paired)) if needed
            )
            table.add_row(one.name, needs, f"{one.summary}\n[dim]{one.source}[/dim]")
        console().print(table)
        return
    one = find_tuner(name)
    say(one.name, "bold")
    options = ", ".join(f"{option}={default}" for option, default in one.defaults.items())
    for what, text in (("options", options or "none"), ("source", one.source)):
        if text:
            say(f"{what:<12} {text}")
    for doc in (inspect.getdoc(one.function), inspect.getdoc(inspect.getmodule(one.function))):
        if doc:
            say(f"\n{doc}")


def tuned_command(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Tuned plans; without any, those that Urn ships.")
    ] = None,
) -> None:
    """List tuned plans beside each other: what they were tuned for, and what they gained."""
    from urn.tuning import load, shipped

    every = {path.stem: load(path) for path in files} if files else shipped()
    table = Table(
        "plan", "tuned for", "calls", "held out: tuned", "best untuned", "gain", "tuner, evaluations, seconds"
    )
    for name, one in every.items():
        r = one.record
        how = f"{r.tuner}, {r.evaluations:,}, {r.seconds:.0f}"
        best = r.tuned if r.returned == "tuned" else r.untuned
        gain, what = f"{r.gain:.2f}", f"{r.model} {r.process}, {r.objective}"
        table.add_row(
            name, what, str(r.calls), f"{best.held_out.estimate:.4g}", f"{r.untuned.held_out.estimate:.4g}", gain, how
        )
    console().print(table)
    if len(every) == 1:
        one = next(iter(every.values()))
        say(f"\n{one.record}\nmade by: {one.record.command}\n")
        show_plan(one.plan, PLAN_LINES)


def _budgets(text: str) -> list[int]:
    try:
        budgets = [int(part) for part in text.split(",")]
    except ValueError:
        budgets = []
    if not budgets or min(budgets) < 2:
        raise ValueError(f"--steps {text!r} must be integers of at least 2, separated by commas")
    return budgets


def _data(name: str, model: Model) -> Any:
    """Training digits, for the distances to data."""
    if model.shape != (1, 8, 8) or not name.startswith("digits"):
        raise ValueError(f"--objective: the data here are digits, for model digits or digits-exact, not {name}")
    from urn.nets import digits

    return digits("train")[0]


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that what was found is kept."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _study(name: str | None, calls: int, budgets: list[int]) -> str | None:
    """A study is of one budget."""
    return name if name is None or len(budgets) == 1 else f"{name}, {calls} calls"


def _save_stopped(stopped: Any, calls: int, out: Path) -> Path:
    """The plan of a search that ended early, with its record where it was judged."""
    from urn.tuning import Tuned

    path = out / f"interrupted-{calls}.json"
    if stopped.record is not None:
        return Tuned(stopped.plan, stopped.record).save(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(stopped.plan.to_json() + "\n")
    return path


def _say_interrupted(stopped: Any, calls: int, out: Path, storage: str) -> None:
    say("interrupted", "yellow", stderr=True)
    if stopped.plan is not None:
        said = stopped.record or "not judged on held-out starts"
        say(f"{said}\nthe best plan so far: {_save_stopped(stopped, calls, out)}", stderr=True)
    if storage != "none":
        say("the same command goes on from here", stderr=True)


def _table(record: Any) -> Table:
    """The best of what was tried."""
    from urn.tuning.text import best_tried

    table = Table(
        "plan", "calls", f"{record.objective}, {record.starts} training starts", title="the best that was tried"
    )
    for label, calls, value in best_tried(record, SHOWN):
        table.add_row(label, str(calls), f"{value:.4g}")
    return table


def _ladder(model: Model, records: Any, goal: Any, conditioning: Any, dtype: DType) -> Iterator[tuple[str, int, float]]:
    """The best untuned plan's kind at other budgets, on the training starts, for the picture."""
    from urn.tuning import ToReference, plan_within
    from urn.tuning.front import starts_of
    from urn.tuning.task import Task

    first = records[0]
    if not isinstance(goal, ToReference) or first.untuned.label.count(", ") != 1:
        return
    method, grid = first.untuned.label.split(", ")
    train, judging = starts_of(model, first, conditioning or {}, getattr(torch, dtype.value))
    task = Task(model, first.calls, goal, train, judging)
    for budget in sorted({max(2, round(first.calls * share)) for share in LADDER}):
        try:
            plan = plan_within(model.process, method, budget, grid)
        except ValueError:
            continue
        yield first.untuned.label, plan.nfe, task.value(plan)


def _name(model: str, process: str) -> str:
    """A file's name for a model."""
    words = Path(model).name if Path(model).is_dir() else f"{model}-{process}"
    return re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-").lower()


def _command() -> str:
    return shlex.join(["urn", *sys.argv[1:]])


__all__ = ["tune_command", "tuned_command", "tuners_command"]
