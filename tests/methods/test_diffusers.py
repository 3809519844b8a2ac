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
from functools import partial
from typing import Any

import pytest
import torch
from methods_cases import (
    MIXTURE,
    Listed,
    bent,
    compiled,
    exact_states,
    fitted,
    gap,
    law_order_of,
    normals,
    order_of,
    rms,
    run,
)
from torch import Tensor

import urn
from urn.coefficients.exponential import (
    EPSILON,
    X0,
    Form,
    halved_weights,
    integral_weights,
    published_third,
)
from urn.conformance.targets import exact_end, states_at
from urn.exact import Gaussian
from urn.method import combine, evaluate, noise
from urn.methods.dpmpp import published_weights
from urn.plan import Node
from urn.processes import VE, VP, Flow
from urn.schemes.multistep import multistep, predictions, step_row

diffusers = pytest.importorskip("diffusers")
from methods_diffusers import drive, float64, on_grid  # noqa: E402  after the importorskip, for it needs diffusers

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


# --- where they agree -----------------------------------------------------------------------------------------------

CLEAN, FIRST = {"end": -1.0}, {"end": 0.0, "final_sigmas_type": "sigma_min"}
KEEP = {"clip_sample": False}
Row = tuple[str, int, str, dict[str, Any]]


def agreeing() -> list[Row]:
    """(scheduler, steps, Urn's method, settings)."""
    rows: list[Row] = []
    for spacing, steps in (("leading", 10), ("leading", 7), ("trailing", 10)):
        grid = {"timestep_spacing": spacing}
        rows.append(("DDIM", steps, "ddim", CLEAN | KEEP | grid))
        for eta in (0.5, 1.0):
            rows.append(("DDIM", steps, "ddim", CLEAN | KEEP | grid | {"options": {"eta": eta}, "step": {"eta": eta}}))
    rows.append(("DDIM", 10, "ddim", CLEAN | KEEP | {"steps_offset": 1, "predicts": "v"}))
    snr = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "predicts": "v"}
    rows.append(("DDIM", 10, "ddim", CLEAN | KEEP | snr))
    for spacing, steps in (("leading", 10), ("trailing", 30), ("linspace", 10)):
        grid = {"timestep_spacing": spacing, "variance_type": "fixed_small"}
        rows.append(("DDPM", steps, "ddpm", CLEAN | KEEP | grid))
    rows.append(("DDPM", 10, "ddpm", CLEAN | KEEP | {"variance_type": "fixed_small_log"}))
    rows.append(("DDPM", 10, "ddpm_large", CLEAN | KEEP | {"variance_type": "fixed_large"}))
    rows.append(("DDPM", 10, "ddpm_large", CLEAN | KEEP | {"variance_type": "fixed_large", "predicts": "x0"}))
    for name, method in (("EulerDiscrete", "euler"), ("EulerAncestralDiscrete", "euler_a"), ("HeunDiscrete", "heun")):
        for spacing, steps in (("leading", 10), ("trailing", 7), ("linspace", 28)):
            rows.append((name, steps, method, CLEAN | {"timestep_spacing": spacing, "over_alpha": True}))
        rows.append((name, 10, method, CLEAN | {"over_alpha": True, "predicts": "v"}))
    rows.append(("EulerDiscrete", 10, "euler", FIRST | {"timestep_spacing": "trailing", "over_alpha": True}))
    for method, form, sde in (("dpmpp_2m", {}, False), ("dpmpp_2m_sde", {"algorithm_type": "sde-dpmsolver++"}, True)):
        for spacing in ("leading", "trailing", "linspace"):
            rows.append(("DPMSolverMultistep", 20, method, form | {"timestep_spacing": spacing}))
        rows.append(("DPMSolverMultistep", 10, method, form))
        rows.append(("DPMSolverMultistep", 20, method, form | FIRST))
        one = "dpmpp_1_sde" if sde else "dpmpp_1"
        rows.append(("DPMSolverMultistep", 20, one, form | {"solver_order": 1}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_2m_sde_heun", SDE_PP | {"solver_type": "heun"}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_2m", {"predicts": "v"}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_2m", {"predicts": "x0"}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_3m_published", {"solver_order": 3}))
    rows.append(("DPMSolverMultistep", 20, "dpmpp_3m_published", FIRST | {"solver_order": 3}))
    rows.append(("DPMSolverMultistep", 20, "unip_2_epsilon", FIRST | {"algorithm_type": "dpmsolver"}))
    rows.append(("DPMSolverMultistep", 20, "sde_dpm_solver_2m", FIRST | {"algorithm_type": "sde-dpmsolver"}))
    rows.append(
        ("DPMSolverMultistep", 20, "sde_dpm_solver_1", FIRST | {"algorithm_type": "sde-dpmsolver", "solver_order": 1})
    )
    for steps in (4, 10, 14):
        rows.append(("DPMSolverMultistep", steps, "dpmpp_2m_lower_final", FIRST))
        rows.append(("DPMSolverMultistep", steps, "dpmpp_3m_published_lower_final", CLEAN | {"solver_order": 3}))
    for order in (1, 2, 3, 4):
        for size in ("bh1", "bh2"):
            form = {"solver_order": order, "solver_type": size}
            given = {"order": order, "size": size}
            if size == "bh2":
                rows.append(("UniPCMultistep", 10, "unipc_lower_final", CLEAN | form | {"options": given}))
            rows.append(("UniPCMultistep", 20, "unipc_lower_final", FIRST | form | {"options": given}))
            given = given | {"prediction": "epsilon"}
            rows.append(
                ("UniPCMultistep", 20, "unipc_lower_final", FIRST | form | {"options": given, "predict_x0": False})
            )
            if order < 4:
                whole = FIRST | form | {"lower_order_final": False, "options": {"order": order, "size": size}}
                rows.append(("UniPCMultistep", 20, "unipc_3", whole))
    for order in (1, 2, 3):
        form = {"solver_order": order, "options": {"order": order}, "end": 0.0}
        rows.append(("DEISMultistep", 10, "deis_log_rho_lower_final", form))
        rows.append(("DEISMultistep", 20, "deis_log_rho_ramped", form))
        rows.append(("DEISMultistep", 10, "deis_log_rho_ramped", form | {"lower_order_final": False, "predicts": "v"}))
    rows.append(("DPMSolverSinglestep", 10, "ddim", FIRST | {"solver_order": 1}))
    return rows


SDE_PP = {"algorithm_type": "sde-dpmsolver++"}
AGREE = agreeing()


def label(row: Row) -> str:
    settings = ",".join(f"{k}={v}" for k, v in row[3].items() if k not in ("end", "options", "step", "clip_sample"))
    return f"{row[0]}-{row[1]}-{settings}={row[2]}"


@pytest.mark.parametrize("row", AGREE, ids=label)
def test_a_scheduler_is_the_plan(row: Row) -> None:
    name, steps, method, settings = row
    assert gap(*table_pair(name, steps, method, **settings)) < EXACT


@pytest.mark.parametrize("row", AGREE[:: max(1, len(AGREE) // 24)], ids=label)
def test_a_scheduler_as_it_is_in_float32_is_the_plan(row: Row) -> None:
    """That the float64 of the test above changes nothing but rounding."""
    name, steps, method, settings = row
    assert gap(*table_pair(name, steps, method, double=False, **settings)) < 1e-3


@pytest.mark.parametrize("double", [True, False])
def test_ddpms_learned_range_is_iddpm(double: bool) -> None:
    cls, draws = diffusers.DDPMScheduler, normals(10)
    with float64(cls, draws, only_noise=not double):
        scheduler = cls(**TABLE, clip_sample=False, variance_type="learned_range")
        scheduler.set_timesteps(10)
        process = VP.from_betas(scheduler.betas.double())
        times = scheduler.timesteps.double()

        def net(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return MIXTURE.prediction(x, process, float(t[0] if t.ndim else t), "epsilon"), torch.tanh(x)

        x = states_at(process, float(times[0]), 12)
        both = drive(scheduler, lambda x, t: torch.stack(net(x, torch.tensor(t)), dim=1), x)
    plan = compiled("iddpm", process, torch.cat([times, torch.tensor([-1.0])]))
    model = urn.Model(net, process, ("epsilon", "variance"))
    assert gap(both.double(), urn.execute(plan, model, {"x": x}, Listed(draws))["x"]) < (EXACT if double else 1e-3)


def test_the_zero_terminal_snr_tables_are_one() -> None:
    cls = diffusers.DDIMScheduler
    with float64(cls):
        plain, rescaled = cls(**TABLE), cls(**TABLE, rescale_betas_zero_snr=True)
    ours = VP.from_betas(plain.betas, zero_terminal_snr=True)
    assert float((torch.tensor(ours.alphas_cumprod, dtype=torch.float64) - rescaled.alphas_cumprod).abs().max()) < 1e-12
    assert ours.alphas_cumprod[-1] == 0.0


# --- flows and EDM --------------------------------------------------------------------------------------------------


def flow_pair(
    name: str, steps: int, method: str, options: dict[str, Any] | None = None, own_times: bool = False, **config: Any
) -> tuple[Tensor, Tensor, Any]:
    """A scheduler on a flow, its sigmas the grid; the network is shown sigma, or `own_times` the scheduler's timesteps."""
    cls, flow = scheduler_class(name), Flow()
    with float64(cls):
        scheduler = cls(**config)
        scheduler.set_timesteps(steps)
        times = torch.unique(scheduler.sigmas).flip(0).double()
        x = states_at(flow, float(times[0]), 12)
        kept = scheduler.sigmas.tolist()

        def network(y: Tensor, t: float) -> Tensor:
            sigma = t / 1000 if own_times else kept[scheduler.step_index or 0]
            return MIXTURE.prediction(y, flow, sigma, "velocity")

        y = drive(scheduler, network, x)
    plan = compiled(method, flow, times, **options or {})
    return y, run(plan, x, predicts="velocity"), scheduler


FLOW_PREDICTION = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "method", "options"),
    [
        ("FlowMatchEulerDiscrete", "euler", {}),
        ("FlowMatchEulerDiscrete", "probability_flow", {}),
        ("FlowMatchHeunDiscrete", "probability_flow_heun", {}),
        ("DPMSolverMultistep", "dpmpp_2m_lower_final", {}),
        ("UniPCMultistep", "unipc_lower_final", {"order": 2}),
        ("UniPCMultistep", "unipc_lower_final", {"order": 3}),
    ],
)
def test_a_flow_scheduler_is_the_plan(name: str, method: str, options: dict[str, Any], shift: float) -> None:
    matching = name.startswith("FlowMatch")
    config = {"shift": shift} if matching else {**FLOW_PREDICTION, "flow_shift": shift}
    config |= {"solver_order": options["order"]} if options else {}
    y, expected, _ = flow_pair(name, 10, method, options, own_times=matching, **config)
    assert gap(y, expected) < EXACT


def edm_pair(name: str, method: str, steps: int, seed: int = 0, **config: Any) -> tuple[Tensor, Tensor]:
    """A scheduler that preconditions its network as EDM does: F with D = c_skip x + c_out F(c_in x)."""
    cls, process, draws = scheduler_class(name), VE(), normals(steps, seed=seed)
    data, predicts = 0.5, config.get("prediction_type", "epsilon")
    with float64(cls, draws):
        scheduler = cls(sigma_data=data, **config)
        scheduler.set_timesteps(steps)
        times = scheduler.sigmas.double()
        x = states_at(process, float(times[0]), 12)

        def network(scaled: Tensor, t: float) -> Tensor:
            sigma = float(times[scheduler.step_index or 0])
            root = math.hypot(sigma, data)
            y = scaled * root
            c_out = (1 if predicts == "epsilon" else -1) * sigma * data / root
            return (MIXTURE.prediction(y, process, sigma, "x0") - (data / root) ** 2 * y) / c_out

        y = drive(scheduler, network, x)
    end = {"final": "x0"} if "sde" in method or method.endswith("published") else {}
    plan = compiled(method, process, times[:-1] if end else times, **end)
    return y, urn.execute(plan, MIXTURE.model(process, "x0"), {"x": x}, Listed(draws))["x"]


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    ("name", "method", "steps", "config"),
    [
        ("EDMEuler", "euler", 10, {}),
        ("EDMDPMSolverMultistep", "ddim", 10, {"solver_order": 1}),
        ("EDMDPMSolverMultistep", "dpmpp_2m_lower_final", 10, {}),
        ("EDMDPMSolverMultistep", "dpmpp_3m_published_lower_final", 10, {"solver_order": 3}),
        ("EDMDPMSolverMultistep", "dpmpp_3m_published", 20, {"solver_order": 3}),
        ("EDMDPMSolverMultistep", "dpmpp_2m_sde", 10, SDE_PP),
    ],
)
def test_an_edm_scheduler_is_the_plan(
    name: str, method: str, steps: int, config: dict[str, Any], predicts: str, schedule: str
) -> None:
    settings = {**config, "prediction_type": predicts, "sigma_schedule": schedule}
    assert gap(*edm_pair(name, method, steps, **settings)) < EXACT


def test_urns_karras_grid_is_edms() -> None:
    cls = diffusers.EDMEulerScheduler
    with float64(cls):
        scheduler = cls()
        scheduler.set_timesteps(12)
    assert gap(urn.grids.karras(VE(), 11), scheduler.sigmas[:-1]) < 1e-12


# --- orders on any grid ---------------------------------------------------------------------------------------------


def on_bent(name: str, steps: int, x: Tensor, draws: Any = (), **config: Any) -> Tensor:
    """A scheduler in sigma on the grid of `order_of`, whatever its own would be."""
    cls, times = scheduler_class(name), bent(PROCESS, steps)
    with float64(cls, draws):
        scheduler = on_grid(cls(**config), torch.exp(-PROCESS.lambda_(times)), times[:-1])
        return drive(scheduler, lambda y, t: MIXTURE.prediction(y, PROCESS, t, "epsilon"), x)


def order_there(name: str, steps: Sequence[int] = (24, 48, 96), **config: Any) -> float:
    ends = bent(PROCESS, 1)
    x, end = exact_states(PROCESS, float(ends[0]), float(ends[-1]))
    return fitted([rms(on_bent(name, n, x, **config) - end) for n in steps], steps)


def same_on_bent(
    name: str, method: Any, steps: int = 20, options: dict[str, Any] | None = None, **config: Any
) -> float:
    times, draws = bent(PROCESS, steps), normals(steps)
    x = states_at(PROCESS, float(times[0]), 12)
    y = on_bent(name, steps, x, draws, **config)
    plan = compiled(method, PROCESS, times, **options or {})
    return gap(y, urn.execute(plan, MIXTURE.model(PROCESS), {"x": x}, Listed(draws))["x"])


SMALLEST = {"final_sigmas_type": "sigma_min"}


def multistep_of(form: Form, order: int, weights: Any, **given: Any) -> Any:
    def method(nodes, x):
        return (yield from multistep(nodes, x, form, order, weights, **given))

    return method


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
@pytest.mark.parametrize(("algorithm", "form"), [("dpmsolver++", X0), ("dpmsolver", EPSILON)])
def test_dpm_solver_multistep_of_order_3_halves_the_second_difference(solver: str, algorithm: str, form: Form) -> None:
    config = {"solver_order": 3, "algorithm_type": algorithm, "solver_type": solver, **SMALLEST}
    weights = published_weights if solver == "midpoint" else published_third
    assert same_on_bent("DPMSolverMultistep", multistep_of(form, 3, weights), **config) < EXACT
    assert order_there("DPMSolverMultistep", **config) < 2.4
    here = "dpmpp_3m" if form is X0 else "unip_3_epsilon"
    assert order_of(here, PROCESS) > 2.75


def test_half_of_the_loss_is_the_start_and_half_the_weights() -> None:
    """Exact weights from a ramped start, and halved ones from a lifted start: either alone leaves order two."""
    from urn.schemes.multistep import lifted

    orders = {
        "published": order_of("dpmpp_3m_published", PROCESS, (48, 96, 192)),
        "only the start": order_of(multistep_of(X0, 3, integral_weights), PROCESS, (48, 96, 192)),
        "only the weights": order_of(multistep_of(X0, 3, published_third, start=lifted), PROCESS, (48, 96, 192)),
        "neither": order_of("dpmpp_3m", PROCESS, (48, 96, 192)),
    }
    assert all(1.75 < orders[name] < 2.4 for name in ("published", "only the start", "only the weights")), orders
    assert orders["neither"] > 2.75


def with_wrong_third(form: Form, cur: Node, next: Node, points: Sequence[Node], exact: bool = False) -> list[Tensor]:
    """diffusers' third order of sde-dpmsolver++: the weight of D2 is less by alpha_next, for a 1/2 has the wrong sign."""
    if len(points) != 3:
        return halved_weights(form, cur, next, points)
    right = (integral_weights if exact else published_third)(form, cur, next, points)
    u = [(point.lambda_ - cur.lambda_) / (next.lambda_ - cur.lambda_) for point in points]
    gaps = [math.prod(float(u[j] - v) for k, v in enumerate(u) if k != j) for j in range(3)]
    return [w - next.alpha * (2 if exact else 1) / gap for w, gap in zip(right, gaps, strict=True)]


def test_sde_dpm_solver_plus_plus_of_order_3_has_a_wrong_sign() -> None:
    config = {"solver_order": 3, **SDE_PP, **SMALLEST}
    wrong = multistep_of(SDE, 3, with_wrong_third)
    assert same_on_bent("DPMSolverMultistep", wrong, **config) < EXACT
    assert same_on_bent("DPMSolverMultistep", "dpmpp_3m_sde_published", **config) > 0.01
    assert law_order_of(wrong, PROCESS, (48, 96, 192)) < 1.25
    assert law_order_of("dpmpp_3m_sde_published", PROCESS, (48, 96, 192)) > 1.75
    assert law_order_of("dpmpp_3m_sde", PROCESS, (48, 96, 192)) > 1.6


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "EDMDPMSolverMultistep"])
def test_other_sde_rules_of_order_3_do_not_run(name: str) -> None:
    config = {"algorithm_type": "sde-dpmsolver", **SMALLEST} if name == "DPMSolverMultistep" else SDE_PP
    with pytest.raises(UnboundLocalError):
        on_bent(name, 20, torch.zeros(2, 2, dtype=torch.float64), normals(20, 2), solver_order=3, **config)


@pytest.mark.parametrize(("p", "here"), [(2, "unipc_2"), (3, "unipc_3")])
def test_unipc_ends_with_lower_orders(p: int, here: str) -> None:
    assert same_on_bent("UniPCMultistep", "unipc_lower_final", options={"order": p}, solver_order=p) < EXACT
    assert same_on_bent("UniPCMultistep", here, solver_order=p) > 1e-4
    assert same_on_bent("UniPCMultistep", here, solver_order=p, lower_order_final=False) < EXACT
    assert order_there("UniPCMultistep", (48, 96, 192), solver_order=p) < 2.4
    assert order_of(here, PROCESS) > 2.75


def test_unipc_with_its_whole_order_fails_at_sigma_0() -> None:
    pair = partial(table_pair, "UniPCMultistep", 20, "unipc_3", solver_order=3, lower_order_final=False)
    with pytest.raises(torch.linalg.LinAlgError):
        pair()
    process = VP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
    times = urn.grids.trailing(process, 20)
    assert bool(torch.isfinite(run(compiled("unipc_3", process, times))).all())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_with_bh1_is_nan_at_sigma_0(order: int) -> None:
    """B(h) = h is infinite there, times a sum of nothing."""
    y, expected = table_pair("UniPCMultistep", 10, "unipc_lower_final", **(CLEAN | {"solver_order": order}))
    assert gap(y, expected) < 1.0
    settings = CLEAN | {"solver_order": order, "solver_type": "bh1", "options": {"order": order, "size": "bh1"}}
    y, expected = table_pair("UniPCMultistep", 10, "unipc_lower_final", **settings)
    assert bool(y.isnan().all())
    assert bool(torch.isfinite(expected).all())


def test_unipc_of_order_4_gains_nothing_over_3_there() -> None:
    def even(process: Any, steps: int) -> Tensor:
        return process.t_of_lambda(torch.linspace(0.0, 2.5, steps + 1, dtype=torch.float64))

    config = {"solver_order": 4, "lower_order_final": False}
    ramped = multistep_of(X0, 4, halved_weights, correct=halved_weights)
    assert same_on_bent("UniPCMultistep", ramped, **config) < EXACT
    assert order_of(ramped, PROCESS, (64, 128, 256), even) < 3.6
    assert order_of("unipc_4", PROCESS, (64, 128, 256), even) > 3.75


def test_deis_is_in_log_rho_and_ramped() -> None:
    assert same_on_bent("DEISMultistep", "deis_log_rho_ramped", solver_order=3) < EXACT
    for name in ("deis_3_ramped", "deis_rho_3_ramped", "deis_3", "deis_rho_3"):
        assert same_on_bent("DEISMultistep", name, solver_order=3) > 1e-4
    assert order_there("DEISMultistep", (48, 96, 192), solver_order=3) < 2.5
    lifted = {"prediction": "epsilon", "variable": "lambda"}
    assert order_of("adams_3", PROCESS, (48, 96, 192), **lifted) > 2.75
    assert order_of("deis_3", PROCESS, (48, 96, 192)) > 2.75


@pytest.mark.parametrize(
    "sigmas", ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas"]
)
def test_deis_last_step_does_nothing_on_other_sigmas(sigmas: str) -> None:
    """The last sigma stands twice. Urn's plan over the distinct ones is the same with one call less."""
    cls = diffusers.DEISMultistepScheduler
    with float64(cls):
        scheduler = cls(**TABLE, **{sigmas: True})
        scheduler.set_timesteps(20)
        assert scheduler.sigmas[-1] == scheduler.sigmas[-2] > 0
        process = Flow() if sigmas == "use_flow_sigmas" else VP.from_betas(scheduler.betas)
        given = scheduler.sigmas[:-1]
        times = given if sigmas == "use_flow_sigmas" else process.t_of_lambda(-torch.log(given))
        x = states_at(process, float(times[0]), 12)
        scheduler.timesteps = times.clone()
        y = drive(scheduler, lambda y, t: MIXTURE.prediction(y, process, t, "epsilon"), x)
    plan = compiled("deis_log_rho_ramped", process, times, order=2)
    assert gap(y, run(plan, x)) < 1e-7
    assert plan.nfe == 19 == len(scheduler.timesteps) - 1


# --- DPMSolverSinglestep --------------------------------------------------------------------------------------------


def on_the_grids_points(form: Form, orders: Sequence[int], heun: bool, wrong_sign: bool = False) -> Any:
    """diffusers' singlestep: a block of p intervals is one step of order p whose stages are the grid's points, each of them
    integrated from the block's start, with noise of its own in the SDE form."""

    def method(nodes, x):
        block, begin, start = [], nodes[0], x
        for (cur, next), order in zip(nodes.steps(), orders, strict=True):
            here = yield from predictions(cur, x)
            if order == 1:
                block, begin, start = [], cur, x
            block.append(here)
            extra = [(form.noise_std(begin, next), (yield noise(begin, next)))] if form.rate > 1 else []
            points = block if heun or order < 3 else [block[0], block[2]]
            weights = integral_weights if heun or order == 3 else halved_weights
            if wrong_sign and len(points) == 3:
                weights = partial(with_wrong_third, exact=True)
            x = yield step_row(form, weights, begin, next, start, points, extra)
        return x

    return method


FORMS = {"dpmsolver++": X0, "dpmsolver": EPSILON, "sde-dpmsolver++": SDE}


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
@pytest.mark.parametrize("algorithm", FORMS)
@pytest.mark.parametrize(("order", "steps"), [(2, 18), (2, 19), (3, 18), (3, 19), (3, 20)])
def test_dpm_solver_singlestep_has_its_stages_on_the_grid(order: int, steps: int, algorithm: str, solver: str) -> None:
    lower = steps % order > 0
    orders = [1, 2, 3][:order] * (steps // order) + [1, 2][: steps % order]
    wrong = algorithm.startswith("sde") and order == 3 and solver == "heun"
    config = {"solver_order": order, "solver_type": solver, "algorithm_type": algorithm, **SMALLEST}
    method = on_the_grids_points(FORMS[algorithm], orders, solver == "heun", wrong)
    assert same_on_bent("DPMSolverSinglestep", method, steps, lower_order_final=lower, **config) < EXACT


def test_dpm_solver_singlestep_keeps_its_order_and_its_sde_form_does_not() -> None:
    def blocks(order: int, form: Form, heun: bool = False) -> Any:
        def method(nodes, x):
            orders = [1, 2, 3][:order] * ((len(nodes) - 1) // order)
            return (yield from on_the_grids_points(form, orders, heun)(nodes, x))

        return method

    assert order_of(blocks(3, X0), PROCESS) > 2.7
    assert order_of(blocks(3, EPSILON, heun=True), PROCESS) > 2.7
    assert order_of("dpmpp_3s", PROCESS) > 2.75
    for order in (2, 3):
        assert law_order_of(blocks(order, SDE), PROCESS, (48, 96, 192)) < 1.25
    assert law_order_of("dpmpp_2m_sde", PROCESS, (48, 96, 192)) > 1.75


def test_on_an_even_grid_in_lambda_singlestep_3_differs_from_the_paper_by_its_stage_alone() -> None:
    """There the grid's points are the thirds; with an exact stage (heun's) and the paper's last sum it is dpmpp_3s."""
    times = PROCESS.t_of_lambda(torch.linspace(-1.0, 2.0, 13, dtype=torch.float64))

    def exact_stage(nodes, x):
        for first in range(0, 12, 3):
            begin, block, u = nodes[first], [], x
            for place in (0, 1, 2):
                block.append((yield from predictions(nodes[first + place], u)))
                points = block if place < 2 else [block[0], block[2]]
                u = yield step_row(X0, integral_weights, begin, nodes[first + place + 1], x, points)
            x = u
        return x

    paper, there = compiled("dpmpp_3s", PROCESS, times[::3]), compiled(exact_stage, PROCESS, times)
    x = states_at(PROCESS, float(times[0]), 12)
    assert gap(run(paper, x), run(there, x)) < 1e-12
    halved = compiled(on_the_grids_points(X0, [1, 2, 3] * 4, heun=False), PROCESS, times)
    assert 1e-5 < gap(run(paper, x), run(halved, x)) < 1e-1


# --- DDIM, DDPM and the inverse -------------------------------------------------------------------------------------


def minus_a_ratio(steps: int) -> Any:
    """DDIM to t - T // N, and then on from there as if it were the grid's next time."""

    def method(nodes, x):
        for cur, _ in nodes.steps():
            x0, epsilon = yield evaluate(x, cur, "x0", "epsilon")
            t = torch.clamp(cur.t - 1000 // steps, min=-1.0)
            reached = nodes.at(t)
            x = yield combine(nodes[cur.index + 1], (reached.alpha, x0), (reached.sigma, epsilon))
        return x

    return method


@pytest.mark.parametrize(("spacing", "steps"), [("linspace", 10), ("linspace", 50), ("trailing", 30), ("trailing", 7)])
def test_ddim_steps_beside_its_own_grid(spacing: str, steps: int) -> None:
    settings = CLEAN | KEEP | {"timestep_spacing": spacing}
    assert gap(*table_pair("DDIM", steps, minus_a_ratio(steps), **settings)) < EXACT
    y, expected = table_pair("DDIM", steps, "ddim", **settings)
    assert gap(y, expected) > 1e-3


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_ddim_beside_its_grid_does_not_converge(spacing: str) -> None:
    """With 600 of 1000 steps it ends 400 steps of the table short of where its network believes it to be."""
    there, here = [], []
    for steps in (100, 300, 600):
        with float64(diffusers.DDIMScheduler):
            scheduler = diffusers.DDIMScheduler(**TABLE, **KEEP, timestep_spacing=spacing)
            scheduler.set_timesteps(steps)
            process = VP.from_betas(scheduler.betas)
            times = torch.cat([scheduler.timesteps.double(), torch.tensor([-1.0])])
            x, end = exact_states(process, float(times[0]), -1.0)
            y = drive(scheduler, lambda y, t, p=process: MIXTURE.prediction(y, p, t, "epsilon"), x)
        there.append(rms(y - end))
        here.append(rms(run(compiled("ddim", process, times), x) - end))
    assert there[1] > 1.5 * there[0]
    assert there[2] > 3 * there[1]
    assert here[0] > 2 * here[1] > 2.5 * here[2]


@pytest.mark.parametrize(("spacing", "offset"), [("trailing", 0), ("leading", 1)])
def test_ddpm_with_the_large_variance_leaves_noise_in_its_last_sample(spacing: str, offset: int) -> None:
    """It leaves the noise of a last step out where t = 0, not where the step ends at clean data."""
    config = {"timestep_spacing": spacing, "steps_offset": offset, "variance_type": "fixed_large"}
    y, expected = table_pair("DDPM", 10, "ddpm_large", **(CLEAN | KEEP | config))
    last = 99.0 if spacing == "trailing" else 1.0
    sigma = VP.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).sigma(last)
    assert gap(y, expected + sigma * normals(10)[9]) < EXACT
    assert float(sigma) > (0.3 if spacing == "trailing" else 0.03)


def test_ddpms_fixed_large_log_is_nan() -> None:
    y, _ = table_pair("DDPM", 10, "ddpm_large", **(CLEAN | KEEP | {"variance_type": "fixed_large_log"}))
    assert bool(y.isnan().any())


def inverse(spacing: str, steps: int, target: Any, shown: str) -> tuple[Tensor, Tensor, Any, Tensor]:
    """DDIMInverse from clean data, the network shown the "next" time as pipelines do, or the one of its state, "cur"."""
    cls = diffusers.DDIMInverseScheduler
    with float64(cls):
        scheduler = cls(**TABLE, clip_sample=False, timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        process = VP.from_betas(scheduler.betas)
        grid = torch.cat([torch.tensor([-1.0]), scheduler.timesteps.double()])
        at = dict(zip(scheduler.timesteps.tolist(), (grid[1:] if shown == "next" else grid[:-1]).tolist(), strict=True))
        x = target.sample(12, 3)
        y = drive(scheduler, lambda y, t: target.prediction(y, process, at[t], "epsilon"), x)
    return x, y, process, grid


def shown_the_next_time(nodes, x):
    """DDIM that calls its network on x at cur with the next time, an epsilon network's answer taken as it is."""
    for cur, next in nodes.steps():
        epsilon = yield evaluate(x, cur, "epsilon", shown=next.t)
        x = yield combine(next, (next.alpha / cur.alpha, x), (next.sigma - next.alpha / cur.alpha * cur.sigma, epsilon))
    return x


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_inverse_calls_its_network_a_step_ahead(spacing: str) -> None:
    x, y, process, grid = inverse(spacing, 20, MIXTURE, "next")
    model = MIXTURE.model(process, "epsilon")
    ahead = urn.execute(compiled(shown_the_next_time, process, grid), model, {"x": x})["x"]
    assert gap(y, ahead) < EXACT
    # called where its state is, it is Urn's DDIM on the reversed grid
    x, y, process, grid = inverse(spacing, 20, MIXTURE, "cur")
    assert gap(y, urn.execute(compiled("ddim", process, grid), model, {"x": x})["x"]) < EXACT


def test_ddim_inverse_is_of_order_one_from_either_time() -> None:
    """Called a step ahead, it is nearer to the implicit step that DDIM's inverse would be."""
    errors: dict[str, list[float]] = {"next": [], "cur": []}
    for shown, found in errors.items():
        for steps in (50, 100, 200):
            x, y, process, grid = inverse("leading", steps, MIXTURE, shown)
            found.append(rms(y - exact_end(process, x, -1.0, float(grid[-1]))))
        assert 0.75 < fitted(found, (50, 100, 200)) < 1.3
    assert errors["next"][-1] < errors["cur"][-1]


def test_ddim_inverse_is_off_its_grid_where_steps_do_not_divide_the_table() -> None:
    x, y, process, grid = inverse("trailing", 30, MIXTURE, "cur")
    expected = urn.execute(compiled("ddim", process, grid), MIXTURE.model(process, "epsilon"), {"x": x})["x"]
    assert gap(y, expected) > 1e-3


# --- churn ----------------------------------------------------------------------------------------------------------


def churned_behind_the_call(nodes, x, churn: float = 5.0):
    """Euler in sigma/alpha on x/alpha with noise added after the call: the prediction is that of x without the noise."""
    gamma = min(churn / (len(nodes) - 1), math.sqrt(2) - 1)
    for cur, next in nodes.steps():
        epsilon = yield evaluate(x, cur, "epsilon")
        z = yield noise(cur, cur)
        rho, rho_next = cur.sigma / cur.alpha, next.sigma / next.alpha
        hat = rho * (1 + gamma)
        added = torch.sqrt(hat**2 - rho**2)
        scale = next.alpha
        x = yield combine(next, (scale / cur.alpha, x), (scale * added, z), (scale * (rho_next - hat), epsilon))
    return x


def test_euler_churns_behind_its_networks_back() -> None:
    settings = CLEAN | {"over_alpha": True, "step": {"s_churn": 5.0}}
    assert gap(*table_pair("EulerDiscrete", 10, churned_behind_the_call, **settings)) < EXACT


@pytest.mark.parametrize("name", ["EulerDiscrete", "EDMEuler", "FlowMatchHeunDiscrete"])
def test_the_noise_of_a_last_churn_is_never_removed(name: str) -> None:
    """Data that are one point must come out as that point; EDM's algorithm, which calls after the noise, gives it."""
    cls, draws = scheduler_class(name), normals(60)
    with float64(cls, draws):
        scheduler = cls(sigma_min=0.02) if name == "EDMEuler" else cls()
        scheduler.set_timesteps(10)
        sigmas = scheduler.sigmas.double()
        process: Any = Flow() if name.startswith("Flow") else VE()
        x = states_at(process, float(sigmas[0]), 12, POINT)

        def network(y: Tensor, t: float) -> Tensor:
            sigma = float(sigmas[scheduler.step_index or 0])
            if name.startswith("Flow"):
                return POINT.prediction(y, process, t / 1000, "velocity")
            if name == "EDMEuler":
                root = math.hypot(sigma, 0.5)
                return (POINT.mean - (0.5 / root) ** 2 * y * root) / (sigma * 0.5 / root)
            return (y * math.hypot(sigma, 1.0) - POINT.mean) / sigma

        y = drive(scheduler, network, x, s_churn=5.0)
    left = float((y - POINT.mean).square().mean().sqrt())
    smallest = float(sigmas[sigmas > 0].min())
    assert left > 0.5 * smallest * math.sqrt(1.5**2 - 1)
    plan = compiled("edm", VE(), [3.0, 1.5, 0.7, 0.3, 0.1, 0.0], s_churn=5.0)
    begin = states_at(VE(), 3.0, 12, POINT)
    clean = urn.execute(plan, POINT.model(VE(), "x0"), {"x": begin}, Listed(draws))["x"]
    assert plan.stochastic
    assert float((clean - POINT.mean).abs().max()) < 1e-12


# --- grids and labels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method", "config"),
    [
        ("DPMSolverMultistep", "dpmpp_2m", {"use_karras_sigmas": True}),
        ("DPMSolverMultistep", "dpmpp_2m", {"use_exponential_sigmas": True}),
        ("DPMSolverMultistep", "dpmpp_2m", {"use_beta_sigmas": True}),
        ("DPMSolverMultistep", "dpmpp_2m", {"use_lu_lambdas": True}),
        ("UniPCMultistep", "unipc_lower_final", {"use_karras_sigmas": True, "options": {"order": 2}, "end": -1.0}),
        ("UniPCMultistep", "unipc_lower_final", {"use_exponential_sigmas": True, "options": {"order": 2}, "end": -1.0}),
    ],
)
def test_other_sigmas_agree_where_the_network_is_shown_their_own_time(name: str, method: str, config: Any) -> None:
    """The schedulers round or cut the times to integers. With the time of the noise level they are Urn's plan; with the
    integers a point mass, which every method here reproduces exactly, is missed."""

    def level(scheduler: Any, process: Any) -> Tensor:
        return process.t_of_lambda(-torch.log(scheduler.sigmas[:-1].double()))

    assert gap(*table_pair(name, 12, method, times=level, **config)) < 1e-7
    cls = scheduler_class(name)
    with float64(cls):
        scheduler = cls(**TABLE, **{key: value for key, value in config.items() if key.startswith("use")})
        scheduler.set_timesteps(12)
        process = VP.from_betas(scheduler.betas)
        x = states_at(process, float(level(scheduler, process)[0]), 12, POINT)
        right, shown = level(scheduler, process), scheduler.timesteps.clone()
        assert float((right - shown).abs().max()) > 0.3
        # a sub-grid that does not end at sigma 0, for the last step to it makes any error vanish on a point
        y = drive(_without_last(scheduler), lambda y, t: POINT.prediction(y, process, t, "epsilon"), x)
    sigma, alpha = (f(right[-1]) for f in (process.sigma, process.alpha))
    noise_there = (x - process.alpha(right[0]) * POINT.mean) / process.sigma(right[0])
    assert float(((y - alpha * POINT.mean) / sigma - noise_there).abs().max()) > 1e-3


def _without_last(scheduler: Any) -> Any:
    scheduler.sigmas, scheduler.timesteps = scheduler.sigmas[:-1], scheduler.timesteps[:-1]
    return scheduler


@pytest.mark.parametrize("name", ["EulerDiscrete", "HeunDiscrete", "EulerAncestralDiscrete"])
def test_sigma_between_integers_is_linear_there_and_log_linear_here(name: str) -> None:
    """Seven points of linspace fall on halves. The scheduler's own inverse, _sigma_to_t, is log-linear as Urn is."""
    method = {"EulerDiscrete": "euler", "HeunDiscrete": "heun"}.get(name, "euler_a")
    y, expected = table_pair(name, 7, method, **(CLEAN | {"timestep_spacing": "linspace", "over_alpha": True}))
    assert 1e-7 < gap(y, expected) < 1e-4

    def level(scheduler: Any, process: Any) -> Tensor:
        kept = torch.unique(scheduler.sigmas[scheduler.sigmas > 0]).flip(0).double()
        return process.t_of_lambda(-torch.log(kept)).clamp(max=999.0)

    settings = CLEAN | {"timestep_spacing": "linspace", "over_alpha": True, "times": level}
    assert gap(*table_pair(name, 7, method, **settings)) < EXACT


def test_eulers_last_step_does_nothing_to_sigma_min_on_linspace() -> None:
    with float64(diffusers.EulerDiscreteScheduler):
        scheduler = diffusers.EulerDiscreteScheduler(**TABLE, final_sigmas_type="sigma_min")
        scheduler.set_timesteps(10)
    assert scheduler.sigmas[-1] == scheduler.sigmas[-2] > 0


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "UniPCMultistep"])
def test_zero_terminal_snr_is_not_quite_zero_in_multistep_schedulers(name: str) -> None:
    cls = scheduler_class(name)
    with float64(cls):
        scheduler = cls(**TABLE, rescale_betas_zero_snr=True, timestep_spacing="trailing")
        scheduler.set_timesteps(10)
    assert float(scheduler.sigmas[0]) == pytest.approx(math.sqrt(2**24 - 1))
    ours = VP.from_betas(scheduler.betas)
    assert float(ours.alpha(999.0)) < 1e-7


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"])
def test_a_flow_matching_shift_is_applied_twice_to_the_smallest_sigma(name: str) -> None:
    cls = scheduler_class(name)
    with float64(cls):
        scheduler = cls(shift=3.0)
        scheduler.set_timesteps(10)
    sigmas = torch.unique(scheduler.sigmas).flip(0)

    def shift(s: Any) -> Any:
        return 3 * s / (1 + 2 * s)

    once, twice = shift(0.001), shift(shift(0.001))
    assert float(sigmas[-2]) == pytest.approx(twice)
    expected = shift(
        torch.linspace(1.0, once, 10, dtype=torch.float64)
    )  # an even grid down to the shifted smallest one
    assert gap(sigmas[:-1], expected) < 1e-12
    ours = urn.grids.shifted(3.0, [*torch.linspace(1.0, 0.001, 10).tolist(), 0.0])(Flow(), 10)
    assert float((sigmas - ours).abs().max()) > 1e-3


# --- ScoreSdeVe -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_correction", [False, True])
def test_score_sde_ve_is_predictor_corrector_after_its_first_correction(first_correction: bool) -> None:
    cls, draws = diffusers.ScoreSdeVeScheduler, normals(20, states=1)
    score = partial(MIXTURE.prediction, process=VE(), kind="score")
    with float64(cls, draws):
        scheduler = cls(num_train_timesteps=9, snr=0.15, sigma_min=0.05, sigma_max=5.0)
        scheduler.set_timesteps(9, sampling_eps=0.0)
        scheduler.set_sigmas(9)
        sigmas = scheduler.sigmas.tolist()
        begin = states_at(VE(), 5.0, 1)
        x = begin.reshape(1, 1, 1, 2)
        for i, t in enumerate(scheduler.timesteps):
            if i > 0 or first_correction:
                x = scheduler.step_correct(score(x.reshape(1, 2), t=sigmas[i]).reshape(x.shape), x).prev_sample
            stepped = scheduler.step_pred(score(x.reshape(1, 2), t=sigmas[i]).reshape(x.shape), t, x)
            x = stepped.prev_sample
        y = stepped.prev_sample_mean.reshape(1, 2)  # what the pipeline takes
    plan = compiled("predictor_corrector", VE(), [*sigmas, 0.0], snr=0.15)
    expected = urn.execute(plan, MIXTURE.model(VE(), "score"), {"x": begin}, Listed(draws))["x"]
    assert (gap(y, expected) < EXACT) != first_correction


def test_score_sde_ves_correction_depends_on_the_batch() -> None:
    cls = diffusers.ScoreSdeVeScheduler
    x = states_at(VE(), 1.0, 6).reshape(6, 1, 1, 2)
    score = MIXTURE.prediction(x.reshape(6, 2), VE(), 1.0, "score").reshape(x.shape)
    z = normals(1, 6)[0]
    scheduler = cls(num_train_timesteps=9)
    with float64(cls, [z]):
        together = scheduler.step_correct(score, x).prev_sample
    with float64(cls, [z[:1]]):
        alone = scheduler.step_correct(score[:1], x[:1]).prev_sample
    assert gap(alone, together[:1]) > 1e-3
