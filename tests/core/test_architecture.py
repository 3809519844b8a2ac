"""Imports point one way, nothing heavy is imported with urn, and the public names are what they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import urn

SOURCE = Path(urn.__file__).parent
FILES = {".".join(("urn", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in SOURCE.rglob("*.py")}
FILES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}


def imports_of(name: str, lazy: bool = True) -> set[str]:
    """The modules that a module imports, in full; with `lazy`, those imported inside functions too.

    What is imported only for types is left out: it is no import at all when the code runs.
    """
    path, found = FILES[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for branch in ast.walk(tree)
        if (isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test))
        or (not lazy and isinstance(branch, (ast.FunctionDef, ast.AsyncFunctionDef)))
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([base] if base else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in FILES)
    return found


def inside(imports: set[str], *packages: str) -> set[str]:
    return {name for name in imports if any(name == package or name.startswith(f"{package}.") for package in packages)}


def test_nothing_but_the_registry_imports_a_method():
    for name in FILES:
        if name == "urn.methods" or name.startswith("urn.methods."):
            continue
        assert not {found for found in imports_of(name) if found.startswith("urn.methods.")}, name


def test_the_compiler_imports_the_registry_only_when_asked():
    assert "urn.methods" in imports_of("urn.compiler")
    assert not inside(imports_of("urn.compiler", lazy=False), "urn.methods")


# Each module of the core, and what of urn it may import: the lower layers only.
BELOW = {
    "urn.processes": {"urn.processes"},
    "urn.plan": {"urn.plan", "urn.processes"},
    "urn.prediction": {"urn.plan", "urn.processes"},
    "urn.nodes": {"urn.plan", "urn.processes"},
    "urn.method": {"urn.plan", "urn.nodes"},
    "urn.arithmetic": {"urn.plan"},
    "urn.philox": set(),
    "urn.arrays": set(),
    "urn.grids": {"urn.grids", "urn.processes"},
    "urn.noise": {"urn.noise", "urn.philox", "urn.plan", "urn.processes"},
    "urn.model": {"urn.arrays", "urn.plan", "urn.prediction", "urn.processes"},
    "urn.guidance": {"urn.model"},
    "urn.coefficients": {"urn.coefficients", "urn.nodes", "urn.plan", "urn.processes"},
    "urn.schemes": {
        *("urn.schemes", "urn.coefficients", "urn.method", "urn.nodes", "urn.plan", "urn.prediction"),
        "urn.processes",
    },
    "urn.methods": {
        "urn.methods",
        "urn.schemes",
        "urn.coefficients",
        "urn.method",
        "urn.nodes",
        "urn.plan",
        "urn.prediction",
        "urn.processes",
    },
    "urn.binding": {"urn.model", "urn.plan", "urn.prediction", "urn.processes"},
    "urn.registers": {"urn.arithmetic", "urn.binding", "urn.model", "urn.plan"},
    "urn.executor": {"urn.binding", "urn.model", "urn.noise", "urn.plan", "urn.registers"},
    "urn.side_input": {"urn.method", "urn.nodes", "urn.plan", "urn.processes"},
    "urn.compiling": {"urn.method", "urn.nodes", "urn.plan", "urn.processes"},
    "urn.compiler": {
        *(
            "urn.compiling",
            "urn.grids",
            "urn.method",
            "urn.nodes",
            "urn.plan",
            "urn.processes",
            "urn.schemes.stretches",
            "urn.side_input",
        ),
    },
}

# What a module asks for only when it is called, beyond its layer: a grid that is computed runs single steps of a method.
WHEN_ASKED = {"urn.grids.step_errors": {"urn.compiler", "urn.executor", "urn.model"}}


@pytest.mark.parametrize("layer", BELOW)
def test_imports_point_one_way(layer):
    for name in inside(set(FILES), layer):
        for lazy in (True, False):
            found = {module for module in imports_of(name, lazy) if module == "urn" or module.startswith("urn.")}
            # whoever takes a method by its name looks the registry up when asked
            asked = {"urn.methods", *WHEN_ASKED.get(name, ())} if lazy else set()
            beyond = found - inside(found, *BELOW[layer]) - asked
            assert not beyond, f"{name} imports {', '.join(sorted(beyond))}"


def test_the_executor_knows_no_method_process_or_grid_by_name():
    """It imports the contract of a process, and uses none of the names in the registries."""
    text = FILES["urn.executor"].read_text()
    words = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    strings = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    names = {"VP", "VE", "Flow", "SubVP", "Tabulated", "Cosine", *urn.METHODS, *urn.GRIDS}
    assert not names & (words | strings)
    assert not inside(imports_of("urn.executor"), "urn.methods", "urn.grids", "urn.compiler", "urn.nodes")


def test_methods_share_nothing_but_calls():
    """A method's file imports no private name of another's."""
    for name in inside(set(FILES), "urn.methods"):
        for node in ast.walk(ast.parse(FILES[name].read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("urn"):
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], name


OPTIONAL = ("sklearn", "matplotlib", "diffusers", "ot", "jax", "transformers", "typer", "rich", "safetensors", "tqdm")


def test_no_optional_package_is_imported_with_urn():
    code = f"import sys, urn; print([name for name in {OPTIONAL!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # torch itself may bring tqdm with it; nothing of ours may bring the others
    alone = "import sys, torch, scipy.special, scipy.linalg; print([n for n in ('tqdm', 'rich') if n in sys.modules])"
    brought = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, check=True)
    assert set(ast.literal_eval(result.stdout)) <= set(ast.literal_eval(brought.stdout))


def test_importing_urn_draws_and_warns_nothing():
    code = "import torch; a = torch.get_rng_state(); import urn; assert torch.equal(a, torch.get_rng_state())"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_public_names_exist_and_are_documented():
    assert len(urn.__all__) == len(set(urn.__all__))
    for name in urn.__all__:
        thing = getattr(urn, name)
        if callable(thing):
            assert (thing.__doc__ or "").strip(), name


@pytest.mark.parametrize("name", [name for name, path in FILES.items() if path.name != "__main__.py"])
def test_modules_are_documented_and_of_a_size_to_read(name):
    text = FILES[name].read_text()
    assert ast.get_docstring(ast.parse(text)), f"{name} has no docstring"
    assert len(text.splitlines()) <= 350, f"{name} has {len(text.splitlines())} lines"


def test_no_module_has_a_name_that_says_nothing():
    for name in FILES:
        assert not {"utils", "helpers", "common", "misc", "base"} & set(name.split(".")), name


def test_no_user_is_answered_with_an_assert():
    for name, path in FILES.items():
        asserts = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
        assert not asserts, f"{name}, lines {asserts}"
