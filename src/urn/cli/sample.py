"""urn sample: draw, keep what is drawn, and show it."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

import urn
from urn.binding import bind
from urn.guidance import classifier_free_guidance
from urn.model import Model
from urn.noise import sample_seeds
from urn.plan import Plan
from urn.sampling import SamplingError

from .models import MODELS, class_count, open_model, saved_pipeline
from .plans import FinalOption, GridOption, OptionsOption, StepsOption, load_plan
from .runs import PARTIAL, PLAN, SAMPLES, SHEET, Folder, Run, digest_of, fingerprint
from .screen import console, say, show_plan
from .specs import read_classes, read_grid, read_method, read_plan, read_steps

DEFAULT_METHOD = "adams_pc_3"
TABLE_LINES = 32  # of a plan that are printed before sampling
SHEET_ROWS = 20
TWICE = ", two of the network's each"  # with guidance


class DType(str, Enum):
    float64 = "float64"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class NoiseKind(str, Enum):
    seeded = "seeded"
    brownian = "brownian"
    fast = "fast"


def sample(
    model: Annotated[
        str, typer.Argument(help=f"{', '.join(MODELS)}, or a folder with a saved model or diffusers pipeline.")
    ],
    method: Annotated[str | None, typer.Option(help=f"A method (`urn methods`); {DEFAULT_METHOD} by default.")] = None,
    steps: StepsOption = None,
    grid: GridOption = None,
    final: FinalOption = None,
    option: OptionsOption = None,
    plan: Annotated[
        Path | None, typer.Option(help="A plan's JSON, instead of method, steps, grid and options.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many samples.", min=1)] = 100,
    classes: Annotated[
        str | None, typer.Option("--class", help="all, none, one class, or some as in 0,3,7, in turn. By default all.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Of a diffusers pipeline that takes one.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of classifier-free guidance; 1 is none.")] = None,
    seed: Annotated[int, typer.Option(help="Sample i depends on this and i alone.", min=0)] = 0,
    noise: Annotated[NoiseKind, typer.Option(help="Where the noise comes from.")] = NoiseKind.seeded,
    batch_size: Annotated[int, typer.Option(help="Samples at a time; each finished batch is kept.", min=1)] = 100,
    dtype: Annotated[
        DType, typer.Option(metavar="DTYPE", help=f"Of the samples: {', '.join(d.value for d in DType)}.")
    ] = DType.float32,
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("out"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Drop what the folder holds and draw anew.")] = False,
) -> None:
    """Draw samples into a folder: a contact sheet, the samples, and their plan.

    Every finished batch is kept: after an interruption the same command draws
    the rest, and the samples are the same bit for bit as without one. A folder
    that holds another run is refused, unless with --overwrite.
    """
    saved = saved_pipeline(model)
    if prompt is not None and saved is None:
        raise ValueError(f"--prompt {prompt!r}: {model} is no folder with a diffusers pipeline, which alone takes one")
    opened = None if prompt is not None else open_model(model)
    if plan is None:
        name, given = method or DEFAULT_METHOD, read_grid(grid)
        if opened is not None and saved is None:
            chosen = read_plan(name, opened.process, steps, given, final, option or ())
        else:
            chosen = saved.plan(read_method(name, option or ()), read_steps(steps, given), given, final)
    else:
        _refuse_beside_plan(method=method, steps=steps, grid=grid, final=final, option=option)
        chosen = load_plan(plan)
    asked = {"guidance": guidance, "count": count, "seed": seed, "noise": noise.value}
    record = {"urn": urn.__version__, "model": model, "plan": _plan_name(chosen), **asked}
    record |= {"batch_size": batch_size, "dtype": dtype.value}
    if opened is None:
        run = _prompted(saved.prompted(chosen), chosen, {**record, "class": [], "prompt": prompt}, classes)
    else:
        available = class_count(model, opened)
        which = read_classes(classes or ("all" if available else "none"), available)
        run = _run(opened, chosen, {**record, "class": list(which), "weights": fingerprint(opened)})
    folder = Folder(out, run, overwrite)
    show_plan(chosen, TABLE_LINES)
    x = _draw(run, folder)
    folder.finish(x)
    _say_files(out, x, run, _sheet(x, run, out / SHEET))


def _run(model: Model, plan: Plan, record: Mapping[str, Any]) -> Run:
    """The run of a record, refused here where the plan is not for the model: nothing is written before."""
    classes, count, guidance = record["class"], record["count"], record["guidance"]
    labels = torch.tensor(classes)[torch.arange(count) % len(classes)] if classes else None
    if guidance is not None:
        if labels is None:
            raise ValueError(f"guidance={guidance} needs a class to guide to: choose one with --class")
        model = classifier_free_guidance(model, guidance, {"label": None})
    bind(plan, {"main": model})
    seeds, dtype = sample_seeds(record["seed"], count), getattr(torch, record["dtype"])
    return Run(model, plan, seeds, labels, record["batch_size"], dtype, record["noise"], record)


def _prompted(pipeline: Any, plan: Plan, record: Mapping[str, Any], classes: str | None) -> Run:
    """The run of a pipeline from a prompt, which has its own noise."""
    if classes is not None:
        raise ValueError(f"--class {classes} beside --prompt: a pipeline takes the one or the other")
    if record["noise"] != NoiseKind.seeded.value:
        raise ValueError(f"--noise {record['noise']}: a pipeline draws its own noise, from a generator per seed")
    seeds, dtype = sample_seeds(record["seed"], record["count"]), getattr(torch, record["dtype"])
    record = {**record, "weights": digest_of(pipeline.weights())}

    def draw(part: Sequence[int]) -> Tensor:
        found: Tensor = pipeline.draw(record["prompt"], part, record["guidance"])
        return found

    return Run(draw, plan, seeds, None, record["batch_size"], dtype, record["noise"], record)


def _refuse_beside_plan(**options: Any) -> None:
    if given := [f"--{name}" for name, value in options.items() if value not in (None, [])]:
        raise ValueError(f"--plan is a compiled plan: {', '.join(given)} cannot change it; leave one or the other out")


def _plan_name(plan: Plan) -> str:
    """A plan in a few words, its checksum among them: equal names, equal plans."""
    options = "".join(f", {name}={value}" for name, value in plan.options)
    return f"{plan.method}{options} on {plan.process}, {plan.steps} steps, {json.loads(plan.to_json())['checksum']}"


def _draw(run: Run, folder: Folder) -> Tensor:
    """All samples: the batches that are kept, and the rest, each written as soon as it is finished."""
    parts, kept = run.parts(), folder.kept()
    before = sum(map(len, kept.values()))
    if before:
        rest = "the rest is drawn" if before < len(run.seeds) else "nothing is left to draw"
        say(f"\n{before} of {len(run.seeds)} samples are in {folder.path} already; {rest}", "yellow")
    started = time.monotonic()
    try:
        with _bar(run, before) as tick, _warnings_shown():
            for place, part in enumerate(parts):
                if place not in kept:
                    kept[place] = run.draw(part, tick(part))
                    folder.keep(place, kept[place])
    except KeyboardInterrupt:
        count = sum(map(len, folder.kept().values()))
        where = f"are kept in {folder.path / PARTIAL}: the same command draws the rest"
        say(f"\ninterrupted: {count} of {len(run.seeds)} samples {where}", "yellow", stderr=True)
        raise typer.Exit(130) from None
    except SamplingError as error:
        path = folder.keep_failed(part, error.samples, error.finite)
        raise SamplingError(
            f"samples {part.start} to {part.stop - 1}: {error}, in {path}", error.samples, error.finite
        ) from error
    if before < len(run.seeds):
        calls = f"nfe = {run.plan.nfe} model calls{'' if run.record['guidance'] is None else TWICE}"
        say(f"\n{len(run.seeds) - before} samples drawn in {time.monotonic() - started:.2f} s; {calls}")
    return torch.cat([kept[place] for place in range(len(parts))])


@contextmanager
def _bar(run: Run, done: int) -> Iterator[Callable[[slice], Callable[[], None]]]:
    """A progress bar on stderr, where that is a terminal; gives what is to be told of the model calls of a batch."""
    columns = (TextColumn("sampling"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn())
    screen, nfe = console(stderr=True), run.plan.nfe
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("sampling", total=nfe * len(run.seeds), completed=nfe * done)

        yield lambda part: lambda: progress.advance(task, part.stop - part.start)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """Warnings as a line each on stderr, as they are, without a place in the code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for text in dict.fromkeys(str(warning.message) for warning in caught):
                say(f"warning: {text}", "yellow", stderr=True)


def _sheet(x: Tensor, run: Run, path: Path) -> str:
    """Write the contact sheet, with a class to a column; says what it shows, or why there is none: the samples are safe."""
    from urn.pictures import contact_sheet

    classes = len(run.record["class"]) or 1
    columns = classes * max(1, 10 // classes)
    shown = x[: columns * SHEET_ROWS]
    labels = None if run.labels is None else run.labels[: len(shown)].tolist()
    try:
        contact_sheet(shown, columns, labels, path=path)
    except (ImportError, ValueError) as error:
        return f"not written: {error}"
    return "contact sheet" if len(shown) == len(x) else f"contact sheet of the first {len(shown)}"


def _say_files(folder: Path, x: Tensor, run: Run, sheet: str) -> None:
    held = f"x {tuple(x.shape)} {run.record['dtype']}, seeds" + ("" if run.labels is None else ", labels")
    files = {SHEET: sheet, SAMPLES: held, PLAN: "the plan"}
    width = max(len(str(folder / name)) for name in files)
    for name, note in files.items():
        say(f"{folder / name!s:<{width}}  {note}")
