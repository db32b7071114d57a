"""One specification per table: what it reads, its rows, the paper's beside them, its LaTeX.

How to add a table: write a module in `reporting/tables/` with a ``TABLE`` (table8.py is a good
one to copy), name it in the list of `workflow/artefacts.py`, and give the configuration the key
``settings`` names, if it is a new one. Nothing else knows of tables. docs/extending.md does it.

A module states data and two functions:

- ``rows(results)`` makes one record per line of the CSV file, from frames that rules of `metrics`
  computed (``results["paired"]``: ``frames.FRAMES["paired"]`` with the columns model, task,
  corruption, and site where the table shows several, in front). It selects, joins and turns
  fractions into percent; whatever has an interval or a p-value is computed in `metrics`.
- ``body(shown)`` arranges ``shown.frame`` as rows of LaTeX cells.

The ``Table`` joins the published numbers (``paper``), orders ``columns``, and adds what tables have
in common: the sentence on models that stand in for the paper's, the base run, what is grey, and
a warning where prompts are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import pandas as pd

from hvp_patching.files import write_text
from hvp_patching.frames import SMALLEST_SAMPLE
from hvp_patching.reporting.cells import fixed, published_number
from hvp_patching.reporting.html import fragment, page
from hvp_patching.reporting.latex import Block, Cell, Row, Tabular, Tex, escape, grey, tabulars
from hvp_patching.reporting.names import BASE_RUNS, stand_in_sentence
from hvp_patching.reporting.paper import Paper
from hvp_patching.reporting.provenance import TEX, Provenance, csv_text, header
from hvp_patching.reporting.results import Record, ReportError, Results, records

ALL_SITES = "*"  # a result that a table reads at every site of the configuration


@dataclass(frozen=True)
class Shown:
    """A table as it is typeset: its frame, what it was made of, the models of the paper's table."""

    frame: pd.DataFrame
    results: Results
    paper_models: Sequence[str] = ()


Text = str | Callable[[Shown], str]


@dataclass(frozen=True)
class Column:
    """A typeset column: its heading, our cell of a row, and the paper's for the line below it."""

    heading: str
    ours: Callable[[Record], Cell]
    paper: Callable[[Record], Cell] = lambda row: None
    align: str = "r"


def ours(column: str, form: Callable[[Any], Cell] = fixed) -> Callable[[Record], Cell]:
    """Our number of a row in this form."""
    return lambda row: form(row[column])


def theirs(column: str, decimals: int = 1) -> Callable[[Record], Cell]:
    """The paper's number of a row in grey, with the decimals that it has there."""
    return lambda row: published_number(row[column], decimals)


def grid(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    by: Sequence[str] = (),
    title: Callable[[Record], Any] = lambda row: "",
    heading: Sequence[Row] = (),
) -> Tabular:
    """A line per row of the frame, and a grey one where the paper has cells of it.

    Rows that agree in the columns ``by`` stand below a rule with the ``title`` of their first one;
    ``heading`` has further lines above that of the columns.
    """
    lines: list[Row] = []
    for _, group in frame.groupby(list(by), sort=False) if by else [((), frame)]:
        rows = records(group)
        lines += [Block(title(rows[0]))] if by else []
        for row in rows:
            lines.append([column.ours(row) for column in columns])
            below = [column.paper(row) for column in columns][1:]
            lines += [[grey("paper"), *below]] if any(below) else []
    align = "".join(column.align for column in columns)
    names = [column.heading for column in columns]
    return Tabular([*heading, names], lines, f"@{{}}{align}@{{}}")


@dataclass(frozen=True)
class Table:
    """A table of the paper, or one of our own.

    columns: of the CSV file, in order; settings: the configuration's key of those shown; reads:
    results and at which site each; options: further keys of the configuration; grey: the note
    where a published number is shown; few: what few prompts make only indicative; fewest: the
    prompts that this counts; finish: a last step over our rows joined with the paper's; comments:
    lines for the CSV file's top.
    """

    name: str
    columns: str
    rows: Callable[[Results], Iterable[Record]]
    body: Callable[[Shown], Tabular | Sequence[Tabular]]
    caption: Text
    label: str
    settings: str = ""
    reads: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    all_corruptions: bool = False
    paper: Paper | None = None
    notes: Callable[[Shown], Sequence[str]] = lambda shown: ()
    grey: Text = "Grey: the paper's value for the same setting."
    few: str = "the intervals are"
    fewest: Callable[[Shown], int] = lambda shown: int(shown.frame["n_prompts"].min())
    finish: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    comments: Callable[[Shown], Sequence[str]] = lambda shown: ()
    stand_ins: bool = True
    wide: bool = False

    @property
    def title(self) -> str:
        """How messages name it, as in "Table 8"."""
        return f"Table {self.name.removeprefix('table')}"

    def show(self, results: Results, published: pd.DataFrame | None = None) -> Shown:
        """The table as data: one row per record, columns ``columns``, numbers as float64.

        Published cells are empty where the setting is not the paper's. Raises ``ReportError``
        where there is nothing to show.
        """
        rows: list[Record] = list(self.rows(results))
        if not rows:
            raise ReportError(f"{self.title} has nothing to show: choose at least one setting")
        models: list[str] = []
        if self.paper is not None:
            if published is None:
                raise ReportError(f"{self.title} needs the paper's numbers: data/published")
            rows, models = self.paper.join(rows, published), list(published["model"])
        frame = pd.DataFrame(rows)
        frame = self.finish(frame) if self.finish else frame
        frame = frame.reindex(columns=self.columns.split()).apply(_numbers)
        return Shown(frame.reset_index(drop=True), results, models)

    def tex(self, shown: Shown, provenance: Provenance) -> str:
        """The table as a booktabs fragment below its header comment."""
        caption, notes = self._caption(shown), self._notes(shown)
        grids = self._grids(shown)
        text = tabulars(grids, caption=caption, label=self.label, notes=notes, wide=self.wide)
        return header(provenance, TEX) + text

    def html(self, shown: Shown, provenance: Provenance) -> str:
        """The same table as an HTML page; ``ReportError`` for LaTeX that has no HTML."""
        body = fragment(self._grids(shown), self._notes(shown))
        return page(self.title, self._caption(shown), body, header(provenance, ""))

    def write(
        self,
        results: Results,
        provenance: Provenance,
        published: pd.DataFrame | None,
        tex: str,
        csv: str,
        html: str = "",
    ) -> None:
        """Write the CSV, the HTML page where one is asked for, then the LaTeX fragment.

        Each whole or not at all.
        """
        shown = self.show(results, published)
        text = self.tex(shown, provenance)
        markup = self.html(shown, provenance) if html else ""
        lines = (*provenance.notes, *self.comments(shown))
        write_text(csv, csv_text(shown.frame, replace(provenance, notes=lines)))
        if html:
            write_text(html, markup)
        write_text(tex, text)

    def _grids(self, shown: Shown) -> Sequence[Tabular]:
        body = self.body(shown)
        return [body] if isinstance(body, Tabular) else body

    def _caption(self, shown: Shown) -> str:
        """The caption, and which models stand in for the paper's."""
        caption = _said(self.caption, shown)
        if self.stand_ins and shown.paper_models and "model" in shown.frame:
            sentence = stand_in_sentence(shown.frame["model"], shown.paper_models)
            return Tex(f"{escape(caption)} {escape(sentence)}".strip())
        return caption

    def _notes(self, shown: Shown) -> list[str]:
        """The table's own notes, then those that tables have in common."""
        notes = list(self.notes(shown))
        if not self.reads or not self.settings:
            return notes
        direction = str(shown.results.options["direction"])
        notes.append(f"Base run: {BASE_RUNS.get(direction, direction)}.")
        if self.paper and shown.frame[self.paper.repeated].notna().any(axis=None):
            notes.append(_said(self.grey, shown))
        fewest = self.fewest(shown)
        if fewest < SMALLEST_SAMPLE:
            text = rf"Few prompts (as few as $n = {fewest}$): {self.few} only indicative."
            notes.append(Tex(text))
        return notes


def _said(text: Text, shown: Shown) -> str:
    return text if isinstance(text, str) else text(shown)


def _numbers(column: pd.Series) -> pd.Series:
    """Columns of numbers and gaps as float64; others, and whole numbers without gaps, stay."""
    present = column.dropna()
    real = all(isinstance(value, Real) and not isinstance(value, bool) for value in present)
    return column.astype("float64") if real and column.dtype == object else column
