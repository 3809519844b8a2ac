"""What mixtures add: components, forms of covariance, labels, slabs, and the digits."""

from __future__ import annotations

import builtins

import pytest
import torch
from exact_targets import DIAGONAL, FACTOR, FULL, MEAN, MEANS, WEIGHTS, states

from urn.exact import Gaussian, GaussianMixture, digits_mixture
from urn.nets.data import digits
from urn.processes import VP, Flow

KINDS = ("epsilon", "x0", "v", "velocity", "score")
LABELLED = GaussianMixture(WEIGHTS, MEANS, FULL, labels=[4, 0, 4])


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=rtol * max(1.0, b.abs().max().item()))


def same(one, other, process, t, count=6):
    x = states(one, process, t, count=count)
    for kind in KINDS:
        close(one.prediction(x, process, t, kind), other.prediction(x, process, t, kind))
    close(one.log_density(x, process, t), other.log_density(x, process, t))
    for a, b in zip(one.posterior(x, process, t), other.posterior(x, process, t), strict=True):
        close(a, b)


@pytest.mark.parametrize("covariance", [FACTOR @ FACTOR.T, DIAGONAL[1], torch.tensor(0.4)])
def test_one_component_is_a_gaussian(process, times, covariance):
    for t in times:
        same(GaussianMixture([1.0], MEAN[None], covariance[None]), Gaussian(MEAN, covariance), process, t)


def test_forms_of_covariance_agree(process, times):
    for t in times:
        same(
            GaussianMixture(WEIGHTS, MEANS, DIAGONAL),
            GaussianMixture(WEIGHTS, MEANS, DIAGONAL.diag_embed()),
            process,
            t,
        )
        isotropic = GaussianMixture(WEIGHTS, MEANS, DIAGONAL[:, 1])
        same(isotropic, GaussianMixture(WEIGHTS, MEANS, DIAGONAL[:, 1:2].expand(3, 3)), process, t)
        same(GaussianMixture(WEIGHTS, MEANS, 0.3), GaussianMixture(WEIGHTS, MEANS, [0.3, 0.3, 0.3]), process, t)


def test_covariances_come_back():
    close(GaussianMixture(WEIGHTS, MEANS, FULL).covariances, FULL)
    close(GaussianMixture(WEIGHTS, MEANS, DIAGONAL).covariances, DIAGONAL.diag_embed())


def test_far_from_every_component_nothing_overflows():
    target = GaussianMixture(WEIGHTS, MEANS, FULL)
    x = torch.full((2, 3), 1e4, dtype=torch.float32)
    for kind in KINDS:
        assert target.prediction(x, Flow(), 0.1, kind).isfinite().all()
    assert target.log_density(x, Flow(), 0.1).isfinite().all()


def test_a_label_restricts_to_its_class(process, times):
    """Class 4 is components 0 and 2 with weights 6/7 and 1/7; class 0 is component 1 alone."""
    parts = {
        4: GaussianMixture([6 / 7, 1 / 7], MEANS[[0, 2]], FULL[[0, 2]]),
        0: Gaussian(MEANS[1], FULL[1]),
        -1: LABELLED,
    }
    for t in times:
        x = states(LABELLED, process, t)
        for label, part in parts.items():
            given = torch.full((6,), label)
            for kind in KINDS:
                close(LABELLED.prediction(x, process, t, kind, label=given), part.prediction(x, process, t, kind))
            close(LABELLED.log_density(x, process, t, label=given), part.log_density(x, process, t))
            posterior = LABELLED.posterior(x, process, t, label=given)
            for a, b in zip(posterior, part.posterior(x, process, t), strict=True):
                close(a, b)


def test_labels_may_differ_within_a_batch():
    x, label = states(LABELLED, Flow(), 0.4), torch.tensor([0, 4, -1, 0, -7, 4])
    together = LABELLED.x0(x, Flow(), 0.4, label=label)
    alone = [LABELLED.x0(x[i : i + 1], Flow(), 0.4, label=label[i : i + 1]) for i in range(6)]
    close(together, torch.cat(alone))


def test_model_honours_its_label():
    x, t, label = (
        states(LABELLED, Flow(), 0.4),
        torch.full((6,), 0.4, dtype=torch.float64),
        torch.tensor([0, 4, -1, 0, 4, 4]),
    )
    net = LABELLED.model(Flow(), predicts="x0").net
    assert torch.equal(net(x, t, label=label), LABELLED.x0(x, Flow(), 0.4, label=label))
    assert torch.equal(net(x, t), net(x, t, label=torch.full((6,), -1)))
    assert not torch.allclose(net(x, t, label=label), net(x, t))


def test_sample_of_a_class_is_of_that_class():
    label = torch.tensor([0, 4]).repeat(20000)
    draws = LABELLED.sample(40000, 0, label=label)
    torch.testing.assert_close(draws[::2].mean(0), MEANS[1], atol=0.03, rtol=0)
    torch.testing.assert_close(draws[1::2].mean(0), (6 * MEANS[0] + MEANS[2]) / 7, atol=0.05, rtol=0)


def test_a_batch_larger_than_a_slab_is_its_parts(monkeypatch):
    x, label = states(LABELLED, Flow(), 0.4, count=70), torch.arange(70) % 2 * 4
    t = torch.linspace(0.1, 0.9, 70, dtype=torch.float64)
    whole = LABELLED.x0(x, Flow(), t, label=label), LABELLED.log_density(x, Flow(), t, label=label)
    one = LABELLED.x0(x, Flow(), 0.4)
    slabs = GaussianMixture._slabs
    monkeypatch.setattr(
        GaussianMixture, "_slabs", lambda self, *columns: (p for s in slabs(self, *columns) for p in few(*s))
    )
    parts = LABELLED.x0(x, Flow(), t, label=label), LABELLED.log_density(x, Flow(), t, label=label)
    for a, b in zip(whole, parts, strict=True):
        close(a, b)
    close(LABELLED.x0(x, Flow(), 0.4), one)


def few(x, *columns):
    for i in range(0, len(x), 9):
        yield x[i : i + 9], *(c if len(c) == 1 else c[i : i + 9] for c in columns)


def test_real_slabs_are_the_parts_too():
    target = digits_mixture()
    x = states(target, VP.linear(), 0.5, count=80)
    whole = target.x0(x, VP.linear(), 0.5)
    assert len(list(target._slabs(x.flatten(1)))) > 1
    close(whole, torch.cat([target.x0(part, VP.linear(), 0.5) for part in x.split(7)]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.6], [[0.0], [1.0]], 1.0), r"weights sum to 1.1"),
        (([1.5, -0.5], [[0.0], [1.0]], 1.0), r"weights are \[1.5, -0.5\].*positive"),
        (([1.0], [[0.0], [1.0]], 1.0), r"weights are \[1.0\].*2 positive"),
        (([1.0], [0.0], 1.0), r"means has shape \(1,\).*\(K, d\)"),
        (
            ([0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0, 1.0]),
            r"covariances has shape \(3,\).*\(2,\), \(2, 1\) or \(2, 1, 1\)",
        ),
        (([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "covariances must be .*positive semi-definite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.1, 1.0]]]), "covariances must be symmetric"),
        (([1.0], [[0.0, 0.0]], 1.0, (3,)), r"shape is \(3,\)"),
        (([0.5, 0.5], [[0.0], [1.0]], 1.0, None, [1]), r"labels has shape \(1,\).*2 integers"),
        (([0.5, 0.5], [[0.0], [1.0]], 1.0, None, [1, -1]), r"labels.*>= 0"),
        (([0.5, 0.5], [[0.0], [1.0]], 1.0, None, [1.0, 0.0]), r"labels.*integers"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(*arguments)


def test_wrong_labels_are_refused():
    x = states(LABELLED, Flow(), 0.4)
    with pytest.raises(ValueError, match=r"label holds \[3\].*\[0, 4\]"):
        LABELLED.x0(x, Flow(), 0.4, label=torch.tensor([0, 4, 3, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"label has shape \(2,\).*\(6,\) integers"):
        LABELLED.x0(x, Flow(), 0.4, label=torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"torch\.float32"):
        LABELLED.x0(x, Flow(), 0.4, label=torch.zeros(6))
    with pytest.raises(ValueError, match="without labels"):
        GaussianMixture(WEIGHTS, MEANS, FULL).x0(x, Flow(), 0.4, label=torch.zeros(6).long())


def test_digits_mixture_knows_the_digits():
    """Its ten class-conditional densities classify digits that it was not fitted to; its weights are frequencies."""
    target = digits_mixture()
    assert target is digits_mixture()
    assert target.shape == (1, 8, 8)
    assert target.labels.tolist() == [digit for digit in range(10) for _ in range(2)]
    classes = digits("train")[1]
    close(target.weights.reshape(10, 2).sum(1), torch.bincount(classes).double() / len(classes), 1e-6)
    # a little noise, as the pixels that are always blank have only the variance that was added
    x, classes = digits("test")
    scores = [target.log_density(x, Flow(), 0.05, label=torch.full((len(x),), digit)) for digit in range(10)]
    assert (torch.stack(scores).argmax(0) == classes).double().mean() > 0.95
    assert target.sample(3, 0).shape == (3, 1, 8, 8)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    original = builtins.__import__

    def without(name, *rest, **options):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'urn-samplers\[digits\]'"):
        digits_mixture(components_per_class=1, seed=12345)
