"""The benchmarks: both sides integrate the same trajectories, calls are counted, nobody chooses on what is reported.

No test here looks at a time.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("sklearn")

import urn
from benchmarks import __main__ as command
from benchmarks import accuracy, overhead, page, peers, plans, tables, tuned_tables, tuners
from benchmarks.course import CLEAN, PROCESS, SMALLEST, Network, NotPossibleError, checks, course, distances, rms
from benchmarks.drive import time_of
from benchmarks.kernels import count_kernels
from urn.methods import own_names


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The records of `python -m benchmarks --quick --json DIR`, which leaves the page alone."""
    folder = tmp_path_factory.mktemp("records")
    before = command.PAGE.read_text() if command.PAGE.exists() else None
    assert command.main(["--quick", "--json", str(folder)]) == 0
    assert (command.PAGE.read_text() if command.PAGE.exists() else None) == before
    return {part: json.loads((folder / f"{part}.json").read_text()) for part in command.PARTS}


# --- what is measured ------------------------------------------------------------------------------------------------


def test_the_exact_ends_agree_with_a_fine_plan_and_nothing_coarse_does() -> None:
    few = course(8)
    found = checks(few, 900)
    assert found["fine plan"] < 3e-6
    coarse = plans.UrnConfiguration("dpmpp_2m", "quadratic").at(50).run(few.starts)
    assert rms(distances(coarse, few.clean)) > 100 * found["fine plan"]


def test_a_jump_from_the_tables_end_is_what_its_formula_gives() -> None:
    """x0 at t = 0 by hand, from the epsilon that both sides' network answers."""
    few = course(8)
    alpha, sigma = PROCESS.alpha(SMALLEST), PROCESS.sigma(SMALLEST)
    by_hand = (few.smallest - sigma * Network()(few.smallest, SMALLEST)) / alpha
    assert rms(distances(by_hand, few.clean)) == pytest.approx(checks(few, 30)["jump"], rel=1e-6)
    assert float(PROCESS.sigma(CLEAN)) == 0


@pytest.mark.parametrize(
    ("peer", "method", "grid"),
    [
        (peers.Peer("DDIM", "trailing", (("clip_sample", False),)), "ddim", "trailing"),
        (peers.Peer("EulerDiscrete", "trailing"), "euler", "trailing"),
        (peers.Peer("EulerDiscrete", "quadratic sigmas, given"), "ddim", "quadratic"),
        (peers.Peer("HeunDiscrete", "leading"), "heun", "leading"),
        (peers.Peer("DPMSolverMultistep", "trailing", (("solver_order", 2),)), "dpmpp_2m_lower_final", "trailing"),
        (peers.Peer("UniPCMultistep", "trailing", (("solver_order", 3),)), "unipc_lower_final", "trailing"),
        (peers.Peer("EDMDPMSolverMultistep", "EDM karras", (("solver_order", 1),)), "ddim", "karras"),
        (peers.Peer("DPMSolverMultistep", "karras*", (("solver_order", 1),)), "ddim", "karras"),
        (peers.Peer("UniPCMultistep", "quadratic flow sigmas*, given", (("solver_order", 1),)), "unipc_1", "quadratic"),
    ],
    ids=lambda value: value.label if isinstance(value, peers.Peer) else None,
)
def test_a_scheduler_and_the_plan_that_is_the_same_end_together(peer: peers.Peer, method: str, grid: str) -> None:
    """In every kind of units: the table's own, over alpha, EDM's, a flow's.

    What is left is float32, and starts that take sigma = 0.99998 of the noisiest time for 1.
    """
    few = course(8)
    theirs, ours = peer.at(10), plans.UrnConfiguration(method, grid).at(10)
    assert theirs.nfe == ours.nfe
    gap = rms(distances(theirs.run(few.starts), ours.run(few.starts).double()))
    assert gap < 1e-4 < 0.01 * rms(distances(ours.run(few.starts), few.clean))


def test_ipndm_on_given_levels_is_ddim_at_its_first_step() -> None:
    few = course(8)
    theirs = peers.Peer("IPNDM", "quadratic betas, given").at(1)
    ours = plans.UrnConfiguration("ddim", "quadratic").at(1)
    assert theirs.nfe == ours.nfe == 1
    assert rms(distances(theirs.run(few.starts), ours.run(few.starts).double())) < 3e-5


def test_the_time_of_a_noise_level_is_the_tables() -> None:
    for t in (0.0, 0.4, 17.0, 998.5, 999.0):
        assert time_of(float(PROCESS.sigma(t) / PROCESS.alpha(t))) == pytest.approx(t, abs=1e-9)


# --- the tables of configurations --------------------------------------------------------------------------------------


def test_no_configuration_stands_twice() -> None:
    for side in (peers.diffusers_configurations(), plans.urn_configurations()):
        labels = [one.label for one in side]
        assert len(labels) == len(set(labels))


def test_every_deterministic_method_is_there_once() -> None:
    """An alias, or another name for the same function with the same options, is no second method."""
    named = [urn.METHODS[name] for name, options in plans.methods() if not options]
    for name in own_names():
        method = urn.METHODS[name]
        same = [
            other.name
            for other in named
            if other.function is method.function and plans.method_options(other) == plans.method_options(method)
        ]
        assert len(same) == (0 if method.stochastic else 1), name
    assert {"unipc_2", "unipc_4", "deis_3", "adams_pc_3", "dpmpp_2m"} <= {method.name for method in named}


@pytest.mark.slow
def test_every_line_runs_within_its_budget_or_says_why_not() -> None:
    """One configuration of each method, at a budget of 9: an odd one, which two calls a step do not fill."""
    one_of_each = _one_of_each([*peers.diffusers_configurations(), *plans.urn_configurations()])
    entries, failures = accuracy.sweep(one_of_each, [9], course(2), lambda _: None)
    assert all(1 <= entry.nfe <= 9 for entry in entries)
    assert len(entries) + len(failures) == len(one_of_each)
    unable = {(f["label"].split(" ")[0], f["reason"]) for f in failures if f["side"] == "diffusers"}
    assert {name for name, _ in unable} <= {"PNDM", "UniPCMultistep"}
    assert all(f["reason"] for f in failures)
    assert len(entries) > 100


def _one_of_each(configurations: list[Any]) -> list[Any]:
    return list({(one.side, one.family): one for one in configurations}.values())


def test_a_plan_below_the_tables_end_is_refused_and_counted_out() -> None:
    with pytest.raises(NotPossibleError, match="below t = 0"):
        plans.UrnConfiguration("dpm_solver_2", "quadratic").at(50)
    with pytest.raises(NotPossibleError, match="at most 4"):
        plans.UrnConfiguration("deis_rho_rk4", "lambda").at(4)
    assert plans.UrnConfiguration("heun", "quadratic").at(10).nfe == 9


def test_calls_that_a_scheduler_hides_are_counted() -> None:
    """Heun's steps cost two calls, PNDM's first three four each: with 10 it cannot even begin."""
    assert peers.Peer("HeunDiscrete", "trailing").at(10).steps == 5
    with pytest.raises(NotPossibleError):
        peers.Peer("PNDM", "leading", (("skip_prk_steps", False),)).at(10)
    assert peers.Peer("PNDM", "leading", (("skip_prk_steps", False),)).at(15).nfe <= 15


# --- choosing ---------------------------------------------------------------------------------------------------------


def entry(side: str, errors: list[float], pools: tuple[str, ...] = ("any",)) -> accuracy.Entry:
    grid = "trailing" if "settings" in pools else "karras*"
    one = peers.Peer(f"P{errors[0]}", grid) if side == "diffusers" else plans.UrnConfiguration("ddim", "quadratic")
    assert one.pools == pools
    return accuracy.Entry(one, 5, 5, 5, torch.tensor(errors, dtype=torch.float64))


def test_what_is_reported_did_not_choose() -> None:
    """The first configuration is better on the half that chooses, and far worse on the other: so it is reported."""
    lucky = entry("diffusers", [0.1] * 8 + [0.9] * 8)
    steady = entry("diffusers", [0.2] * 8 + [0.2] * 8)
    ours = entry("urn", [0.3] * 16)
    found = {c["side"]: c for c in accuracy.choose([lucky, steady, ours], [5])}
    assert found["diffusers"]["rms"] == pytest.approx(0.9)
    assert found["urn"]["over"]["any"]["ratio"] == pytest.approx(3.0)


def test_the_pools_are_apart() -> None:
    set_by_name = entry("diffusers", [0.4] * 16, ("any", "settings"))
    mended = entry("diffusers", [0.2] * 16)
    ours = entry("urn", [0.1] * 16)
    over = next(c for c in accuracy.choose([set_by_name, mended, ours], [5]) if c["side"] == "urn")["over"]
    assert {pool: round(found["ratio"], 9) for pool, found in over.items()} == {"any": 2.0, "settings": 4.0}


def test_the_few_starts_lie_in_the_half_that_chooses_among_the_many() -> None:
    few, many = accuracy.COUNTS
    assert few <= many // 2


def test_the_best_by_rms_and_by_the_median_go_on() -> None:
    group = [entry("diffusers", [1.0 + i] * 16) for i in range(accuracy.KEPT + 30)]
    outlier = entry("diffusers", [0.01] * 15 + [1e6])
    kept = accuracy.promising([*group, outlier])
    assert group[0].configuration in kept
    assert outlier.configuration in kept
    assert group[-1].configuration not in kept


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_kernels_are_counted_by_size() -> None:
    x, coefficient = torch.ones(4, 100), torch.tensor(2.0)

    def run() -> None:
        y = x * coefficient  # one
        y.add_(x, alpha=3.0)  # two
        y.view(100, 4)  # none: a view
        coefficient + 1.0  # a scalar one
        x[0] * 2  # a quarter of a state
        torch.cat([x, x])  # two states at once are one kernel

    found = count_kernels(run, x.numel())
    assert (found.large, found.small) == (3.25, 1)


def test_urns_ddim_is_a_copy_and_a_product_a_call() -> None:
    """What the network returned is copied beside the state, and the step is one product; row by row it is eight passes."""
    plan = urn.compile_plan("ddim", PROCESS, 20, "trailing")
    x = torch.ones(1, 1, 40, 40)
    model = urn.Model(lambda x, t: x, PROCESS, predicts="epsilon")
    with torch.no_grad():
        urn.execute(plan, model, {"x": x})  # what is looked at once is not counted
    found = count_kernels(lambda: urn.execute(plan, model, {"x": x}), x.numel())
    assert (found.names["mm"], found.names["copy_"]) == (20, 1 + 20)
    # x0 and the state are sums of two, epsilon is the answer itself; the last node is x0 alone
    assert overhead.passes(plan, model) == 19 * (3 + 3) + 3


# --- the records and the page -----------------------------------------------------------------------------------------


def test_quick_accuracy_records(quick: dict[str, dict[str, Any]]) -> None:
    found = quick["accuracy"]
    assert found["checks"]["fine plan"] < 3e-6
    assert found["same"] < 3e-5
    assert found["failures"] == []
    assert len(found["records"]) == 2 * (len(peers.QUICK) + len(plans.QUICK))
    assert all(record["nfe"] <= record["budget"] for record in found["records"])
    assert {(c["side"], c["pool"]) for c in found["choices"]} == set(accuracy.POOLS)
    ddim = [r for r in found["records"] if r["family"].lower().startswith("ddim") and r["budget"] == 10]
    assert [r["side"] for r in ddim] == ["diffusers", "urn"]
    assert ddim[0]["rms"] == pytest.approx(ddim[1]["rms"], abs=1e-5)


def test_quick_overhead_records(quick: dict[str, dict[str, Any]]) -> None:
    found = quick["overhead"]
    assert [row["name"] for row in found["rows"]] == [pair.name for pair in overhead.PAIRS]
    for row in found["rows"]:
        assert row["calls"] == (2 * found["steps"] - 1 if row["name"] == "heun" else found["steps"])
        for side in ("urn", "diffusers"):
            times = row[side]
            assert 0 < times["least"] <= times["low"] <= times["median"] <= times["high"]
        assert row["urn"]["small"] < row["diffusers"]["small"]
    fewer = [row for row in found["rows"] if "noise" not in row["name"]]
    assert all(row["urn"]["large"] < row["diffusers"]["large"] for row in fewer)


def test_the_page_has_both_parts_and_keeps_the_one_not_measured(
    quick: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    page.write_page(path, quick["accuracy"])
    accuracy_only = path.read_text()
    assert "## Accuracy" in accuracy_only
    assert "## Overhead" not in accuracy_only
    page.write_page(path, quick["overhead"])
    both = path.read_text()
    assert page.accuracy_section(quick["accuracy"]) in both
    assert page.overhead_section(quick["overhead"]) in both
    again = {**quick["overhead"], "seconds": 12345.0}
    page.write_page(path, again)
    assert "12345 s" in path.read_text()
    assert path.read_text().count("## Overhead") == path.read_text().count("## Accuracy") == 1
    assert page.accuracy_section(quick["accuracy"]) in path.read_text()


def test_every_row_of_the_page_has_its_headers_width(quick: dict[str, dict[str, Any]]) -> None:
    result = quick["accuracy"]
    count = result["counts"][-1]
    found = [tables.headline(result, count), tables.chosen(result, count), tables.top(result, count)]
    found += [*(tables.families(result, count, side) for side in ("diffusers", "urn")), tables.failures(result)]
    found += [tables.speed(quick["overhead"], list(overhead.SHAPES[0])), tables.setup(quick["overhead"])]
    found.append(tables.noise(quick["overhead"]))
    for table in found:
        assert {len(row) for row in table.rows} <= {len(table.header)}, table.title


def test_the_headline_is_the_choices(quick: dict[str, dict[str, Any]]) -> None:
    result = quick["accuracy"]
    table = tables.headline(result, 16)
    for row, budget in zip(table.rows, result["budgets"], strict=True):
        ours = next(c for c in result["choices"] if (c["budget"], c["side"], c["pool"]) == (budget, "urn", "any"))
        assert row[0] == str(budget)
        assert row[3] == tables.number(ours["rms"])
        assert row[5] == tables.interval(ours["over"]["any"])


def test_quick_records_of_tuned_plans_and_tuners(quick: dict[str, dict[str, Any]]) -> None:
    """Untuned is once its own ratio; a table a problem, the best first; every row as wide as its header."""
    rows = quick["tuners"]["rows"]
    assert {(row["problem"], row["tuner"]) for row in rows} == set(itertools.product(tuners.BUDGETS, tuners.QUICK))
    for row in rows:
        assert (row["over"]["ratio"], row["returned"]) == (1, "untuned")
    refused = {"problem": "mixture", "budget": 5, "tuner": "new", "refused": "no"}
    made = tuned_tables.tuners({**quick["tuners"], "rows": [refused, *rows]})
    assert made[0].rows[-1][:2] == ("new", "refused: no")
    made += [one(quick["tuned"]) for one in tuned_tables.TUNED]
    assert all(len(row) == len(table.header) for table in made for row in table.rows)
    assert all(table.rows for table in made)
    assert "20 seconds on the mixture and 40 on the network" in page.tuners_section(quick["tuners"])
    line = next(one for one in quick["tuned"]["rows"][0]["lines"] if one["name"] == "Urn, tuned")
    assert set(line["over"]) == {"diffusers, by its settings", "diffusers, any way"}


def test_a_shared_machine_is_named_on_the_page(quick: dict[str, dict[str, Any]]) -> None:
    for load, shared in ((4.0, True), (1.0, False)):
        machine = {**quick["overhead"]["machine"], "load": load, "load at the end": 1.0}
        text = page.overhead_section({**quick["overhead"], "machine": machine})
        assert ("shared with other programs" in text) == shared


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "speed"])
    assert "accuracy" in capsys.readouterr().err
