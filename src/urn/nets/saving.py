"""Models in folders: `model.json`, to be read by people, and `model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path

from urn.model import Model
from urn.nets.weights_file import describe, read_weights, replace_file, write_weights

DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"


def save_model(model: Model, folder: str | Path) -> None:
    """Write a model whose network Urn ships into a folder, which is made, or whose model is replaced.

    Args:
        model: network, process, prediction and shape are written; labels and input scales are functions, and refused.
        folder: becomes `model.json` (architecture, process, prediction, shape) and `model.safetensors` (the same, and the
            weights).

    Raises:
        ValueError: the model cannot be written, or `folder` is a file.

    Example:
        >>> save_model(model, "my-digits")  # doctest: +SKIP
    """
    folder = Path(folder)
    text = json.dumps(describe(model), indent=2) + "\n"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file")
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(model, folder / WEIGHTS)
    replace_file(folder / DESCRIPTION, text.encode())


def load_model(folder: str | Path) -> Model:
    """The model that `save_model` wrote, in evaluation mode, its weights without gradients.

    Raises:
        FileNotFoundError: the folder, or one of its two files, does not exist.
        ValueError: a file is damaged, was not written by Urn, or the two are not of one model; the message says which.

    Example:
        >>> model = load_model("my-digits")  # doctest: +SKIP
    """
    folder = Path(folder)
    for file in (folder, folder / DESCRIPTION, folder / WEIGHTS):
        if not file.exists():
            raise FileNotFoundError(f"{file} does not exist: {folder} is not a folder that save_model wrote")
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise ValueError(f"{folder / DESCRIPTION} is damaged: {error}") from None
    model = read_weights(folder / WEIGHTS)
    if description != describe(model):
        raise ValueError(f"{folder / DESCRIPTION} is not of the model in {folder / WEIGHTS}: one of them was changed")
    return model
