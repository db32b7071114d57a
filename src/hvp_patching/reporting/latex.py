"""Booktabs tables as fragments for \\input, with escaping."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

PACKAGES = ("booktabs", "xcolor")

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


class Tex(str):
    """Text that is LaTeX already and is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True)
class Block:
    """A rule between two blocks of rows, with a line that names the block below."""

    title: str


@dataclass(frozen=True)
class Span:
    """A cell across several columns; in a header a thin rule underlines it.

    ``trim`` says on which sides the rule is shortened, so that it ends where the cells do.
    """

    text: str
    columns: int
    align: str = "c"
    trim: str = "lr"


@dataclass(frozen=True)
class Space:
    """A little room between two rows."""


Cell = str | float | int | None
Row = Sequence[Cell | Span] | Block | Space


@dataclass(frozen=True)
class Tabular:
    """One grid of a table: its header, its rows and LaTeX's column specification."""

    header: Sequence[Row]
    rows: Sequence[Row]
    align: str


def escape(text: str) -> Tex:
    """Plain text as LaTeX that prints it; ``Tex`` is returned as it is."""
    if isinstance(text, Tex):
        return text
    return Tex("".join(_ESCAPES.get(character, character) for character in text))


def cell(value: Cell) -> Tex:
    """A table cell: None and NaN are empty, whole numbers plain, text escaped."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Tex("")
    return escape(value if isinstance(value, str) else str(value))


def bold(text: str) -> Tex:
    """Bold text; plain text is escaped."""
    return Tex(rf"\textbf{{{escape(text)}}}")


def grey(text: str) -> Tex:
    """Small grey text, for the paper's values beside ours; plain text is escaped."""
    return Tex(rf"{{\scriptsize\textcolor{{gray}}{{{escape(text)}}}}}")


def booktabs(
    header: Sequence[Row],
    rows: Sequence[Row],
    *,
    align: str,
    caption: str,
    label: str,
    notes: Sequence[str] = (),
    wide: bool = False,
) -> str:
    """A table environment: caption, booktabs tabular, notes below; needs ``PACKAGES``.

    Cells, caption and notes are escaped unless they are ``Tex``. A ``Block`` draws a rule (none
    at the very top, where the header's stands) and its title. ``wide`` spans both columns of a
    two-column page. Raises ``ValueError`` where a row's length differs from ``align``'s.
    """
    grid = Tabular(header, rows, align)
    return tabulars([grid], caption=caption, label=label, notes=notes, wide=wide)


def tabulars(
    grids: Sequence[Tabular],
    *,
    caption: str,
    label: str,
    notes: Sequence[str] = (),
    wide: bool = False,
) -> str:
    """A table environment of several grids, one below the other; otherwise as ``booktabs``."""
    environment = "table*" if wide else "table"
    lines = [
        rf"% needs \usepackage{{{','.join(PACKAGES)}}}",
        rf"\begin{{{environment}}}[t]",
        r"\centering\small\setlength{\tabcolsep}{5pt}\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{label}}}",
    ]
    for number, grid in enumerate(grids):
        lines += [r"\par\medskip"] * (number > 0)
        lines += _grid(grid)
    if notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [rf"{escape(note)}\par" for note in notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, rf"\end{{{environment}}}", ""])


def _grid(grid: Tabular) -> list[str]:
    # what stands in braces is a width or a separator, not a column
    width = len(re.findall("[lcrp]", re.sub(r"[@!]?{[^}]*}", "", grid.align)))
    title = "@{}l" if grid.align.startswith("@{}") else "l"
    lines = [rf"\begin{{tabular}}{{{grid.align}}}", r"\toprule"]
    for row in grid.header:
        lines += [_line(row, width), *_underlines(row)]
    lines.append(r"\midrule")
    for number, row in enumerate(grid.rows):
        if isinstance(row, Block):
            lines += [r"\midrule"] * (number > 0)
            lines.append(
                rf"\multicolumn{{{width}}}{{{title}}}{{\textit{{{escape(row.title)}}}}} \\"
            )
        elif isinstance(row, Space):
            lines.append(r"\addlinespace")
        else:
            lines.append(_line(row, width))
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _line(row: Row, width: int) -> str:
    cells: list[str] = []
    filled = 0
    for value in row:  # type: ignore[union-attr]
        if isinstance(value, Span):
            cells.append(
                rf"\multicolumn{{{value.columns}}}{{{value.align}}}{{{escape(value.text)}}}"
            )
            filled += value.columns
        else:
            cells.append(cell(value))
            filled += 1
    if filled != width:
        raise ValueError(f"a table row has {filled} cells for {width} columns: {cells}")
    return " & ".join(cells) + r" \\"


def _underlines(row: Row) -> list[str]:
    rules, column = [], 1
    for value in row:  # type: ignore[union-attr]
        columns = 1
        if isinstance(value, Span):
            columns = value.columns
            rules.append(rf"\cmidrule({value.trim}){{{column}-{column + columns - 1}}}")
        column += columns
    return ["".join(rules)] if rules else []
