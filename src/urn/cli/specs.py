"""Names with options as they are written on the command line: `flow:shift=3`, `karras(rho=5)`, `ddim:eta=0.5`."""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from urn import grids
from urn.compiler import compile_plan
from urn.grids import GridLike
from urn.method import Method
from urn.methods import find_method
from urn.plan import Plan
from urn.processes import (
    VE,
    VP,
    Flow,
    Process,
    SubVP,
    Tabulated,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
)

Options = dict[str, Any]
WORDS = {"true": True, "false": False, "none": None}
KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "an integer"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "a word"),
}
DEFAULT_STEPS = 10


def _table(betas: Callable[..., Tensor]) -> Callable[..., Tabulated]:
    """A table's process, taking the options of its betas and `zero_terminal_snr`."""

    def make(zero_terminal_snr: bool = False, **options: Any) -> Tabulated:
        return Tabulated.from_betas(betas(**options), zero_terminal_snr)

    zero = inspect.signature(make).parameters["zero_terminal_snr"]
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*inspect.signature(betas).parameters.values(), zero]
    )
    return make


PROCESSES: dict[str, Callable[..., Process]] = {
    "vp.linear": VP.linear,
    "vp.scaled_linear": VP.scaled_linear,
    "vp.cosine": VP.cosine,
    "sub_vp": SubVP,
    "flow": Flow,
    "ve": VE,
    "table.linear": _table(linear_betas),
    "table.scaled_linear": _table(scaled_linear_betas),
    "table.cosine": _table(cosine_betas),
}

# Grids made from another grid: factories, which `urn.GRIDS` does not hold.
WRAPPERS: dict[str, Callable[..., grids.Grid]] = {"shifted": grids.shifted, "rounded": grids.rounded}


def split(text: str) -> tuple[str, Options]:
    """The name and the options of `name`, `name:a=1,b=x` or `name(a=1, b=x)`."""
    match = re.fullmatch(r"\s*([^:()\s]+)\s*(?::(.*)|\((.*)\))?\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a name, or a name with options as in flow:shift=3")
    inside = match[2] or match[3]
    # at commas outside brackets
    return match[1], read_options(re.split(r",(?![^(\[]*[)\]])", inside) if inside else [])


def read_options(texts: Iterable[str]) -> Options:
    """Options from `name=value` each; a value is a number, true, false, none, a tuple of such, or else a word."""
    options: Options = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and name.isidentifier() and value):
            raise ValueError(f"option {text!r} is not name=value")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = WORDS.get(value.lower(), value)
    return options


def parameters(function: Callable[..., Any], skip: int = 0) -> dict[str, inspect.Parameter]:
    """The options of a function: its parameters after the first `skip`."""
    return dict(list(inspect.signature(function).parameters.items())[skip:])


def check_options(owner: str, allowed: dict[str, inspect.Parameter], options: Options) -> None:
    """Refuse options that are unknown, of the wrong kind, or missing, naming `owner`."""
    for name, value in options.items():
        if name not in allowed:
            raise ValueError(f"{owner} has no option {name}={value!r}; its options: {', '.join(allowed) or 'none'}")
        kind, words = KINDS.get(str(allowed[name].annotation), (object, ""))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
            raise ValueError(f"{owner}: {name}={value!r} must be {words}")
    if missing := [n for n, p in allowed.items() if p.default is inspect.Parameter.empty and n not in options]:
        raise ValueError(f"{owner} needs a value for {', '.join(missing)}")


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for an unknown name, with the nearest known ones."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return ValueError(f"{what}={name!r} is unknown; {hint}known: {', '.join(known)}")


def read_process(text: str) -> Process:
    """A process, as `vp.linear`, `flow:shift=3` or `table.linear:steps=100`."""
    name, options = split(text)
    if name not in PROCESSES:
        raise unknown("process", name, PROCESSES)
    check_options(f"process {name!r}", parameters(PROCESSES[name]), options)
    return PROCESSES[name](**options)


def read_grid(text: str | None) -> GridLike | None:
    """A grid, as `karras:rho=5`, `shifted:shift=3,grid=beta`, or its times, as `1,0.5,0.1`."""
    if text is None:
        return None
    try:
        return [float(time) for time in text.split(",")]
    except ValueError:
        name, options = split(text)
    if name in WRAPPERS:
        check_options(f"grid {name!r}", parameters(WRAPPERS[name]), options)
        return WRAPPERS[name](**options)
    function = grids.find_grid(name)
    check_options(f"grid {name!r}", parameters(function, skip=2), options)
    return functools.partial(function, **options) if options else name


def read_plan(
    method: str, process: Process, steps: int | None, grid: GridLike | None, final: str | None, options: Sequence[str]
) -> Plan:
    """The plan of a method, as `ddim` or `ddim:eta=0.5`, with further `name=value` options."""
    chosen, given = _read_method(method, options)
    plan: Plan = compile_plan(chosen, process, read_steps(steps, grid), grid, final=final, **given)
    return plan


def read_method(method: str, options: Sequence[str]) -> Method:
    """A method with its options, written as for `read_plan`."""
    chosen, given = _read_method(method, options)
    return chosen.with_options(**given)


def read_steps(steps: int | None, grid: GridLike | None) -> int | None:
    """The number of steps, where none is given that of the default, but for a grid that is a list of times."""
    made = grid is None or isinstance(grid, str) or callable(grid)
    return DEFAULT_STEPS if steps is None and made else steps


def _read_method(method: str, options: Sequence[str]) -> tuple[Method, Options]:
    name, given = split(method)
    given |= read_options(options)
    chosen = find_method(name)
    check_options(f"method {name!r}", parameters(chosen.function, skip=2), {**chosen.fixed, **chosen.options, **given})
    return chosen, given


def read_classes(text: str, classes: int) -> tuple[int, ...]:
    """The classes that samples are of, in turn, from `all`, `none`, `3` or `0,3,7`; nothing for no class."""
    if text == "none":
        return ()
    if classes == 0:
        raise ValueError(f"class={text!r}: this model takes no class; leave --class out")
    try:
        chosen = tuple(range(classes)) if text == "all" else tuple(int(part) for part in text.split(","))
    except ValueError:
        chosen = (-1,)
    if not all(0 <= one < classes for one in chosen):
        raise ValueError(f"class={text!r} must be 'all', 'none', or classes from 0 to {classes - 1}, as in 3 or 0,3,7")
    return chosen
