"""Urn's plans next to the installed diffusers (0.42.1): the same states and noise in, the same sample out, in float64.

Where they agree they do so to about 1e-14 (`AGREE`). Where they do not, a test reproduces diffusers' output by a variant
of Urn's to the same accuracy, which proves the reason, and fits the orders of both on the exact mixture:

```
scheduler, setting                    what differs                                                   there   here
DPMSolverMultistep, EDM's, order 3    second difference of the weights halved; start of orders 1, 2    2.1    3.0
  "dpmsolver", order 3                the same in epsilon                                              2.1    2.9
  "sde-dpmsolver++", order 3          a 1/2 in the weight of the second difference has the wrong sign  1.0    1.9
  "sde-dpmsolver"; EDM's sde, order 3 no branch for it: UnboundLocalError in the third step              -      -
  below 15 steps (lower_order_final)  ends with orders 2, 1: at order 3 another sample of order        2.1    3.0
UniPC order 3 (lower_order_final)     ends with orders 2, 1 at any number of steps                     2.0    3.7
  order 2                             ends with order 1                                                2.0    3.0
  lower_order_final=False, to sigma 0 an infinite h in its linear system: LinAlgError                    -      -
  "bh1", to sigma 0                   B(h) = h is infinite there: the sample is nan                      -      -
  order 4 (5)                         start of orders 1, 2, 3                                          3.0    4.0 (5.0)
DEISMultistep order 3                 polynomial in log rho, the paper's in t or rho; start as above   2.3    2.9
  karras, exponential, beta, flow     last sigma stands twice: the last step does nothing, its call
                                      is lost, and the sample keeps the noise of sigma_min
DPMSolverSinglestep order 3           stages at the grid's points, not at thirds of the step; with
                                      "midpoint" the last stage has halved weights                     2.9    2.9
  "sde-dpmsolver++", orders 2, 3      every stage draws noise of its own from the block's start        0.9    2.0
  the same, order 3, "heun"           the wrong sign again: O(1) off                                     -      -
DDIM linspace; trailing, N not | T    steps to t - T // N, calls the network at the grid's next t: error
                                      0.017, 0.049, 0.23 at 100, 300, 600 steps; here 0.018, 0.007, 0.004
DDPM fixed_large, trailing or offset  noise of std sigma_t (0.33 at 10 steps) is added to the clean sample
  fixed_large_log                     the root of a logarithm: nan
DDIMInverse                           calls the network at the time it goes to, not at that of its state;
                                      of order 1 either way, and at 200 steps it errs by 0.009, Urn by 0.017
  N not | T                           as DDIM
Euler, EDMEuler, FlowMatchHeun, churn adds noise after the call, which has not seen it; the last one is never removed
DPMSolver, UniPC: karras, lu, beta,   the network is shown a time rounded (karras, lu) or cut to an integer, not
  exponential and flow sigmas         that of its noise level; with that one it is Urn's plan
Euler family, fractional timesteps    sigma interpolated linearly in t, and inverted linearly in log sigma: 1e-6
EulerDiscrete sigma_min, linspace     the last step, from the first sigma to itself, does nothing
DPMSolver, UniPC: zero terminal SNR   alpha_T is 2^-12, not 0
FlowMatchEuler, FlowMatchHeun, shift  applied to the table, and again to a grid that ends at the shifted table's end
ScoreSdeVe                            corrects before the first step too; its step size is averaged over the batch
```
Orders of stochastic rules are of the law. In `AGREE` the schedulers of the first lines are the variants named `published`,
`ramped` and `lower_final`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import torch
from methods_cases import (
    MIXTURE,
    Listed,
    bent,
    compiled,
    gap,
    normals,
)
from methods_diffusers import drive, float64, on_grid
from torch import Tensor

import urn
from urn.coefficients.exponential import (
    Form,
    halved_weights,
    integral_weights,
    published_third,
)
from urn.conformance.targets import states_at
from urn.exact import Gaussian
from urn.plan import Node
from urn.processes import VP

EXACT = 1e-9


TABLE = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


NAMES = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}


SDE = Form("x0", 2.0)


PROCESS = VP.linear()


POINT = Gaussian([1.3, -2.1], 0.0)


def scheduler_class(name: str) -> Any:
    return getattr(diffusers, f"{name}Scheduler")


def table_pair(
    name: str,
    steps: int,
    method: Any,
    *,
    options: dict[str, Any] | None = None,
    end: float | None = None,
    predicts: str = "epsilon",
    over_alpha: bool = False,
    step: dict[str, Any] | None = None,
    times: Callable[[Any, Any], Tensor] | None = None,
    target: Any = MIXTURE,
    double: bool = True,
    **config: Any,
) -> tuple[Tensor, Tensor]:
    """The samples of a scheduler on its own table and grid, and of Urn's plan on the same.

    Args:
        end: Urn's last time: -1 clean, 0 the table's smallest noise, None for a jump to x0 from the last point.
        over_alpha: whether the scheduler's states are x/alpha.
        times: the times of (scheduler, process), where they are not its timesteps.
        double: whether the scheduler runs in float64, or as it is.
    """
    cls, draws = scheduler_class(name), normals(steps)
    with float64(cls, draws, only_noise=not double):
        scheduler = cls(**{**TABLE, "prediction_type": NAMES[predicts], **config})
        scheduler.set_timesteps(steps)
        process = VP.from_betas(scheduler.betas.double())
        grid = times(scheduler, process) if times is not None else torch.unique(scheduler.timesteps.double()).flip(0)
        shown = dict(zip(torch.unique(scheduler.timesteps).flip(0).tolist(), grid.tolist(), strict=True))
        x = states_at(process, float(grid[0]), 12, target)
        in_units = process.alpha(grid[0]) if over_alpha else 1.0
        y = drive(scheduler, lambda y, t: target.prediction(y, process, shown[t], predicts), x / in_units, **step or {})
    whole = grid if end is None else torch.cat([grid, torch.tensor([end], dtype=torch.float64)])
    plan = compiled(method, process, whole, final="x0" if end is None else None, **options or {})
    expected = urn.execute(plan, target.model(process, predicts), {"x": x}, Listed(draws))["x"]
    return y.double() * (process.alpha(whole[-1]) if over_alpha and end is not None else 1.0), expected


CLEAN, FIRST = {"end": -1.0}, {"end": 0.0, "final_sigmas_type": "sigma_min"}


KEEP = {"clip_sample": False}


SDE_PP = {"algorithm_type": "sde-dpmsolver++"}


def on_bent(name: str, steps: int, x: Tensor, draws: Any = (), **config: Any) -> Tensor:
    """A scheduler in sigma on the grid of `order_of`, whatever its own would be."""
    cls, times = scheduler_class(name), bent(PROCESS, steps)
    with float64(cls, draws):
        scheduler = on_grid(cls(**config), torch.exp(-PROCESS.lambda_(times)), times[:-1])
        return drive(scheduler, lambda y, t: MIXTURE.prediction(y, PROCESS, t, "epsilon"), x)


def same_on_bent(
    name: str, method: Any, steps: int = 20, options: dict[str, Any] | None = None, **config: Any
) -> float:
    times, draws = bent(PROCESS, steps), normals(steps)
    x = states_at(PROCESS, float(times[0]), 12)
    y = on_bent(name, steps, x, draws, **config)
    plan = compiled(method, PROCESS, times, **options or {})
    return gap(y, urn.execute(plan, MIXTURE.model(PROCESS), {"x": x}, Listed(draws))["x"])


SMALLEST = {"final_sigmas_type": "sigma_min"}


def with_wrong_third(form: Form, cur: Node, next: Node, points: Sequence[Node], exact: bool = False) -> list[Tensor]:
    """diffusers' third order of sde-dpmsolver++: the weight of D2 is less by alpha_next, for a 1/2 has the wrong sign."""
    if len(points) != 3:
        return halved_weights(form, cur, next, points)
    right = (integral_weights if exact else published_third)(form, cur, next, points)
    u = [(point.lambda_ - cur.lambda_) / (next.lambda_ - cur.lambda_) for point in points]
    gaps = [math.prod(float(u[j] - v) for k, v in enumerate(u) if k != j) for j in range(3)]
    return [w - next.alpha * (2 if exact else 1) / gap for w, gap in zip(right, gaps, strict=True)]
