"""Table 13: errors of AP and HVP under entity swaps, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.reporting.cells import (
    count,
    fixed,
    percent,
    published_number,
    significant,
    with_interval,
)
from hvp_patching.reporting.latex import Block, Row, Tabular, Tex, grey
from hvp_patching.reporting.names import model_name
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, ReportError, Results, records
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.reporting.tables.components import reduction_cells
from hvp_patching.settings import KEY

AP, HVP = "ap", "hvp"
TASK = "entity_swap"
SMALLEST = 0.001  # nats


def rows(results: Results) -> Iterator[Record]:
    """AP and HVP of each setting: errors in nats, the reduction 1 - HVP / AP in percent."""
    for row in records(results["absolute_errors"]):
        if row["task"] != TASK:
            raise ReportError(f"Table 13 shows {TASK}, got '{row['task']}': configure that task")
        yield row | {
            "method": row["estimator"],
            "n_heads": row["n_components"],
            **reduction_cells(row),
        }


def relative_to_papers_ap(frame: pd.DataFrame) -> pd.DataFrame:
    """With the paper's relative errors, which our copy lost, worked out from its errors."""
    ap = frame["published_mae"].where(frame["method"] == AP)
    of_setting = ap.groupby([frame[name] for name in KEY]).transform("first")
    return frame.assign(published_relative_to_ap=frame["published_mae"] / of_setting)


def body(shown: Shown) -> Tabular:
    """One block of lines per setting; a grey line under a method has the paper's values."""
    lines: list[Row] = []
    for setting, group in by_setting(shown.frame).items():
        heads, prompts, pairs = (
            count(group[name].iloc[0]) for name in ("n_heads", "n_prompts", "n_records")
        )
        size = rf"{heads} heads, {prompts} prompts, {pairs} records"
        lines.append(Block(Tex(rf"{model_name(setting.model)} ({size})")))
        for row in records(group):
            lines += _method_rows(row)
    heading = ["Method", "MAE (nats)", "MAE / AP", Tex(r"Reduction (\%)")]
    return Tabular([heading], lines, "@{}lrrr@{}")


def _method_rows(row: Record) -> list[Row]:
    ends = row["reduction_ci_low_pct"], row["reduction_ci_high_pct"]
    reduction = with_interval(percent(row["reduction_pct"]), *ends)
    ours: Row = [
        method_label(row["method"]),
        _nats(row["mae"]),
        fixed(row["relative_to_ap"]),
        reduction if row["method"] == HVP else None,
    ]
    if pd.isna(row["published_mae"]):
        return [ours]
    theirs: Row = [
        grey("paper"),
        published_number(row["published_mae"], 5),
        published_number(row["published_relative_to_ap"], 2),
        published_number(row["published_reduction_pct"]),
    ]
    return [ours, theirs]


def _nats(value: float) -> Tex:
    """Five decimals, as the paper prints them, where they hold three digits or more."""
    return fixed(value, 5) if value >= SMALLEST else significant(value)


def grey_note(shown: Shown) -> str:
    """What the paper's numbers are, and on how many records."""
    sizes = shown.frame.dropna(subset="published_mae").drop_duplicates(list(KEY))
    counts = ", ".join(count(n) for n in sizes["published_n_records"])
    return Tex(
        f"Grey: the paper's value for the same setting ({counts} records); its MAE / AP is worked "
        "out from its errors."
    )


TABLE = Table(
    name="table13",
    settings="table13",
    reads={"absolute_errors": "attn_heads"},
    columns=(
        *KEY,
        "method",
        "n_prompts",
        "n_heads",
        "n_records",
        "mae",
        "relative_to_ap",
        "reduction_pct",
        "reduction_ci_low_pct",
        "reduction_ci_high_pct",
        "published_n_records",
        "published_mae",
        "published_relative_to_ap",
        "published_reduction_pct",
    ),
    rows=rows,
    finish=relative_to_papers_ap,
    paper=Paper(
        keys={"model": "model", "task": "task", "method": "method"},
        cells={
            "n_heads_total": Number("n_heads"),
            "n_records": Number("n_records", "published_n_records"),
            "mae": Number("mae", "published_mae"),
            "relative_to_ap": Number("relative_to_ap"),
            "error_reduction_pct": Number("reduction_pct", "published_reduction_pct"),
        },
        lost={"relative_to_ap": "cell lost"},
    ),
    caption="Entity swaps, which change several tokens: mean absolute error of AP and HVP over all "
    "attention heads and prompts.",
    label="tab:entity-swap",
    body=body,
    notes=lambda shown: [
        Tex(
            r"MAE: mean of $|\mathrm{estimate} - \Delta|$ over records (pairs of head and prompt). "
            r"Reduction: $1 - \mathrm{HVP} / \mathrm{AP}$ with its 95\% interval, prompts "
            r"resampled. Each prompt is paired with one about another entity of the same kind "
            r"and token length, with another answer."
        )
    ],
    grey=grey_note,
)
