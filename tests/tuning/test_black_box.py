"""AutoDiffusion, Beta sampling, TPE, and search on a surrogate: each finds what it should where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

import urn
from urn.conformance.targets import MIXTURE
from urn.nets import digits, load_digits, skippable
from urn.noise import sample_seeds
from urn.processes import VP, scaled_linear_betas
from urn.tuning import Task, ToReference, TuningError, rank_transfer, surrogate, tune, untuned_plans
from urn.tuning.surrogate import spearman
from urn.tuning.task import make_starts
from urn.tuning.tuners.beta import density, fitted_beta, spectral_prior, x0_changes

PROCESS = VP.linear()
MODEL = MIXTURE.model(PROCESS, "v")
SMALL: dict[str, Any] = {"objective": ToReference(60), "starts": 48, "held_out": 64, "seed": 2}


def on(model: urn.Model, calls: int = 5, count: int = 48) -> Task:
    train, judging = (
        make_starts(model, sample_seeds(0, count, first), {}, bool(first), torch.float32, "cpu") for first in (0, count)
    )
    return Task(model, calls, ToReference(60), train, judging)


def test_autodiffusion_moves_the_times_of_its_method_alone() -> None:
    record = tune(MODEL, 5, tuner="autodiffusion", method="dpmpp_2m", most=40, **SMALL).record
    named = [(label, value) for label, _, value, *_ in record.tried if "dpmpp_2m" in label]
    ours = [value for label, value in named if label.startswith("autodiffusion dpmpp_2m times")]
    measured = [value for label, value in named if label.startswith("dpmpp_2m, ")]
    grids = 6 - len(measured)  # those that were not measured on all starts are the first
    assert len(ours) == 40
    assert grids < 6
    assert min(ours[grids:]) < 0.85 * min(measured + ours[:grids])


def test_autodiffusion_spends_what_skipped_blocks_save() -> None:
    model = load_digits()
    variants = skippable(model, ["coarse_block_1", "coarse_block_2", "up_block"])
    seen: list[Any] = []
    whole = urn.tuning.Search.try_plan

    def watched(self: Any, plan: Any, label: str, **named: Any) -> float:
        if "blocks" in label:
            seen.append((plan.nfe, self.task.cost(plan)))
        return whole(self, plan, label, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urn.tuning.Search, "try_plan", watched)
        tune(
            model,
            4,
            tuner="autodiffusion",
            objective="energy",
            data=digits("train")[0][:200],
            starts=24,
            held_out=24,
            variants=variants,
            most=6,
        )
    assert [calls for calls, _ in seen] == [5] * 6
    assert all(3 < cost <= 4 + 1e-9 for _, cost in seen)


def test_more_calls_than_any_skipping_pays_for_are_refused() -> None:
    dear = {"thin": (MODEL, 0.95)}
    with pytest.raises(ValueError, match="extra=1: 5 calls of the cheapest"):
        tune(MODEL, 4, tuner="autodiffusion", variants=dear, most=1, **SMALL)


def test_a_plan_that_costs_more_than_the_budget_is_refused() -> None:
    task = on(MODEL, 2)
    task.variants = {"thin": (MODEL, 0.5)}
    plan = urn.compile_plan("usf", PROCESS, 3, models=("thin", "thin", "main"))
    assert task.cost(plan) == 2.0
    search = urn.tuning.Search(task, optuna.create_study())
    assert search.try_plan(plan, "thin") > 0
    with pytest.raises(TuningError, match=r"2\.5 times; the budget is 2"):
        search.try_plan(urn.compile_plan("usf", PROCESS, 3, models=("thin", "main", "main")), "dearer")


def test_a_beta_has_the_moments_of_what_it_is_fitted_to() -> None:
    shares = torch.linspace(0, 1, 20001, dtype=torch.float64)[1:-1]
    for a, b in ((0.6, 0.9), (2.0, 1.5)):
        weights = shares ** (a - 1) * (1 - shares) ** (b - 1)
        assert fitted_beta(shares, weights / weights.sum()) == pytest.approx((a, b), rel=0.02)


def test_a_beta_of_two_numbers_by_hand() -> None:
    """m = 1/4 and v = 0.0675, so that a + b = m (1 - m)/v - 1 = 16/9; and what is beyond the bounds of the search is at them."""
    shares, weights = torch.tensor([0.1, 0.7]).double(), torch.tensor([0.75, 0.25]).double()
    assert fitted_beta(shares, weights) == pytest.approx((4 / 9, 4 / 3), rel=1e-6)
    assert fitted_beta(torch.tensor([0.45, 0.55]).double(), torch.tensor([0.5, 0.5]).double()) == (3.0, 3.0)
    assert fitted_beta(torch.tensor([0.0, 1.0]).double(), torch.tensor([0.5, 0.5]).double()) == (0.2, 0.2)


def test_the_change_of_a_prediction_that_is_known() -> None:
    """x0 = t + 2 t^2 in every coordinate: between calls it changes by the difference, in the middle of their shares."""
    process = urn.VE(0.5, 8.0)
    model = urn.Model(lambda x, t: 0 * x + (t + 2 * t * t)[:, None], process, "x0", shape=(2,))
    task = on(model, 5, 6)
    before = task.evaluations
    shares, changes = x0_changes(task, task.train, 4)
    times = urn.grids.grid_times(process, 4, "uniform")[:4]
    assert shares.tolist() == pytest.approx((((times[1:] + times[:-1]) / 2 - 0.5) / 7.5).tolist(), abs=1e-7)
    made = (times + 2 * times * times).diff()
    assert changes.shape == (6, 3, 2)
    torch.testing.assert_close(changes, made[None, :, None].expand(6, 3, 2), rtol=1e-5, atol=1e-5)
    assert task.evaluations - before == 4 * 6


def test_bands_are_rings_of_one_rounded_radius() -> None:
    """Of plane waves on a 4 x 6 grid: (1, 1) and (0, 1) share ring 1, (1, 2) is alone in ring 2 beside them, late."""
    i, j = torch.meshgrid(torch.arange(4.0).double(), torch.arange(6.0).double(), indexing="ij")

    def wave(p: int, q: int) -> torch.Tensor:
        return torch.cos(2 * torch.pi * (p * i / 4 + q * j / 6))

    changes = torch.stack([wave(1, 1), 2 * wave(0, 1), 5 * wave(1, 2)])[None, :, None]
    assert density(changes).tolist() == pytest.approx([0.1, 0.4, 0.5], abs=1e-9)
    assert density(changes[:, :, 0]).tolist() == pytest.approx([0.1, 0.4, 0.5], abs=1e-9)  # images without channels
    # what has no rows or no columns has one band, of the squares of the changes
    row = torch.tensor([1.0, -2.0, 2.0]).double()[None, :, None, None, None]
    assert density(row.expand(2, 3, 1, 1, 8)).tolist() == pytest.approx([1 / 9, 4 / 9, 4 / 9])
    fine = torch.tensor([1.0, -1.0]).double().repeat(4)
    lines = torch.stack([torch.ones(8).double(), 3 * fine])[None, :, None, None]
    assert density(lines).tolist() == pytest.approx([0.1, 0.9])


def test_every_band_of_frequencies_counts_the_same() -> None:
    """A large slow change early and a small fine one late: half of the density each."""
    flat = torch.ones(8, 8, dtype=torch.float64)
    fine = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(8, 4)
    changes = torch.stack([100 * flat, torch.zeros(8, 8, dtype=torch.float64), 0.01 * fine])[None, :, None]
    assert density(changes).tolist() == pytest.approx([0.5, 0.0, 0.5], abs=1e-9)
    assert density(changes[:, :, 0, 0]).tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)  # no image: one band


def test_beta_starts_from_the_spectrum_and_resumes(tmp_path: Path) -> None:
    storage = tmp_path / "trials.db"
    given: dict[str, Any] = {"tuner": "beta", "method": "ddim", "storage": storage, "study": "one", **SMALL}
    first = tune(MODEL, 5, trials=4, **given).record
    tried = [label for label, *_ in first.tried if "beta(" in label]
    a, b = spectral_prior(on(MODEL))
    assert tried[1:3] == ["ddim, beta(0.600, 0.600)", "ddim, beta(1.000, 1.000)"]
    assert first.notes["spectral (a, b)"] == pytest.approx([a, b], rel=0.2)
    again = tune(MODEL, 5, trials=16, **given).record
    values = {label: value for label, _, value, *_ in again.tried if "beta(" in label}
    assert len(values) == 16
    assert list(values)[:4] == tried
    assert min(values.values()) < min(values[label] for label in tried[1:3])


def test_tpe_knows_the_seeds_and_counts_its_own_trials(tmp_path: Path) -> None:
    storage = tmp_path / "trials.db"
    record = tune(MODEL, 4, tuner="tpe", trials=10, storage=storage, study="one", **SMALL).record
    assert sum(label.startswith("tpe") for label, *_ in record.tried) == 10
    study = optuna.load_study(study_name="one", storage=f"sqlite:///{storage}")
    seeds = {one.user_attrs["seed"]: one.value for one in study.trials if "seed" in one.user_attrs}
    values = {label: value for label, _, value, *_ in record.tried}
    assert len(seeds) >= 8
    assert all(values[label] == value for label, value in seeds.items())
    assert record.tuned.train.estimate <= record.untuned.train.estimate


def test_black_box_tuners_give_a_network_of_integer_times_integers() -> None:
    process = VP.from_betas(scaled_linear_betas(1000))
    model = urn.Model(MIXTURE.model(process, "v").net, process, "v", shape=(2,), integer_times=True)
    for name, options in (("usf", {}), ("tpe", {}), ("autodiffusion", {"most": 8}), ("beta", {"most": 5})):
        found = tune(
            model, 5, tuner=name, trials=8, **{**SMALL, "objective": ToReference(plan=fine(process))}, **options
        )
        assert all(t == round(t) for t in map(float, found.plan.times)), name
        assert (
            sum(
                label.startswith(("usf ", "tpe ", "autodiffusion ")) or "beta(" in label
                for label, *_ in found.record.tried
            )
            >= 5
        )


def fine(process: Any) -> Any:
    return urn.compile_plan("dpmpp_2m", process, 100, "trailing")


def test_a_surrogate_has_the_law_of_its_data() -> None:
    """Mean and covariance of a mixture fitted by expectation maximisation are those of the data, but for what is added."""
    data = MIXTURE.sample(600, 1)
    exact = surrogate(MODEL, data, components=2, seed=0)
    assert exact.process == PROCESS
    ends = urn.sample(exact, "dpmpp_3m", shape=(4000, 2), steps=40, seed=3, dtype=torch.float64)
    assert torch.allclose(ends.mean(0), data.mean(0), atol=0.06)
    assert torch.allclose(ends.T.cov(), data.T.cov(), rtol=0.1, atol=0.03)


def test_plans_rank_alike_on_a_network_and_on_its_surrogate() -> None:
    network = load_digits()
    exact = surrogate(network, digits("train")[0], components=10)
    plans = [plan for _, plan in untuned_plans(network.process, 5)][::4]
    found = rank_transfer(on(exact), on(network), plans)
    assert found.correlation > 0.8
    assert found.correlation == pytest.approx(spearman(found.first, found.second))
    assert spearman((1.0, 2.0, 3.0), (5.0, 4.0, 1.0)) == pytest.approx(-1)
    with pytest.raises(ValueError, match="at least 3"):
        rank_transfer(on(exact), on(network), plans[:2])


def test_a_search_on_a_surrogate_confirms_its_best_on_the_network() -> None:
    given: dict[str, Any] = {**SMALL, "starts": 200}
    found = tune(MODEL, 5, tuner="surrogate", components=2, confirm=5, inner_trials=40, **given)
    confirmed = [value for label, _, value, *_ in found.record.tried if label.startswith("on the surrogate: usf")]
    assert len(confirmed) == 5
    assert min(confirmed) == pytest.approx(found.record.tuned.train.estimate, rel=1e-5)
    assert found.record.gain > 1.05
    correlation = found.record.notes["rank correlation of untuned plans on surrogate and network"]
    assert correlation > 0.8
    # 40 plans were tried, 5 of them on the network: what the network paid is the reference, the untuned, samples and these
    assert found.record.evaluations <= 200 * (60 + 12 * 5 + 50 + 5 * 5) + 64 * 5 * (60 + 20)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"tuner": "surrogate", "inner": "surrogate"}, "inner="),
        ({"tuner": "surrogate", "confirm": 0}, "confirm="),
        ({"tuner": "surrogate", "components": 0}, "components="),
        ({"tuner": "autodiffusion", "method": "heun"}, "method="),
        ({"tuner": "autodiffusion", "extra": -1}, "extra="),
        ({"tuner": "beta", "fine": 0}, "fine="),
        ({"tuner": "tpe", "most": 0}, "most="),
    ],
)
def test_a_bad_option_names_itself(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        tune(MODEL, 4, trials=1, **SMALL, **wrong)


def test_a_surrogate_of_other_data_is_refused() -> None:
    with pytest.raises(ValueError, match="samples have shape"):
        surrogate(MODEL, torch.zeros(50, 3))
    with pytest.raises(ValueError, match="too few"):
        surrogate(MODEL, torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), components=10)
