"""A working folder with pairs and a stand-in for smollm2-135m, and the commands run in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hvp_patching.cli.app import app
from hvp_patching.models import notices
from hvp_patching.models.tiny import build_tiny
from hvp_patching.verification.manifest import record

STORE = "When {a} and {b} went to the store, {c} gave a drink to"
ROWS = [("Mary", "John"), ("Tom", "Sarah"), ("Paul", "Anna")]


def sides(first: str, second: str) -> dict[str, str]:
    """A pair whose last name changes: a clean text names the second person again."""
    return {
        "clean": STORE.format(a=first, b=second, c=second),
        "corrupted": STORE.format(a=first, b=second, c=first),
        "target": f" {first}",
        "foil": f" {second}",
    }


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with tiny-llama in the place of smollm2-135m."""
    folder = tmp_path_factory.mktemp("models")
    model, tokenizer = build_tiny("tiny-llama")
    model.config.hvp_stand_in_for = "smollm2-135m"
    model.save_pretrained(str(folder / "smollm2-135m"))
    tokenizer.save_pretrained(str(folder / "smollm2-135m"))
    return folder


@pytest.fixture
def place(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which commands run in."""
    monkeypatch.setenv("HVP_PATCHING_MODELS", str(models))
    monkeypatch.setattr(notices, "_shown", set())
    monkeypatch.chdir(tmp_path)
    rows = [sides(*names) for names in ROWS]
    header = ",".join(rows[0])
    lines = [",".join(f'"{value}"' for value in row.values()) for row in rows]
    Path("pairs.csv").write_text("\n".join([header, *lines]) + "\n")
    bad = {**rows[0], "target": " Mary and John"}
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows[:2], bad]))
    Path("results").mkdir()
    Path("results/one.csv").write_text("1")
    record(["results/one.csv"], "some_rule")
    return tmp_path


@pytest.fixture
def call(place: Path) -> Callable[..., Any]:
    """Run `hvp-patching` with these words; gives exit_code, stdout and stderr."""
    runner = CliRunner(env={"COLUMNS": "140", "TERM": "dumb", "NO_COLOR": "1"})

    def run(*words: str, **options: Any) -> Any:
        return runner.invoke(app, list(words), **options)

    return run
