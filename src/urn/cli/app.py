"""The root command, and the commands that list methods and grids."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

import urn
from urn.conformance.verdicts import in_words
from urn.method import Method
from urn.methods import find_method

from . import compare, plans, sample, specs, train, tune
from .screen import Guarded, console, say

app = typer.Typer(cls=Guarded, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
app.add_typer(plans.app, name="plan")
app.add_typer(train.app, name="train")
app.command("sample")(sample.sample)
app.command("compare")(compare.compare_command)
app.command("check")(compare.check_command)
app.command("tune")(tune.tune_command)
app.command("tuners")(tune.tuners_command)
app.command("tuned")(tune.tuned_command)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"urn {urn.__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Urn: samplers for diffusion and flow models.

    A method on a process and a grid compiles to a plan; one executor runs plans.

    Start with [bold]urn sample digits[/bold], [bold]urn methods[/bold] or [bold]urn plan ddim[/bold].
    """


@app.command()
def methods(
    which: Annotated[
        str | None, typer.Argument(metavar="[FILTER]", help="A method's name, or a part of names and sources.")
    ] = None,
) -> None:
    """List the methods; of one, its documentation, options and defaults."""
    if which in urn.METHODS:
        _describe_method(urn.METHODS[which])
        return
    found = [method for method in _distinct() if which is None or which.lower() in _searched(method)]
    if not found:
        find_method(str(which))  # raises, with the nearest names
    table = Table("name", "order", "noise", Column("nfe", max_width=8), "what it is, and its source", box=None)
    for method in found:
        order, noise = _order(method), "yes" if method.stochastic else ""
        also = f"; also {', '.join(_aliases(method))}" if _aliases(method) else ""
        what = Text(method.summary).append(f"\n{_short(method.source)}; kit: {in_words(method.name)}{also}", "dim")
        table.add_row(method.name, order, noise, str(method.nfe), what)
    console().print(table)


@app.command(name="grids")
def list_grids(name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A grid's name.")] = None) -> None:
    """List the grids with their options; of one, its documentation."""
    every: dict[str, Callable[..., Any]] = {**urn.GRIDS, **specs.WRAPPERS}
    if name is not None and name not in every:
        raise specs.unknown("grid", name, every)
    for grid, function in every.items() if name is None else [(name, every[name])]:
        skip = 0 if grid in specs.WRAPPERS else 2
        say(" ".join([grid, *_defaults(specs.parameters(function, skip))]), "bold")
        doc = inspect.getdoc(function) or ""
        say("\n".join(f"    {line}".rstrip() for line in (doc.splitlines()[:1] if name is None else doc.splitlines())))


def _distinct() -> list[Method]:
    """Every method once, under its own name."""
    return list({method.name: method for method in urn.METHODS.values()}.values())


def _aliases(method: Method) -> list[str]:
    return [name for name, other in urn.METHODS.items() if other.name == method.name and name != method.name]


def _searched(method: Method) -> str:
    return " ".join([method.name, *_aliases(method), method.summary, method.source]).lower()


def _short(source: str) -> str:
    """Authors and year; the whole is in `urn methods NAME`."""
    match = re.match(r".*?\b\d{4}\b", source)
    return match[0] if match else source


def _order(method: Method) -> str:
    return "-" if method.order is None else str(method.order)


def _defaults(parameters: dict[str, inspect.Parameter], fixed: Any = None) -> list[str]:
    """`name=default` for each option; one without a default is shown as `name=...`."""
    shown = []
    for name, parameter in parameters.items():
        default = (fixed or {}).get(name, parameter.default)
        shown.append(f"{name}={'...' if default is inspect.Parameter.empty else default}")
    return shown


def _describe_method(method: Method) -> None:
    say(method.name, "bold")
    module = inspect.getmodule(method.function)
    facts = {
        "also": ", ".join(_aliases(method)),
        "order": "none claimed" if method.order is None else str(method.order),
        "noise": "stochastic" if method.stochastic else "deterministic",
        "evaluations": f"{method.nfe} per step",
        "exact for": ", ".join(method.exact_for),
        "options": ", ".join(_defaults(specs.parameters(method.function, skip=2), method.fixed)) or "none",
        "kit": in_words(method.name),
        "source": method.source,
    }
    for name, value in facts.items():
        if value:
            say(f"{name:<12} {value}")
    for doc in (inspect.getdoc(method.function), inspect.getdoc(module)):
        if doc:
            say(f"\n{doc}")
