"""The files of data/prompts: where they are, and reading them with errors that name the file."""

from __future__ import annotations

import csv
import os
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

from hvp_patching.failures import no_text, one_line, shown, yaml_fault
from hvp_patching.files import read_yaml
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
        content: Any = read_yaml(path)
    except Exception as error:  # dates, numbers and nesting fail in YAML's reader, each in its way
        raise PromptError(
            f"{path} is not readable YAML ({yaml_fault(error)}); restore the file"
        ) from error
    found: dict[str, list[str]] = {}
    for key in keys:
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise PromptError(f"{path}: {key!r} must be a list of strings, and is missing or empty")
        # YAML reads an unquoted yes, no or number as something else than text.
        odd = next((entry for entry in entries if not isinstance(entry, str)), None)
        if odd is not None or None in entries:
            raise PromptError(
                f"{path}: {key!r} has {shown(odd)}, which is not text; put it in quotes"
            )
        for entry in entries:
            _check_text(entry, f"{path}: {key!r}")
        if len(set(entries)) != len(entries):
            twice = next(entry for entry in entries if entries.count(entry) > 1)
            raise PromptError(f"{path}: {key!r} has {shown(twice)} twice; remove one")
        found[key] = entries
    return found


def _check_text(entry: str, where: str) -> None:
    """Raise PromptError for a text that no prompt can be made of."""
    fault = "nothing but white space" if not entry.strip() else no_text(entry)
    if fault:
        raise PromptError(f"{where} has {shown(entry)}, which holds {fault}; correct it")


def check_templates(name: str, templates: list[str], fields: tuple[str, ...]) -> None:
    """Raise PromptError unless every place of the templates is one of `fields`, in plain braces.

    A format string can do more than name a place: read attributes, or ask for a billion spaces.
    """
    known = ", ".join(f"{{{field}}}" for field in fields)
    for template in templates:
        try:
            places = [place[1:] for place in Formatter().parse(template) if place[1] is not None]
        except ValueError as error:
            raise PromptError(
                f"{name}: the template {shown(template)} has a stray brace ({one_line(error)}); "
                f"its places are {known}"
            ) from error
        odd = [place for place in places if place[0] not in fields or place[1] or place[2]]
        if odd:
            raise PromptError(
                f"{name}: the template {shown(template)} has a place {{{odd[0][0]}}} that is not "
                f"one of {known} as they stand; correct it"
            )


def read_table(name: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file with exactly these columns; PromptError on any other file."""
    path = _existing(name)
    try:
        # A spreadsheet puts a mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != columns:
                raise PromptError(
                    f"{path}: its columns are {shown(reader.fieldnames)}, and must be "
                    f"{list(columns)}"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PromptError(
            f"{path} is not a readable CSV file in UTF-8 ({one_line(error)}); restore the file"
        ) from error
    for number, row in enumerate(rows, start=2):
        if None in row or any(not row[column] for column in columns):
            raise PromptError(
                f"{path}: row {number} does not fill exactly {len(columns)} columns; "
                "quote a prompt that has a comma in it"
            )
        for column in columns:
            _check_text(row[column], f"{path}: row {number}, {column},")
            if row[column] != row[column].strip():
                raise PromptError(
                    f"{path}: row {number}, {column}, is {shown(row[column])}; take the white "
                    "space off its ends, an answer's own is added"
                )
    return rows
