"""What the kit checks: a sampler as a callable, with what it promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from urn.compiler import compile_plan
from urn.executor import execute
from urn.method import Method
from urn.model import Model
from urn.noise import SeededNoise
from urn.plan import Plan
from urn.processes import Process, components_of

from .probing import Draw

if TYPE_CHECKING:
    from .report import Check

Run = Callable[[Model, Tensor, Tensor, Sequence[int]], Tensor]


@dataclass(frozen=True)
class Subject:
    """A sampler and its promises.

    Attributes:
        name: for the report.
        run: run(model, x, times, seeds) -> samples: from states x, (B, d) float64, at times[0] to times[-1] of the model's
            process, one seed per sample. A deterministic sampler leaves the seeds alone.
        order: nominal global order (of the law, where it is stochastic); None promises nothing.
        stochastic: whether it draws noise.
        exact_for: "point" where data that are one point are reproduced exactly on any grid.
        plan: compiles the sampler where it is one of Urn's, so that its law can be had without sampling.
        drawn: drawn(model, x, times, draw) -> samples: the sampler with its noise handed in, so that its law on Gaussian data
            can be had without sampling where it is affine; see probing.py for `draw`.
        floor: an error below this is rounding and says nothing about order.
        checks: what is checked instead of the kit's own list, where that does not apply.
        more: further checks, after these.
        notes: what the report says of the conditions, a line each.
    """

    name: str
    run: Run
    order: int | None = None
    stochastic: bool = False
    exact_for: tuple[str, ...] = ()
    plan: Callable[[Process, Tensor], Plan] | None = None
    drawn: Callable[[Model, Tensor, Tensor, Draw], Tensor] | None = None
    floor: float = 1e-11
    checks: tuple[Callable[[Subject, Process], Check], ...] | None = None
    more: tuple[Callable[[Subject, Process], Check], ...] = ()
    notes: tuple[str, ...] = ()

    @staticmethod
    def of_method(method: Method, change: Callable[[Plan], Plan] | None = None) -> Subject:
        """A method of Urn's, with the facts it is registered with; `change` is applied to every plan it compiles to."""

        def compiled(process: Process, times: Tensor) -> Plan:
            plan: Plan = compile_plan(method, process, grid=times)
            return plan if change is None else change(plan)

        def run(model: Model, x: Tensor, times: Tensor, seeds: Sequence[int]) -> Tensor:
            plan = compiled(model.process, times)
            noise = SeededNoise(seeds) if plan.stochastic else None
            if len(components := components_of(model.process)) > 1:
                inputs = dict(zip(components, x.unbind(1), strict=True))
            else:
                inputs, model = {"x": x}, with_all_outputs(model)
            result: Tensor = execute(plan, model, inputs, noise)["x"]
            return result

        options = "".join(f", {name}={value}" for name, value in method.options.items())
        return Subject(f"{method.name}{options}", run, method.order, method.stochastic, method.exact_for, compiled)

    @staticmethod
    def of_callable(run: Callable[..., Any], **promises: Any) -> Subject:
        """Anybody's sampler; `promises` are `order`, `stochastic` and `exact_for`."""
        return Subject(str(getattr(run, "__name__", repr(run))), run, **promises)


def with_all_outputs(model: Model) -> Model:
    """The model with a learned variance midway between small and large, and with its own prediction as the unconditional
    one, for methods that want these."""

    def net(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        prediction = model.net(*given)
        return prediction, torch.zeros_like(prediction), prediction

    return Model(net, model.process, (model.outputs[0], "variance", "unconditional"), model.shape)
