"""urn plan: printing, JSON, and comparing plans."""

from __future__ import annotations

import functools
import json
import re

import pytest
from cli_runs import fails, run

import urn
from urn.cli.screen import wrap_plan
from urn.processes import Tabulated, cosine_betas, linear_betas, scaled_linear_betas

LINEAR = urn.VP.linear()


def plan_of(tmp_path, *args) -> urn.Plan:
    run("plan", *args, "--json", tmp_path / "plan.json")
    return urn.Plan.from_json((tmp_path / "plan.json").read_text())


def test_prints_the_plan():
    result = run("plan", "dpmpp_2m", "--steps", 3)
    assert result.stdout == str(urn.compile_plan("dpmpp_2m", LINEAR, steps=3)) + "\n"
    assert run("plan", "compile", "dpmpp_2m", "--steps", 3).stdout == result.stdout
    assert run("plan", "--steps", 3, "dpmpp_2m").stdout == result.stdout


@pytest.mark.parametrize("width", [80, 100, 200])
def test_wraps_formulas_within_their_column(width):
    """On a terminal: nothing is lost, no line is too long, and nodes stay below each other."""
    lines = str(urn.compile_plan("unipc_3", LINEAR, steps=5)).splitlines()
    wrapped = wrap_plan(lines, width)
    assert max(map(len, wrapped)) <= width
    assert sorted(" ".join(wrapped).split()) == sorted(" ".join(lines).split())
    ends = {len(line) for line in wrapped if line.endswith(("inf", "lambda")) or re.search(r"\.\d{4}$", line)}
    assert len(ends) == 1


def test_ten_steps_unless_told():
    assert run("plan", "ddim").stdout == str(urn.compile_plan("ddim", LINEAR, steps=10)) + "\n"


@pytest.mark.parametrize(
    ("text", "process"),
    [
        ("vp.linear", LINEAR),
        ("vp.linear:beta_max=10", urn.VP.linear(beta_max=10)),
        ("vp.scaled_linear", urn.VP.scaled_linear()),
        ("vp.cosine(offset=0.01)", urn.VP.cosine(0.01)),
        ("sub_vp", urn.SubVP()),
        ("flow", urn.Flow()),
        ("flow:shift=3", urn.Flow(3)),
        ("flow(shift = 3.5)", urn.Flow(3.5)),
        ("ve:sigma_min=0.01,sigma_max=50", urn.VE(0.01, 50)),
        ("table.linear", Tabulated.from_betas(linear_betas())),
        ("table.linear:steps=100,beta_start=0.001,beta_end=0.2", Tabulated.from_betas(linear_betas(100, 0.001, 0.2))),
        ("table.scaled_linear:zero_terminal_snr=true", Tabulated.from_betas(scaled_linear_betas(), True)),
        ("table.cosine", Tabulated.from_betas(cosine_betas())),
    ],
)
def test_processes(tmp_path, text, process):
    plan = plan_of(tmp_path, "ddim", "--process", text, "--steps", 4)
    assert plan.process == process
    assert plan == urn.compile_plan("ddim", process, steps=4)


@pytest.mark.parametrize(
    ("text", "grid", "process"),
    [
        ("karras", "karras", "vp.linear"),
        ("karras:rho=5", functools.partial(urn.grids.karras, rho=5), "vp.linear"),
        ("beta:a=0.5,b=0.7", functools.partial(urn.grids.beta, a=0.5, b=0.7), "vp.linear"),
        ("leading:offset=1", functools.partial(urn.grids.leading, offset=1), "table.linear"),
        ("shifted:shift=3", urn.grids.shifted(3), "flow"),
        ("shifted:shift=3,grid=beta", urn.grids.shifted(3, "beta"), "flow"),
        ("rounded:grid=quadratic", urn.grids.rounded("quadratic"), "table.linear"),
    ],
)
def test_grids(tmp_path, text, grid, process):
    on = {"vp.linear": LINEAR, "table.linear": Tabulated.from_betas(linear_betas()), "flow": urn.Flow()}[process]
    plan = plan_of(tmp_path, "ddim", "--grid", text, "--process", process, "--steps", 5)
    assert plan == urn.compile_plan("ddim", on, steps=5, grid=grid)


def test_times_and_options_and_final(tmp_path):
    plan = plan_of(tmp_path, "ddim:eta=0.5", "--grid", "1,0.5,0.25", "--final", "x0")
    assert plan.times == (1.0, 0.5, 0.25)
    assert plan == urn.compile_plan("ddim", LINEAR, grid=[1.0, 0.5, 0.25], final="x0", eta=0.5)
    assert plan_of(tmp_path, "ddim", "--option", "eta=0.5", "--grid", "1,0.5,0.25", "--final", "x0") == plan
    words = plan_of(tmp_path, "unipc", "--option", "order=3", "--option", "prediction=epsilon", "--steps", 5)
    assert words == urn.compile_plan("unipc", LINEAR, steps=5, order=3, prediction="epsilon")


def test_json_to_stdout_is_nothing_else():
    result = run("plan", "ddim", "--steps", 2, "--json", "-")
    assert urn.Plan.from_json(result.stdout) == urn.compile_plan("ddim", LINEAR, steps=2)


def test_show(tmp_path):
    plan = plan_of(tmp_path, "euler_ancestral", "--process", "flow", "--steps", 3)
    assert run("plan", "show", tmp_path / "plan.json").stdout == str(plan) + "\n"


def test_diff_of_methods():
    assert run("plan", "diff", "ddim", "euler").stdout == "no difference in 20 rows\n"
    result = run(
        "plan", "diff", "ddim", "ddim:eta=0.5", "--steps", 3, "--grid", "lambda", "--process", "flow", status=1
    )
    one, other = (urn.compile_plan("ddim", urn.Flow(), steps=3, grid="lambda", eta=eta) for eta in (0, 0.5))
    assert result.stdout == f"- ddim\n+ ddim:eta=0.5\n{one.diff(other)}\n"


def test_diff_of_files_and_of_a_method_beside_a_file(tmp_path):
    """The method is compiled for the file's process and times, unless they are given."""
    plan_of(tmp_path, "dpm_solver_1", "--process", "flow:shift=2", "--grid", "0.9,0.5,0.2")
    file = tmp_path / "plan.json"
    run("plan", "diff", file, file)
    assert run("plan", "diff", file, "ddim").stdout == "no difference in 4 rows\n"
    assert run("plan", "diff", "ddim", file).stdout == "no difference in 4 rows\n"
    assert "process: " in run("plan", "diff", file, "ddim", "--steps", 2, status=1).stdout


def test_diff_within_a_tolerance(tmp_path):
    plan_of(tmp_path, "ddim", "--grid", "1,0.5,0")
    near = ("plan", "diff", tmp_path / "plan.json", "ddim", "--process", "vp.linear", "--grid", "1,0.50001,0")
    run(*near, status=1)
    run(*near, "--tolerance", 1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dpmp_2m"], "method='dpmp_2m' is unknown; did you mean dpmpp_2m"),
        (["ddim", "--process", "vp.liner"], "process='vp.liner' is unknown; did you mean vp.linear"),
        (["ddim", "--process", "flow:shift=-1"], "shift=-1 must be a positive finite number"),
        (["ddim", "--process", "flow:shft=1"], "process 'flow' has no option shft=1; its options: shift"),
        (["ddim", "--process", "table.linear:steps=1.5"], "process 'table.linear': steps=1.5 must be an integer"),
        (["ddim", "--process", "flow:shift=true"], "shift=True must be a number"),
        (["ddim", "--process", "flow(shift=1"], "'flow(shift=1' is not a name, or a name with options"),
        (["ddim", "--grid", "rounded"], "grid 'rounded' needs a value for grid"),
        (["ddim", "--grid", "shifted:shift=3,grid=karas"], "grid='karas' is unknown"),
        (["ddim:eta=high"], "method 'ddim': eta='high' must be a number"),
        (["ddim", "--steps", "0"], "steps=0 must be an integer of at least 1"),
        (["ddim", "--grid", "1,0.5", "--steps", "4"], "steps=4 does not fit"),
        (["ddim", "--final", "x0"], "ends at sigma = 0"),
        (["euler_a", "--grid", "0.1,0.5"], "needs decreasing times"),
        (["show", "missing.json"], "missing.json: No such file or directory"),
        (["show", "damaged.json"], "damaged.json: the plan is damaged: its checksum"),
        (["show", "text.json"], "text.json: not JSON, so not a plan"),
        (["diff", "ddim", "missing.json"], "missing.json: No such file or directory"),
        (["diff", "ddim", "nothing"], "method='nothing' is unknown"),
        (["ddim", "--json", "no/such/folder.json"], "no/such/folder.json: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("{nothing")
    content = json.loads(urn.compile_plan("ddim", LINEAR, steps=2).to_json())
    content["rows"][1]["weights"][0][0] *= 1.01
    (tmp_path / "damaged.json").write_text(json.dumps(content))
    assert said in fails("plan", *arguments)


def test_wrong_usage_ends_with_status_two():
    assert "No such option" in run("plan", "ddim", "--stps", 3, status=2).stderr
    assert "unexpected extra argument" in run("plan", "ddim", "euler", status=2).stderr
