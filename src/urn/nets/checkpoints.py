"""Checkpoint files: written whole or not at all, and read with an error that says what is wrong."""

from __future__ import annotations

import os
import pickle
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

FORMAT = "urn-training-1"


def write_checkpoint(file: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values; the file is replaced in one move, so a crash leaves the old one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as stream:
            torch.save({"format": FORMAT, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def read_checkpoint(file: Path, recipe: dict[str, Any], net: nn.Module) -> dict[str, Any]:
    """The state that `write_checkpoint` wrote, for a run of the same recipe on the same network, its weights apart.

    Raises:
        ValueError: the file is damaged, no checkpoint, or of another run; it names the file and what differs.
    """
    advice = "remove it, choose another file, or pass resume=False to start anew"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"checkpoint {file} is damaged or no checkpoint ({_first_line(error)}): {advice}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{file} is no checkpoint of Urn's training: {advice}")
    differences = [
        f"{name} was {state['recipe'].get(name)!r}, is {recipe.get(name)!r}"
        for name in {**recipe, **state["recipe"]}
        if state["recipe"].get(name) != recipe.get(name)
    ]
    # repr shows what shapes do not: dropout, and the number of heads
    for was, now in zip_longest(state["architecture"].splitlines(), repr(net).splitlines(), fillvalue="nothing"):
        if was != now:
            differences.append(f"the network had {was.strip()}, has {now.strip()}")
            break
    if differences:
        raise ValueError(f"checkpoint {file} is of another run: {'; '.join(differences)}: {advice}")
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
