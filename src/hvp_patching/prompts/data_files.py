"""The files of data/prompts: where they are, and reading them with errors that name the file."""

from __future__ import annotations

import csv
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from hvp_patching.prompts.pair import PromptError

ENVIRONMENT_VARIABLE = "HVP_PATCHING_DATA"


def data_folder() -> Path:
    """The folder of the prompt files: $HVP_PATCHING_DATA, else data/prompts of the checkout."""
    override = os.environ.get(ENVIRONMENT_VARIABLE)
    if override:
        return Path(override)
    return Path(__file__).resolve().parents[3] / "data" / "prompts"


def _existing(name: str) -> Path:
    path = data_folder() / name
    if not path.is_file():
        raise PromptError(
            f"no prompt data at {path}; work in a checkout of the repository, or set "
            f"{ENVIRONMENT_VARIABLE} to its data/prompts folder",
        )
    return path


def read_lists(name: str, keys: tuple[str, ...]) -> dict[str, list[str]]:
    """The string lists under `keys` of a YAML file; PromptError where one is missing or repeats."""
    path = _existing(name)
    return _parse_lists(path, keys, path.stat().st_mtime_ns)


# Parsing takes longer than a prompt does; the time of the last change keeps the cache honest.
@lru_cache(maxsize=16)
def _parse_lists(path: Path, keys: tuple[str, ...], changed: int) -> dict[str, list[str]]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise PromptError(f"{path} is not readable YAML ({first}); restore the file") from error
    found: dict[str, list[str]] = {}
    for key in keys:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise PromptError(f"{path}: {key!r} must be a list of strings, and is missing or empty")
        # YAML reads an unquoted yes, no or number as something else than text.
        odd = next((entry for entry in entries if not isinstance(entry, str)), None)
        if odd is not None:
            raise PromptError(f"{path}: {key!r} has {odd!r}, which is not text; put it in quotes")
        if len(set(entries)) != len(entries):
            twice = next(entry for entry in entries if entries.count(entry) > 1)
            raise PromptError(f"{path}: {key!r} has {twice!r} twice; remove one")
        found[key] = entries
    return found


def read_table(name: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file with exactly these columns; PromptError on any other file."""
    path = _existing(name)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != columns:
            raise PromptError(
                f"{path}: its columns are {reader.fieldnames}, and must be {list(columns)}"
            )
        rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if None in row or any(not row[column] for column in columns):
            raise PromptError(
                f"{path}: row {number} does not fill exactly {len(columns)} columns; "
                "quote a prompt that has a comma in it"
            )
    return rows
