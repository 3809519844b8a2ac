"""The executor: walks a plan on a model. The only loop over model calls outside `urn.loops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from urn.binding import Call, Draw, Mix, bind
from urn.model import Model
from urn.noise import NoiseSource
from urn.plan import FUNCTIONS, PlanError, Row, Rows
from urn.registers import Named, registers_for

Watch = Callable[[Row, Mapping[str, Any]], None]


def execute(
    plan: Rows,
    model: Model | Mapping[str, Model],
    inputs: Mapping[str, Any],
    noise: NoiseSource | None = None,
    *,
    conditioning: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run a plan on a model; every register is freed after its last use.

    Inside `torch.compile(..., fullgraph=True)` the run of a plan is one graph, the network's calls included.

    Args:
        plan: a Plan or Draft.
        model: the model, or a mapping of names to models where rows name several.
        inputs: a value for every input of the plan; `x` is the start. Anything with `+` and `*` by numbers runs.
        noise: where Noise rows come from; needed only by plans that have some.
        conditioning: keyword arguments for the networks.
        watch: called after every row with the row and the live registers; what it puts there, later rows read. Rows are
            then run one by one, and rounded otherwise in the last digit.

    Returns:
        The plan's outputs by name.

    Raises:
        PlanError: the model is of another process, or cannot give a wanted prediction.
    """
    models = model if isinstance(model, Mapping) else {"main": model}
    if missing := [name for name, _ in plan.inputs if name not in inputs]:
        raise PlanError(f"the plan needs {', '.join(missing)} beside the inputs given: {', '.join(inputs) or 'none'}")
    program = bind(plan, models, watched=watch is not None)
    registers = registers_for(program, inputs, keep=watch is not None)
    like, given = inputs["x"], conditioning or {}
    times = {name: one.times(program.times[name], like) for name, one in models.items()}
    for operation in program.operations:
        if isinstance(operation, Mix):
            registers.mix(operation.sums)
        elif isinstance(operation, Call):
            call = operation.row
            outputs = models[call.model].call(
                [registers[name] for name in call.inputs], call.t, next(times[call.model]), given
            )
            for name, output in zip(operation.outputs, outputs, strict=True):
                registers[name] = output
            del outputs, output  # freed with the row
            if operation.sums:
                registers.mix(operation.sums)
        elif isinstance(operation, Draw):
            draw = operation.row
            if noise is None:
                raise PlanError(f"step {draw.step}: the plan draws noise; pass a noise source")
            registers[draw.out] = noise.normal(draw.interval, draw.stream or 0, like)
        else:
            apply = operation.row
            function = FUNCTIONS[apply.function].call
            registers[apply.out] = function(*[registers[name] for name in apply.inputs], **dict(apply.options))
        if watch is not None and operation.row is not None and isinstance(registers, Named):
            watch(operation.row, registers)
        registers.drop(operation.spent)
    return {name: registers.handed_out(register) for name, register, _ in plan.outputs}
