"""urn compare: error or distance against evaluations, as a table and a plot; urn check: the conformance kit."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

import urn
from urn.comparison import Entry, compare
from urn.conformance.peers import read_peer
from urn.methods import find_method

from .models import MODELS, class_count, open_model
from .plans import GridOption, OptionsOption
from .screen import console, say
from .specs import PROCESSES, read_grid, read_options, read_process


class Against(str, Enum):
    reference = "reference"
    data = "data"


class MetricName(str, Enum):
    energy = "energy"
    frechet = "frechet"


def compare_command(
    model: Annotated[str, typer.Argument(help=f"{', '.join(MODELS)}, or a folder with a saved model.")],
    methods: Annotated[str, typer.Option(help="Names, separated by commas.")] = "ddim,dpmpp_2m,unipc_2,adams_pc_3",
    steps: Annotated[str, typer.Option(help="Numbers of steps, separated by commas.")] = "5,8,10,20",
    grid: GridOption = None,
    against: Annotated[
        Against, typer.Option(help="A fine reference trajectory, or held-out digits.")
    ] = Against.reference,
    metric: Annotated[MetricName, typer.Option(help="Against data.")] = MetricName.energy,
    count: Annotated[int, typer.Option(help="Starts, or samples.", min=4)] = 256,
    seed: Annotated[int, typer.Option(help="Of the starts.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Where the plot goes.")] = Path("out/compare.png"),
) -> None:
    """Compare methods on a model: error to a fine reference, or distance to data, against evaluations."""
    names, sizes = [find_method(name.strip()).name for name in methods.split(",")], _sizes(steps)
    opened = open_model(model)
    classes = class_count(model, opened)
    conditioning = {"label": torch.arange(count) % classes} if classes else None
    data, chosen = None, None
    if against is Against.data:
        from urn.nets import digits

        if opened.shape != (1, 8, 8):
            raise ValueError(f"--against data: the data here are digits, (1, 8, 8); model {model} draws {opened.shape}")
        data = digits("test")[0]
        chosen = {"energy": urn.metrics.energy_distance, "frechet": urn.metrics.frechet_distance}[metric.value]
    entries = compare(
        opened,
        names,
        sizes,
        grid=read_grid(grid),
        count=count,
        seed=seed,
        data=data,
        metric=chosen,
        conditioning=conditioning,
        watch=lambda name, n: say(f"{name}, {n} steps", "dim"),
    )
    what = "RMS error to the reference" if data is None else f"{metric.value} distance to held-out digits"
    console().print(_table(entries, names, what))
    _plot(entries, names, what, out)
    say(f"plot: {out}")


def check_command(
    method: Annotated[
        str, typer.Argument(help="A method's name; or diffusers:SCHEDULER or k_diffusion:SAMPLER, as installed.")
    ],
    process: Annotated[str, typer.Option(help=f"One of {', '.join(PROCESSES)}.")] = "vp.linear",
    option: OptionsOption = None,
) -> None:
    """Check a sampler: fitted order, exactness, law, ends, independence of the batch. Exit status 1 if it does not pass."""
    options, on = read_options(option or ()), read_process(process)
    peer = read_peer(method, options)
    report = urn.check(method, process=on, **options) if peer is None else urn.check(peer, process=on)
    say(str(report))
    raise typer.Exit(0 if report.passed else 1)


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise ValueError(f"--steps {text!r} must be integers of at least 1, separated by commas")
    return sizes


def _table(entries: Sequence[Entry], names: Sequence[str], what: str) -> Table:
    table = Table("method", "steps", "evaluations", what, "95 % interval", "median", title=None)
    for name in names:
        for e in (entry for entry in entries if entry.method == name):
            median = "" if e.median != e.median else f"{e.median:.4g}"
            interval = f"{e.low:.4g} to {e.high:.4g}"
            table.add_row(name, str(e.plan.steps), str(e.plan.nfe), f"{e.estimate:.4g}", interval, median)
        table.add_section()
    return table


def _plot(entries: Sequence[Entry], names: Sequence[str], what: str, out: Path) -> None:
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'urn-samplers[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name in names:
        own: list[Any] = sorted((e for e in entries if e.method == name), key=lambda e: e.plan.nfe)
        x, y = [e.plan.nfe for e in own], [e.estimate for e in own]
        axes.plot(x, y, marker="o", label=name)
        axes.fill_between(x, [e.low for e in own], [e.high for e in own], alpha=0.15)
    positive = all(e.low > 0 for e in entries)
    axes.set(xscale="log", yscale="log" if positive else "linear", xlabel="model evaluations", ylabel=what)
    axes.set_xticks(
        sorted({e.plan.nfe for e in entries}), labels=[str(n) for n in sorted({e.plan.nfe for e in entries})]
    )
    axes.minorticks_off()
    axes.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    pyplot.close(figure)
