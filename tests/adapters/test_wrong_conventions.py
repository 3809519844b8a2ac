"""A network declared in another convention than its own is noticed by a look at clean data; a right declaration never is."""

from __future__ import annotations

import warnings
from dataclasses import replace

import foreign_networks as foreign
import pytest
import torch

import urn
from urn import PredictionWarning, check_prediction
from urn.adapters import conventions as c
from urn.processes import VE, Polynomial, SubVP

# The network as its own code has it, and the constructor that suits.
NETWORKS = {
    "flow_matching": (foreign.towards_data("cond_ot"), c.flow_matching),
    "flow_matching cosine": (foreign.towards_data("cosine"), lambda n: c.flow_matching(n, "cosine")),
    "flow_matching vp": (foreign.towards_data("vp"), lambda n: c.flow_matching(n, "vp")),
    "flow_matching power 3": (foreign.towards_data("polynomial"), lambda n: c.flow_matching(n, Polynomial(3.0))),
    "flow_matching x_1": (foreign.towards_data("cond_ot", "x0"), lambda n: c.flow_matching(n, predicts="x0")),
    "sit score": (foreign.towards_data("cosine", "score"), lambda n: c.sit(n, "gvp", "score")),
    "sit noise": (foreign.towards_data("cond_ot", "epsilon"), lambda n: c.sit(n, predicts="epsilon")),
    "rectified_flow": (foreign.rectified_flow, c.rectified_flow),
    "sd3": (foreign.sd3, c.sd3),
    "flux": (foreign.flux, c.flux),
    "edm": (foreign.edm, c.edm),
    "edm_raw 0.5": (foreign.edm_raw(0.5), c.edm_raw),
    "edm_raw 1": (foreign.edm_raw(1.0), lambda n: c.edm_raw(n, 1.0)),
    "ddpm linear": (foreign.ddpm(foreign.LINEAR), c.ddpm),
    "ddpm cosine": (foreign.ddpm(foreign.COSINE), lambda n: c.ddpm(n, "cosine")),
    "ddpm scaled": (foreign.ddpm(foreign.SCALED), lambda n: c.ddpm(n, "scaled_linear")),
    "ddpm scaled v": (foreign.ddpm(foreign.SCALED, "v"), lambda n: c.ddpm(n, "scaled_linear", "v")),
    "ddpm linear x0": (foreign.ddpm(foreign.LINEAR, "x0"), lambda n: c.ddpm(n, predicts="x0")),
    "score_sde vp": (foreign.score_sde_vp, c.score_sde),
    "score_sde sub-vp": (foreign.score_sde_sub_vp, lambda n: c.score_sde(n, SubVP())),
    "score_sde ve": (foreign.score_sde_ve, lambda n: c.score_sde(n, VE(0.01, 50.0))),
}
# (its own, declared): told by neither ends nor middle at 256 samples. All are tables of betas, shown about the right noise
# level: DDPM's is score_sde's VP in steps of 1/1000, the others are up to 30 % off it in sigma/alpha.
ALIKE = {
    ("ddpm linear", "score_sde vp"),
    ("score_sde vp", "ddpm linear"),
    ("ddpm linear", "ddpm cosine"),
    ("ddpm linear", "ddpm scaled"),
    ("score_sde vp", "ddpm cosine"),
    ("score_sde vp", "ddpm scaled"),
    ("ddpm scaled", "ddpm cosine"),
}
DATA = foreign.data(256, seed=0)


def keywords_too(network):
    """Called by position or by keyword, as constructors do."""
    return lambda x, t: network(x, t)


def looked_at(own, declared, data=DATA):
    """What the check says, and whether it warned."""
    model = NETWORKS[declared][1](keywords_too(NETWORKS[own][0]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = check_prediction(model, data)
    assert [warning.category for warning in caught] == ([] if said is None else [PredictionWarning])
    return said


@pytest.mark.parametrize("own", NETWORKS)
def test_every_wrong_declaration_is_caught_and_no_right_one(own, monkeypatch):
    monkeypatch.setattr(
        urn.probe, "_explanation", lambda *given: None
    )  # the verdict alone: what would fit takes longer
    silent = {declared for declared in NETWORKS if looked_at(own, declared) is None}
    assert silent == {own} | {declared for network, declared in ALIKE if network == own}


def test_no_right_declaration_is_warned_about_whatever_the_data():
    for seed in range(1, 11):
        for own in NETWORKS:
            assert looked_at(own, own, foreign.data((64, 128)[seed % 2], seed)) is None


@pytest.mark.parametrize(
    ("own", "declared", "words"),
    [
        ("flow_matching", "flux", "when shown its times in reverse, they are minus 'velocity'"),
        ("flux", "flow_matching", "when shown its times in reverse, they are minus 'velocity'"),
        ("sd3", "flux", "when shown 1000 times its label, they are 'velocity'"),
        ("flux", "sd3", "when shown a thousandth of its label, they are 'velocity'"),
        ("sit noise", "flow_matching x_1", "they are 'epsilon'"),
        ("ddpm scaled", "ddpm scaled v", "they are 'epsilon'"),
        ("edm", "flow_matching", "they are no prediction of this process, whichever way its time runs"),
    ],
)
def test_it_says_what_would_fit(own, declared, words):
    assert looked_at(own, declared).endswith(f"between the ends {words}")


def test_a_sign_alone():
    model = urn.Model(lambda x, t: -foreign.flux(x, t), urn.Flow(), predicts="velocity")
    with pytest.warns(PredictionWarning, match="they are minus 'velocity'"):
        check_prediction(model, DATA)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_wrong_data_scale_of_edm_is_caught(factor):
    model = c.edm_raw(foreign.edm_raw(0.5), 0.5 * factor)
    with pytest.warns(PredictionWarning):
        check_prediction(model, DATA)


def test_five_calls_and_the_first_run_none():
    calls = []
    model = c.flux(lambda x, t: calls.append(len(x)) or foreign.flux(x, t))
    check_prediction(model, DATA)
    assert calls == [len(DATA)] * 5
    calls.clear()
    check_prediction(model, DATA[:63])
    assert calls == [63] * 2


def test_what_cannot_be_told_white_gaussian_data_in_either_direction():
    """The data are then as the noise: the other direction is the same law, and the samples are right."""
    white = urn.exact.Gaussian([0.0, 0.0], [1.0, 1.0])
    exact = white.model(urn.Flow(), "velocity")
    model = c.flow_matching(lambda x, t: exact.net(x, t))
    assert check_prediction(model, white.sample(512, seed=0)) is None


def test_clean_data_are_needed():
    model = c.flux(foreign.flux)
    for x0 in (None, [1.0], torch.zeros(3), torch.zeros(4, 3, dtype=torch.long), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match="must be clean data, floating-point"):
            check_prediction(model, x0)
    two_ends = replace(c.stochastic_interpolant(lambda x, t: x))
    with pytest.raises(ValueError, match="is all that this check knows"):
        check_prediction(two_ends, DATA)


def test_a_trained_network_passes_and_does_not_under_another_name():
    """The shipped digits network, on digits that it was not trained on."""
    from urn.nets import load_digits
    from urn.nets.data import digits

    images, labels = digits("test")
    model, x0, label = load_digits(), images[:128].float(), labels[:128]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_prediction(model, x0, label=label) is None
    for other in ({"predicts": "epsilon"}, {"label": lambda t: 0.5 * t}, {"process": urn.Flow()}):
        with pytest.warns(PredictionWarning):
            check_prediction(replace(model, **other), x0, label=label)
