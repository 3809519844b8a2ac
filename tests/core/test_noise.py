"""Noise sources: the same bits whatever batch, order, thread count or grid; one Brownian path; seeds and their errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from core_cases import PROCESSES
from scipy.stats import kstest, norm
from tiny_plans import END, plan

import urn
from urn.noise import BrownianNoise, FastNoise, SeededNoise, check_seeds, identity, make_source, sample_seeds
from urn.plan import Combine, Noise

LEVEL = 1e-4
CPU = torch.device("cpu")


def like(count, *shape, dtype=torch.float64):
    return torch.empty((count, *(shape or (3, 5))), dtype=dtype)


# Pinned like the generator's: seeds made from a seed, words made from an interval, and a Brownian path.
def test_the_bits_are_pinned():
    assert sample_seeds(0, 2) == PINNED_SEEDS
    assert identity((1.0, 0.5), 0) == PINNED_WORDS
    drawn = SeededNoise(sample_seeds(0, 1)).normal((1.0, 0.5), 0, like(1, 3))
    assert [value.hex() for value in drawn[0].tolist()] == PINNED_NORMALS
    walked = BrownianNoise(sample_seeds(0, 1), 1.0, 0.0).normal((0.7, 0.4), 0, like(1, 2))
    assert [value.hex() for value in walked[0].tolist()] == PINNED_PATH


PINNED_SEEDS = (1041621211125469266, 8118103383084794603)
PINNED_WORDS = (1243216268, 2670152355, 2456600464)
PINNED_NORMALS = ["0x1.0b1a4483b2dabp+1", "0x1.31faf5367a3e6p-3", "0x1.9b924221eac3ap-1"]
PINNED_PATH = ["-0x1.e99a67dce0920p-3", "-0x1.48f0ff59754f3p-2"]

SOURCES = {"seeded": SeededNoise, "brownian": lambda seeds: BrownianNoise(seeds, 1.0, 0.0)}
ASKED = [((1.0, 0.75), 0), ((0.75, 0.3), 0), ((0.3, 0.1), 0), ((0.75, 0.3), 1), ((0.5, 0.5), 2), ((0.3, 0.75), 1)]


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_a_samples_noise_is_its_own(make):
    """Alone or in a batch, in any order, asked once or again: the same bits."""
    seeds = (3, 2**63 + 5, 0, 17, 2**64 - 1)
    source = make(seeds)
    batch = [source.normal(interval, stream, like(5)) for interval, stream in ASKED]
    assert len({tuple(values.flatten().tolist()) for values in batch}) == len(ASKED)
    again = make(seeds)
    for (interval, stream), values in reversed(list(zip(ASKED, batch, strict=True))):
        assert torch.equal(again.normal(interval, stream, like(5)), values)
        assert torch.equal(again.normal(interval, stream, like(5)), values)
        for i, seed in enumerate(seeds):
            assert torch.equal(make([seed]).normal(interval, stream, like(1))[0], values[i])
        assert torch.equal(make(seeds[::-1]).normal(interval, stream, like(5)), values.flip(0))
        assert torch.equal(make(seeds[1:3]).normal(interval, stream, like(2)), values[1:3])
        # the shape only arranges the elements
        assert torch.equal(make(seeds).normal(interval, stream, like(5, 15)).reshape(5, 3, 5), values)


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_types_differ_by_rounding_alone(make):
    source = make((1, 2))
    for interval, stream in ASKED[:2]:
        exact = source.normal(interval, stream, like(2, 400))
        single = source.normal(interval, stream, like(2, 400, dtype=torch.float32))
        torch.testing.assert_close(single.double(), exact, rtol=1e-6, atol=1e-6)
        if make is not SeededNoise:  # a path is added up in float64
            assert single.numpy().tobytes() == exact.numpy().astype(np.float32).tobytes()
        for dtype in (torch.float16, torch.bfloat16):
            wide = single if make is SeededNoise else exact
            assert torch.equal(source.normal(interval, stream, like(2, 400, dtype=dtype)), wide.to(dtype))
        for dtype, same in ((np.float64, exact), (np.float32, single)):
            plain = source.normal(interval, stream, np.empty((2, 400), dtype))
            assert plain.dtype == dtype
            assert np.array_equal(plain, same.numpy())


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_thread_counts_do_not_change_bits(make):
    before = torch.get_num_threads()
    try:
        drawn = []
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            drawn.append(make((1, 2)).normal((1.0, 0.5), 0, like(2, 70_000)))
        assert torch.equal(drawn[0], drawn[1])
        assert torch.equal(drawn[0], drawn[2])
    finally:
        torch.set_num_threads(before)


def test_identity_is_of_numbers_not_of_how_they_are_written():
    assert identity((0.0, 1.0), 0) == identity((-0.0, 1), 0) == identity((torch.tensor(0.0), np.float64(1.0)), 0)
    close = [
        identity(interval, stream)
        for interval in ((1.0, 0.5), (0.5, 1.0), (1.0, np.nextafter(0.5, 1)), (1.0, 1.0), (0.5, 0.5))
        for stream in (0, 1, 2**32, 2**56)
    ]
    assert len(set(close)) == len(close)
    assert all(0 <= word < 2**32 for words in close for word in words)


def test_seeds_of_a_run():
    assert sample_seeds(7, 5)[2:] == sample_seeds(7, 3, first=2)
    assert sample_seeds(7, 3) == sample_seeds(7, 5)[:3]
    every = [seed for run in range(100) for seed in sample_seeds(run, 100)]
    assert len(set(every)) == 10_000
    assert all(0 <= seed < 2**64 for seed in every)
    # spread evenly over the 64 bits
    assert kstest(np.array(every) / 2**64, "uniform").pvalue > LEVEL


@pytest.mark.parametrize("bad", [-1, 2**64, 1.5, 1.0, True, "3", None, math.nan], ids=repr)
def test_bad_seeds_are_named(bad):
    for make in (
        lambda: SeededNoise([0, bad]),
        lambda: BrownianNoise([0, bad], 1.0, 0.0),
        lambda: check_seeds("seeds", [bad]),
    ):
        with pytest.raises(ValueError, match=r"seeds: .* must be an integer of at least 0 and below 2"):
            make()
    for make in (lambda: sample_seeds(bad, 2), lambda: FastNoise(bad)):
        with pytest.raises(ValueError, match=r"seed: .* must be an integer of at least 0 and below 2"):
            make()


@pytest.mark.parametrize(
    ("bad", "message"),
    [(3, "seeds=3 must be a sequence"), ("12", "seeds='12' must be a sequence"), ([], "at least one")],
)
def test_seeds_must_be_a_sequence(bad, message):
    with pytest.raises(ValueError, match=message):
        SeededNoise(bad)


def test_numpy_integers_are_seeds():
    given = np.array([1, 2**63 + 1], dtype=np.uint64)
    assert check_seeds("seeds", given) == (1, 2**63 + 1)
    assert all(type(seed) is int for seed in check_seeds("seeds", given))


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_one_seed_a_sample(make):
    with pytest.raises(ValueError, match="seeds: 2 given for a batch of 3 samples; one each is needed"):
        make((1, 2)).normal((1.0, 0.5), 0, like(3))


# --- the Brownian path


def increments(source, times, shape):
    """The path's own increments W(t_i) - W(t_{i+1})."""
    return [source.normal((a, b), 0, shape) * math.sqrt(a - b) for a, b in itertools.pairwise(times)]


@pytest.mark.parametrize("end", [0.0, -3.0])
def test_fine_increments_add_up_to_coarse_ones(end):
    source = BrownianNoise((1, 2, 3), 1.0, end)
    generator = np.random.default_rng(0)
    fine = sorted(generator.uniform(end, 1.0, 40).tolist(), reverse=True)
    fine = [1.0, *fine, 0.5 * (1.0 + end), end]
    fine = sorted(set(fine), reverse=True)
    parts = increments(source, fine, like(3))
    for i, j in ((0, len(fine) - 1), (3, 20), (0, 7), (30, len(fine) - 1)):
        (coarse,) = increments(source, [fine[i], fine[j]], like(3))
        torch.testing.assert_close(sum(parts[i:j]), coarse, rtol=0, atol=1e-12)


def test_a_path_does_not_depend_on_what_was_asked_before():
    times = [0.9, 0.61, 0.35, 0.07]
    fresh = [BrownianNoise((4, 5), 1.0, 0.0).normal(pair, 0, like(2)) for pair in itertools.pairwise(times)]
    source = BrownianNoise((4, 5), 1.0, 0.0)
    for t in np.linspace(0.95, 0.05, 30):  # more than the 72 points that the source remembers
        source.normal((1.0, float(t)), 0, like(2))
    source.normal((0.9, 0.61), 0, like(2, 7))  # of another shape
    for pair, values in reversed(list(zip(itertools.pairwise(times), fresh, strict=True))):
        assert torch.equal(source.normal(pair, 0, like(2)), values)


def test_a_path_has_independent_normal_increments():
    count = 20_000
    source = BrownianNoise((8,), 2.0, -1.0)
    times = [2.0, 1.9, 1.25, 0.5, 0.499, -0.3, -1.0]  # 0.5 is the first midpoint
    drawn = torch.stack([source.normal(pair, 0, like(1, count))[0] for pair in itertools.pairwise(times)])
    for values in drawn.numpy():
        assert kstest(values, "norm").pvalue > LEVEL
        # the sample variance of n normals is 1 within sqrt(2/n)
        assert abs(values.var() - 1) < norm.isf(LEVEL / 2) * math.sqrt(2 / count)
    correlations = np.corrcoef(drawn.numpy())[np.triu_indices(len(drawn), 1)]
    assert np.abs(correlations).max() < norm.isf(LEVEL / 2 / len(correlations)) / math.sqrt(count)


def test_overlapping_increments_have_the_covariance_of_their_overlap():
    count = 20_000
    source = BrownianNoise((9,), 1.0, 0.0)
    a, b = (source.normal(interval, 0, like(1, count))[0] for interval in ((0.8, 0.3), (0.55, 0.05)))
    # both of length 1/2 and overlapping over 1/4; the product of two such normals has variance 1 + 1/4
    assert float((a * b).mean()) == pytest.approx(0.5, abs=norm.isf(LEVEL / 2) * math.sqrt(1.25 / count))


def test_other_streams_are_fresh_noise():
    source, seeded = BrownianNoise((1, 2), 1.0, 0.0), SeededNoise((1, 2))
    for interval, stream in (((0.7, 0.4), 1), ((0.4, 0.7), 2), ((0.5, 0.5), 0), ((1.0, 1.0), 0)):
        assert torch.equal(source.normal(interval, stream, like(2)), seeded.normal(interval, stream, like(2)))
    assert not torch.equal(source.normal((0.7, 0.4), 0, like(2)), seeded.normal((0.7, 0.4), 0, like(2)))


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ((1.1, 0.5), r"interval \(1\.1, 0\.5\) is outside the path's times, 1\.0 to 0\.0"),
        ((0.5, -0.1), "is outside the path's times"),
        ((0.4, 0.5), "is outside the path's times"),
        ((math.nan, 0.5), "is outside the path's times"),
        ((0.5, 0.5 - 2.0**-22 * 0.99), r"is shorter than 2\.38e-07: raise depth=24"),
    ],
)
def test_intervals_that_the_path_does_not_have(interval, message):
    with pytest.raises(ValueError, match=message):
        BrownianNoise((1,), 1.0, 0.0).normal(interval, 0, like(1))


def test_the_shortest_interval_has_variance_one():
    source = BrownianNoise((3,), 1.0, 0.0)
    values = source.normal((0.3 + 2.0**-22, 0.3), 0, like(1, 20_000))[0].numpy()
    assert kstest(values, "norm").pvalue > LEVEL
    assert abs(values.var() - 1) < norm.isf(LEVEL / 2) * math.sqrt(2 / 20_000)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 1.0), (math.inf, 0.0), (1.0, math.nan)])
def test_a_path_runs_downwards_between_finite_times(start, end):
    with pytest.raises(ValueError, match=r"start=.* must lie above end=.*, both finite"):
        BrownianNoise((1,), start, end)


# --- fast noise, and what `sample` makes of names


def test_fast_noise_is_torchs_own_generator():
    expected = torch.Generator().manual_seed(5)
    source = FastNoise(5)
    for interval in ((1.0, 0.5), (1.0, 0.5)):
        drawn = source.normal(interval, 0, like(2, dtype=torch.float32))
        assert torch.equal(drawn, torch.randn(2, 3, 5, generator=expected))
    with pytest.raises(ValueError, match="fast noise is torch's own generator: it needs a torch state"):
        source.normal((1.0, 0.5), 0, np.empty((2, 3)))


def test_sources_by_name():
    walk = urn.compile_plan("ddim", PROCESSES["flow"], 3, "uniform", eta=1.0)
    assert isinstance(make_source("seeded", (1,), walk, CPU), SeededNoise)
    assert isinstance(make_source("fast", (1,), walk, CPU), FastNoise)
    path = make_source("brownian", (1,), walk, CPU)
    assert (path.start, path.end) == (1.0, 0.0)
    own = FastNoise(1)
    assert make_source(own, (1,), walk, CPU) is own
    for bad in ("brown", None, 3):
        with pytest.raises(
            ValueError, match=r"noise=.* must be 'seeded', 'brownian', 'fast', or a source with a method"
        ):
            make_source(bad, (1,), walk, CPU)


@pytest.mark.parametrize(
    ("name", "times", "ends"),
    [
        ("ve", [80.0, 1.0, 0.002], (80.0, 0.0)),
        ("ve", [80.0, 1.0, 0.0], (80.0, 0.0)),  # the same path to clean data
        ("ve", [20.0, 1.0, 0.5], (80.0, 0.0)),
        ("ve", [120.0, 1.0, 0.5], (120.0, 0.0)),
        ("table linear", [999.0, 500.0, -1.0], (999.0, -1.0)),
    ],
)
def test_the_path_of_a_plan_covers_its_times(name, times, ends):
    path = make_source("brownian", (1,), urn.compile_plan("ddim", PROCESSES[name], grid=times, eta=1.0), CPU)
    assert (path.start, path.end) == ends


def test_steps_too_short_for_the_path_are_refused_before_anything_is_drawn():
    short = plan(Noise("z", (0.5, 0.5 - 1e-8), 0), Combine("x1", ((1.0, "x"), (1.0, "z")), END))
    with pytest.raises(ValueError, match="is shorter than"):
        make_source("brownian", (1,), short, CPU)
