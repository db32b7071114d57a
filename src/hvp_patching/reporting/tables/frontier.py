"""The frontier table: error against measured cost, exact activation patching included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.frames import COUNTS, EXACT, SCREENED
from hvp_patching.reporting.cells import GAP, count, percent, significant, with_interval
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, bold
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.results import Record, Results, records
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.reporting.tables.frontier_words import frontier_label, recommendation

# Shown wherever they stand; every other estimator where it is on a frontier.
ALWAYS = ("ap", "hvp", "ms_hvp_5", "ig_10", "gl_5", "k_median")  # and the baselines
UNITS = Tex(
    "Nominal cost: backward passes per component. Times come from measured operations of the same "
    "engine: AP of all components is one reverse pass, whoever asks for how many; the others run "
    "per component, in batches. AP, then exact patching: AP of all components, then the truth for "
    r"the $k$ where AP is largest; an error of 0 means that these $k$ held the five largest "
    "effects of every prompt. --: not defined."
)
PERCENT = {"top5_rel_error_pct": "error", "ci_low_pct": "ci_low", "ci_high_pct": "ci_high"}


def rows(results: Results) -> Iterator[Record]:
    """The frame ``frontier`` of every setting, errors in percent."""
    for row in records(results["frontier"]):
        yield row | {name: 100 * row[source] for name, source in PERCENT.items()}


def body(shown: Shown) -> Tabular:
    """One block of lines per setting, exact patching first; bold on the frontier."""
    lines: list[Row] = []
    for setting, group in by_setting(shown.frame).items():
        n = int(group["n_components"].max())
        lines.append(Block(f"{setting_label(setting)}: {n} components"))
        lines += _setting_rows(group, n, (*ALWAYS, *shown.results.options["baselines"]))
    sizes = [*map(str, COUNTS), "all"]
    spans = [Span(unit, len(sizes)) for unit in ("Forward passes", "Milliseconds")]
    heading: list[Row] = [
        [None, None, None, *spans],
        ["Method", "Nominal cost", "Error", *sizes, *sizes],
    ]
    return Tabular(heading, lines, "@{}lrr" + "r" * 2 * len(sizes) + "@{}")


def _setting_rows(group: pd.DataFrame, n: int, always: Sequence[str]) -> list[list[Cell]]:
    """``always`` and all on a frontier, exact patching first, then by nominal cost."""
    best = set(group.loc[group["on_frontier"], "estimator"])
    shown = group[group["estimator"].map(lambda name: name in best or _always(name, always))]
    lines: list[list[Cell]] = []
    order = shown.assign(exact=shown["estimator"] != EXACT)
    order = order.sort_values(["exact", "cost"], kind="stable")  # without a nominal cost: last
    for estimator, rows in order.groupby("estimator", sort=False):
        sizes = {int(row["n_components"]): row for row in records(rows)}
        of_all = sizes[n]
        # where there are no more components than that, "all" is the only column for them
        cells = [*(sizes.get(size) if size < n else None for size in COUNTS), of_all]
        error = percent(of_all["top5_rel_error_pct"])
        lines.append(
            [
                frontier_label(str(estimator)),
                GAP if pd.isna(of_all["cost"]) else count(of_all["cost"]),
                with_interval(error, of_all["ci_low_pct"], of_all["ci_high_pct"]),
                *(_time(cell, "forward_equivalents", 1) for cell in cells),
                *(_time(cell, "seconds_per_component", 1000) for cell in cells),
            ]
        )
    return lines


def _always(estimator: str, always: Sequence[str]) -> bool:
    return estimator in always or estimator == EXACT or estimator.startswith(SCREENED)


def _time(row: Record | None, column: str, factor: float) -> Tex:
    if row is None:
        return GAP
    text = significant(factor * row[column])
    return bold(text) if row["on_frontier"] else text


def _timing_notes(frame: pd.DataFrame) -> list[str]:
    """On what the times were taken."""
    places = frame[["device", "threads"]].drop_duplicates()
    named = [
        f"{device.upper()}, {threads} thread{'s' * (threads != 1)}"
        for device, threads in places.itertuples(index=False)
    ]
    return [f"Timed on the first prompt of each setting in one run ({'; '.join(named)})."]


def recommendations(shown: Shown) -> list[str]:
    """One paragraph per setting: which method to take."""
    groups = by_setting(shown.frame).items()
    return [f"{setting_label(setting)}: {recommendation(group)}" for setting, group in groups]


TABLE = Table(
    name="frontier",
    settings="frontier",
    reads={"frontier": "attn_heads"},
    options=("baselines",),
    columns="model task corruption estimator cost n_prompts top5_rel_error_pct ci_low_pct "
    "ci_high_pct n_components seconds seconds_per_component forward_equivalents "
    "on_frontier break_even device threads",
    rows=rows,
    caption="Error against measured cost. Error: mean top-5 relative error (percent). Time per "
    "component, in forward passes of the whole prompt and in milliseconds, where 1, 10 or all "
    "components are computed at once. Bold: on the frontier of error and time.",
    label="tab:frontier",
    body=body,
    notes=lambda shown: [UNITS, *_timing_notes(shown.frame), *recommendations(shown)],
    comments=recommendations,
    wide=True,
)
