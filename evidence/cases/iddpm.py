"""iDDPM: where the optimal reverse variance lies, what it is worth in few steps, and importance sampling of the bound."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import urn
from evidence.book import Finding, case
from evidence.measure import listed, shown
from urn.exact import Gaussian, GaussianMixture
from urn.metrics import Interval
from urn.nets import digits, load_digits
from urn.processes import VP, Tabulated, cosine_betas, linear_betas

DATA = GaussianMixture([0.3, 0.7], [[1.2], [-0.8]], [[0.09], [0.02]])  # variance 0.88
TABLES = {"cosine": VP.from_betas(cosine_betas(1000)), "linear": VP.from_betas(linear_betas(1000))}
STATES = torch.linspace(-5, 5, 2001, dtype=torch.float64)
WIDTH = float(STATES[1] - STATES[0])
METHODS = {"exact": "iddpm", "small": "ddpm", "large": "ddpm_large"}


@case(
    "Improved Denoising Diffusion Probabilistic Models",
    "Nichol & Dhariwal 2021, Improved Denoising Diffusion Probabilistic Models, arXiv 2102.09672",
)
def run(full: bool) -> list[Finding]:
    """A skewed 1-D mixture of variance 0.88 with its exact denoiser, tables of 1000 betas re-spaced to few steps that end at
    t = 0; the law of what a plan samples is carried on a mesh of states, without samples. The bound's gradient is that of
    the shipped digits network on digits."""
    tables = TABLES if full else {"cosine": TABLES["cosine"]}
    budgets = (10, 20, 50) if full else (10, 20)
    return [
        *_bounds(),
        *(finding for name, table in tables.items() for finding in _few_steps(name, table, budgets)),
        _importance(*((200, 16) if full else (50, 6))),
    ]


def respaced(table: Tabulated, steps: int) -> list[float]:
    """Steps + 1 integer times from the table's last to 0, evenly strided."""
    return [float(round(t)) for t in np.linspace(table.t_start, 0, steps + 1)]


def variances(table: Tabulated, cur: float, next: float, of_x0: Tensor) -> tuple[float, float, Tensor]:
    """The small and the large variance of a step, and the exact one where x0 given the state has variance `of_x0`."""
    alpha, (sigma_cur, sigma_next) = float(table.alpha(next)), (float(table.sigma(t)) for t in (cur, next))
    share = -float(torch.expm1(2 * (table.lambda_(cur) - table.lambda_(next))))
    small, large = sigma_next**2 * share, sigma_cur**2 * share
    return small, large, small + (alpha * share) ** 2 * of_x0


def spread(data: Gaussian | GaussianMixture, table: Tabulated, t: float) -> Tensor:
    """Var(x0 | x_t = x) at every state of the mesh."""
    return data.posterior(STATES[:, None], table, t)[1].flatten().expand(len(STATES))


def law(table: Tabulated, t: float) -> Tensor:
    """The mixture's density at t on the mesh, of sum 1."""
    density = DATA.log_density(STATES[:, None], table, t).exp()
    return density / density.sum()


def _bounds() -> list[Finding]:
    places, outside, steps = [], [], (10, 20, 50)
    for table in TABLES.values():
        for cur, next in (pair for n in steps for pair in pairwise(respaced(table, n))):
            weights, of_x0 = law(table, cur), spread(DATA, table, cur)
            small, large, exact = variances(table, cur, next, of_x0)
            places.append(float((weights @ exact - small) / (large - small)))
            outside.append(float(weights[(exact < small) | (exact > large)].sum()))
    where = f"at every step of {', '.join(map(str, steps))}, cosine and linear tables"
    return [
        Finding(
            "for data of variance at most 1 the optimal variance of a step lies between beta tilde and beta",
            f"the one of all states (the mean over them) does, {where}",
            f"it lies at {min(places):.3g} to {max(places):.3g} of the way",
            min(places) >= 0 and max(places) <= 1,
        ),
        Finding(
            "so does that of each state, which is what the network predicts",
            f"at every state of the mesh, {where}",
            f"at up to {max(outside):.2%} of the states, by weight, it lies outside",
            max(outside) == 0,
            "where a state does not tell which mode x0 is from, the variance of x0 is above the average that is bounded",
        ),
    ]


def exact_model(table: Tabulated, times: Sequence[float]) -> urn.Model:
    """The exact x0, and the exact variance of the step that starts at t, as iDDPM's second output."""
    following = dict(pairwise(times))

    def net(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        cur = float(t[0])
        small, large, exact = variances(table, cur, following[cur], DATA.posterior(x, table, cur)[1].reshape(x.shape))
        place = (exact / small).log() / np.log(large / small)
        return DATA.x0(x, table, cur), 2 * place - 1

    return urn.Model(net, table, predicts=("x0", "variance"), shape=(1,))


class _Constant:
    """Noise that is one number: a step at 0 gives its mean, at 1 its mean and its std."""

    def __init__(self, value: float) -> None:
        self.value = value

    def normal(self, interval: Any, stream: int, like: Tensor) -> Tensor:
        return torch.full_like(like, self.value)


def sampled_law(method: str, table: Tabulated, times: Sequence[float]) -> Tensor:
    """The law of a method's samples from N(0, 1) on the mesh: each step of its plan is a Gaussian at each state."""
    model, weights = exact_model(table, times), torch.exp(-STATES.square() / 2)
    weights = weights / weights.sum()
    for pair in pairwise(times):
        plan = urn.compile_plan(method, table, grid=pair)
        mean, above = (urn.execute(plan, model, {"x": STATES[:, None]}, _Constant(z))["x"] for z in (0.0, 1.0))
        std = above - mean
        kernel = (STATES - mean).mul_(0.5**0.5 / std).square_().neg_().exp_()  # in place: 32 MB
        weights = (weights / std[:, 0]) @ kernel
        weights = weights / weights.sum()
    return weights


def divergence(truth: Tensor, found: Tensor) -> float:
    """KL in bits: how much longer the negative log-likelihood of data is than their entropy."""
    return float(torch.xlogy(truth, truth / found.clamp(min=1e-300)).sum() / np.log(2))


def w2(first: Tensor, second: Tensor) -> float:
    """W2 of two laws on the mesh, by their quantiles."""
    u = (np.arange(20000) + 0.5) / 20000
    quantiles = [np.interp(u, law.cumsum(0).numpy(), STATES.numpy() + WIDTH / 2) for law in (first, second)]
    return float(np.sqrt(np.mean((quantiles[0] - quantiles[1]) ** 2)))


def _few_steps(name: str, table: Tabulated, budgets: tuple[int, ...]) -> list[Finding]:
    truth = law(table, 0.0)
    laws = {
        label: [sampled_law(method, table, respaced(table, n)) for n in budgets] for label, method in METHODS.items()
    }
    findings = []
    for claim, unit, measure in (("likelihood", "excess of NLL in bits", divergence), ("W2", "W2", w2)):
        found = {label: [measure(truth, one) for one in laws[label]] for label in laws}
        best = [min(pair) for pair in zip(found["small"], found["large"], strict=True)]
        findings.append(
            Finding(
                f"the exact variances give a better {claim} in few steps than either fixed one: {name} table",
                f"{unit} below that of beta tilde and of beta in {', '.join(map(str, budgets))} steps",
                "; ".join(f"{label} {listed(values)}" for label, values in found.items()),
                all(ours < theirs for ours, theirs in zip(found["exact"], best, strict=True)),
            )
        )
    return findings


def _importance(levels: int, draws: int) -> Finding:
    """Single-sample gradients of the bound, its noise being E|g|^2 - |E g|^2; t by importance from ten losses a level."""
    bound = Bound(levels)
    losses = torch.stack([bound.losses(level, 10, seed=level) for level in range(levels)])
    chances = losses.square().mean(1).sqrt()
    squares, overlap = bound.gradients(draws)
    found = noise_ratio(squares, chances / chances.sum(), overlap)
    return Finding(
        "sampling t by importance lowers the noise of the bound's gradient: digits network",
        "E|g|^2 - |E g|^2 lower than with uniform t, by the 95 % interval over draws",
        f"{shown(found)} of it ({levels} levels, {draws} draws each, variances beta)",
        found.high < 1,
    )


class Bound:
    """L_vlb of the digits network at evenly spaced times, with the variances beta: a level's term, times their number, is

        levels alpha_next^2 (1 - e^(-2h)) / 2 |v - net|^2

    up to constants; the last one is the negative log-density of x0. Its variances are fixed: the network has no such head.
    """

    def __init__(self, levels: int) -> None:
        model = load_digits()
        self.net: nn.Module = copy.deepcopy(model.net).requires_grad_(True)  # type: ignore[attr-defined]
        self.images, self.labels = digits("train")
        times = torch.linspace(0, 1, levels + 1, dtype=torch.float64)
        alpha, lambda_ = model.process.alpha(times), model.process.lambda_(times)
        self.weights = levels * alpha[:-1] ** 2 * -torch.expm1(2 * (lambda_[1:] - lambda_[:-1])) / 2
        self.times, self.alpha, self.sigma = times[1:], alpha[1:], model.process.sigma(times[1:])

    def losses(self, level: int, count: int, seed: int, with_graph: bool = False) -> Tensor:
        """The term of a level for so many digits and noises, (count,)."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(self.images), (count,), generator=generator)
        x0, epsilon = self.images[chosen], torch.randn(count, 1, 8, 8, generator=generator)
        alpha, sigma = float(self.alpha[level]), float(self.sigma[level])
        with torch.set_grad_enabled(with_graph):
            found = self.net(alpha * x0 + sigma * epsilon, self.times[level].float(), self.labels[chosen])
            errors = (found - (alpha * epsilon - sigma * x0)).square().flatten(1).sum(1)
            return float(self.weights[level]) * errors

    def gradients(self, draws: int) -> tuple[Tensor, float]:
        """|g|^2 of single samples, (levels, draws), and |E g|^2 from two independent halves."""
        parameters, levels = list(self.net.parameters()), len(self.times)
        halves = [torch.zeros(sum(p.numel() for p in parameters)) for _ in range(2)]
        squares = torch.zeros(levels, draws, dtype=torch.float64)
        for level in range(levels):
            for draw in range(draws):
                loss = self.losses(level, 1, seed=10**6 + level * draws + draw, with_graph=True).sum()
                flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
                squares[level, draw] = flat.double().square().sum()
                halves[draw % 2] += flat / (levels * draws / 2)
        return squares, float(halves[0].double() @ halves[1].double())


def noise_ratio(squares: Tensor, chances: Tensor, overlap: float) -> Interval:
    """The noise with t by `chances` over that with uniform t, with the 95 % bootstrap interval over draws."""
    levels, draws = squares.shape
    generator = torch.Generator().manual_seed(0)

    def of(squares: Tensor) -> float:
        second = squares.mean(1)
        return float(((second / chances).sum() / levels**2 - overlap) / (second.mean() - overlap))

    picks = [torch.randint(draws, (levels, draws), generator=generator) for _ in range(1000)]
    low, high = np.quantile([of(squares.gather(1, pick)) for pick in picks], (0.025, 0.975))
    return Interval(of(squares), float(low), float(high))
