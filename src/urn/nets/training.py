"""A small training loop: seeded, resumable to the bit, with a moving average of the weights."""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from urn.nets.checkpoints import read_checkpoint, write_checkpoint

Loss = Callable[[nn.Module], Tensor]
LOSS_WINDOWS = 100  # the loss is recorded as means over this many stretches of the run


@dataclass(frozen=True)
class Recipe:
    """How to train; what is written into a checkpoint, and compared when it is read.

    Attributes:
        steps: updates in all.
        learning_rate: AdamW's, reached after `warmup` updates and then falling to 1 % of itself along half a cosine.
        warmup: updates over which the learning rate rises.
        weight_decay: AdamW's.
        clip: the norm to which gradients are cut.
        ema: decay of the moving average of the weights; min(ema, (1 + n) / (10 + n)) after n updates.
        seed: of everything random.

    Raises:
        ValueError: a value outside what it can be.
    """

    steps: int
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps!r} must be at least 1")
        if self.learning_rate <= 0 or self.clip <= 0 or self.warmup < 0 or self.weight_decay < 0:
            raise ValueError(f"{self}: learning_rate and clip must be positive, warmup and weight_decay not negative")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema!r} must be in [0, 1)")

    def rate(self, step: int) -> float:
        """The learning rate of update `step`, counted from 0."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        return self.learning_rate * rise * (0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2)


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted between two updates; where it has a checkpoint file, it can be resumed."""


@dataclass
class Progress:
    """All that changes while training: what a checkpoint holds.

    Attributes:
        net: the network at its latest weights.
        averaged: the moving average of its weights, which is what one wants.
        optimizer: AdamW, with its moments.
        step: updates done.
        seconds: spent so far, over all sessions.
        losses: the mean loss over each hundredth of the run.
    """

    net: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)


def train(
    net: nn.Module,
    loss: Loss,
    recipe: Recipe,
    checkpoint: str | Path | None = None,
    *,
    resume: bool = True,
    save_every: float = 60.0,
    progress: bool = True,
) -> Progress:
    """Minimise loss(net) over the parameters of net, which are changed in place.

    `loss` draws its batch, and the network its dropout, from torch's generator of the CPU, which is seeded for the run
    and given back as it was. A run that was stopped and resumed ends in the same bits as one that was not, on one
    thread, where sums are always made in one order.

    Args:
        net: the network, with its first weights.
        loss: a scalar, a function of the network.
        recipe: how.
        checkpoint: file to go on from where it exists, and to write to every `save_every` seconds, at the end, and when
            interrupted by Ctrl-C: the update that is under way is finished first.
        resume: False starts anew, whatever the file holds.
        progress: show a bar with the loss and the time that is left.

    Returns:
        The end of the run; `averaged` is the network to use, in evaluation mode.

    Raises:
        TrainingInterrupted: by Ctrl-C, after the checkpoint was written.
        ValueError: the checkpoint is damaged or of another run, or the loss is not finite.
    """
    file = None if checkpoint is None else Path(checkpoint)
    optimizer = torch.optim.AdamW(net.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    state = Progress(net.train(), copy.deepcopy(net).requires_grad_(False).eval(), optimizer)
    with torch.random.fork_rng(devices=[]), _interrupts() as interrupted, _bar(recipe.steps, progress) as bar:
        torch.manual_seed(recipe.seed)
        if file is not None and resume and file.exists():
            _restore(state, file, recipe)
        bar.update(state.step)
        clock = saved = time.monotonic()
        while state.step < recipe.steps:
            _update(state, loss, recipe)
            now = time.monotonic()
            state.seconds, clock = state.seconds + now - clock, now
            _show(bar, state)
            stop = interrupted.is_set()
            if file is not None and (stop or state.step == recipe.steps or now - saved > save_every):
                _save(state, file, recipe)
                saved = now
            if stop:
                kept = (
                    f"run the same again to go on from {file}" if file else "without a checkpoint file nothing is kept"
                )
                raise TrainingInterrupted(f"training stopped after {state.step} of {recipe.steps} updates; {kept}")
    return state


def move_average(averaged: nn.Module, net: nn.Module, decay: float) -> None:
    """averaged <- decay averaged + (1 - decay) net, parameter by parameter; buffers are copied."""
    with torch.no_grad():
        for mean, value in zip(averaged.parameters(), net.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for kept, latest in zip(averaged.buffers(), net.buffers(), strict=True):
            kept.copy_(latest)


def _update(state: Progress, loss: Loss, recipe: Recipe) -> None:
    """One update of the weights and of their average."""
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(state.step)
    state.optimizer.zero_grad()
    value = loss(state.net)
    if not math.isfinite(value.item()):
        raise ValueError(f"the loss is {value.item()} after {state.step} updates: lower learning_rate")
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.net.parameters(), recipe.clip)
    state.optimizer.step()
    state.step += 1
    move_average(state.averaged, state.net, min(recipe.ema, (1 + state.step) / (10 + state.step)))
    state.window.append(value.item())
    if state.step * LOSS_WINDOWS // recipe.steps > (state.step - 1) * LOSS_WINDOWS // recipe.steps:
        state.losses.append(sum(state.window) / len(state.window))
        state.window.clear()


def _save(state: Progress, file: Path, recipe: Recipe) -> None:
    content = {
        "recipe": asdict(recipe),
        "architecture": repr(state.net),
        "net": state.net.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        **{name: getattr(state, name) for name in ("step", "seconds", "losses", "window")},
    }
    write_checkpoint(file, content)


def _restore(state: Progress, file: Path, recipe: Recipe) -> None:
    content = read_checkpoint(file, asdict(recipe), state.net)
    state.net.load_state_dict(content["net"])
    state.averaged.load_state_dict(content["averaged"])
    state.optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["generator"])
    for name in ("step", "seconds", "losses", "window"):
        setattr(state, name, content[name])


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that no update is left half done; the second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
        yield event
        return
    previous = signal.getsignal(signal.SIGINT) or signal.SIG_DFL  # None where it was not set by Python

    def note(*_: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)


def _show(bar: Any, state: Progress) -> None:
    recent = state.window or state.losses[-1:]
    bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
    bar.update()


def _bar(steps: int, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=steps, desc="training", unit="step", disable=not progress)
