"""Whether a search that goes on is about the same network, reference and data as the trials in its study."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from urn.prediction import as_tensor
from urn.tuning.objectives import ToData, ToReference
from urn.tuning.task import Task, TuningError

LOOKED = 8  # training starts by which a network is known again
NEAR = 5e-3  # how near, relatively, the mean squares of its outputs must be: another machine's rounding differs by less
MARK = "looks"  # where a study keeps them


def check_same(task: Task, study: Any, name: str) -> None:
    """Refuse to go on with the trials of another network, reference or data of the same kind.

    Known again is what no setting names: mean squares of the network's output for some training starts at the middle time, the
    reference's calls, and the data's number and moments.

    Raises:
        TuningError: one of them differs; it says which.
    """
    process, some = task.model.process, task.train.first(LOOKED)
    t = (as_tensor(process.t_start) + as_tensor(process.t_end)) / 2
    with torch.no_grad():
        out = task.model(some.normals, t=float(t.round() if task.model.integer_times else t), **some.conditioning)[0]
    found = {"model": out.double().square().flatten(1).mean(1).tolist()}
    if isinstance(task.objective, ToReference):
        found["reference's calls"] = [float(task.objective.reference(process).nfe)]
    if isinstance(task.objective, ToData):
        data = task.objective.data.double()
        found["data"] = [float(len(data)), float(data.mean()), float(data.square().mean())]
    known = study.user_attrs.get(MARK, {})
    for what, numbers in found.items():
        before = known.get(what, numbers)
        if len(before) != len(numbers) or not np.allclose(numbers, before, rtol=NEAR, atol=1e-6, equal_nan=True):
            raise TuningError(
                f"study={name!r} holds the trials of another search, the {what} differs: choose another name"
            )
    study.set_user_attr(MARK, {**found, **known})
