"""The ranked table on the terminal: numbers, intervals, and an error bar for each component."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvp_patching.cli.run import Column, Run

if TYPE_CHECKING:
    import pandas as pd

BAR = 25  # characters
WIDE = 120  # where the output is no terminal and has no width of its own
HOW = "how"  # the column of texts: exact or estimated
SIGNS, PLAIN = ("├", "─", "┤", "●", "│"), ("|", "-", "|", "o", ":")


def output() -> Console:
    """The console of the results, as wide as the terminal, or wide enough where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDE))


def plain_table(*headings: str) -> Table:
    """A table with a rule below its headings and no other lines."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def show(run: Run, top: int) -> None:
    """The first `top` components of a run, then its sentence."""
    console = output()
    console.print(ranking(run, top, _signs(console)))
    console.print(run.sentence, highlight=False, markup=False, soft_wrap=True)


def ranking(run: Run, top: int, signs: Sequence[str] = SIGNS) -> Table:
    """The table of a run's first `top` components."""
    shown, first = run.frame.head(top), run.columns[0]
    scale = scale_of(shown, first)
    rows = shown.to_dict("records")
    known = any(not math.isnan(ends(row, first)[0]) for row in rows)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=f"{run.title}: {run.facts['model']}, {run.facts['site']}, {run.facts['metric']}",
        title_justify="left",
    )
    table.add_column("#", justify="right")
    table.add_column("component", no_wrap=True)
    for column in run.columns:
        table.add_column(Text(column.heading), justify="right")
        if column is first and known:
            table.add_column("interval", justify="right")
        if column is first:
            table.add_column("", no_wrap=True)
    if HOW in shown:
        table.add_column(HOW)
    for row in rows:
        cells = [str(row["rank"]), str(row["component"])]
        for column in run.columns:
            cells.append(number(row[column.name]))
            if column is first:
                low, high = ends(row, column)
                cells += [interval(low, high)] if known else []
                cells.append(bar(low, row[column.name], high, scale, signs))
        cells += [str(row[HOW])] if HOW in row else []
        table.add_row(*map(Text, cells))
    return table


def number(value: float) -> str:
    """A number with its sign and three digits; a dash where there is none."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    return f"{value:+.3g}" if 1e-4 <= abs(value) < 1e5 else f"{value:+.1e}"


def interval(low: float, high: float) -> str:
    """The ends of an interval, a dash where there is none."""
    return "–" if math.isnan(low) or math.isnan(high) else f"[{number(low)}, {number(high)}]"


Scale = tuple[float, float]


def ends(row: dict[Any, Any], column: Column) -> Scale:
    """The ends of a row's interval; NaN where it has none, or is a point."""
    if not column.low or row.get(HOW) == "exact":
        return math.nan, math.nan
    return float(row[column.low]), float(row[column.high])


def scale_of(frame: pd.DataFrame, column: Column) -> Scale:
    """From the least to the largest finite number shown, with zero between."""
    names = [name for name in (column.name, column.low, column.high) if name]
    values = [
        0.0,
        *(float(v) for v in frame[names].to_numpy(dtype=float).ravel() if math.isfinite(v)),
    ]
    return min(values), max(values)


def bar(low: float, value: float, high: float, scale: Scale, signs: Sequence[str] = SIGNS) -> str:
    """An interval and its value on the scale, with zero marked."""
    left, line, right, point, zero = signs
    least, most = scale
    if most == least:
        return ""

    def place(number: float) -> int:
        share = (max(least, min(most, number)) - least) / (most - least)
        return round(share * (BAR - 1))

    cells = [" "] * BAR
    cells[place(0.0)] = zero
    if not math.isnan(low) and not math.isnan(high):
        for i in range(place(low), place(high) + 1):
            cells[i] = line
        cells[place(low)], cells[place(high)] = left, right
    cells[place(value)] = point
    return "".join(cells).rstrip()


def _signs(console: Console) -> Sequence[str]:
    encoding = (getattr(sys.stdout, "encoding", None) or console.encoding).lower()
    return SIGNS if encoding.startswith("utf") else PLAIN
