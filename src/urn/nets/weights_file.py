"""One safetensors file that holds a whole model: weights, architecture, process and prediction."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from urn.model import Model
from urn.nets.denoiser import DigitsDenoiser
from urn.processes import process_from_json, process_to_json

FORMAT = "urn-model-1"
# their constructor arguments are kept in `options`
NETS: dict[str, type[DigitsDenoiser]] = {"DigitsDenoiser": DigitsDenoiser}


def write_weights(model: Model, file: str | Path, notes: dict[str, Any] | None = None) -> None:
    """Write a model into one safetensors file, its description in the metadata; replaced in one move.

    Args:
        model: its network one that Urn ships.
        file: where to.
        notes: JSON values about how it was made, kept in the metadata beside the description.

    Raises:
        ValueError: the model cannot be described; see `describe`.
    """
    metadata = {"model": json.dumps(describe(model)), "notes": json.dumps(notes or {})}
    net: nn.Module = model.net  # type: ignore[assignment]  # `describe` accepts no other callable
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    replace_file(Path(file), save(tensors, metadata))


def read_weights(file: str | Path) -> Model:
    """The model in a file that `write_weights` wrote, in evaluation mode, its weights without gradients.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, is not a model of Urn's, or its weights do not fit the network that it names; the
            message names the file and what is wrong.

    Example:
        >>> model = read_weights("digits.safetensors")  # doctest: +SKIP
    """
    file = Path(file)
    description, tensors = _read(file)
    try:
        net, model = _build(description)
        _check_fit(net, tensors)
    except ValueError as error:
        raise ValueError(f"weights file {file}: {error}") from None
    # the file decides the dtype of the weights
    net.load_state_dict(tensors, assign=True)
    net.requires_grad_(False).eval()
    return model


def describe(model: Model) -> dict[str, Any]:
    """A model without its weights, as a JSON object.

    Raises:
        ValueError: its network is not one that Urn ships, its process is not registered, or it has a label or an input
            scale, which are functions and cannot be written.
    """
    net, name = model.net, type(model.net).__name__
    if name not in NETS or not isinstance(net, NETS[name]):
        raise ValueError(f"net={name}: only networks that Urn ships can be written ({', '.join(NETS)})")
    if model.label is not None or model.input_scale is not None or model.integer_times:
        raise ValueError("a model with label, input_scale or integer_times cannot be written: they are not in the file")
    description = {
        "format": FORMAT,
        "net": {"name": name, "options": net.options},
        "process": process_to_json(model.process),
        "predicts": model.predicts,
        "shape": model.shape,
    }
    read_back: dict[str, Any] = json.loads(json.dumps(description))  # tuples are lists there
    return read_back


def _build(description: dict[str, Any]) -> tuple[DigitsDenoiser, Model]:
    """The network and the model of a description, with fresh weights.

    Raises:
        ValueError: the description is not one, or is of a network that this version of Urn does not have.
    """
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"its description is not of a model that Urn wrote (format {FORMAT!r})")
    try:
        name, options = description["net"]["name"], description["net"]["options"]
        if name not in NETS:
            raise ValueError(f"its network {name!r} is unknown; known: {', '.join(NETS)}")
        with torch.random.fork_rng(devices=[]):  # the first weights are replaced, and must not cost the caller's draws
            net = NETS[name](**options)
        predicts, shape = description["predicts"], description["shape"]
        predicts = predicts if isinstance(predicts, str) else tuple(predicts)
        process = process_from_json(description["process"])
        return net, Model(net, process, predicts, None if shape is None else tuple(shape))
    except (KeyError, TypeError) as error:
        raise ValueError(f"its description is incomplete or wrong ({type(error).__name__}: {error})") from None


def replace_file(file: Path, content: bytes) -> None:
    """Write a file beside and move it into place, so that it is never seen half written."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def _read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not file.is_file():
        raise FileNotFoundError(f"weights file {file} does not exist")
    try:
        with safe_open(file, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights file {file} is damaged, or no safetensors file: {error}") from None
    if "model" not in metadata:
        raise ValueError(f"weights file {file}: its metadata hold no model; it was not written by Urn")
    try:
        return json.loads(metadata["model"]), tensors
    except json.JSONDecodeError as error:
        raise ValueError(f"weights file {file}: the description in its metadata is damaged: {error}") from None


def _check_fit(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Refuse weights that are not exactly the network's."""
    wanted = net.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise ValueError(f"{name} is missing")
        if tensors[name].shape != tensor.shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, the network needs {tuple(tensor.shape)}")
        if not bool(torch.isfinite(tensors[name]).all()):
            raise ValueError(f"{name} is not finite")
    if extra := [name for name in tensors if name not in wanted]:
        raise ValueError(f"{extra[0]} is not a weight of the network")
