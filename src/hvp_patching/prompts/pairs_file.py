"""Prompt pairs of one's own, read from CSV or JSON lines: clean, corrupted, target, foil.

Every fault is one line with file and line. Texts are taken as they stand: a space at the start of
a target belongs to its token.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvp_patching.prompts.forms import PromptError, PromptPair, TokenizerCarrier, TokenPair
from hvp_patching.prompts.pair import as_token_pair

REQUIRED = ("clean", "corrupted", "target")
OPTIONAL = ("foil", "prompt_id")
KNOWN = (*REQUIRED, *OPTIONAL)
TABLES, LINES = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson")
SEPARATORS = {",": "','", ";": "';'", "\t": "tab"}
NEWLINE = re.compile(r"\r\n|\n|\r")
LOST = "\ufffd"  # what decoders put where they could not read

Numbered = Iterator[tuple[int, PromptPair | str]]  # line and pair, or what is wrong with it


@dataclass(frozen=True)
class FileRow:
    """A pair and the line, counted from 1, on which it begins."""

    line: int
    pair: PromptPair


@dataclass(frozen=True)
class PairsFile:
    """The pairs of a file; left_out: one line on every row that is not among them.

    path: None for pairs that come from no file.
    """

    path: Path | None
    sha256: str
    rows: tuple[FileRow, ...]
    left_out: tuple[str, ...] = ()


def read_pairs(path: str | Path, keep_going: bool = False) -> PairsFile:
    """The pairs of a .csv, .tsv, .txt (separated by , ; or tab) or .jsonl file in UTF-8.

    Columns: clean, corrupted, target, and where wanted foil and prompt_id ("line N" without one).
    In JSON lines target and foil may also be a token's id, or a list of texts or ids. Raises
    PromptError, one line, for a file that cannot be read as such; the first bad row raises too, or
    is left out with `keep_going` while one good row is left.
    """
    path = Path(path)
    content = _content(path)
    text = _decoded(path, content)
    found = _csv_rows(path, text) if path.suffix.lower() in TABLES else _json_rows(text)
    rows: list[FileRow] = []
    left_out: list[str] = []
    named: dict[str, int] = {}
    for line, pair in found:
        fault = pair if isinstance(pair, str) else _twice(pair, line, named)
        if fault is None and not isinstance(pair, str):
            rows.append(FileRow(line, pair))
            continue
        left_out.append(one_line(f"{path}, line {line}: {fault}"))
        if not keep_going:
            raise PromptError(f"{left_out[-1]}; correct it, or keep the other rows (--keep-going)")
    if not rows and not left_out:
        raise PromptError(f"{path} has no pairs; write one a line, below a header in CSV")
    _some_left(rows, left_out)
    return PairsFile(path, hashlib.sha256(content).hexdigest(), tuple(rows), tuple(left_out))


def fit_pairs(
    model: TokenizerCarrier,
    file: PairsFile,
    keep_going: bool = False,
    check: Callable[[TokenPair], Any] = lambda tokens: None,
) -> tuple[list[TokenPair], tuple[str, ...]]:
    """The file's pairs as tokens of `model`, and one line on each row that is not among them.

    `check` may refuse a pair by a ValueError too (a metric that needs a foil). PromptError as in
    read_pairs, with the reason of as_token_pair.
    """
    kept: list[TokenPair] = []
    left_out = list(file.left_out)
    for row in file.rows:
        try:
            tokens = as_token_pair(model, row.pair)
            check(tokens)
            kept.append(tokens)
        except ValueError as error:
            if file.path is None:
                raise
            where = f"{file.path}, line {row.line}: "
            own = f"prompt {row.pair.prompt_id!r}: "  # says the line again
            left_out.append(one_line(where + str(error).removeprefix(own)))
            if not keep_going:
                raise PromptError(
                    f"{left_out[-1]}; correct it, or keep the other rows (--keep-going)"
                ) from error
    _some_left(kept, left_out)
    return kept, tuple(left_out)


def one_line(text: str) -> str:
    """The text with a space for every line break."""
    return " ".join(text.splitlines())


def _some_left(rows: Sequence[Any], left_out: Sequence[str]) -> None:
    if not rows and left_out:
        raise PromptError(f"none of the {len(left_out)} pairs can be used; first: {left_out[0]}")


def _twice(pair: PromptPair, line: int, named: dict[str, int]) -> str | None:
    first = named.setdefault(pair.prompt_id, line)
    return None if first == line else f"prompt_id {pair.prompt_id!r} stands in line {first} too"


# --- bytes to text --------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    kinds = ", ".join((*TABLES, *LINES))
    if path.is_dir():
        raise PromptError(f"{path} is a folder; give a file of pairs ({kinds})")
    if path.suffix.lower() not in (*TABLES, *LINES):
        raise PromptError(f"{path}: pairs are read from {kinds}; rename or convert the file")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PromptError(f"no file {path}; give a file of pairs ({kinds})") from error
    except OSError as error:
        raise PromptError(f"cannot read {path}: {error.strerror or error}") from error
    return content


def _decoded(path: Path, content: bytes) -> str:
    """The text without a byte order mark; PromptError naming the byte that is not UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(_no_utf8(path, content, error.start)) from error
    nul = content.find(b"\0")
    if nul >= 0:
        raise PromptError(_no_utf8(path, content, nul))
    if not text.strip():
        first = f"its first line names the columns {', '.join(REQUIRED)}"
        table = path.suffix.lower() in TABLES
        raise PromptError(f"{path} is empty; {first if table else 'write one JSON object a line'}")
    return text


def _no_utf8(path: Path, content: bytes, at: int) -> str:
    line = len(NEWLINE.findall(content[:at].decode("latin-1"))) + 1
    return (
        f"{path}, line {line}: byte 0x{content[at]:02x} at offset {at} is no UTF-8 text; "
        "save the file as UTF-8"
    )


# --- CSV ------------------------------------------------------------------------------------------


def _csv_rows(path: Path, text: str) -> Numbered:
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


def _json_rows(text: str) -> Numbered:
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
