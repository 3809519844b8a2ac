"""urn methods, grids, --help, --version, --debug; and what is not imported at the start."""

from __future__ import annotations

import subprocess
import sys

from cli_runs import fails, run
from typer.testing import CliRunner

import urn
from urn.cli import app


def test_methods_lists_every_method_and_alias():
    text = run("methods").stdout
    words = text.replace(",", " ").split()
    for name, method in urn.METHODS.items():
        assert name in words
        assert method.source.replace(",", " ").split()[0] in words
    rows = [line.split() for line in text.splitlines()]
    stochastic = {row[0] for row in rows if len(row) > 2 and row[2] == "yes"}
    assert stochastic == {method.name for method in urn.METHODS.values() if method.stochastic}
    assert all(len(line.rstrip()) <= 100 for line in text.splitlines())


def test_methods_filter_looks_at_names_aliases_summaries_and_sources():
    assert "dpmpp_2m" in run("methods", "DPMPP").stdout
    assert "ddim" in run("methods", "eule").stdout
    found = run("methods", "Song, Meng").stdout.splitlines()
    assert {line.split()[0] for line in found if line[1:2].strip()} == {"name", "ddim", "euler_ancestral"}


def test_one_method_with_its_options_and_documentation():
    text = run("methods", "euler").stdout
    assert text.splitlines()[0] == "ddim"
    assert "also         euler, dpm_solver_1" in text
    assert "options      eta=0.0" in text
    assert "order        1\n" in text
    assert "noise        deterministic" in text
    assert "arXiv 2010.02502" in text
    assert "x_next = alpha_next x0 + sqrt(sigma_next^2 - s^2) epsilon + s z." in text
    assert "options      eta=1.0" in run("methods", "euler_ancestral").stdout


def test_unknown_method():
    assert fails("methods", "dpmpp2m").startswith("method='dpmpp2m' is unknown; did you mean dpmpp_2m")


def test_grids():
    text = run("grids").stdout
    heads = [line for line in text.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in heads] == [*urn.GRIDS, "shifted", "rounded"]
    assert "karras rho=7.0" in heads
    assert "shifted shift=... grid=uniform" in heads
    assert "equation 5" in run("grids", "karras").stdout
    assert "grid='karas' is unknown; did you mean karras" in fails("grids", "karas")


def test_version_and_help():
    assert run("--version").stdout == f"urn {urn.__version__}\n"
    text = run("--help").stdout
    for command in ("sample", "plan", "methods", "grids", "train"):
        assert command in text
    assert "--guidance" in run("sample", "--help").stdout
    assert "--tolerance" in run("plan", "diff", "--help").stdout
    assert "--process" in run("plan", "ddim", "--help").stdout


def test_unknown_command_offers_the_nearest():
    assert "'sample'" in run("smaple", status=2).stderr


def test_debug_shows_the_traceback():
    result = CliRunner().invoke(app, ["--debug", "plan", "nothing"])
    assert isinstance(result.exception, ValueError)
    assert result.exception.__traceback__ is not None


def test_bugs_are_not_hidden(monkeypatch):
    """Only a user's mistake becomes a line: anything else must show where it came from."""
    monkeypatch.setattr(urn.Plan, "__str__", lambda plan: 1 / 0)
    assert isinstance(CliRunner().invoke(app, ["plan", "ddim"]).exception, ZeroDivisionError)


def test_nothing_heavy_is_imported_at_the_start():
    code = """
import sys
from urn.cli import app
for arguments in (["--help"], ["plan", "ddim"], ["methods"], ["grids"]):
    try:
        app(arguments)
    except SystemExit as end:
        assert end.code == 0, end.code
heavy = {"matplotlib", "sklearn", "PIL", "diffusers", "ot", "jax", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
