"""tune: the front door of tuning."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from urn.model import Model
from urn.noise import sample_seeds
from urn.plan import Plan
from urn.processes import process_to_json
from urn.sampling import progress_bar
from urn.tuning.arguments import check_arguments
from urn.tuning.objectives import Objective, ToReference, as_objective
from urn.tuning.record import Entry, Record, Tuned, tried_rows
from urn.tuning.resumed import check_same
from urn.tuning.search import CHEAP, Search, open_study
from urn.tuning.task import Starts, Task, TuningError, check_differentiable, check_times_move, make_starts
from urn.tuning.tuners import Tuner, find_tuner
from urn.tuning.untuned import plan_within, untuned_plans

SCREENED = 12  # untuned plans that are measured on all training starts, after a look at some
MEASURED = "untuned plans measured"  # a study's mark


class TuningInterrupted(KeyboardInterrupt):
    """A search was interrupted. `plan` and `record` hold the best plan so far, None where nothing was measured yet.

    Interrupted again while the plans are judged, there is no record: `plan` is the best by the training starts. With a storage
    the search goes on from there when it is started again with the same arguments.
    """

    def __init__(self, plan: Plan | None, record: Record | None) -> None:
        super().__init__("the search was interrupted")
        self.plan, self.record = plan, record


def tune(
    model: Model,
    steps: int,
    *,
    tuner: str | Tuner = "auto",
    objective: str | Objective | Any = None,
    data: Tensor | None = None,
    starts: int = 1024,
    held_out: int = 1024,
    seed: int = 0,
    conditioning: Mapping[str, Any] | None = None,
    seeded: Mapping[str, Plan] | None = None,
    trials: int | None = None,
    evaluations: int | None = None,
    seconds: float | None = None,
    storage: str | Path | None = None,
    study: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    batch_size: int = 1024,
    progress: bool = False,
    **options: Any,
) -> Tuned:
    """Find the best plan for a model and a number of model calls, and how much it wins on starts it has not seen.

    Untuned plans are measured first, every usual method on every usual grid. The tuner starts from the best of them, by
    training starts alone. Then the best plan that it found and the best untuned one are run from the held-out starts; where
    the tuned plan is no better there, the untuned one is returned, and the record says so.

    Args:
        model: the model; it must know its shape.
        steps: the budget: model calls a sample, at least 2.
        tuner: a name in `urn.tuning.tuners()`, or a `Tuner`.
        objective: "reference", the RMS distance to a fine reference trajectory (the default where there are no data);
            "energy" (the default with data), "frechet" or "mmd", a distance to the data; a function of the samples that
            returns a number to make small; or an `urn.tuning.Objective`.
        data: (N, *S), one half for training and the other held out.
        starts, held_out: how many starts to train on, and to judge by.
        seed: of all starts and of the search; a held-out start is never one to train on.
        conditioning: keyword arguments for the network; tensors of `starts + held_out` entries are split.
        seeded: further plans to start from, by label.
        trials, evaluations, seconds: limits of the search: plans tried by the tuner; model calls times samples, those of the
            reference and of the untuned plans included; time, of which untuned plans take half at most. What has begun is
            finished: the reference and the first look at untuned plans take the time they need, and judging comes after it.
        storage: where trials are kept: None for memory, a path for a SQLite file, or the address of a database that several
            machines share. A search that was killed goes on when it is started again with the same arguments.
        study: the search's name in the storage; by default made from its settings.
        dtype, device: of the states.
        batch_size: starts at a time.
        progress: show a bar.
        options: the tuner's own.

    Returns:
        (plan, record), with `.save(path)`.

    Raises:
        ValueError: an argument is wrong; nothing was run.
        TuningError: the objective gave nan, the model or objective is not differentiable, or the storage cannot be reached;
            its `.plan` and `.record` keep what was found.
        TuningInterrupted: a KeyboardInterrupt came; it keeps what was found.

    Example:
        >>> plan, record = tune(model, steps=8)
        >>> print(record)
        >>> x = urn.sample(model, plan, shape=(64, 1, 8, 8), seed=1)
    """
    chosen = find_tuner(tuner)
    chosen.check_options(options)
    goal = as_objective(objective, data)
    if chosen.gradients and isinstance(model, Model):
        check_times_move(model)
    if isinstance(model, Model) and model.integer_times and isinstance(goal, ToReference) and goal.plan is None:
        goal = replace(goal, plan=plan_within(model.process, "dpmpp_3m", goal.calls, "trailing"))
    check_arguments(
        model, steps, starts, held_out, goal, seeded or {}, trials, evaluations, seconds, batch_size, dtype, device
    )
    if chosen.paired and not goal.paired:
        raise ValueError(
            f"tuner={chosen.name!r} needs objective='reference'; {goal.name} gives no error for every start"
        )
    given = _split(conditioning or {}, starts, held_out)
    train = make_starts(model, sample_seeds(seed, starts), given[0], False, dtype, device)
    judging = make_starts(model, sample_seeds(seed, held_out, starts), given[1], True, dtype, device)
    task = Task(model, steps, goal, train, judging, batch=batch_size)
    if chosen.gradients:
        check_differentiable(model, task.train)
    settings = _settings(model, steps, chosen, options, goal, starts, seed)
    name = study or f"{chosen.name} {steps} calls {goal.name} seed {seed}"
    opened = open_study(storage, name, settings, seed)
    if storage is not None:
        check_same(task, opened, name)
    with progress_bar(progress, trials or 0, "plan") as bar:
        search = Search(
            task,
            opened,
            seed,
            trials=trials,
            evaluations=evaluations,
            seconds=seconds,
            told=None
            if bar is None
            else (lambda one: (bar.update(), bar.set_postfix_str(f"{one.value:.4g} {one.label}"))),
        )
        its = (search, chosen, options)
        try:
            _try_untuned(search, seeded or {}, model.integer_times)
            if not search.is_over:
                chosen(search, **options)
            if search.is_over and chosen.name != "untuned" and all(one.untuned for one in search.tried):
                search.notes["limit"] = "reached before the tuner had measured a plan: nothing was tuned"
            search.is_judged = True
            result = _found(*its)
        except KeyboardInterrupt:
            raise TuningInterrupted(*_kept(*its)) from None
        except TuningError as error:
            error.plan, error.record = _kept(*its)
            raise
        except Exception as error:  # of the user's network or objective, or an option that does not suit this search
            stopped = TuningError(str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")
            stopped.plan, stopped.record = _kept(*its)
            raise stopped from error
    if result is None:
        raise TuningError("no plan gave finite samples and a finite objective: is the model's process right?")
    return result


def _kept(search: Search, chosen: Tuner, options: Mapping[str, Any]) -> tuple[Plan | None, Record | None]:
    """What a search that was stopped has found; without a record where it was stopped in the judging, then or now."""
    try:
        if not search.is_judged:
            search.is_judged = True
            return _found(search, chosen, options) or (None, None)
    except (KeyboardInterrupt, Exception):  # the judging, too
        pass
    return search.best.plan, None


def _try_untuned(search: Search, seeded: Mapping[str, Plan], whole: bool) -> None:
    """Measure the plans that the search is seeded with: all on some starts, the best on all."""
    if search.study.user_attrs.get(MEASURED):  # a search that goes on
        for label, plan in seeded.items():
            search.try_plan(plan, label, untuned=True)
        return
    task = search.task
    every = [*seeded.items(), *untuned_plans(task.model.process, task.calls, whole=whole)]
    few, screened = min(CHEAP, len(task.train)), SCREENED
    if search.evaluations is not None:  # a fifth of them to look at all plans, and a fifth to measure the best
        share = search.evaluations // (5 * task.calls)
        few = max(4, min(few, share // len(every)))
        screened = max(1, min(screened, share // len(task.train)))
    looked = sorted(((task.value(plan, few), place) for place, (_, plan) in enumerate(every)))
    kept = {place for _, place in looked[:screened]} | set(range(len(seeded)))
    for _, place in looked:
        late = search.seconds is not None and search.spent > search.seconds / 2
        if place in kept and not (late and search.tried and place >= len(seeded)):
            label, plan = every[place]
            search.try_plan(plan, label, untuned=True)
    search.study.set_user_attr(MEASURED, True)


def _found(search: Search, chosen: Tuner, options: Mapping[str, Any]) -> Tuned | None:
    """The best plan by training starts beside the best untuned one, judged on the held-out starts."""
    task, seconds = search.task, search.spent
    try:
        best, plain = search.best, search.best_untuned
    except TuningError:
        return None
    plans = {"tuned": best, "untuned": plain}
    entries = {
        kind: Entry(one.label, one.plan.nfe, task.figure(one.plan, held_out=False), task.figure(one.plan))
        for kind, one in plans.items()
    }
    better = entries["tuned"].held_out.estimate < entries["untuned"].held_out.estimate
    returned = "tuned" if better and not best.untuned else "untuned"
    from urn import __version__

    return Tuned(
        plans[returned].plan,
        Record(
            tuner=chosen.name,
            options=dict(options),
            model=describe(task.model),
            process=str(task.model.process),
            objective=task.objective.name,
            calls=task.calls,
            seed=search.seed,
            starts=len(task.train),
            held_out=len(task.held_out),
            evaluations=search.tried[-1].evaluations,
            judging=task.judged,
            seconds=seconds,
            tuned=entries["tuned"],
            untuned=entries["untuned"],
            returned=returned,
            tried=tried_rows(search.tried),
            command=shlex.join(sys.argv),
            versions={"urn": __version__, "torch": torch.__version__},
            notes=dict(search.notes),
        ),
    )


def describe(model: Model) -> str:
    """A model in words."""
    net = getattr(model.net, "__qualname__", type(model.net).__name__)
    return f"{net} ({', '.join(model.outputs)}) of {model.process}"


def _settings(
    model: Model, steps: int, chosen: Tuner, options: Mapping[str, Any], goal: Objective, starts: int, seed: int
) -> dict[str, Any]:
    """What two searches must have in common for the trials of one to be the other's."""
    return {
        "tuner": chosen.name,
        "options": {name: repr(value) for name, value in sorted(options.items())},
        "calls": steps,
        "objective": goal.name,
        "process": process_to_json(model.process),
        "shape": list(model.shape or ()),
        "outputs": list(model.outputs),
        "starts": starts,
        "seed": seed,
    }


def _split(conditioning: Mapping[str, Any], starts: int, held_out: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of the training starts, and of those held out."""
    first: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in conditioning.items():
        if isinstance(value, Tensor) and value.ndim and len(value) == starts + held_out:
            first[name], rest[name] = value[:starts], value[starts:]
        elif isinstance(value, Tensor) and value.ndim and len(value) > 1:
            raise ValueError(
                f"conditioning[{name!r}]: {len(value)} entries; {starts} training and {held_out} held-out starts "
                f"need {starts + held_out}"
            )
        else:
            first[name] = rest[name] = value
    return first, rest


def starts_of(
    model: Model, record: Record, conditioning: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> tuple[Starts, Starts]:
    """The training and the held-out starts of a record's search."""
    first, rest = _split(conditioning, record.starts, record.held_out)
    seeds = sample_seeds(record.seed, record.starts), sample_seeds(record.seed, record.held_out, record.starts)
    return (
        make_starts(model, seeds[0], first, False, dtype, "cpu"),
        make_starts(model, seeds[1], rest, True, dtype, "cpu"),
    )
