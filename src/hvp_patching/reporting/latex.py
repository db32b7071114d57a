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
}


class Tex(str):
    """Text that is LaTeX already and is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True)
class Block:
    """A rule between two blocks of rows, with a line that names the block below."""

    title: str


Cell = str | float | int | None
Row = Sequence[Cell] | Block


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
) -> str:
    """A table environment: caption, booktabs tabular, notes below; needs ``PACKAGES``.

    Cells, caption and notes are escaped unless they are ``Tex``. A ``Block`` draws a rule (none
    at the very top, where the header's stands) and its title. Raises ``ValueError`` where a
    row's length differs from ``align``'s.
    """
    # what stands in braces is a width or a separator, not a column
    width = len(re.findall("[lcrp]", re.sub(r"[@!]?{[^}]*}", "", align)))
    lines = [
        rf"% needs \usepackage{{{','.join(PACKAGES)}}}",
        r"\begin{table}[t]",
        r"\centering\small\setlength{\tabcolsep}{5pt}\setlength{\belowcaptionskip}{4pt}",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        *(_line(row, width) for row in header),
        r"\midrule",
    ]
    for number, row in enumerate(rows):
        if isinstance(row, Block):
            lines += [r"\midrule"] * (number > 0)
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape(row.title)}}}}} \\")
        else:
            lines.append(_line(row, width))
    lines += [r"\bottomrule", r"\end{tabular}"]
    if notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [rf"{escape(note)}\par" for note in notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def _line(row: Row, width: int) -> str:
    cells = [cell(value) for value in row]  # type: ignore[union-attr]
    if len(cells) != width:
        raise ValueError(f"a table row has {len(cells)} cells for {width} columns: {cells}")
    return " & ".join(cells) + r" \\"
