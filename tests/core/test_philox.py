"""The generator against its published answers, its functions against mpmath, its normals against the normal law."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest, norm

from urn.philox import CHUNK, box_muller, cos_sin_of_turn, log_of_fraction, philox, standard_normals

CPU = torch.device("cpu")
LEVEL = 1e-4


def test_known_answer():
    """The first of Random123's kat_vectors for philox 4x64, 10 rounds."""
    words = philox(torch.zeros(1, 1, dtype=torch.int64), (0, 0, 0), torch.zeros(1, 1, dtype=torch.int64))
    answer = "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"
    assert " ".join(f"{int(word) % 2**64:016x}" for word in words) == answer


def test_philox_against_integers_of_any_size_and_numpy():
    """The ten rounds in Python's own integers, and NumPy's generator, on counters and keys with high bits set."""
    generator = np.random.default_rng(0)
    counters = generator.integers(0, 2**64, (40, 4), dtype=np.uint64)
    keys = generator.integers(0, 2**64, 40, dtype=np.uint64)

    def reference(c, k):
        for _ in range(10):
            p0, p1 = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [(p1 >> 64) ^ c[1] ^ k[0], p1 % 2**64, (p0 >> 64) ^ c[3] ^ k[1], p0 % 2**64]
            k = [(k[0] + 0x9E3779B97F4A7C15) % 2**64, (k[1] + 0xBB67AE8584CAA73B) % 2**64]
        return c

    for counter, key in zip(counters, keys, strict=True):
        first, along = (torch.tensor([[int(word.view(np.int64))]]) for word in (counter[0], key))
        words = [int(word) % 2**64 for word in philox(first, tuple(map(int, counter[1:])), along)]
        assert words == reference([int(word) for word in counter], [int(key), 0])
        before = counter.copy()
        before[0] -= np.uint64(1)  # NumPy counts before it draws
        if counter[0]:
            drawn = np.random.Philox(key=np.array([key, 0], dtype=np.uint64), counter=before).random_raw(4)
            assert drawn.tolist() == words


def ulps(values, exact):
    """Errors in units in the last place of the exact values, which are mpmath numbers."""
    return [
        abs(float((mpmath.mpf(float(v)) - e) / mpmath.mpf(math.ulp(float(e)))))
        for v, e in zip(values, exact, strict=True)
    ]


WORDS = torch.cat(
    [
        torch.tensor([0, 1, 2, 3, 2**29 - 1, 2**29, 2**29 + 1, 2**30, 2**31, 3 * 2**30, 2**32 - 2, 2**32 - 1]),
        torch.from_numpy(np.random.default_rng(1).integers(0, 2**32, 400)),
    ]
)


UNIT = {torch.float64: 1, torch.float32: 2**29}  # units in the last place of float64
FORMATS = pytest.mark.parametrize("dtype", UNIT)


def turned(words, dtype):
    """The int32 of the same bits, as `cos_sin_of_turn` takes them."""
    return cos_sin_of_turn((words - ((words >> 31) << 32)).to(torch.int32), dtype)


def normals(a, b, dtype=torch.float64):
    out = torch.empty(len(a), 2, dtype=dtype)
    box_muller(a + (b << 32), out)
    return out.unbind(1)


@FORMATS
def test_log_is_right_to_two_units_in_the_last_place(dtype):
    u = (WORDS.double() + 0.5) / 2.0**32
    exact = [mpmath.log(mpmath.mpf(float(x))) for x in u]
    # just below 1, where log u is near 0, the word 2^32 - 1 included
    assert max(ulps(log_of_fraction(WORDS, dtype), exact)) <= 2.5 * UNIT[dtype]


@FORMATS
def test_cosine_and_sine_are_right(dtype):
    with mpmath.workdps(40):
        angles = [2 * mpmath.pi * int(word) / 2**32 for word in WORDS]
        cosine, sine = turned(WORDS, dtype)
        for values, exact in ((cosine, [mpmath.cos(a) for a in angles]), (sine, [mpmath.sin(a) for a in angles])):
            for value, e in zip(values.tolist(), exact, strict=True):
                # three units, or, at the zeros, where the angle itself is rounded, exactly 0
                assert value == 0.0 if abs(e) < 1e-15 else ulps([value], [e])[0] <= 3.0 * UNIT[dtype]


@FORMATS
def test_quarter_turns_are_exact(dtype):
    cosine, sine = turned(torch.tensor([0, 2**30, 2**31, 3 * 2**30]), dtype)
    assert cosine.tolist() == [1.0, 0.0, -1.0, 0.0]
    assert sine.tolist() == [0.0, 1.0, 0.0, -1.0]


def test_box_muller_is_its_formula():
    a, b = WORDS[:206], WORDS[206:]
    first, second = normals(a, b)
    radius = np.sqrt(-2 * np.log((a.numpy() + 0.5) / 2**32))
    np.testing.assert_allclose(first.numpy(), radius * np.cos(2 * np.pi * b.numpy() / 2**32), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(second.numpy(), radius * np.sin(2 * np.pi * b.numpy() / 2**32), rtol=1e-12, atol=1e-14)
    # the largest normal there is: sqrt(2 log 2^33) = 6.76
    largest = normals(torch.tensor([0]), torch.tensor([0]))[0]
    assert float(largest) == pytest.approx(math.sqrt(2 * 33 * math.log(2)), rel=1e-14)


# Bits pinned: the samples of a seed must not change between releases, machines or versions of PyTorch. If this test
# fails, the change breaks everybody's seeds.
PINNED = {
    (0, (0, 0, 0)): "0x1.4aee7dfa76959p+1 0x1.80d2ab908fbb6p-3 0x1.aee3a0c4ce7cdp-5 0x1.fab5b579e0d54p-1",
    (1, (0, 0, 0)): "-0x1.a65138d3ef9c8p-2 0x1.2dbfbe7922abap+0 0x1.d8b8cb1f6bc82p-2 -0x1.4aefa882e0bb4p-1",
    (2**64 - 1, (1, 2, 3)): "0x1.66fad51788a37p+0 0x1.0c7d5844aa7a8p-3 -0x1.09cc0597a3d41p+0 0x1.27b34498bf062p+0",
}


@pytest.mark.parametrize(("seed", "identity"), PINNED)
def test_the_bits_are_pinned(seed, identity):
    values = standard_normals([seed], identity, 4, CPU)[0]
    assert " ".join(value.hex() for value in values.tolist()) == PINNED[seed, identity]


@FORMATS
def test_torchs_bits_are_those_of_plain_numbers(dtype):
    """The transform in NumPy's scalars, one rounded operation at a time: no fused multiply-add, no other library's log."""
    number = np.float64 if dtype == torch.float64 else np.float32
    terms = (10, 9, 8) if dtype == torch.float64 else (5, 6, 5)

    def horner(x, coefficients):
        total = x * number(coefficients[-1])
        for coefficient in coefficients[-2:0:-1]:
            total = (total + number(coefficient)) * x
        return total + number(coefficients[0])

    def plain(a, b):
        u = (number(a) + number(0.5)) * number(2.0**-32)
        m, e = np.frexp(u)
        bound = number(math.sqrt(0.5))
        m, e = (m * number(2), e - 1) if m < bound else (m, e)
        above = m - number(1)
        if e == 0:
            above = -(number(2**32 - 1 - a) + number(0.5)) * number(2.0**-32)
        s = above / (m + number(1))
        log = horner(s * s, [2.0 / (2 * k + 1) for k in range(terms[0])]) * s + number(e) * number(math.log(2.0))
        radius = np.sqrt(log * number(-2.0))
        quarter = (b + 2**29) >> 30
        angle = number(b - quarter * 2**30) * number(math.pi / 2**31)
        cosine = horner(angle * angle, [(-1.0) ** k / math.factorial(2 * k) for k in range(terms[1])])
        sine = horner(angle * angle, [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(terms[2])]) * angle
        around = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][quarter % 4]
        return [float(radius * part) for part in around]

    a, b = WORDS[:206], WORDS[206:]
    found = torch.stack(normals(a, b, dtype), 1).tolist()
    assert found == [plain(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]


def test_pinned_values_come_from_numpys_generator():
    """Elements 0 and 1 of counter 1 under key 0 are Box-Muller of the halves of its first word."""
    word = int(np.random.Philox(key=[0, 0], counter=[0, 0, 0, 0]).random_raw())
    a, b = word % 2**32, word >> 32
    radius, angle = math.sqrt(-2 * math.log((a + 0.5) / 2**32)), 2 * math.pi * b / 2**32
    first, second = standard_normals([0], (0, 0, 0), 2, CPU)[0].tolist()
    assert first == pytest.approx(radius * math.cos(angle), rel=1e-14)
    assert second == pytest.approx(radius * math.sin(angle), rel=1e-14)


def test_the_two_generators_and_the_two_formats_agree(monkeypatch):
    """By NumPy row by row, and by torch's integers as on other devices; in float32 the same to its rounding."""
    wide = standard_normals(range(5), (1, 2, 3), 4000, CPU)
    narrow = standard_normals(range(5), (1, 2, 3), 4000, CPU, torch.float32)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-6, atol=1e-6)
    monkeypatch.setattr("urn.philox.MANY", 10**9)
    monkeypatch.setattr("urn.philox.FEW", 0)
    assert torch.equal(standard_normals(range(5), (1, 2, 3), 4000, CPU), wide)
    assert torch.equal(standard_normals(range(5), (1, 2, 3), 4000, CPU, torch.float32), narrow)


COUNT = 200_000
DRAWN = standard_normals([11, 12], (5, 6, 7), COUNT, CPU)


def test_normals_are_normal():
    """Kolmogorov-Smirnov, chi-square on counts in 100 bins of equal probability, and the tails, each at level 1e-4."""
    values = DRAWN.flatten().numpy()
    assert kstest(values, "norm").pvalue > LEVEL
    counts, _ = np.histogram(norm.cdf(values), bins=100, range=(0, 1))
    statistic = ((counts - len(values) / 100) ** 2 / (len(values) / 100)).sum()
    assert LEVEL / 2 < chi2.sf(statistic, 99) < 1 - LEVEL / 2
    for bound in (3.0, 4.0):
        expected = 2 * norm.sf(bound) * len(values)
        assert abs((np.abs(values) > bound).sum() - expected) < norm.isf(LEVEL / 2) * math.sqrt(expected) + 1


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 7])
def test_elements_are_uncorrelated(lag):
    values = DRAWN[0].numpy()
    limit = norm.isf(LEVEL / 2) / math.sqrt(COUNT)
    assert abs(np.mean(values[lag:] * values[:-lag])) < limit
    # nor are their squares, which a shared radius would tie: they have variance 2
    squares = values**2 - 1
    assert abs(np.mean(squares[lag:] * squares[:-lag])) < 2 * limit


@pytest.mark.parametrize(
    ("seed", "identity"),
    [
        (12, (5, 6, 7)),
        (11 + 2**32, (5, 6, 7)),
        (11, (6, 6, 7)),
        (11, (5, 7, 7)),
        (11, (5, 6, 8)),
        (11 ^ (1 << 63), (5, 6, 7)),
    ],
)
def test_seeds_and_identities_give_unrelated_noise(seed, identity):
    other = standard_normals([seed], identity, COUNT, CPU)[0]
    correlation = float((DRAWN[0] * other).mean())
    assert abs(correlation) < norm.isf(LEVEL / 2) / math.sqrt(COUNT)
    assert abs(float(((DRAWN[0] ** 2 - 1) * (other**2 - 1)).mean())) < 2 * norm.isf(LEVEL / 2) / math.sqrt(COUNT)
    assert not bool((DRAWN[0] == other).any())


def test_any_part_can_be_drawn_alone():
    """Element e is made of word e // 2: a longer draw begins with a shorter one, across chunk borders too."""
    long = standard_normals([3, 4], (1, 2, 3), 2 * CHUNK + 9, CPU)
    for count in (1, 3, 4, 5, 63, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 5):
        assert torch.equal(standard_normals([4], (1, 2, 3), count, CPU)[0], long[1, :count])
    many = standard_normals(range(1000), (1, 2, 3), 70, CPU)
    for seed in (0, 1, 499, 999):
        assert torch.equal(standard_normals([seed], (1, 2, 3), 70, CPU)[0], many[seed])
