"""Running the command line in tests, and models that interrupt themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

import urn
from urn.cli import app
from urn.nets import DigitsDenoiser, save_model


def run(*args: object, status: int = 0) -> Result:
    """`urn` with these arguments, which must end with this exit status."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert result.exit_code == status, (result.exit_code, result.output, result.exception)
    return result


def fails(*args: object) -> str:
    """The error line of a command that must fail as a user's mistake: one line, on stderr, and exit status 2."""
    result = run(*args, status=2)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: "), result.stderr
    return lines[0].removeprefix("error: ")


def tensors(folder: Any) -> dict[str, torch.Tensor]:
    return load_file(folder / "samples.safetensors")


def save_small_model(folder: Any, process: Any = None) -> urn.Model:
    """A small untrained network, none of whose weights is zero, saved in a folder."""
    net = DigitsDenoiser(width=8, coarse_width=8, embedding=8, heads=2)
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    model = urn.Model(
        net.requires_grad_(False).eval(), urn.VP.linear() if process is None else process, "v", shape=(1, 8, 8)
    )
    save_model(model, folder)
    return model


def patch_net(monkeypatch: Any, change: Any) -> None:
    """Let `urn sample` open models whose net is `change(net)`."""
    import sys

    module = sys.modules["urn.cli.sample"]
    opened = module.open_model

    def patched(name: str) -> urn.Model:
        model = opened(name)
        return dataclasses.replace(model, net=change(model.net))

    monkeypatch.setattr(module, "open_model", patched)


def interrupting(calls: int) -> Any:
    """A change of a net: Ctrl-C comes in call number `calls`."""
    left = [calls]

    def change(net: Any) -> Any:
        def patched(x: Any, t: Any, **conditioning: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return net(x, t, **conditioning)

        return patched

    return change
