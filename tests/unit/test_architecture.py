"""docs/architecture.md and its picture name the rules and rooms that there are."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
MAKING = ("prepare_", "describe_", "build_", "sample_", "train_")
KINDS = (*MAKING, "assess_", "compute_", "score_", "compare_")


@pytest.fixture(scope="module")
def rules() -> set[str]:
    """Every rule by its name but those that measure one aggregate or make one artefact."""
    command = [sys.executable, "-m", "snakemake", "--list-rules"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    return {name for name in names if name.startswith(KINDS)} | {"measure_costs", "report"} & names


def first_cells(section: str) -> set[str]:
    """Names in the first column of a section's table."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \|", text, re.M)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_the_page_lists_the_rules_that_there_are(rules):
    assert len(rules) >= 14
    assert first_cells("The data's way") == rules | {"measure_*"}


def test_the_picture_shows_the_rules_that_there_are(rules):
    shown = re.findall(r">([a-z_*]+)(?: \(\d+\))?</text>", (ROOT / "docs/dag.svg").read_text())
    assert set(shown) == rules | {"measure_*", "tables", "figures"}


def test_the_page_lists_the_rooms_in_their_order():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in contracts["contracts"] if c["id"] == "layers")
    section = PAGE.partition("## The rooms\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", section, re.M)]
    assert [set(row) for row in rows] == [set(line.split(" | ")) for line in layers]


def test_the_families_of_random_models_are_listed_once():
    lists = re.compile(r"[\[(]\s*(\"tiny-[a-z0-9]+\",\s*){4}\"tiny-")
    paths = [
        path for folder in ("src", "tests", "workflow") for path in (ROOT / folder).rglob("*.py")
    ]
    assert [path.name for path in paths if lists.search(path.read_text(encoding="utf-8"))] == []
