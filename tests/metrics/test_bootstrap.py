"""The interval covers known truths, also where the textbook bootstrap does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from urn.metrics import bootstrap, density_coverage, energy_distance, frechet_distance

Draw = Callable[[int], tuple[Tensor, Tensor]]


def coverage(metric: Callable[[Tensor, Tensor], float], draw: Draw, truth: float, repeats: int) -> float:
    intervals = (bootstrap(metric, *draw(seed), resamples=60, seed=seed) for seed in range(repeats))
    return sum(low <= truth <= high for _, low, high in intervals) / repeats


def with_replacement(metric: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor, seed: int) -> tuple[float, float]:
    """The textbook percentile bootstrap, for contrast."""
    generator = torch.Generator().manual_seed(seed)

    def again(points: Tensor) -> Tensor:
        return points[torch.randint(len(points), (len(points),), generator=generator)]

    values = torch.tensor([metric(again(x), again(y)) for _ in range(60)])
    low, high = values.quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def gaussians(count: int, dimensions: int, ratio: float) -> Draw:
    scales = torch.linspace(0.5, 2.0, dimensions, dtype=torch.float64)

    def draw(seed: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(2, count, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return noise[0] * scales, noise[1] * scales * ratio

    return draw


def test_energy_distance_of_unequal_exponential_laws(skewed) -> None:
    """A nominal 95 % should not fall below 86 %, three standard errors of 80 repeats."""
    rate = 3.0
    truth = (1 - rate) ** 2 / (rate * (1 + rate))
    held = coverage(energy_distance, lambda s: (skewed(60, 1, 2 * s), skewed(41, 1, 2 * s + 1, rate)), truth, 80)
    assert 0.86 <= held < 1


def test_intervals_of_equal_laws_are_too_wide_by_the_root_of_three() -> None:
    """Doubling the weights of random halves turns Var U into 3 Var U where U is degenerate; wider is the safe side."""
    draw = gaussians(60, 16, 1.0)
    results = [bootstrap(energy_distance, *draw(seed), resamples=40, level=0.6827, seed=seed) for seed in range(100)]
    half_widths = torch.tensor([(high - low) / 2 for _, low, high in results])
    spread = torch.tensor([estimate for estimate, _, _ in results]).std()  # known to 7 % from 100 draws
    assert float(half_widths.mean() / spread) == pytest.approx(3**0.5, rel=0.25)


def test_energy_distance_of_equal_laws_where_the_textbook_bootstrap_fails() -> None:
    draw = gaussians(60, 16, 1.0)
    assert coverage(energy_distance, draw, 0.0, 30) >= 0.86
    textbook = [with_replacement(energy_distance, *draw(seed), seed) for seed in range(30)]
    assert sum(low <= 0 <= high for low, high in textbook) / 30 < 0.2


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_frechet_distance_without_its_bias(ratio: float) -> None:
    draw = gaussians(100, 8, ratio)
    truth = (ratio - 1) ** 2 * float(torch.linspace(0.5, 2.0, 8, dtype=torch.float64).square().sum())
    assert coverage(frechet_distance, draw, truth, 40) >= 0.84
    estimates = torch.tensor([frechet_distance(*draw(seed)) for seed in range(40)])
    assert estimates.mean() - truth > 0.3  # so that covering the truth is not covering the estimate


def mean_gap(x: Tensor, y: Tensor) -> float:
    return float(x.mean() - y.mean())


def test_each_way_of_resampling_has_its_own_variance(skewed) -> None:
    """For a difference of means the standard errors are known: of both, of the samples, and of the paired gaps."""
    x = skewed(200, 1, 0)
    y = 0.9 * x + 0.3 * skewed(200, 1, 1)
    errors = {
        "both": ((x.var() + y.var()) / 200).sqrt(),
        "samples": (x.var() / 200).sqrt(),
        "pairs": ((x - y).var() / 200).sqrt(),
    }
    for resample, error in errors.items():
        estimate, low, high = bootstrap(mean_gap, x, y, resamples=2000, level=0.6827, resample=resample)
        assert estimate == mean_gap(x, y)
        assert (high - low) / 2 == pytest.approx(float(error), rel=0.08)  # 2000 replicates: about 2.5 % of error
        assert (high + low) / 2 == pytest.approx(estimate, abs=0.15 * float(error))


def test_replicates_never_repeat_a_point(skewed) -> None:
    sizes = set()

    def metric(x: Tensor, y: Tensor) -> float:
        assert len(x.unique(dim=0)) == len(x)
        assert len(y.unique(dim=0)) == len(y)
        sizes.add((len(x), len(y)))
        return mean_gap(x, y)

    bootstrap(metric, skewed(21, 2, 0), skewed(30, 2, 1), resamples=5)
    assert sizes == {(21, 30), (10, 15)}


def test_seed_and_level(skewed) -> None:
    x, y = skewed(20, 1, 0), skewed(30, 1, 1)
    state = torch.get_rng_state()
    first = bootstrap(mean_gap, x, y, seed=3)
    assert first == bootstrap(mean_gap, x, y, seed=3)
    assert first != bootstrap(mean_gap, x, y, seed=4)
    narrow = bootstrap(mean_gap, x, y, seed=3, level=0.5)
    assert first.low < narrow.low < narrow.high < first.high
    assert torch.equal(state, torch.get_rng_state())


def test_bad_arguments_are_named(skewed) -> None:
    x, y = skewed(20, 2, 0), skewed(30, 2, 1)
    with pytest.raises(ValueError, match="resample must be 'both', 'samples' or 'pairs', got 'data'"):
        bootstrap(mean_gap, x, y, resample="data")
    with pytest.raises(ValueError, match="equal counts for resample='pairs', got 20 and 30"):
        bootstrap(mean_gap, x, y, resample="pairs")
    with pytest.raises(ValueError, match="data must have at least 4 points to be halved, got 3"):
        bootstrap(mean_gap, x, y[:3])
    assert bootstrap(mean_gap, x, y[:3], resamples=3, resample="samples").estimate == mean_gap(x, y[:3])
    with pytest.raises(ValueError, match="resamples must be at least 2, got 1"):
        bootstrap(mean_gap, x, y, resamples=1)
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        bootstrap(mean_gap, x, y, level=95)
    with pytest.raises(TypeError, match="metric must return one number, got DensityCoverage"):
        bootstrap(density_coverage, x, y)
    with pytest.raises(ValueError, match="samples must be finite, got NaN or infinity in 20 of 20 rows"):
        bootstrap(mean_gap, x / 0, y)
