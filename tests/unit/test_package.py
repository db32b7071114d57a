"""The package as a whole: its doctest, its public names, and who may import whom."""

from __future__ import annotations

import ast
import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest

import hvp_patching

SOURCE = Path(hvp_patching.__file__).parent
# A module imports only from its own package and from packages of a lower level.
LEVELS = [
    {"environments", "failures", "files", "isolation", "settings"},
    {"frames"},
    {"aggregates"},
    {"models", "prompts", "sites"},
    {"paths"},
    {"estimators", "baselines"},
    {"store"},
    {"cache"},
    {"metrics"},
    {"screening"},
    {"checking"},
    {"circuits", "features"},
    {"measuring"},
    {"claims"},
    {"reporting"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
MODULES = sorted(SOURCE.rglob("*.py"))


def imported_parts(path: Path) -> set[str]:
    """Parts of hvp_patching that a file imports anywhere, functions and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = ("hvp_patching", *path.relative_to(SOURCE).parts[:-1])
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            module = (*base, *([node.module] if node.module else []))
            names = [".".join((*module, alias.name)) for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("hvp_patching.")}
    return found


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_part_has_a_level():
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts <= set(LEVEL)


@pytest.mark.parametrize(
    "path", [p for p in MODULES if part_of(p) != "__init__"], ids=lambda p: p.stem
)
def test_imports_go_down(path):
    own = part_of(path)
    upward = {
        part for part in imported_parts(path) - {own} if LEVEL.get(part, len(LEVELS)) >= LEVEL[own]
    }
    assert not upward, f"{path.relative_to(SOURCE)} may not import {sorted(upward)}"


def test_the_import_check_sees_imports():
    assert imported_parts(SOURCE / "screening.py") == {
        "estimators",
        "isolation",
        "metrics",
        "paths",
        "prompts",
    }


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


@pytest.mark.parametrize("folder", ["metrics", "reporting"])
def test_metrics_and_tables_need_no_torch(folder):
    """Neither torch nor transformer_lens is loaded by the package, its metrics or its tables."""
    names = [
        ".".join(("hvp_patching", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in sorted((SOURCE / folder).rglob("*.py"))
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print(*{'torch', 'transformer_lens'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(names) > 10
    assert done.stdout.strip() == ""


# what computes, which neither a table nor a notebook may import, directly or through others
COMPUTING = ("hvp_patching.metrics", "scipy", "sklearn", "numpy.random")


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
