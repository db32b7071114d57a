"""Two runs, cell by cell: identical, within tolerance (which cells, how far), or different."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from hvp_patching.reporting.provenance import CSV

# How far two numbers may lie apart: a share of the larger one, and a share of their column's
# largest, below which float32 passes on another machine are rounding. Whole numbers may not.
RELATIVE, OF_COLUMN = 1e-2, 1e-5
IDENTICAL, WITHIN, DIFFERENT = "identical", "within tolerance", "different"
MISSING, NEW = "missing", "not in the reference"
FAILURES = frozenset({DIFFERENT, MISSING})

# What a clock or a machine's memory says is never the same twice.
TIMED = re.compile(
    r"seconds|minutes|overhead|forward_equivalents|on_frontier|break_even|_mib$|^device$|^threads$"
)
# … nor the rows of the ledger that rest on it
TIMED_SOURCE = re.compile(r"frontier|timing|costs")
NUMBER = re.compile(r"[-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
KEYS = (
    *("claim_id", "query", "block", "panel", "series", "regime", "setting", "model", "task"),
    *("corruption", "site", "hook", "dtype", "family", "method", "estimator", "selection"),
    *("table", "row", "cell", "quantity", "quartile", "statistic", "symbol", "k", "K", "steps"),
    *("layer", "index", "prompt_id", "destination", "source", "n_prompts", "tau"),
)
STATED = ("profile", "models", "prompts")  # comment lines in which two comparable runs agree


@dataclass(frozen=True)
class Cell:
    """A cell that differs: where, the two texts, and the largest relative distance."""

    row: str
    column: str
    reference: str
    found: str
    apart: float

    def __str__(self) -> str:
        return f"{self.column} of {self.row}: {self.reference or 'empty'} → {self.found or 'empty'}"


@dataclass(frozen=True)
class Agreement:
    """What became of one file. moved: cells within tolerance; off: cells beyond it."""

    path: str
    verdict: str
    n_cells: int = 0
    moved: Sequence[Cell] = field(default_factory=tuple)
    off: Sequence[Cell] = field(default_factory=tuple)
    n_timed: int = 0
    why: str = ""

    def lines(self, shown: int = 3) -> Iterator[str]:
        """The verdict in one line, then the ``shown`` cells that lie farthest apart."""
        cells = self.off or self.moved
        said = f"{self.path}: {self.verdict}"
        if cells:
            largest = max(cell.apart for cell in cells)
            far = f", up to {largest:.2g} relative" if np.isfinite(largest) else ""
            said += f", {len(cells)} of {self.n_cells} cells{far}"
            said += f", {len(self.moved)} more within tolerance" * bool(self.off and self.moved)
        said += f" ({self.why})" if self.why else ""
        said += f"; {self.n_timed} of measured time not compared" if self.n_timed else ""
        yield said
        for cell in sorted(cells, key=lambda cell: -cell.apart)[:shown]:
            yield f"    {cell}"


def compare(name: str, reference: Path | str, found: Path | str) -> Agreement:
    """How a CSV file of a run agrees with the reference's; columns of measured time are left out.

    Rows are paired by the columns that name them, by position where these do not tell rows apart.
    """
    reference, found = Path(reference), Path(found)
    if not found.is_file():
        return Agreement(name, MISSING, why="the run has not made it")
    if not reference.is_file():
        return Agreement(name, NEW)
    stated, ours = _read(reference)
    says, theirs = _read(found)
    for key in STATED:
        if stated.get(key) != says.get(key):
            why = f"{key}: {says.get(key)}; the reference has {stated.get(key)}"
            return Agreement(name, DIFFERENT, why=why)
    if list(ours.columns) != list(theirs.columns):
        odd = sorted(set(ours.columns) ^ set(theirs.columns))
        why = f"columns differ: {', '.join(odd)}" if odd else "columns stand in another order"
        return Agreement(name, DIFFERENT, why=why)
    labels, pairs = _paired(ours, theirs)
    if pairs is None:
        why = f"{len(theirs)} rows, the reference has {len(ours)}"
        return Agreement(name, DIFFERENT, why=why)
    return _cells(name, ours, theirs.iloc[pairs].reset_index(drop=True), labels)


def _read(path: Path) -> tuple[dict[str, str], pd.DataFrame]:
    """The comment lines by name, and the cells as text."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    n = next((i for i, line in enumerate(lines) if not line.startswith(CSV[0])), len(lines))
    named = (line.removeprefix(CSV).strip().partition(": ") for line in lines[:n])
    stated = {key: text for key, _, text in named}
    body = StringIO("".join(lines[n:]))
    return stated, pd.read_csv(body, dtype=str, keep_default_na=False)


def _paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[list[str], list[int] | None]:
    """A label for each row of ours, and the row of theirs beside it; None where rows lack."""
    of_ledger = "claim_id" in ours  # whose source is an answer, not a name
    keys = [key for key in KEYS if key in ours and not (of_ledger and key == "source")]
    mine = [tuple(row) for row in ours[keys].itertuples(index=False, name=None)]
    others = [tuple(row) for row in theirs[keys].itertuples(index=False, name=None)]
    if len(ours) != len(theirs):
        return [], None
    if keys and len(set(mine)) == len(mine) and set(mine) == set(others):
        place = {key: i for i, key in enumerate(others)}
        return [_label(key) for key in mine], [place[key] for key in mine]
    return [f"row {i}" for i in range(1, len(ours) + 1)], list(range(len(ours)))


def _label(key: tuple[str, ...]) -> str:
    return " / ".join(part for part in key if part)


def _cells(name: str, ours: pd.DataFrame, theirs: pd.DataFrame, labels: list[str]) -> Agreement:
    moved: list[Cell] = []
    off: list[Cell] = []
    timed = _timed(ours)
    first, second = ours.to_numpy(dtype=object), theirs.to_numpy(dtype=object)
    unequal = (first != second) & ~timed
    scales = {i: _scale(ours.iloc[:, int(i)]) for i in np.flatnonzero(unequal.any(axis=0))}
    for i, j in np.argwhere(unequal):
        texts = str(first[i, j]), str(second[i, j])
        apart, close = distance(*texts, scales[j])
        cell = Cell(labels[i], str(ours.columns[j]), *texts, apart)
        (moved if close else off).append(cell)
    verdict = DIFFERENT if off else WITHIN if moved else IDENTICAL
    return Agreement(name, verdict, int((~timed).sum()), moved, off, int(timed.sum()))


def _timed(frame: pd.DataFrame) -> np.ndarray:
    """Cells of measured time: columns of it, and rows of the ledger that rest on it."""
    columns = [bool(TIMED.search(str(name))) for name in frame.columns]
    cells = np.zeros(frame.shape, dtype=bool)
    cells[:, columns] = True
    if "claim_id" in frame and "source" in frame:
        rows = [bool(TIMED_SOURCE.search(source)) for source in frame["source"]]
        cells[rows, :] = True
    return cells


def _scale(column: pd.Series) -> float:
    """The largest finite number of a column of numbers, 0 for a column of words."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    return float(np.abs(numbers).max()) if len(numbers) else 0.0


def distance(reference: str, found: str, scale: float = 0.0) -> tuple[float, bool]:
    """How far two cells lie apart (relative; inf for words), and whether that is close enough.

    Texts are compared number by number where they differ in nothing else. Two whole numbers agree
    if they are equal.
    """
    if NUMBER.sub("#", reference) != NUMBER.sub("#", found):
        return float("inf"), False
    largest, close = 0.0, True
    for one, other in zip(NUMBER.findall(reference), NUMBER.findall(found), strict=True):
        if one == other:
            continue
        a, b = (float(text.replace("−", "-")) for text in (one, other))
        gap, size = abs(a - b), max(abs(a), abs(b))
        whole = not re.search(r"[.eE]", one + other)
        largest = max(largest, gap / size if size else 0.0)
        close &= not (whole and gap) and gap <= RELATIVE * size + OF_COLUMN * scale
    return largest, close
