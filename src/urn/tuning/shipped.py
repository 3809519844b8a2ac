"""The tuned plans that Urn ships, one file each in `plans/`, with the record of how it was found."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from urn.tuning.record import Tuned, read


@lru_cache(maxsize=1)
def shipped() -> dict[str, Tuned]:
    """Every tuned plan that Urn ships, by name; `.record.command` is what made it.

    Example:
        >>> plan, record = shipped()["photographs-exact-flow-8"]
        >>> x = urn.sample(model, plan, shape=(64, 3, 32, 32), seed=0)
    """
    folder = files("urn.tuning") / "plans"
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return {file.name.removesuffix(".json"): read(file.read_text(), file.name) for file in found}
