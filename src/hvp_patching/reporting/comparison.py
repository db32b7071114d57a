"""The distance to the paper: every number that its Tables 2 to 18 print, beside ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

import pandas as pd

from hvp_patching.environments import described, join_descriptions
from hvp_patching.reporting.paper import Number, Paper, read, rows_by_published_key
from hvp_patching.reporting.provenance import CSV
from hvp_patching.reporting.results import Record, ReportError, records
from hvp_patching.reporting.tables import numbered_tables
from hvp_patching.settings import Setting

COLUMNS = [
    "table",
    "model",
    "task",
    "row",
    "cell",
    "published",
    "ours",
    "difference",
    "ratio",
    "reason",
]
PAPER_PROFILE = "paper"
EFFORT = "effort: "
LOST = "lost in our copy of the paper's text"
NO_TASK = "the paper does not name the task of this row"
ROUNDING = 1e-9  # relative; our CSV files have ten digits
SETTING = ("model", "task")


def papers() -> dict[int, Paper]:
    """Where the numbers of the paper's Tables 2 to 18 stand, by table."""
    ours = {number: table.paper for number, table in numbered_tables().items() if number > 1}
    return {number: paper for number, paper in sorted(ours.items()) if paper}


def comparison(
    tables: Mapping[int, pd.DataFrame], published: Mapping[int, pd.DataFrame], profile: str
) -> pd.DataFrame:
    """One row per published number, columns ``COLUMNS``, in the order of the paper.

    ``tables`` and ``published`` are our and the paper's tables by number; ``profile`` made ours.
    ``row`` joins the keys beside model and task; numbers have the units of the published column
    ``cell``. difference is ours - published, ratio ours / published (empty where that is 0). Where
    ours is empty, ``reason`` says why. A number that the paper prints but our copy of its text has
    lost is listed without a value; what it leaves empty is not listed. Raises ``ReportError`` for
    an absent or unknown table, a column that ours lacks, and where ours repeats another number
    than the published one.
    """
    specs = papers()
    unknown = [n for n in published if n not in specs]
    unknown += [n for n in tables if n not in specs]
    if unknown:
        raise ReportError(f"Table {unknown[0]} has nothing to compare: leave it out")
    absent = [n for n in specs if n not in published]
    if absent:
        raise ReportError(f"the published Table {absent[0]} is missing: give all of them")
    rows: list[Record] = []
    for number, spec in specs.items():
        rows += _table_rows(number, spec, tables.get(number), published[number], profile)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame = frame.astype({"published": "float64", "ours": "float64"})
    nonzero = frame["published"].where(frame["published"] != 0)
    return frame.assign(
        difference=frame["ours"] - frame["published"],
        ratio=frame["ours"] / nonzero,
        reason=frame["reason"].fillna(""),
    )


def _table_rows(
    number: int, spec: Paper, ours: pd.DataFrame | None, published: pd.DataFrame, profile: str
) -> list[Record]:
    """Rows of one table: its published numbers, and the lost ones."""
    published = published.fillna({name: "" for name in SETTING if name in published})
    found = {} if ours is None else _our_rows(number, spec, ours, published)
    rows: list[Record] = []
    for paper in records(published):
        key = tuple(paper[name] for name in spec.keys)
        for cell, column in spec.cells.items():
            row: Record = {"table": number, "model": paper["model"], "task": paper.get("task", "")}
            row |= {"row": _row_name(spec, paper), "cell": cell}
            if pd.notna(paper[cell]):
                row["published"] = paper[cell]
                if key in found:
                    row |= _our_cell(row, found[key], column)
                else:
                    row["reason"] = _no_row(
                        number, spec, key, None if ours is None else found, profile
                    )
            elif cell in spec.lost and spec.lost[cell] in str(paper["notes"]):
                row["reason"] = LOST
            else:
                continue
            rows.append(row)
    return rows


def _our_rows(
    number: int, spec: Paper, ours: pd.DataFrame, published: pd.DataFrame
) -> dict[tuple[Any, ...], Record]:
    """Our rows by the published keys; ``ReportError`` for columns that are not there."""
    name = f"tables/table{number}.csv"
    absent = [column for column in spec.repeated if column not in ours]
    try:
        if not absent:
            shown = spec.select(ours, published) if spec.select else ours
            found = rows_by_published_key(spec, shown, name)
            for row in found.values():
                for cell in spec.cells.values():
                    read(row, cell.ours)
            return found
    except KeyError as error:
        absent = [str(error.args[0])]
    raise ReportError(f"{name} lacks {', '.join(absent)}: make it again")


def _row_name(spec: Paper, paper: Record) -> str:
    """The keys beside model and task: words as they are, numbers with what they count."""
    parts = []
    for name in spec.keys:
        if name not in SETTING:
            value = paper[name]
            short = name.removesuffix("_backward_passes")
            parts.append(value if isinstance(value, str) else f"{short}={value:g}")
    return ", ".join(parts)


def _our_cell(row: Record, ours: Record, column: Number) -> Record:
    """Our number, or why the cell is empty; a published number in our table must be the same."""
    where = f"tables/table{row['table']}.csv"
    if column.repeats and not isclose(ours[column.repeats], row["published"], rel_tol=ROUNDING):
        place = ", ".join(str(row[name]) for name in ("model", "task", "row", "cell") if row[name])
        raise ReportError(
            f"{where} says that the paper prints {ours[column.repeats]:g} for {place}, "
            f"data/published has {row['published']:g}: make the table again"
        )
    value = read(ours, column.ours)
    if pd.notna(value):
        return {"ours": value}
    reason = ours.get("missing_reason")
    return {"reason": reason if isinstance(reason, str) else f"not computed: empty in {where}"}


def _no_row(
    number: int,
    spec: Paper,
    key: tuple[Any, ...],
    ours: Mapping[tuple[Any, ...], Record] | None,
    profile: str,
) -> str:
    """Why our table has no row of this key."""
    setting = slice(sum(name in SETTING for name in spec.keys))
    if ours is None:
        return f"tables/table{number}.csv was not made"
    if "" in key[setting]:
        return NO_TASK
    if any(other[setting] == key[setting] for other in ours):
        return f"not computed: no such row in tables/table{number}.csv"
    text = f"profile '{profile}' does not compute this model and task for this table"
    return text if profile == PAPER_PROFILE else f"{text}; config/{PAPER_PROFILE}.yaml does"


def summary_sentence(frame: pd.DataFrame) -> str:
    """How many published numbers there are, how many stand beside ours, and why others do not."""
    reasons = frame.loc[frame["reason"] != "", "reason"].value_counts()
    listed = "".join(f" | {count} {reason}" for reason, count in reasons.items())
    compared = int(frame["ours"].notna().sum())
    return f"{len(frame)} published numbers, {compared} compared{listed}"


def table_sentences(frame: pd.DataFrame) -> list[str]:
    """One line per table: how many of its numbers stand beside ours."""
    return [
        f"Table {number}: {group['ours'].notna().sum()} of {len(group)} compared"
        for number, group in frame.groupby("table", sort=False)
    ]


@dataclass(frozen=True)
class OurTables:
    """Our tables by number, and what the comments on top of their files say.

    Of a setting that several tables count, ``prompts`` has the first one's number.
    """

    frames: Mapping[int, pd.DataFrame]
    effort: str
    models: tuple[str, ...]
    prompts: Mapping[Setting, int]
    environments: str = ""


def read_our_tables(paths: Sequence[str], profile: str) -> OurTables:
    """Read files called table2.csv and so on.

    Raises ``ReportError`` for another name, and unless all of them were made with this profile and
    the same effort.
    """
    frames: dict[int, pd.DataFrame] = {}
    efforts: dict[str, str] = {}
    models: dict[str, None] = {}
    prompts: dict[Setting, int] = {}
    environments: list[str] = []
    for path in paths:
        comments = _comments(path)
        environments.append(comments["environments"])
        made_with, effort = comments["profile"].split(f"; {EFFORT}")
        if made_with != profile:
            raise ReportError(
                f"{path} is of profile '{made_with}', not of '{profile}': make it again"
            )
        efforts.setdefault(effort, path)
        models |= dict.fromkeys(comments["models"].split(", "))
        for setting, count in re.findall(r"([^, ]+): (\d+)", comments["prompts"]):
            prompts.setdefault(Setting.parse(setting), int(count))
        frames[table_number(path)] = pd.read_csv(path, comment=CSV.strip())
    if len(efforts) != 1:
        named = ", ".join(f"{path} ({effort})" for effort, path in efforts.items()) or "no tables"
        raise ReportError(f"tables of one effort can be compared, got {named}: make them again")
    places = join_descriptions(environments)
    return OurTables(frames, next(iter(efforts)), tuple(models), prompts, places)


def table_number(path: str) -> int:
    """Number of a table by its file's name, table2.csv or table02.csv; else ``ReportError``."""
    match = re.fullmatch(r"table(\d+)\.csv", Path(path).name)
    if match is None:
        raise ReportError(f"{path} is no numbered table: leave it out")
    return int(match[1])


def _comments(path: str) -> dict[str, str]:
    """The comment lines that start with a name; ``ReportError`` unless they say what is needed."""
    comments: dict[str, str] = {"environments": ""}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if not line.startswith(CSV):
            break
        if described(line.removeprefix(CSV)):
            comments["environments"] = line.removeprefix(CSV)
        name, _, text = line.removeprefix(CSV).partition(": ")
        comments.setdefault(name, text)
    if not {"profile", "models", "prompts"} <= set(comments) or EFFORT not in comments["profile"]:
        raise ReportError(f"{path} does not say how it was made: make it again")
    return comments
