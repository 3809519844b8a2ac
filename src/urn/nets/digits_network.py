"""The digits network: the one that Urn ships, and how it was trained."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from urn.model import Model
from urn.nets.data import digits
from urn.nets.denoiser import NULL_CLASS, DigitsDenoiser
from urn.nets.evaluation import evaluate_digits
from urn.nets.loss import draw_times, v_loss
from urn.nets.training import Loss, Progress, Recipe, train
from urn.nets.weights_file import read_weights, replace_file, write_weights
from urn.processes import VP, Process

WEIGHTS = Path(__file__).with_name("weights") / "digits.safetensors"
SHAPE = (1, 8, 8)
STEPS = 4000  # with twice as many the samples move towards the training images, and the held-out loss rises
BATCH = 128
DROPPED_LABELS = 0.1


def load_digits(weights: str | Path | None = None) -> Model:
    """The digits network that Urn ships, or one that `train_digits` made, as a model.

    Args:
        weights: a safetensors file; None for the one in the package, described in `weights/digits.md`.

    Returns:
        A model on VP.linear() that predicts v, of shape (1, 8, 8), in evaluation mode, its weights without gradients. Its
        conditioning is `label`, (B,) integers: 0 ... 9, or 10 for no class.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds another model; it names the file and what is wrong.

    Example:
        >>> import urn
        >>> model = load_digits()
        >>> x = urn.sample(model, "ddim", (10, 1, 8, 8), steps=10, conditioning={"label": torch.arange(10)})
    """
    file = WEIGHTS if weights is None else Path(weights)
    model = read_weights(file)
    found = (type(model.net).__name__, model.predicts, model.shape)
    if found != ("DigitsDenoiser", "v", SHAPE):
        raise ValueError(f"weights file {file} holds another model: {found}")
    return model


def train_digits(
    out: str | Path,
    steps: int = STEPS,
    seed: int = 0,
    *,
    resume: bool = True,
    progress: bool = True,
    score: bool = True,
    net: DigitsDenoiser | None = None,
    threads: int = 1,
) -> Model:
    """Train the digits network on the training split: about 7 minutes on one core at the default 4000 steps.

    Run again after an interruption, it goes on where it was.

    Args:
        out: folder for `checkpoint.pt`, the weights `digits.safetensors`, and the record `digits.json`.
        steps: updates.
        seed: of first weights, batches, times, noise and dropout.
        resume: False starts anew.
        progress: show a bar.
        score: sample 2000 digits at 50 and at 8 evaluations, and put the scores into the record.
        net: another architecture; its weights are then the first weights.
        threads: of torch, while this runs. On one the same seed gives the same bits, on like machines; two are faster
            where both cores are free, and much slower where they are not.

    Returns:
        The model with the averaged weights, as `load_digits(out / "digits.safetensors")` reads it.

    Raises:
        TrainingInterrupted: by Ctrl-C; the checkpoint was written.
        ValueError: the checkpoint in `out` is damaged, or of other steps, seed or architecture; or threads is below 1.
        ImportError: scikit-learn is not installed.
    """
    out, process, recipe = Path(out), VP.linear(), Recipe(steps, seed=seed)
    if net is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = DigitsDenoiser()
    with _threads(threads):
        end = train(net, digits_loss(process), recipe, out / "checkpoint.pt", resume=resume, progress=progress)
        model = Model(end.averaged, process, predicts="v", shape=SHAPE)
        write_weights(model, out / "digits.safetensors", {"made by": "urn train digits", "steps": steps, "seed": seed})
        record = _record(end, recipe)
        if score:
            record["scores"] = {f"{n} evaluations": evaluate_digits(model, steps=n) for n in (50, 8)}
    replace_file(out / "digits.json", (json.dumps(record, indent=2) + "\n").encode())
    return model


def digits_loss(process: Process, batch: int = BATCH) -> Loss:
    """The loss on random batches of the training split, a tenth of the labels dropped for guidance."""
    images, labels = digits("train")

    def loss(net: nn.Module) -> Tensor:
        chosen = torch.randint(len(images), (batch,))
        label = torch.where(torch.rand(batch) < DROPPED_LABELS, NULL_CLASS, labels[chosen])
        return v_loss(net, process, images[chosen], label, draw_times(process, batch))

    return loss


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads, and then as many as before."""
    if count < 1:
        raise ValueError(f"threads={count!r} must be at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _record(end: Progress, recipe: Recipe) -> dict[str, Any]:
    """How a run went, as a JSON object."""
    return {
        "steps": recipe.steps,
        "seed": recipe.seed,
        "batch": BATCH,
        "seconds": round(end.seconds, 1),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "torch": torch.__version__,
        "losses": [round(loss, 5) for loss in end.losses],
    }
