"""What is printed, and how errors end: one line on stderr and exit status 2."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from urn.plan import Plan
from urn.sampling import SamplingError

# What a user's mistake raises; anything else is a bug of Urn, and shows its traceback.
MISTAKES = (ValueError, OSError, ImportError, SamplingError)


def console(stderr: bool = False) -> Console:
    """A console as wide as the terminal; 100 columns where the output goes elsewhere, unless COLUMNS says otherwise."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else 100
    return Console(stderr=stderr, width=width, highlight=False)


def say(text: str = "", style: str = "", stderr: bool = False) -> None:
    """Print text as it is: no markup is read from it, and a line stays one line."""
    console(stderr).print(Text(text, style=style), soft_wrap=True)


def fail(error: BaseException) -> NoReturn:
    """One line in red on stderr, and exit status 2."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    else:
        message = " ".join(str(error).split()) or type(error).__name__
    say(f"error: {message}", "red", stderr=True)
    raise typer.Exit(2)


def show_plan(plan: Plan, most: int | None = None) -> None:
    """Print a plan's table; of one with more than `most` lines, the first and the last, and how many are left out."""
    lines = str(plan).splitlines()
    if most is not None and len(lines) > most:
        head, tail = lines[: 2 * most // 3], lines[-(most // 3) :]
        lines = [*head, f"      ... {len(lines) - len(head) - len(tail)} more lines ...", *tail]
    screen = console()
    # only a person's terminal is wrapped for: what goes to a file or another program stays a row a line
    wrapped = wrap_plan(lines, screen.width) if screen.is_terminal else lines
    for line in wrapped:
        say(line, "bold" if line is wrapped[0] else "")


def wrap_plan(lines: list[str], width: int) -> list[str]:
    """A plan's lines with long formulas broken within their own column, so that the numbers stay below each other.

    A row is its step in 6 columns, a formula, two spaces or more, and in 39 columns the node, if it has one.
    """
    wrapped = textwrap.wrap(lines[0], width, subsequent_indent="  ")
    parts = [line[6:].partition("  ") for line in lines[1:]]
    room = min(max(24, width - 6 - 2 - 39), max(len(formula) for formula, _, _ in parts))
    for line, (formula, _, node) in zip(lines[1:], parts, strict=True):
        first, *rest = textwrap.wrap(formula, room, subsequent_indent="  ") or [""]
        node = node.strip().rjust(39) if node else ""
        wrapped += [f"{line[:6]}{first:<{room}}  {node}".rstrip(), *(f"{'':6}{more}" for more in rest)]
    return wrapped


class Guarded(TyperGroup):
    """A command group in which a user's mistake ends in one line; with `--debug`, in its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `urn methods | head`: typer ends quietly
            raise
        except MISTAKES as error:
            if ctx.params.get("debug"):
                raise
            fail(error)
