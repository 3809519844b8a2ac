"""urn train: train the networks that Urn ships."""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from .screen import say

app = typer.Typer(no_args_is_help=True, help="Train a network that Urn ships.")

DEFAULT_STEPS = 4000  # urn.nets.digits_network.STEPS, which is not imported before it is needed
UPDATES_TIMED = 20


@app.callback()
def train() -> None:
    """Train a network that Urn ships."""


@app.command()
def digits(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights and record.")],
    steps: Annotated[int | None, typer.Option(help=f"Updates; {DEFAULT_STEPS} by default.", min=1)] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Or about how long it may train on this machine; a few updates are timed.", min=0),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of first weights, batches, times, noise and dropout.", min=0)] = 0,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in the folder, or start anew.")] = True,
    score: Annotated[bool, typer.Option(help="Sample at the end, and write scores into the record.")] = True,
) -> None:
    """Train the digits network; the same command goes on with a run that was interrupted."""
    from urn.nets import TrainingInterrupted, train_digits

    if steps is not None and minutes is not None:
        raise ValueError("--steps and --minutes: give one of them")
    if minutes is not None:
        steps = _steps_within(minutes, out / "checkpoint.pt", resume)
        say(f"{steps} steps; with --steps {steps} instead of --minutes this run can be repeated")
    try:
        train_digits(out, steps or DEFAULT_STEPS, seed, resume=resume, progress=sys.stderr.isatty(), score=score)
    except TrainingInterrupted as stopped:
        say(str(stopped), "yellow", stderr=True)
        raise typer.Exit(130) from None
    say(f"written: {out / 'digits.safetensors'}; draw from it with `urn sample {out}`")


def _steps_within(minutes: float, checkpoint: Path, resume: bool) -> int:
    """The steps that fit into so many minutes; those of the checkpoint where there is one to go on from."""
    import torch

    from urn.nets import DigitsDenoiser, Recipe
    from urn.nets import train as train_network
    from urn.nets.digits_network import digits_loss
    from urn.processes import VP

    if resume and checkpoint.exists():
        try:
            return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["recipe"]["steps"])
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError):
            pass  # damaged: training itself says so
    with torch.random.fork_rng(devices=[]):
        loss, net = digits_loss(VP.linear()), DigitsDenoiser()
        train_network(net, loss, Recipe(2), progress=False)
        started = time.monotonic()
        train_network(net, loss, Recipe(UPDATES_TIMED), progress=False)
    return max(1, round(minutes * 60 * UPDATES_TIMED / (time.monotonic() - started)))
