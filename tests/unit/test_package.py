"""The package as a whole: its doctest, its public names, and who may import whom."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import hvp_patching

SOURCE = Path(hvp_patching.__file__).parent
# A module imports only from its own package and from packages of a lower level.
LEVELS = [
    {"environments", "models", "prompts", "sites"},
    {"paths", "store"},
    {"estimators", "baselines"},
    {"cache", "checking"},
    {"metrics"},
    {"scores", "screening"},
    {"costs", "sweeps"},
    {"circuits", "features"},
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
    assert imported_parts(SOURCE / "screening.py") == {"estimators", "metrics", "paths", "prompts"}


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


def test_importing_the_package_is_light():
    """Tables and metrics need neither torch's models nor transformer_lens."""
    code = "import sys, hvp_patching; sys.exit('transformer_lens' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
