"""Table 13: errors of AP and HVP under entity swaps, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.reporting.cells import count, fixed, significant
from hvp_patching.reporting.latex import Tex
from hvp_patching.reporting.names import model_name
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, ReportError, Results, records
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Column, Shown, Table, grid, ours, theirs
from hvp_patching.reporting.tables.components import reduction_cell, reduction_cells
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


def _nats(value: float) -> Tex:
    """Five decimals, as the paper prints them, where they hold three digits or more."""
    return fixed(value, 5) if value >= SMALLEST else significant(value)


SHOWN = (
    Column("Method", ours("method", method_label), align="l"),
    Column("MAE (nats)", ours("mae", _nats), theirs("published_mae", 5)),
    Column("MAE / AP", ours("relative_to_ap"), theirs("published_relative_to_ap", 2)),
    Column(
        Tex(r"Reduction (\%)"),
        lambda row: reduction_cell(row) if row["method"] == HVP else None,
        theirs("published_reduction_pct"),
    ),
)


def _title(row: Record) -> str:
    heads, prompts, pairs = (count(row[name]) for name in ("n_heads", "n_prompts", "n_records"))
    size = rf"{heads} heads, {prompts} prompts, {pairs} records"
    return Tex(rf"{model_name(row['model'])} ({size})")


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
    columns="model task corruption method n_prompts n_heads n_records mae relative_to_ap "
    "reduction_pct reduction_ci_low_pct reduction_ci_high_pct published_n_records "
    "published_mae published_relative_to_ap published_reduction_pct",
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
    body=lambda shown: grid(shown.frame, SHOWN, KEY, _title),
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
