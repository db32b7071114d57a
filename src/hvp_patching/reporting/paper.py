"""Where a published table's numbers stand in ours: what joins the two, and what compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hvp_patching.reporting.results import Record, records, records_by_key

Value = str | Callable[[Record], Any]  # a column of ours, or what a row of ours makes of several
PREFIX = "published_"


@dataclass(frozen=True)
class Number:
    """Our number for a published one, and our column that repeats the published number."""

    ours: Value = ""
    repeats: str = ""


def beside(*names: str, **ours: str) -> dict[str, Number]:
    """Published columns whose numbers ours repeat as ``published_`` and the published name.

    ``names`` are columns of both tables; ``ours`` maps others to our column.
    """
    pairs = {name: name for name in names} | ours
    return {name: Number(column, f"{PREFIX}{name}") for name, column in pairs.items()}


@dataclass(frozen=True)
class Paper:
    """Where a published table's numbers stand in ours.

    keys: published columns that name a row, and ours for them; cells: published columns of
    numbers; shows: our columns that repeat published words (marks, verdicts); lost: columns whose
    empty cells hold a number in the paper, and the words in ``notes`` that say so; select: makes of
    our table those rows that stand for published ones.
    """

    keys: Mapping[str, Value]
    cells: Mapping[str, Number]
    shows: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    select: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame] | None = None

    def key(self, row: Record) -> tuple[Any, ...] | None:
        """The published row that a row of ours stands for.

        None where its corruption is another than the task's usual one, which is the paper's,
        unless corruptions are among the keys.
        """
        other = row.get("corruption")
        if "corruption" not in self.keys and isinstance(other, str) and other:
            return None
        return tuple(read(row, value) for value in self.keys.values())

    def published_rows(self, published: pd.DataFrame) -> dict[tuple[Any, ...], Record]:
        """Rows of the published table by ``key``, without those that lack a part of it."""
        named = published.dropna(subset=list(self.keys))
        return records_by_key(named, list(self.keys), "the published table")

    def join(self, ours: Sequence[Record], published: pd.DataFrame) -> list[Record]:
        """Our rows with the published numbers that belong beside them."""
        theirs = self.published_rows(published)
        columns = {cell.repeats: name for name, cell in self.cells.items() if cell.repeats}
        columns |= self.shows
        joined = []
        for row in ours:
            key = self.key(row)
            paper = {} if key is None else theirs.get(key, {})
            joined.append(row | {name: paper.get(source) for name, source in columns.items()})
        return joined

    @property
    def repeated(self) -> list[str]:
        """Our columns that hold published numbers."""
        return [cell.repeats for cell in self.cells.values() if cell.repeats]


def read(row: Record, value: Value) -> Any:
    """What a row has in a column, or what it makes of several."""
    return row[value] if isinstance(value, str) else value(row)


def rows_by_published_key(
    paper: Paper, ours: pd.DataFrame, name: str
) -> dict[tuple[Any, ...], Record]:
    """Our rows by the published keys; ``ReportError`` naming the table where two agree."""
    keyed = [(paper.key(row), row) for row in records(ours)]
    table = pd.DataFrame(
        [dict(zip(paper.keys, key, strict=True)) for key, _ in keyed if key is not None],
        columns=list(paper.keys),
    )
    kept = [row for key, row in keyed if key is not None]
    records_by_key(table, list(paper.keys), name)
    return dict(zip((key for key, _ in keyed if key is not None), kept, strict=True))
