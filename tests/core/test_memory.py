"""A block's memory is used again, but what a network keeps of what it was shown stays as it was shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import dlpack

import urn
from urn.processes import VP

PROCESS = VP.linear()


def start() -> Tensor:
    return torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))


def saved_for_backward(x: Tensor) -> tuple[Tensor, Tensor]:
    """A graph that keeps x, beside which nothing does."""
    with torch.enable_grad():
        ones = torch.ones_like(x, requires_grad=True)
        return (ones * x).sum(), ones


def sent(x: Tensor) -> tuple[torch.UntypedStorage, int, torch.Size]:
    """What another process is given: the same memory, by the file that it is in now."""
    storage = x.untyped_storage()
    return torch.UntypedStorage._new_shared_fd_cpu(*storage._share_fd_cpu_()), x.storage_offset(), x.shape


WAYS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Any]]] = {
    "itself": (lambda x: x, lambda kept: kept),
    "a view": (lambda x: x[:, 1:], lambda kept: kept),
    "detached": (lambda x: x.detach(), lambda kept: kept),
    "numpy": (lambda x: x.numpy(), torch.from_numpy),
    "a view in numpy": (lambda x: x.numpy()[1:, ::2].T, lambda kept: torch.from_numpy(np.ascontiguousarray(kept))),
    "a memoryview": (lambda x: memoryview(x.numpy()), lambda kept: torch.from_numpy(np.asarray(kept))),
    "dlpack": (lambda x: dlpack.to_dlpack(x), lambda kept: dlpack.from_dlpack(kept)),
    "dlpack in numpy": (lambda x: np.from_dlpack(x), lambda kept: torch.from_numpy(np.array(kept))),
    "its storage": (
        lambda x: (x.untyped_storage(), x.storage_offset(), x.shape),
        lambda kept: torch.empty(0).set_(*kept),
    ),
    "another tensor on its storage": (lambda x: torch.empty(0).set_(x), lambda kept: kept),
    "a graph": (saved_for_backward, lambda kept: torch.autograd.grad(*kept, retain_graph=True)[0]),
    "shared memory": (lambda x: x.share_memory_(), lambda kept: kept),
    "sent to another process": (sent, lambda kept: torch.empty(0).set_(*kept)),
}


@pytest.fixture(params=["small", "large"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "large":
        monkeypatch.setattr("urn.registers.LARGE", 1)
        monkeypatch.setattr("urn.registers.TILES", 8 * 16)
    return str(request.param)


def run(net: Callable[..., Any], method: str = "unipc_3", x: Tensor | None = None) -> Tensor:
    plan = urn.compile_plan(method, PROCESS, 8)
    with torch.no_grad():
        found: Tensor = urn.execute(plan, urn.Model(net, PROCESS, "v"), {"x": start() if x is None else x})["x"]
    return found


def forgetful(x: Tensor, t: Tensor) -> Tensor:
    return x * 0.5 + 0.1


def test_memory_is_used_again(size: str) -> None:
    shown: list[int] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        shown.append(x.untyped_storage().data_ptr())
        return forgetful(x, t)

    run(net)
    assert len(set(shown)) == (2 if size == "small" else 1)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_kept_stays(way: str, size: str) -> None:
    keep, look = WAYS[way]
    kept: list[tuple[Any, Tensor]] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        then = look(keep(x.clone())).clone()
        kept.append((keep(x), then))
        return forgetful(x, t)

    assert torch.equal(run(net), run(forgetful))
    assert len(kept) == 8
    for one, then in kept:
        assert torch.equal(look(one), then)


def test_what_only_a_thread_keeps_stays(size: str) -> None:
    done, threads, wrong = threading.Event(), [], []

    def net(x: Tensor, t: Tensor) -> Tensor:
        def look(held: Tensor, then: Tensor) -> None:
            done.wait()
            if not torch.equal(held, then):
                wrong.append(then)

        threads.append(threading.Thread(target=look, args=(x, x.clone())))
        threads[-1].start()
        return forgetful(x, t)

    try:
        run(net)
    finally:
        done.set()
    for thread in threads:
        thread.join()
    assert len(threads) == 8
    assert not wrong


def test_without_a_count_nothing_is_used_again(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urn.registers.HOLDERS", lambda cdata: 0)
    shown: list[Tensor] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        shown.append(x)
        return forgetful(x, t)

    assert torch.equal(run(net), run(forgetful))
    assert len({x.untyped_storage().data_ptr() for x in shown}) == 8


@pytest.mark.parametrize("method", ["ddim", "unipc_3", "heun", "pndm"])
def test_a_network_may_return_what_it_was_shown(method: str, size: str) -> None:
    """Itself, a view of it, or memory of its own that the next call writes over."""
    own = torch.empty(2, 3, 8)
    expected = run(lambda x, t: x.clone(), method)
    for net in (lambda x, t: x, lambda x, t: x.view(2, 24).view_as(x), lambda x, t: own.copy_(x)):
        assert torch.equal(run(net, method), expected)


def test_a_network_that_writes_into_what_it_is_shown_does_so_in_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes is the state from there on, row by row too."""

    def net(x: Tensor, t: Tensor) -> Tensor:
        return x.mul_(0.9) * 0.5

    plan = urn.compile_plan("unipc_3", PROCESS, 8)
    model = urn.Model(net, PROCESS, "v")
    with torch.no_grad():
        by_row = urn.execute(plan, model, {"x": start()}, watch=lambda row, registers: None)["x"]
    small = run(net)
    monkeypatch.setattr("urn.registers.LARGE", 1)
    assert torch.equal(run(net), small)
    torch.testing.assert_close(small, by_row, rtol=1e-5, atol=1e-6)


def test_a_network_with_gradients_of_its_own(size: str) -> None:
    """Guidance: the gradient in x, taken in the call, and taken when all calls have been made."""
    graphs: list[tuple[Tensor, Tensor]] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            x.requires_grad_()
            loss = (x**3).sum()
            graphs.append((loss, x))
            return x.detach() * 0.5 + 0.1 + 0 * torch.autograd.grad(loss, x, retain_graph=True)[0]

    assert torch.equal(run(net), run(forgetful))
    for loss, x in graphs:
        torch.testing.assert_close(torch.autograd.grad(loss, x)[0], 3 * x.detach() ** 2)


def test_samples_and_starts_are_the_callers_own(size: str) -> None:
    x = start()
    one = run(forgetful, x=x)
    then = one.clone()
    other = run(forgetful, x=x + 1)
    assert torch.equal(x, start())
    assert torch.equal(one, then)
    assert not torch.equal(one, other)
    assert one.untyped_storage().nbytes() == one.nbytes


def test_in_inference_mode(size: str) -> None:
    with torch.inference_mode():
        found = run(forgetful)
    assert torch.equal(found.clone(), run(forgetful))


@pytest.mark.parametrize("shape", [(1, 1), (1, 17), (5, 3, 7), (1, 16), (3, 40)])
def test_any_number_of_columns(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for method in ("unipc_3", "deis_4", "pndm"):
        small = run(forgetful, method, x)
        monkeypatch.setattr("urn.registers.LARGE", 1)
        monkeypatch.setattr("urn.registers.TILES", 8 * 16)
        assert torch.equal(run(forgetful, method, x), small)
        monkeypatch.undo()


def test_what_nothing_reads_is_not_held() -> None:
    """A variance that is not finite does no harm."""
    model = urn.Model(lambda x, t: (x * 0.5, x / 0), PROCESS, ("v", "variance"))
    plan = urn.compile_plan("unipc_3", PROCESS, 8)
    with torch.no_grad():
        assert bool(torch.isfinite(urn.execute(plan, model, {"x": start()})["x"]).all())
