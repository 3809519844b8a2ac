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


# Random123's kat_vectors, philox 4x32, 10 rounds
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter, key, answer):
    c0, *identity = (int(word, 16) for word in counter.split())
    keys = torch.tensor([[int(word, 16) for word in key.split()]])
    words = philox(torch.tensor([[c0]]), tuple(identity), keys)
    assert " ".join(f"{int(word):08x}" for word in words) == answer


def test_philox_against_integers_of_any_size():
    """The ten rounds in Python's own integers, on counters and keys with high bits set."""
    generator = np.random.default_rng(0)
    counters, keys = generator.integers(0, 2**32, (40, 4)), generator.integers(0, 2**32, (40, 2))

    def reference(c, k):
        for _ in range(10):
            p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(p1 >> 32) ^ c[1] ^ k[0], p1 % 2**32, (p0 >> 32) ^ c[3] ^ k[1], p0 % 2**32]
            k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
        return c

    for counter, key in zip(counters.tolist(), keys.tolist(), strict=True):
        words = philox(torch.tensor([[counter[0]]]), tuple(counter[1:]), torch.tensor([key]))
        assert [int(word) for word in words] == reference(counter, key)


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


def test_log_is_right_to_two_units_in_the_last_place():
    u = (WORDS.double() + 0.5) / 2.0**32
    exact = [mpmath.log(mpmath.mpf(float(x))) for x in u]
    # just below 1, where log u is near 0, the word 2^32 - 1 included
    assert max(ulps(log_of_fraction(u), exact)) <= 2.0


def test_cosine_and_sine_are_right():
    with mpmath.workdps(40):
        angles = [2 * mpmath.pi * int(word) / 2**32 for word in WORDS]
        cosine, sine = cos_sin_of_turn(WORDS)
        for values, exact in ((cosine, [mpmath.cos(a) for a in angles]), (sine, [mpmath.sin(a) for a in angles])):
            for value, e in zip(values.tolist(), exact, strict=True):
                # two units, or, at the zeros, where the angle itself is rounded, exactly 0
                assert value == 0.0 if abs(e) < 1e-15 else ulps([value], [e])[0] <= 2.0


def test_quarter_turns_are_exact():
    cosine, sine = cos_sin_of_turn(torch.tensor([0, 2**30, 2**31, 3 * 2**30]))
    assert cosine.tolist() == [1.0, 0.0, -1.0, 0.0]
    assert sine.tolist() == [0.0, 1.0, 0.0, -1.0]


def test_box_muller_is_its_formula():
    a, b = WORDS[:206], WORDS[206:]
    first, second = box_muller(a, b)
    radius = np.sqrt(-2 * np.log((a.numpy() + 0.5) / 2**32))
    np.testing.assert_allclose(first.numpy(), radius * np.cos(2 * np.pi * b.numpy() / 2**32), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(second.numpy(), radius * np.sin(2 * np.pi * b.numpy() / 2**32), rtol=1e-12, atol=1e-14)
    # the largest normal there is: sqrt(2 log 2^33) = 6.76
    largest = box_muller(torch.tensor([0]), torch.tensor([0]))[0]
    assert float(largest) == pytest.approx(math.sqrt(2 * 33 * math.log(2)), rel=1e-14)


# Bits pinned: the samples of a seed must not change between releases, machines or versions of PyTorch. If this test
# fails, the change breaks everybody's seeds.
PINNED = {
    (0, (0, 0, 0)): "0x1.fb7665dc75752p-1 -0x1.d96d5ff1f1a43p-1 -0x1.3c373dd837701p-1 -0x1.eda3633efbfb3p-2",
    (1, (0, 0, 0)): "0x1.8587c51f15b0dp-2 -0x1.2f63789aecda2p-2 -0x1.fe6e17edb3db8p-3 -0x1.00fb7a665f1a7p+0",
    (2**64 - 1, (1, 2, 3)): "0x1.9e4d7ab0a6c9cp-3 -0x1.0d555b7e1c691p-1 -0x1.70cfd088441a2p+0 -0x1.81039c64c1219p+1",
}


@pytest.mark.parametrize(("seed", "identity"), PINNED)
def test_the_bits_are_pinned(seed, identity):
    values = standard_normals([seed], identity, 4, CPU)[0]
    assert " ".join(value.hex() for value in values.tolist()) == PINNED[seed, identity]


def test_torchs_bits_are_those_of_plain_float64():
    """The transform in Python's floats, one rounded operation at a time: no fused multiply-add, no other library's log."""

    def horner(x, coefficients):
        total = coefficients[-1]
        for coefficient in coefficients[-2::-1]:
            total = total * x + coefficient
        return total

    def plain(a, b):
        m, e = math.frexp((a + 0.5) * 2.0**-32)
        if m < math.sqrt(0.5):
            m, e = 2 * m, e - 1
        s = (m - 1) / (m + 1)
        radius = math.sqrt((horner(s * s, [2.0 / (2 * k + 1) for k in range(10)]) * s + e * math.log(2.0)) * -2.0)
        quarter = (b + 2**29) >> 30
        angle = (b - quarter * 2**30) * (math.pi / 2**31)
        cosine = horner(angle * angle, [(-1.0) ** k / math.factorial(2 * k) for k in range(9)])
        sine = horner(angle * angle, [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)]) * angle
        turned = [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][quarter % 4]
        return [radius * part for part in turned]

    a, b = WORDS[:206], WORDS[206:]
    found = torch.stack(box_muller(a, b), 1).tolist()
    assert found == [plain(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)]


def test_pinned_values_come_from_the_known_answer():
    """Element 0 and 1 of counter 0 under key 0 are Box-Muller of the first two words of the published answer."""
    a, b = 0x6627E8D5, 0xE169C58D
    radius, angle = math.sqrt(-2 * math.log((a + 0.5) / 2**32)), 2 * math.pi * b / 2**32
    first, second = standard_normals([0], (0, 0, 0), 2, CPU)[0].tolist()
    assert first == pytest.approx(radius * math.cos(angle), rel=1e-14)
    assert second == pytest.approx(radius * math.sin(angle), rel=1e-14)


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
    """Element e is made of counter e // 4: a longer draw begins with a shorter one, across chunk borders too."""
    long = standard_normals([3, 4], (1, 2, 3), 4 * CHUNK + 9, CPU)
    for count in (1, 3, 4, 5, 63, 4 * CHUNK - 1, 4 * CHUNK, 4 * CHUNK + 5):
        assert torch.equal(standard_normals([4], (1, 2, 3), count, CPU)[0], long[1, :count])
    many = standard_normals(range(1000), (1, 2, 3), 70, CPU)
    for seed in (0, 1, 499, 999):
        assert torch.equal(standard_normals([seed], (1, 2, 3), 70, CPU)[0], many[seed])
