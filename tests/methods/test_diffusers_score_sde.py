"""ScoreSdeVe of the installed diffusers."""

from __future__ import annotations

from functools import partial

import diffusers
import pytest
from methods_cases import (
    MIXTURE,
    Listed,
    compiled,
    gap,
    normals,
)
from methods_diffusers import float64
from methods_diffusers_pairs import (
    EXACT,
)

import urn
from urn.conformance.targets import states_at
from urn.processes import VE


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
