"""One start for every condition: super-resolution of digits, and a Gaussian where the best start is known."""

from __future__ import annotations

import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.measure import normals
from evidence.restoration import blurred_digits
from urn.nets.data import digits
from urn.processes import VP, Process
from urn.tuning import best_start
from urn.tuning.starts import squared_distance

NOISE = 0.1  # std of the 4 x 4 pictures


@case(
    "Solving Diffusion ODEs with Optimal Boundary Conditions for Better Image Super-Resolution",
    "Ma, Yang, Yang, Wang, Chen, Li 2023, Solving Diffusion ODEs with Optimal Boundary Conditions for Better Image "
    "Super-Resolution, arXiv 2305.15357",
)
def run(full: bool) -> list[Finding]:
    """Digits of 4 x 4 pixels to 8 x 8, by the exact posterior denoiser of the training digits; references and held-out pictures are
    of the test digits. DPM-Solver++(2M) of 10 steps on VP.linear()."""
    return [_digits(full), *_gaussian(full)]


def low_resolution(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels."""
    return torch.nn.functional.avg_pool2d(x, 2)


def posterior_model(process: Process) -> urn.Model:
    """E[x0 | x, y] for x0 one of the training digits and y its low resolution with noise of std 0.1: a softmax over them."""
    data = digits("train")[0].double()
    small = low_resolution(data).flatten(1)

    def net(x: Tensor, t: Tensor, low: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t[:1].double()), process.sigma(t[:1].double()).clamp(min=1e-6)
        far = torch.cdist(x.flatten(1), alpha * data.flatten(1)).square() / (2 * sigma**2)
        far = far + torch.cdist(low.flatten(1), small).square() / (2 * NOISE**2)
        return (torch.softmax(-far, 1) @ data.flatten(1)).reshape(x.shape)

    return urn.Model(net, process, predicts="x0", shape=(1, 8, 8))


def _digits(full: bool) -> Finding:
    process = VP.linear()
    model, plan = posterior_model(process), urn.compile_plan("dpmpp_2m", process, 10)
    pictures = digits("test")[0].double()
    low = low_resolution(pictures) + NOISE * normals(3, len(pictures), 1, 4, 4)
    fit, count, random = (100, 256, 20) if full else (24, 32, 6)
    found = best_start(model, plan, pictures[:fit], conditioning={"low": low[:fit]}, candidates=count, seed=1)
    rest, given = pictures[fit:], {"low": low[fit:]}
    if not full:
        rest, given = rest[:100], {"low": given["low"][:100]}

    def error(starts: Tensor) -> float:
        return float(squared_distance(urn.execute(plan, model, {"x": starts}, conditioning=given)["x"], rest).mean())

    std = float(dict(plan.inputs)["x"].std)
    ours = error(found.starts(len(rest)))
    theirs = [error(std * normals(900 + k, 1, 1, 8, 8).expand(len(rest), 1, 8, 8).clone()) for k in range(random)]
    fresh = error(std * normals(899, len(rest), 1, 8, 8))
    mean = sum(theirs) / random
    return Finding(
        f"The best of {count} starts on {fit} pictures is better on other pictures than random starts",
        f"held-out mean squared error below the mean over {random} random starts and below that of fresh noise for each picture",
        f"{ours:.4f} beside {mean:.4f} (random starts {min(theirs):.4f} to {max(theirs):.4f}) and {fresh:.4f} (fresh noise), "
        f"{len(rest)} pictures",
        ours < min(mean, fresh),
    )


def _gaussian(full: bool) -> list[Finding]:
    """x0 given a blurred picture, where all is Gaussian: h(x_T, y) = m(y) + A x_T."""
    given, _ = blurred_digits()
    process = VP.linear()
    model = urn.Model(lambda x, t, y: given.prediction(x, y, process, t, "v"), process, predicts="v", shape=(64,))
    plan = urn.compile_plan("dpmpp_2m", process, 10)
    pairs = 400 if full else 100
    y = normals(5, pairs, 64)
    exact = given.mean(y)
    tried = torch.cat([torch.zeros(1, 64, dtype=torch.float64), normals(6, 40, 64)])
    found = best_start(model, plan, exact, conditioning={"y": y}, candidates=tried)

    def ends(x: Tensor) -> Tensor:
        made: Tensor = urn.execute(plan, model, {"x": x}, conditioning={"y": torch.zeros_like(x)})["x"]
        return made

    zero = torch.zeros(1, 64, dtype=torch.float64)
    columns = ends(torch.eye(64, dtype=torch.float64)) - ends(zero)  # the rows of A^T
    squares = (tried @ columns).square().mean(1)
    rest = found.distances - squares
    spread = float((rest - rest.mean()).abs().max() / squares[1:].mean())
    return [
        Finding(
            "On Gaussian data the score of a start is a constant + |A x_T|^2",
            "score less |A x_T|^2 the same for all of 41 starts, to 2 % of the mean of |A x_T|^2",
            f"largest deviation {spread:.2e} of it; A from 64 unit starts",
            spread < 0.02,
        ),
        Finding(
            "There x_T = 0 is optimal",
            "the least score of zero and 40 random starts is that of zero",
            f"{float(found.distances[0]):.2e} beside at least {float(found.distances[1:].min()):.2e}",
            found.chosen == 0,
        ),
    ]
