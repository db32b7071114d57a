"""The package as a whole: its doctest, its public names, and who may import whom."""

from __future__ import annotations

import ast
import doctest
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import hvp_patching

SOURCE = Path(hvp_patching.__file__).parent
PROJECT = SOURCE.parents[1]
CONTRACTS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = [
    {room.strip() for room in line.split("|")}
    for contract in CONTRACTS["contracts"]
    if contract["id"] == "layers"
    for line in contract["layers"]
]


def contracts_hold(settings: str) -> bool:
    from importlinter.application.use_cases import lint_imports

    return lint_imports(config_filename=settings, cache_dir=None)


@pytest.fixture
def configured():
    """import-linter is set up by its command alone."""
    from importlinter.configuration import configure

    configure()


def test_the_contracts_of_imports_hold(configured, capsys):
    held = contracts_hold(str(PROJECT / "pyproject.toml"))
    assert held, capsys.readouterr().out


@pytest.mark.parametrize("broken", ["light", "shown", "layers"])
def test_a_broken_contract_is_seen(configured, tmp_path, broken, capsys):
    """The same contracts with an import forbidden that is there."""
    text = (PROJECT / "pyproject.toml").read_text()
    swaps = {
        "light": ('"torch", "transformers"', '"pandas", "transformers"'),
        "shown": ('"hvp_patching.metrics", "hvp_patching.measuring"', '"hvp_patching.frames"'),
        "layers": ('    "cache | metrics | verification",\n', ""),
    }
    assert text.count(swaps[broken][0]) == 1
    (tmp_path / "pyproject.toml").write_text(text.replace(*swaps[broken]))
    assert not contracts_hold(str(tmp_path / "pyproject.toml"))
    assert capsys.readouterr().out.count("BROKEN") == 1


def test_imports_for_type_checkers_go_down_too():
    graph = grimp.build_graph("hvp_patching", cache_dir=None)
    upward = graph.find_illegal_dependencies_for_layers(LAYERS, containers={"hvp_patching"})
    assert not upward


def test_the_doctest_of_the_package_runs():
    result = doctest.testmod(hvp_patching)
    assert result.attempted >= 5
    assert result.failed == 0


@pytest.mark.parametrize("name", hvp_patching.__all__)
def test_public_names_resolve_and_are_documented(name):
    assert getattr(hvp_patching, name).__doc__
    assert name in dir(hvp_patching)


def test_public_names_are_complete():
    declared = {name for names in hvp_patching._HOMES.values() for name in names}
    assert declared | {"estimators"} == set(hvp_patching.__all__)
    assert hvp_patching.__all__ == sorted(hvp_patching.__all__)


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'path_jet'"):
        hvp_patching.path_jet  # noqa: B018


@pytest.mark.parametrize("folder", ["metrics", "reporting", ""])
def test_metrics_and_tables_need_no_torch(folder):
    """Neither torch nor transformer_lens is loaded by the package, its metrics or its tables."""
    names = [
        ".".join(("hvp_patching", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in sorted((SOURCE / folder).rglob("*.py"))
    ]
    names = names if folder else [f"hvp_patching.{name}" for name in LIGHT]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(*{'torch', 'transformer_lens'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(names) > 10 or not folder
    assert done.stdout.strip() == ""


# what the workflow asks while it reads its rules
LIGHT = ("estimators", "failures", "files", "frames", "places", "settings")


# what computes, which neither a table nor a notebook may import, directly or through others
COMPUTING = (
    *("hvp_patching.metrics", "hvp_patching.measuring", "hvp_patching.circuits.attention"),
    *("scipy", "sklearn", "numpy.random"),
)


def imports(tree: ast.AST) -> set[str]:
    """Dotted names of all that a module imports anywhere, its own package's by full name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "import by full names"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and node.attr == "random":
            found.add(f"numpy.random: {ast.unparse(node)}")
    return found


def computing(tree: ast.AST, seen: set[Path]) -> set[str]:
    """Which of ``COMPUTING`` a module reaches."""
    found = set()
    for name in imports(tree):
        if name.startswith(COMPUTING):
            found.add(name)
        parts = name.split(".")[1:]
        path = SOURCE.joinpath(*parts).with_suffix(".py") if parts else SOURCE / "x"
        if name.startswith("hvp_patching.") and path.is_file() and path not in seen:
            seen.add(path)
            found |= computing(ast.parse(path.read_text(encoding="utf-8")), seen)
    return found


NOTEBOOKS = sorted((SOURCE.parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize(
    "path", [*sorted((SOURCE / "reporting").rglob("*.py")), *NOTEBOOKS], ids=lambda path: path.stem
)
def test_what_is_shown_is_only_read(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    assert not computing(ast.parse(text), set())


def test_the_check_of_what_is_shown_sees_what_computes():
    for text in (
        "from hvp_patching.metrics.paired import paired",
        "from hvp_patching import metrics",
        "from scipy import stats",
        "import numpy as np\nnp.random.default_rng()",
        "def f():\n    from sklearn.metrics import roc_auc_score",
        "from hvp_patching.screening import reliability",  # which imports metrics.reliability
    ):
        assert computing(ast.parse(text), set()), text
    assert len(NOTEBOOKS) >= 14
