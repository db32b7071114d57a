"""Certified screening of attention heads: coverage, recall and cost against every alternative."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.reporting.cells import GAP, count, fixed, percent, significant, with_interval
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, bold
from hvp_patching.reporting.names import model_name, setting_label, task_label
from hvp_patching.reporting.results import Record, Results, records
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.reporting.tables.screening_words import (
    EXACT,
    UPPER,
    coverage_sentence,
    screening_label,
    where_each_wins,
)

PERCENT = {
    "coverage_pct": "coverage",
    "coverage_ci_low_pct": "coverage_low",
    "coverage_ci_high_pct": "coverage_high",
    "bound_holds_pct": "bound_holds",
    "bound_ci_low_pct": "bound_low",
    "bound_ci_high_pct": "bound_high",
    "patched_pct": "patched",
    "cost_pct": "cost_share",
}
COMPARED = 0.3  # the budget at which the policies are set against each other
COLUMNS = (
    "model task corruption method budget pooled n_prompts n_components n_runs coverage_pct "
    "coverage_ci_low_pct coverage_ci_high_pct width at_most above bound_holds_pct "
    "bound_ci_low_pct bound_ci_high_pct recall_5 recall_10 recall_20 recall_10_ci_low "
    "recall_10_ci_high patched_pct seconds cost_pct alpha top_k"
)
HEADING = (
    *("Budget", "Patched", "Coverage", "Width", "At most", "Above", "Holds"),
    *("5", "10", "20", "Time"),
)
ALIGN = "@{}" + "r" * len(HEADING) + "@{}"


def in_percent(row: Record) -> Record:
    """A row of the frame ``screening`` with its fractions in percent, as the tables have them."""
    own = {name: 100 * row[source] for name, source in PERCENT.items()}
    ends = {f"recall_10_ci_{end}": row[f"recall_{end}"] for end in ("low", "high")}
    return row | own | ends


def rows(results: Results) -> Iterator[Record]:
    """The frame ``screening`` of every setting, fractions in percent."""
    yield from map(in_percent, records(results["screening"]))


def certified_cells(row: Record) -> list[Cell]:
    """A line of the first grid: what was promised, what is true, and what was found."""
    level = 100 * (1 - row["alpha"])
    coverage = percent(row["coverage_pct"])
    if row["coverage_ci_high_pct"] < level:
        coverage = bold(coverage)
    return [
        Tex(rf"{100 * row['budget']:.0f}\%{', pooled' if row['pooled'] else ''}"),
        percent(row["patched_pct"]),
        with_interval(coverage, row["coverage_ci_low_pct"], row["coverage_ci_high_pct"]),
        significant(row["width"]),
        count(row["at_most"]),
        significant(row["above"]),
        percent(row["bound_holds_pct"]),
        *(fixed(row[f"recall_{k}"]) for k in (5, 10, 20)),
        percent(row["cost_pct"]),
    ]


def body(shown: Shown) -> list[Tabular]:
    """What certified screening promises and keeps; then the recall of every method."""
    lines: list[Row] = []
    for setting, group in by_setting(shown.frame).items():
        n = int(group["n_components"].max())
        lines.append(Block(f"{setting_label(setting)}: {n} heads"))
        own = group[(group["method"] == UPPER) & group["budget"].notna()]
        lines += [
            certified_cells(row)
            for row in records(own)
            if not row["pooled"] or row["budget"] == compared_budget(shown.frame)
        ]
    heading: list[Row] = [[*[None] * 7, Span("Recall of the true", 3), None], list(HEADING)]
    return [Tabular(heading, lines, ALIGN), _recalls(shown.frame)]


def compared_budget(frame: pd.DataFrame) -> float:
    """The budget at which policies are compared: the nearest that there is to ``COMPARED``."""
    budgets = sorted(map(float, frame["budget"].dropna().unique()))
    return min(budgets, key=lambda budget: abs(budget - COMPARED))


def _recalls(frame: pd.DataFrame) -> Tabular:
    """Recall of the true ten of every method, and its time in percent of patching everything."""
    budget = compared_budget(frame)
    apart = frame[~frame["pooled"].astype(bool) & (frame["method"] != EXACT)]
    settings = by_setting(apart)
    found = {
        (setting, row["method"], row["budget"] == budget): row
        for setting, group in settings.items()
        for row in records(group)
        if pd.isna(row["budget"]) or row["budget"] == budget
    }
    lines: list[Row] = []
    for spends, title in (
        (False, "Without a patch"),
        (True, f"A budget of {100 * budget:.0f}% of the heads"),
    ):
        methods = dict.fromkeys(method for _, method, own in found if own == spends)
        if methods:
            lines.append(Block(title))
        for method in methods:
            name = screening_label(method, budget if spends else float("nan"))
            lines.append([name, *(_recall(found.get((one, method, spends))) for one in settings)])
    models = [(model, len([*group])) for model, group in groupby(settings, lambda one: one.model)]
    spans = [None, *(Span(model_name(model), n) for model, n in models)]
    heading: list[Row] = [spans, ["Recall of the true ten (time)", *map(task_label, settings)]]
    return Tabular(heading, lines, "@{}l" + "r" * len(settings) + "@{}")


def _recall(row: Record | None) -> Cell:
    if row is None:
        return GAP
    time: str = (
        "" if pd.isna(row["cost_pct"]) else rf"~{{\scriptsize ({percent(row['cost_pct'])})}}"
    )
    return Tex(f"{fixed(row['recall_10'])}{time}")


def notes(shown: Shown) -> list[str]:
    """How it was judged, what the columns are, and what follows."""
    first = shown.frame.iloc[0]
    sure = f"{100 * (1 - first['alpha']):g}"
    return [
        Tex(
            rf"Screening (hp.screen) of every prompt with many uniform draws, judged on the truth "
            rf"of all heads. Budget: heads that may be patched; patched: in fact (\%). Coverage: "
            rf"heads left whose effect lies in its {sure}\% interval (\%), mean over runs, with "
            r"Clopper and Pearson's 95\% interval of as many trials (runs are independent draws). "
            rf"Width: of the intervals, over the {int(first['top_k'])}th largest $|\Delta|$. At "
            rf"most: median bound on the heads left that exceed the threshold ({sure}\% "
            r"confidence); above: how many do, mean; holds: runs in which the bound does (\%). "
            r"Time: measured operations, in percent of patching all heads. Pooled: effects are "
            r"means over the prompts. Largest AP, reliability ($\rho$), curvature "
            r"($|\frac{1}{2}q|$): the order in which the rest of the budget is patched; the last "
            r"two need $q$ of every head, which is in their time."
        ),
        coverage_sentence(shown.frame),
        *wins(shown),
    ]


def wins(shown: Shown) -> list[str]:
    """One paragraph per setting: where each method wins."""
    groups = by_setting(shown.frame).items()
    return [f"{setting_label(setting)}: {where_each_wins(group)}" for setting, group in groups]


TABLE = Table(
    name="screening",
    settings="screening",
    reads={"screening": "attn_heads"},
    columns=COLUMNS,
    rows=rows,
    caption="Certified screening of attention heads: what a budget of exact patches buys, what it "
    "promises of the heads left, and whether that holds.",
    label="tab:screening",
    body=body,
    notes=notes,
    comments=lambda shown: [coverage_sentence(shown.frame), *wins(shown)],
    few="the intervals of recall are",
    wide=True,
)
