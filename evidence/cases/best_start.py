"""One start for every condition: super-resolution of digits, and a Gaussian where the best start is known."""

from __future__ import annotations

import torch
from torch import Tensor

import urn
from evidence.book import Finding, case
from evidence.measure import normals
from evidence.restoration import blurred_digits
from urn.exact import Conditional, Gaussian
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
    """Digits of 4 x 4 pixels to 8 x 8, by the exact posterior denoiser of the training digits, and of the Gaussian with
    their moments; references and held-out pictures are of the test digits. DPM-Solver++(2M) of 10 steps on VP.linear()."""
    return [_digits(full), _gaussian_digits(full), *_gaussian(full)]


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


def gaussian_model(process: Process) -> urn.Model:
    """The same for x0 normal with the mean and the covariance of the training digits."""
    data = digits("train")[0].double().flatten(1)
    mean, covariance = data.mean(0), torch.cov(data.T) + 1e-6 * torch.eye(64, dtype=torch.float64)
    pool = low_resolution(torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)).flatten(1).T
    of_low = pool @ covariance @ pool.T + NOISE**2 * torch.eye(16, dtype=torch.float64)
    gain = torch.linalg.solve(of_low, pool @ covariance).T
    left = covariance - gain @ pool @ covariance
    given = Conditional(Gaussian(torch.zeros(64, dtype=torch.float64), (left + left.T) / 2))  # of its own mean

    def net(x: Tensor, t: Tensor, low: Tensor) -> Tensor:
        expected = mean + (low.flatten(1) - pool @ mean) @ gain.T
        found: Tensor = given.prediction(x.flatten(1), expected, process, t, "x0")
        return found.reshape(x.shape)

    return urn.Model(net, process, predicts="x0", shape=(1, 8, 8))


def _digits(full: bool) -> Finding:
    ours, theirs, fresh, said, alike = _super_resolution(posterior_model(VP.linear()), full)
    holds = ours < min(sum(theirs) / len(theirs), fresh)
    return Finding(
        "The best start is better on other pictures than random ones: empirical posterior of the training digits",
        "held-out mean squared error below the mean over random starts and below that of fresh noise for each picture",
        said,
        holds,
        ""
        if holds
        else "which training digit a start leads to changes with the condition, so that no start is good for all: over the "
        f"random starts, scores on calibration and on held-out pictures correlate by {alike:.2g}",
    )


def _gaussian_digits(full: bool) -> Finding:
    ours, theirs, fresh, said, _ = _super_resolution(gaussian_model(VP.linear()), full)
    return Finding(
        "The best start is better on other pictures than random ones: Gaussian posterior",
        "held-out mean squared error below the mean over random starts and below that of fresh noise for each picture",
        said,
        ours < min(sum(theirs) / len(theirs), fresh),
    )


def _super_resolution(model: urn.Model, full: bool) -> tuple[float, list[float], float, str, float]:
    """Held-out errors of the best start, of random starts, and of fresh noise; in words; and how like the scores of random starts
    on calibration and on held-out pictures are."""
    plan = urn.compile_plan("dpmpp_2m", model.process, 10)
    pictures = digits("test")[0].double()
    low = low_resolution(pictures) + NOISE * normals(3, len(pictures), 1, 4, 4)
    fit, count, random = (100, 256, 20) if full else (24, 32, 6)
    known = {"low": low[:fit]}
    found = best_start(model, plan, pictures[:fit], conditioning=known, candidates=count, seed=1)
    rest = slice(fit, None if full else fit + 100)
    wanted, given = pictures[rest], {"low": low[rest]}
    std = float(dict(plan.inputs)["x"].std)
    others = std * normals(900, random, 1, 8, 8)
    scores = best_start(
        model, plan, wanted, conditioning=given, candidates=torch.cat([found.x[None], others])
    ).distances
    before = best_start(model, plan, pictures[:fit], conditioning=known, candidates=others).distances
    fresh = urn.execute(plan, model, {"x": std * normals(899, len(wanted), 1, 8, 8)}, conditioning=given)["x"]
    ours, *theirs = scores.tolist()
    of_fresh = float(squared_distance(fresh, wanted).mean())
    alike = float(torch.corrcoef(torch.stack([before, scores[1:]]))[0, 1])
    said = (
        f"{ours:.4f} beside {sum(theirs) / random:.4f} ({random} random starts, {min(theirs):.4f} to {max(theirs):.4f}) and "
        f"{of_fresh:.4f} (fresh noise); best of {count} on {fit} pictures, {len(wanted)} held out"
    )
    return ours, theirs, of_fresh, said, alike


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
