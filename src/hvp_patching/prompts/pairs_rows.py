"""The rows of a file of prompt pairs: each a pair with its line, or what is wrong with it."""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hvp_patching.prompts.forms import PromptError, PromptPair

REQUIRED = ("clean", "corrupted", "target")
OPTIONAL = ("foil", "prompt_id")
KNOWN = (*REQUIRED, *OPTIONAL)
SEPARATORS = {",": "','", ";": "';'", "\t": "tab"}
NEWLINE = re.compile(r"\r\n|\n|\r")
LOST = "\ufffd"  # what decoders put where they could not read

Numbered = Iterator[tuple[int, PromptPair | str]]  # line and pair, or what is wrong with it


# --- CSV ------------------------------------------------------------------------------------------


def csv_rows(path: Path, text: str) -> Numbered:
    """The rows below the header; PromptError where the header or a quotation is wrong."""
    separator, begin = _separator(path, text)
    stream = io.StringIO(text, newline="")
    for _ in range(begin):
        stream.readline()
    reader = csv.reader(stream, delimiter=separator, strict=True)
    columns: list[str] = []
    while True:
        line = begin + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise PromptError(
                    f"{path}, line {line}: a quotation mark opened here is never closed"
                ) from error
            yield line, f"no CSV ({error})"
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = [cell.strip() for cell in cells]
            continue
        yield line, _csv_pair(cells, columns, separator, line)


def _separator(path: Path, text: str) -> tuple[str, int]:
    """What separates the columns, and how many lines stand before the header."""
    said = re.match(r"sep=(.)(?:\r\n|\n|\r)", text)  # as spreadsheets write it
    before = 1 if said else 0
    lines = NEWLINE.split(text)[before:]
    first = next((line for line in lines if line.strip()), "")
    where = f"{path}, line {before + lines.index(first) + 1}"
    separators = [said[1]] if said else list(SEPARATORS)
    if said and said[1] not in SEPARATORS:
        raise PromptError(f"{path}, line 1: the separator {said[1]!r} is not read; use , ; or tab")
    headers = {separator: _header(first, separator) for separator in separators}
    separator, names = max(headers.items(), key=lambda item: len(item[1]))
    if len(names) == 1 and names[0] not in REQUIRED:
        raise PromptError(
            f"{where}: no columns separated by , ; or tab in {first[:80]!r}; the first line names "
            f"them: {', '.join(REQUIRED)} and, if wanted, {', '.join(OPTIONAL)}"
        )
    _check_columns(where, names, SEPARATORS[separator])
    return separator, before


def _header(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    except csv.Error:
        return [line.strip()]


def _check_columns(where: str, names: Sequence[str], separator: str) -> None:
    for name in names:
        if name not in KNOWN:
            raise PromptError(f"{where}: {_unknown(name)}")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise PromptError(f"{where}: the column {repeated!r} stands twice")
    absent = [name for name in REQUIRED if name not in names]
    if absent:
        raise PromptError(
            f"{where}: no column {absent[0]!r} among {', '.join(names)} (separated by {separator})"
        )


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.strip().lower(), KNOWN, 1)
    meant = f" (meant: {near[0]}?)" if near else ""
    return f"unknown column {name[:60]!r}{meant}; known: {', '.join(KNOWN)}"


def _csv_pair(
    cells: Sequence[str], columns: Sequence[str], separator: str, line: int
) -> PromptPair | str:
    if len(cells) != len(columns):
        return (
            f"{len(cells)} fields where the header has {len(columns)}; "
            f"put texts that hold the separator {SEPARATORS[separator]} in quotation marks"
        )
    fields: dict[str, Any] = dict(zip(columns, cells, strict=True))
    for name in OPTIONAL:
        fields[name] = fields.get(name) or None
    return _pair(fields, line)


# --- JSON lines -----------------------------------------------------------------------------------


def json_rows(text: str) -> Numbered:
    """One row for each line that is not blank."""
    for line, content in enumerate(NEWLINE.split(text), 1):
        if content.strip():
            yield line, _json_pair(content, line)


def _json_pair(content: str, line: int) -> PromptPair | str:
    try:
        fields = json.loads(content, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        return f"no JSON ({error.msg} at character {error.pos + 1})"
    except (ValueError, RecursionError) as error:
        return f"no JSON ({error})"
    if not isinstance(fields, dict):
        return f"{type(fields).__name__} where an object is needed; write one JSON object a line"
    for name in fields:
        if name not in KNOWN:
            return _unknown(name)
    return _pair(fields, line)


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return found


# --- a row ----------------------------------------------------------------------------------------


def _pair(fields: dict[str, Any], line: int) -> PromptPair | str:
    """The pair of a row's values, or what is wrong with them."""
    fields = {name: value for name, value in fields.items() if value is not None}
    for name in REQUIRED:
        if name not in fields:
            return f"no {name}"
    for name, value in fields.items():
        tokens = name in ("target", "foil")
        several = value if tokens and isinstance(value, list) else [value]
        if not several:
            return f"{name} is an empty list"
        for one in several:
            fault = _fault(one, tokens)
            if fault:
                return f"{name} {fault}"
    for name in ("target", "foil"):
        if isinstance(fields.get(name), list):
            fields[name] = tuple(fields[name])
    return PromptPair(**{"prompt_id": f"line {line}", **fields})


def _fault(value: Any, token: bool) -> str | None:
    """What is wrong with a text, or with a text or id that stands for a token."""
    if token and isinstance(value, int) and not isinstance(value, bool):
        return None
    if not isinstance(value, str):
        return f"is {json.dumps(value)[:60]}, no text" + " and no token id" * token
    if not value.strip():
        return f"is empty ({value[:20]!r})"
    if LOST in value:
        return f"holds the sign of a lost character ({LOST}); save its source as UTF-8"
    surrogate = next((c for c in value if "\ud800" <= c <= "\udfff"), None)
    return None if surrogate is None else f"holds the lone surrogate {surrogate!r}"
