"""Programs and registers: a plan run in one block of memory is the plan run row by row, and asks for little."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import urn
from urn.binding import Call, Mix, bind
from urn.noise import SeededNoise
from urn.processes import VP, Flow, MeanReverting, PhaseSpace
from urn.registers import Block, Named, products_go_by_column, registers_for

METHODS = {
    "ddim": {},
    "heun": {},
    "dpmpp_2m": {},
    "unipc_3": {},
    "deis_4": {},
    "adams_pc_3": {},
    "rk38": {},
    "res_3s": {},
    "pndm": {},
    "dpmpp_2m_sde": {},
    "dpmpp_sde": {},
    "sa_solver_pece": {},
    "restart": {},
}


def net(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x * t.reshape(-1, *[1] * (x.ndim - 1)).clamp(max=1) + 0.3)


def start(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def both(plan: urn.Plan, model: urn.Model, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """In a block, and row by row."""
    seeds = range(len(inputs["x"]))
    with torch.no_grad():
        assert isinstance(registers_for(bind(plan, {"main": model}), inputs, keep=False), Block)
        made = urn.execute(plan, model, inputs, SeededNoise(seeds))["x"]
        return made, urn.execute(plan, model, inputs, SeededNoise(seeds), watch=lambda row, registers: None)["x"]


@pytest.mark.parametrize("predicts", ["epsilon", "v"])
@pytest.mark.parametrize("method", METHODS)
def test_a_block_gives_what_rows_give(method: str, predicts: str) -> None:
    plan = urn.compile_plan(method, VP.linear(), 6, "lambda", **METHODS[method])
    made, row_by_row = both(plan, urn.Model(net, VP.linear(), predicts), {"x": start(3, 5)})
    torch.testing.assert_close(made, row_by_row, rtol=1e-9, atol=1e-9)


def test_with_side_inputs_components_and_maps() -> None:
    process = MeanReverting(Flow(), 0.5)
    model = urn.Model(lambda x, y, t: net(x, t) - 0.2 * y, process, "v")
    made, other = both(urn.compile_plan("unipc_3", process, 6), model, {"x": start(3, 5), "y": start(3, 5) + 1})
    torch.testing.assert_close(made, other, rtol=1e-10, atol=1e-10)

    joint = urn.Model(lambda x, m, t: (-x, -m), PhaseSpace(), ("score", "score_m"))
    plan = urn.compile_plan("psld_heun", PhaseSpace(), 6, "lambda")
    torch.testing.assert_close(*both(plan, joint, {"x": start(3, 5), "m": start(3, 5) / 2}), rtol=1e-9, atol=1e-9)

    clipped = urn.compile_plan(urn.mapped_x0("dpmpp_2m", "clip", low=-0.5, high=0.5), VP.linear(), 6)
    model = urn.Model(net, VP.linear(), "v")
    torch.testing.assert_close(*both(clipped, model, {"x": start(3, 5)}), rtol=1e-10, atol=1e-10)


def test_what_does_not_fit_a_block_goes_by_name() -> None:
    plan = urn.compile_plan("unipc_3", VP.linear(), 4)
    program = bind(plan, {"main": urn.Model(net, VP.linear(), "v")})
    with torch.no_grad():
        for x in (start(2, 3).numpy(), start(2, 3).to("meta"), start(2, 3).long()):
            assert isinstance(registers_for(program, {"x": x}, keep=False), Named)
        assert isinstance(registers_for(program, {"x": start(2, 3)}, keep=True), Named)
        single = bind(urn.compile_plan("ddim", VP.linear(), 1), {"main": urn.Model(net, VP.linear(), "v")})
        assert isinstance(registers_for(single, {"x": start(2, 3)}, keep=False), Named)
    assert isinstance(registers_for(program, {"x": start(2, 3)}, keep=False), Named)  # gradients may be asked for


def test_samples_do_not_depend_on_their_batch_to_the_bit() -> None:
    assert products_go_by_column()
    for shape in ((1,), (3,), (7, 5), (3, 8, 8)):
        for method in ("ddim", "unipc_3", "adams_pc_4", "dpmpp_2m_sde"):
            plan = urn.compile_plan(method, VP.linear(), 5)
            x = start(9, *shape, dtype=torch.float32)
            model = urn.Model(lambda x, t: x * 0.5 + 0.1, VP.linear(), "v")
            with torch.no_grad():
                whole = urn.execute(plan, model, {"x": x}, SeededNoise(range(9)))["x"]
                for part in (slice(0, 1), slice(4, 5), slice(2, 8)):
                    seeds = range(9)[part]
                    assert torch.equal(urn.execute(plan, model, {"x": x[part]}, SeededNoise(seeds))["x"], whole[part])


def test_a_network_may_keep_what_it_is_shown() -> None:
    kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def keeping(x: Tensor, t: Tensor) -> Tensor:
        kept.append((x, x.clone(), t, t.clone()))
        return x / 2

    given = start(2, 3)
    with torch.no_grad():
        urn.execute(urn.compile_plan("unipc_3", VP.linear(), 6), urn.Model(keeping, VP.linear(), "v"), {"x": given})
    assert all(torch.equal(x, then) and torch.equal(t, time) for x, then, t, time in kept)
    assert torch.equal(given, start(2, 3))


def test_samples_keep_no_other_memory() -> None:
    model, x = urn.Model(net, VP.linear(), "v"), start(2, 3)
    with torch.no_grad():
        made = urn.execute(urn.compile_plan("unipc_3", VP.linear(), 6), model, {"x": x})["x"]
    assert made.untyped_storage().nbytes() == made.nbytes


class Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["ddim", "dpmpp_3m", "unipc_3", "adams_pc_4", "deis_4"])
def test_a_call_costs_two_kernels_whatever_the_history(method: str) -> None:
    """A copy of what the network returned, and one product; those of a start apart."""
    answer, x = start(4, 6), start(4, 6)
    model = urn.Model(lambda x, t: answer, VP.linear(), "epsilon")
    counts = {}
    for steps in (10, 30):
        plan = urn.compile_plan(method, VP.linear(), steps)
        bind(plan, {"main": model}).products(torch.float64, True)
        with torch.no_grad(), Counting() as counting:
            urn.execute(plan, model, {"x": x})
        counts[plan.nfe] = len(counting.names)
        assert counting.names.count("aten::mm") <= plan.nfe
    (few, first), (many, second) = counts.items()
    assert second - first == 2 * (many - few)


def test_sums_that_only_sums_read_are_gone() -> None:
    """DDIM's x0 and epsilon are not made: a call and one sum a step."""
    program = bind(urn.compile_plan("ddim", VP.linear(), 3), {"main": urn.Model(net, VP.linear(), "v")})
    assert [type(one) for one in program.operations] == [Call, Mix] * 3
    assert all(len(one.sums) == 1 and len(one.sums[0][1]) == 2 for one in program.operations if isinstance(one, Mix))


def test_a_plan_keeps_its_programs() -> None:
    plan = urn.compile_plan("unipc_3", VP.linear(), 4)
    one, other = (urn.Model(net, VP.linear(), kind) for kind in ("v", "epsilon"))
    assert bind(plan, {"main": one}) is bind(plan, {"main": urn.Model(lambda x, t: x, VP.linear(), "v")})
    assert bind(plan, {"main": one}) is not bind(plan, {"main": other})
    assert bind(plan, {"main": one}) is not bind(plan, {"main": one}, watched=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_added_up_in_float32(dtype: torch.dtype) -> None:
    """So 100 steps end no further from float64 than 10: by the rounding of what the network is shown and returns."""
    model, x = urn.Model(lambda x, t: x * 0.5, Flow(), "velocity"), start(64, 16, dtype=dtype)
    errors = []
    for steps in (10, 100):
        plan = urn.compile_plan("dpmpp_2m", Flow(), grid=torch.linspace(0.9, 0.1, steps + 1))
        with torch.no_grad():
            half = urn.execute(plan, model, {"x": x})["x"]
            exact = urn.execute(plan, model, {"x": x.double()})["x"]
        assert half.dtype == dtype
        errors.append(float((half.double() - exact).abs().mean() / exact.abs().mean()))
    assert errors[1] < 1.5 * errors[0] < 3 * torch.finfo(dtype).eps


@pytest.mark.parametrize("method", ["ddim", "unipc_3", "heun", "dpmpp_2m"])
def test_a_plan_compiles_as_one_graph(method: str) -> None:
    layer = torch.nn.Linear(6, 6, dtype=torch.float64)
    model = urn.Model(lambda x, t: layer(x) * 0.1 + t[:, None], VP.linear(), "v")
    plan = urn.compile_plan(method, VP.linear(), 3)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: urn.execute(plan, model, {"x": x})["x"], fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(start(2, 6)), urn.execute(plan, model, {"x": start(2, 6)})["x"])


def test_arrays_and_tensors_agree() -> None:
    plan = urn.compile_plan("unipc_3", VP.linear(), 5)
    by_torch = urn.Model(lambda x, t: x * 0.5, VP.linear(), "v")
    made = urn.execute(plan, by_torch, {"x": start(2, 3).numpy()})["x"]
    with torch.no_grad():
        np.testing.assert_allclose(made, urn.execute(plan, by_torch, {"x": start(2, 3)})["x"].numpy(), rtol=1e-12)


def test_large_states_are_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their blocks are written without the rows that calls fill."""
    for method in ("ddim", "unipc_3", "heun", "dpmpp_2m_sde"):
        plan, x = urn.compile_plan(method, VP.linear(), 5), start(3, 50, dtype=torch.float32)
        model = urn.Model(net, VP.linear(), "epsilon")
        with torch.no_grad():
            small = urn.execute(plan, model, {"x": x}, SeededNoise(range(3)))["x"]
            monkeypatch.setattr("urn.registers.LARGE", 1)
            large = urn.execute(plan, model, {"x": x}, SeededNoise(range(3)))["x"]
            monkeypatch.undo()
        assert torch.equal(small, large)
