"""Models by the names that `urn sample` takes, and in the folders that Urn or diffusers saved."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from urn.model import Model
from urn.processes import VP, Process


def _digits() -> Model:
    from urn.nets import load_digits

    return load_digits()


def _digits_exact(process: Process | None = None) -> Model:
    from urn.exact import digits_mixture

    return digits_mixture().model(process or VP.linear())


def _photographs_exact(process: Process | None = None) -> Model:
    from urn.exact import photographs_mixture

    return photographs_mixture().model(process or VP.linear())


EXACT: dict[str, Callable[..., Model]] = {"digits-exact": _digits_exact, "photographs-exact": _photographs_exact}
MODELS: dict[str, Callable[[], Model]] = {"digits": _digits, **EXACT}


def open_model(name: str, process: Process | None = None) -> Model:
    """The model of a name, or in a folder that `urn.nets.save_model`, `urn train digits` or diffusers wrote.

    Args:
        process: for an exact model, which is known under every process; VP.linear() by default.

    Raises:
        ValueError: there is no such name or folder; it lists what is allowed. A process beside a network, which has its own.
    """
    if process is not None:
        if name not in EXACT:
            raise ValueError(f"process: {name} has its own; only {', '.join(EXACT)} take one")
        return EXACT[name](process)
    if name in MODELS:
        return MODELS[name]()
    from urn.nets import load_digits, load_model

    folder = Path(name)
    if (folder / "model.json").exists():
        return load_model(folder)
    if (folder / "digits.safetensors").exists():
        return load_digits(folder / "digits.safetensors")
    if (saved := saved_pipeline(name)) is not None:
        found: Model = saved.model()
        return found
    if folder.is_dir():
        raise ValueError(
            f"folder {name} holds no model that Urn saved, neither model.json nor digits.safetensors, and no diffusers pipeline, "
            "which has a model_index.json"
        )
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"model={name!r} is unknown; {hint}allowed: {', '.join(MODELS)}, or a folder with a saved model")


def saved_pipeline(name: str) -> Any:
    """What diffusers saved in a folder, as `urn.adapters.diffusers.saved.Saved`; None where it saved nothing there.

    Raises:
        ImportError: diffusers is not installed.
    """
    folder = Path(name)
    if name in MODELS or not any((folder / file).exists() for file in ("model_index.json", "config.json")):
        return None
    from urn.adapters.diffusers.saved import Saved

    return Saved.at(folder)


def class_count(name: str, model: Model) -> int:
    """How many classes a model can be asked for by `label`; 0 where it takes none."""
    from urn.nets.denoiser import CLASSES, DigitsDenoiser

    known = name == "digits-exact" or isinstance(model.net, DigitsDenoiser)
    return CLASSES if known else int(getattr(model.net, "classes", 0))
