"""The tuners: each takes a search, and tries plans in it until it has no better idea or a limit is reached.

A tuner is a function `tuner(search, **options)`. It tries plans by `search.try_plan`; the best of all is what the search
returns, so it returns nothing. Adding one: write the function in a file of its own here, decorate it with its facts, and add
its module's name below.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any

from urn.tuning.search import Search

KINDS: tuple[tuple[type, Any, str], ...] = (  # of a default, of what may be given, and in words
    (bool, bool, "True or False"),
    (int, int, "an integer"),
    (float, Real, "a number"),
    (tuple, Iterable, "several in parentheses"),
)


@dataclass(frozen=True)
class Tuner:
    """A tuner and its facts.

    Attributes:
        function: called as function(search, **options).
        name: its name.
        source: authors, year, title, arXiv number.
        gradients: whether it differentiates through the model.
        paired: whether it needs an objective with an error for every start, a reference.
    """

    function: Callable[..., None]
    name: str
    source: str
    gradients: bool = False
    paired: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {p.name: p.default for p in list(inspect.signature(self.function).parameters.values())[1:]}

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options that it does not have, of another kind than their defaults, or out of range."""
        for name, value in options.items():
            if name not in self.defaults:
                allowed = ", ".join(self.defaults) or "none"
                raise ValueError(f"tuner {self.name!r} has no option {name}={value!r}; its options: {allowed}")
            default = self.defaults[name]
            for kind, allowed_kind, what in KINDS:
                if isinstance(default, kind):
                    bad = not isinstance(value, allowed_kind) or (kind is not bool and isinstance(value, bool))
                    if bad or isinstance(value, str):
                        raise ValueError(f"tuner {self.name!r}: {name}={value!r} must be {what}, as {default!r}")
                    break
        if self.function.__module__.startswith(f"{__name__}."):
            with suppress(_SearchWantedError):  # Urn's own check their options before they look at the search
                self.function(_NoSearch(), **options)

    def __call__(self, search: Search, **options: Any) -> None:
        self.function(search, **options)


class _SearchWantedError(Exception):
    pass


class _NoSearch:
    def __getattr__(self, name: str) -> Any:
        raise _SearchWantedError


def tuner(
    *, source: str, gradients: bool = False, paired: bool = False, name: str | None = None
) -> Callable[[Callable[..., None]], Tuner]:
    """Decorate a tuner's function with its facts; see `Tuner`."""

    def decorate(function: Callable[..., None]) -> Tuner:
        return Tuner(function, name or function.__name__, source, gradients, paired)

    return decorate


MODULES = (
    "untuned",
    "auto",
    "grid",
    "coefficients",
    "ld3",
    "s4s",
    "amed",
    "ays",
    "gits",
    "usf",
    "autodiffusion",
    "beta",
    "tpe",
    "surrogate",
    "dc_solver",
    "iia",
    "timestep_aligner",
    "dpm_solver_v3",
)


def find_tuner(name: str | Tuner) -> Tuner:
    """The tuner of a name, or a ValueError with the nearest names."""
    if isinstance(name, Tuner):
        return name
    known = tuners()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"tuner={name!r} is unknown; {hint}known: {', '.join(known)}")
    return known[name]


def tuners() -> dict[str, Tuner]:
    """Every tuner by its name."""
    modules = [importlib.import_module(f"urn.tuning.tuners.{name}") for name in MODULES]
    found = [one for module in modules for one in vars(module).values() if isinstance(one, Tuner)]
    return {one.name: one for one in found}
