"""Prompt pairs of one's own, read from CSV or JSON lines: clean, corrupted, target, foil.

Every fault is one line with file and line. Texts are taken as they stand: a space at the start of
a target belongs to its token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvp_patching.prompts.forms import PromptError, PromptPair, TokenizerCarrier, TokenPair
from hvp_patching.prompts.pair import as_token_pair
from hvp_patching.prompts.pairs_rows import NEWLINE, REQUIRED, csv_rows, json_rows

TABLES, LINES = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson")


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
    found = csv_rows(path, text) if path.suffix.lower() in TABLES else json_rows(text)
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
