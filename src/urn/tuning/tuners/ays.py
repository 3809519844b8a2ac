"""Align Your Steps: the grid with the least divergence of the reverse SDE from its steps, estimated on the network.

A step that holds the prediction of x0 from its beginning draws from another law than the reverse SDE. With s = sigma/alpha,
x_s the state divided by alpha and D(x_s, s) the prediction of x0, Girsanov's theorem bounds the divergence of what is drawn
from the data by the sum over the steps of

    int_{s_next}^{s_cur} E |D(x_s, s) - D(x_{s_cur}, s_cur)|^2 / s^3 ds

`Bound` estimates it by Monte Carlo: x_s = x0 + s z of data x0, x_{s_cur} = x_s + sqrt(s_cur^2 - s^2) z' (forward noise
couples them), and s drawn with the density that the integrand has on Gaussian data of the data's own mean variance v,

    p(s) ~ v^2 (s_cur^2 - s^2) / (s^3 (v + s^2) (v + s_cur^2)),    whose integral is (r - log(1 + r))/2 for each coordinate,
    r = v (s_cur^2 - s_next^2) / (s_next^2 (v + s_cur^2))

so that on such data every draw gives the same number but for the noise of |.|^2. The integral grows without bound as the last s
goes to 0, so the grid ends at a small noise, `t_finite`, and plans on it with the jump to the clean prediction.

The times are moved one after the other, each to the best of some places between its neighbours, all places seeing the same
noise. The bound's own best grid lies too close to the data to draw with, so the paper stops early; here the grid is tried after
every sweep over the times, and the search keeps the best. The first grid is EDM's, in 10 steps; for more than 10, every step is
halved in log s and the times are moved again, until there are enough.
A grid of another number of steps is the log-linear interpolation: log s over the share of steps.

Where the objective knows no data, x0 are samples of a fine plan. On Gaussian data the estimate is that of `urn.grids.ays`.

Source: Sabour, Fidler, Kreis 2024, Align Your Steps: Optimizing Sampling Schedules in Diffusion Models, arXiv 2404.14507,
theorem 3.1, section 3.2 and appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from urn.grids import karras
from urn.model import Model
from urn.noise import SeededNoise, sample_seeds
from urn.plan import Node
from urn.prediction import conversion
from urn.processes import Process
from urn.tuning.arguments import check_settings
from urn.tuning.objectives import ToData
from urn.tuning.search import Search
from urn.tuning.task import TuningError
from urn.tuning.tuners import tuner
from urn.tuning.untuned import METHODS, plan_within, untuned_plans

SOURCE = (
    "Sabour, Fidler, Kreis 2024, Align Your Steps: Optimizing Sampling Schedules in Diffusion Models, arXiv 2404.14507"
)
FIRST = 10  # steps of the first grid
REACH = 0.6  # of a gap, how far a time is moved at most
CELLS = 200  # of the table that s is drawn from


@tuner(source=SOURCE)
def ays(
    search: Search,
    samples: int = 128,
    draws: int = 8,
    sweeps: int = 20,
    methods: tuple[str, ...] = METHODS,
) -> None:
    """The grid with the least divergence of the reverse SDE's steps on the network, tried with every usual method.

    Args:
        samples: data, or samples of a fine plan, that the divergence is estimated on.
        draws: values of s in a step.
        sweeps: over the times at most, before every step is halved or the search ends; the grid is tried after each.
        methods: that are tried on the last grid; those before are tried with the best untuned plan's.

    Raises:
        ValueError: a setting is out of range.
        TuningError: the model takes integer times only.
    """
    check_settings(samples=samples, draws=draws, sweeps=sweeps)
    task = search.task
    process = task.model.process
    if task.model.integer_times:
        raise TuningError(
            "model.integer_times=True: Align Your Steps chooses among times in between; take another tuner"
        )
    x0, conditioning = clean_samples(search, samples)
    bound = Bound(task.model, x0, draws, search.seed, conditioning)
    method = search.best_untuned.plan.method
    logs = log_ratio(process, karras(process, FIRST))

    def grid(_: Process, steps: int) -> Tensor:
        return process.t_of_lambda(-subdivided(logs, steps))

    while True:
        for swept in aligned(bound, logs, sweeps, lambda: search.is_over):
            logs = swept
            task.evaluations, bound.evaluations = task.evaluations + bound.evaluations, 0
            for _, plan in untuned_plans(process, task.calls, (method,), [grid]):
                search.try_plan(plan, f"ays, {len(logs) - 1} steps, {method}")
        if len(logs) > task.calls or search.is_over:
            break
        logs = subdivided(logs, 2 * (len(logs) - 1))
    for label, plan in untuned_plans(process, task.calls, methods, [grid]):
        if search.is_over:
            return
        search.try_plan(plan, f"ays, {label.split(',')[0]}")


def clean_samples(search: Search, count: int) -> tuple[Tensor, dict[str, Any]]:
    """Data of the training starts' share, with a conditional model or without data the samples of a fine plan."""
    task = search.task
    part = task.train.first(count)
    if isinstance(task.objective, ToData) and not part.conditioning:
        return cast(Tensor, task.train_target)[:count].to(part.normals), {}
    with torch.no_grad():
        return task.run(plan_within(task.model.process, "dpm_solver_3", 60), part), dict(part.conditioning)


class Bound:
    """The divergence of single steps, estimated on some samples with the same noise for all steps.

    Attributes:
        evaluations: model calls times samples so far.
    """

    def __init__(
        self, model: Model, x0: Tensor, draws: int, seed: int = 0, conditioning: dict[str, Any] | None = None
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        source = SeededNoise(sample_seeds(seed, len(x0)))  # another generator than the one that may have drawn the data
        self.model, self.x0 = model, x0
        self.noises = [source.normal((1.0, 0.0), stream, x0) for stream in (1, 2)]
        self.places = (torch.arange(draws) + torch.rand(draws, generator=generator, dtype=torch.float64)) / draws
        self.conditioning = conditioning or {}
        self.variance = float(x0.double().var(0).mean())
        self.evaluations = 0

    def of_step(self, cur: float, next: float) -> float:
        """The divergence of a step between two values of log(sigma/alpha), summed over coordinates.

        x_s is drawn given x0 and x_{s_cur}: that has the law of x_{s_cur} = x_s + sqrt(s_cur^2 - s^2) z', and one prediction at
        the step's beginning serves all its s.
        """
        s_cur = math.exp(cur)
        x_cur = self.x0 + s_cur * self.noises[0]
        logs, density = self.drawn(cur, next)
        held = self.predicted(x_cur, cur, slice(None))
        parts = torch.arange(len(self.x0)).tensor_split(len(logs))
        total = 0.0
        for log, p, part in zip(logs.tolist(), density.tolist(), parts, strict=True):
            kept = math.exp(2 * (log - cur))
            x = self.x0[part] + kept * s_cur * self.noises[0][part]
            x = x + math.exp(log) * math.sqrt(1 - kept) * self.noises[1][part]
            missed = (self.predicted(x, log, part) - held[part]).double().square().flatten(1).sum(1).mean()
            total += float(missed) / (math.exp(2 * log) * p * len(logs))
        return total

    def drawn(self, cur: float, next: float) -> tuple[Tensor, Tensor]:
        """Values of log s between the ends, one from each of equal shares of the density, and the density of log s there."""
        edges = torch.linspace(next, cur, CELLS + 1, dtype=torch.float64)
        middle, v = torch.exp(edges[:-1] + edges[1:]), self.variance
        mass = (math.exp(2 * cur) - middle) / (middle * (v + middle))
        mass = mass / mass.sum()
        ends = mass.cumsum(0)
        cell = torch.searchsorted(ends, self.places * ends[-1]).clamp(max=CELLS - 1)
        inside = 1 - (ends[cell] - self.places * ends[-1]) / mass[cell]
        width = edges[1] - edges[0]
        return edges[cell] + inside * width, mass[cell] / width

    def predicted(self, x: Tensor, log: float, part: Any) -> Tensor:
        """The prediction of x0 at states divided by alpha."""
        process, model = self.model.process, self.model
        t = process.t_of_lambda(torch.tensor(-log, dtype=torch.float64))
        node = Node(t, process.alpha(t), process.sigma(t))
        given = {
            name: value[part] if isinstance(value, Tensor) and value.shape[:1] == self.x0.shape[:1] else value
            for name, value in self.conditioning.items()
        }
        self.evaluations += len(x)
        state = float(node.alpha) * x
        with torch.no_grad():
            output = model(state, t=float(t), **given)[0]
        on_x, on_output = conversion(model.outputs[0], "x0", node, process)
        made: Tensor = float(on_x) * state + float(on_output) * output
        return made


def aligned(bound: Bound, logs: Tensor, sweeps: int, is_over: Callable[[], bool] = lambda: False) -> Iterator[Tensor]:
    """The grid after each sweep over its inner times, in which each is moved to the best of five places around it.

    The places are 1 and 1/2 of a reach to either side, the reach being a share of the gap there, which is halved after a sweep
    in which no time moved, twice; then the sweeps end.
    """
    points = logs.tolist()
    known: dict[tuple[float, float], float] = {}

    def cost(cur: float, next: float) -> float:
        if (cur, next) not in known:
            known[cur, next] = bound.of_step(cur, next)
        return known[cur, next]

    reach = REACH
    for _ in range(sweeps):
        if is_over():
            return
        moved = False
        for i in range(1, len(points) - 1):
            before, here, after = points[i - 1 : i + 2]
            up, down = reach * (before - here), reach * (here - after)
            places = [here, here + up, here + up / 2, here - down / 2, here - down]
            best = min(places, key=lambda place: cost(before, place) + cost(place, after))
            moved = moved or best != here
            points[i] = best
        if moved:
            yield torch.tensor(points, dtype=torch.float64)
        else:
            reach /= 2
            if reach < REACH / 4:
                return


def subdivided(logs: Tensor, steps: int) -> Tensor:
    """The grid of another number of steps: log s interpolated linearly over the share of steps."""
    places = torch.linspace(0, len(logs) - 1, steps + 1, dtype=torch.float64)
    low = places.floor().long().clamp(max=len(logs) - 2)
    return torch.lerp(logs[low], logs[low + 1], places - low)


def log_ratio(process: Process, times: Tensor) -> Tensor:
    """log(sigma/alpha) of times."""
    return -process.lambda_(times)
