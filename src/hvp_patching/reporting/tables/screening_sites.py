"""Certified screening at every kind of component: coverage and recall."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.reporting.cells import GAP, count, fixed, percent, significant, with_interval
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, bold
from hvp_patching.reporting.names import component_name, setting_label
from hvp_patching.reporting.results import Record, Results, records, setting_of
from hvp_patching.reporting.table import ALL_SITES, Shown, Table
from hvp_patching.reporting.tables.screening import COLUMNS, compared_budget, in_percent
from hvp_patching.reporting.tables.screening_words import UPPER, coverage_sentence
from hvp_patching.settings import KEY

ALONE = ("ap", "relp", "hvp")


def rows(results: Results) -> Iterator[Record]:
    """The frame ``screening_sites`` of every setting and site, fractions in percent."""
    yield from map(in_percent, records(results["screening_sites"]))


def body(shown: Shown) -> Tabular:
    """One line per site at the budget that is compared; a block per setting."""
    budget = compared_budget(shown.frame)
    lines: list[Row] = []
    for _, group in shown.frame.groupby(list(KEY), sort=False):
        lines.append(Block(setting_label(setting_of(records(group)[0]))))
        lines += [_line(rows, budget) for _, rows in group.groupby("site", sort=False)]
    heading: list[Row] = [
        [*[None] * 6, Span("Recall of the true ten", 2 + len(ALONE))],
        [
            *("Site", Tex("$N$"), "Coverage", "Width", "At most", "Holds"),
            *("Screening", "Random", "AP", "RelP", "HVP"),
        ],
    ]
    return Tabular(heading, lines, "@{}l" + "r" * (5 + 2 + len(ALONE)) + "@{}")


def _line(rows: pd.DataFrame, budget: float) -> list[Cell]:
    apart = records(rows[~rows["pooled"].astype(bool)])
    spent = {row["method"]: row for row in apart if row["budget"] == budget}
    alone = {row["method"]: row for row in apart if pd.isna(row["budget"])}
    own = spent[UPPER]
    coverage = percent(own["coverage_pct"])
    if own["coverage_ci_high_pct"] < 100 * (1 - own["alpha"]):
        coverage = bold(coverage)
    recalls = [own, spent.get("random"), *map(alone.get, ALONE)]
    return [
        component_name(own["site"]),
        count(own["n_components"]),
        with_interval(coverage, own["coverage_ci_low_pct"], own["coverage_ci_high_pct"]),
        significant(own["width"]),
        count(own["at_most"]),
        percent(own["bound_holds_pct"]),
        *(GAP if row is None else fixed(row["recall_10"]) for row in recalls),
    ]


def notes(shown: Shown) -> list[str]:
    """How it was judged, and whether the promises hold."""
    budget = compared_budget(shown.frame)
    return [
        Tex(
            rf"Judged as heads are in the table of their screening, with a budget of "
            rf"{100 * budget:.0f}\% of the $N$ components that were measured (a sample of the "
            r"neurons). Screening: largest upper end first; random: a uniform choice of as many. "
            r"--: the budget pays for too few to calibrate, and nothing is promised; where there "
            r"are no more components than that takes, all are patched."
        ),
        coverage_sentence(shown.frame),
    ]


TABLE = Table(
    name="screening_sites",
    settings="component_settings",
    reads={"screening_sites": ALL_SITES},
    columns="site " + COLUMNS,
    rows=rows,
    caption="Certified screening at every kind of component.",
    label="tab:screening-sites",
    body=body,
    notes=notes,
    comments=lambda shown: [coverage_sentence(shown.frame)],
    few="the intervals of recall are",
    wide=True,
)
