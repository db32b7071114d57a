"""Table 4: how much of the true top heads each method finds, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

import pandas as pd

from hvp_patching.reporting.cells import GAP, fixed, published_number
from hvp_patching.reporting.latex import Block, Cell, Row, Tabular, Tex, bold, grey
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, Results, records, records_by_key, setting_of
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.settings import KEY

# our estimators by the paper's methods, in its order
METHODS = MappingProxyType(
    {"ap": "ap", "hvp": "hvp", "ig": "ig_10", "ms_hvp": "ms_hvp_5", "gim": "gim"}
)
KS = (5, 10, 20)


def rows(results: Results) -> Iterator[Record]:
    """One line per setting, method and k, in percent of k.

    Empty for a method that was not scored and a k above the number of heads.
    """
    summary = results["overlap_summary"]
    ours = records_by_key(summary, (*KEY, "estimator", "k"), "Table 4")
    for key, group in summary.groupby(list(KEY), sort=False):
        for method, estimator in METHODS.items():
            for k in KS:
                row: Record = {**dict(zip(KEY, key, strict=True)), "method": method}
                row |= {"estimator": estimator, "k": k, "n_prompts": group["n_prompts"].max()}
                found = ours.get((*key, estimator, k), {})
                parts = {"overlap_pct": "value", "ci_low": "ci_low", "ci_high": "ci_high"}
                yield row | {name: 100 * found[part] for name, part in parts.items() if found}


def body(shown: Shown) -> Tabular:
    """One block of lines per setting; a grey line under a method has the paper's values."""
    lines: list[Row] = []
    for _, group in shown.frame.groupby(list(KEY), sort=False):
        first = records(group)[0]
        lines.append(Block(Tex(f"{setting_label(setting_of(first))} ($n = {first['n_prompts']}$)")))
        best = group.groupby("k")["overlap_pct"].max()
        for method, cells in group.groupby("estimator", sort=False):
            lines += _method_rows(str(method), records(cells), best)
    return Tabular([["Method", *(f"Top-{k}" for k in KS)]], lines, "@{}l" + "r" * len(KS) + "@{}")


def _method_rows(estimator: str, cells: list[Record], best: pd.Series) -> list[Row]:
    ours: list[Cell] = [method_label(estimator)]
    theirs: list[Cell] = [grey("paper")]
    for cell in cells:
        text = fixed(cell["overlap_pct"], 1)
        ours.append(bold(text) if text != GAP and text == fixed(best[cell["k"]], 1) else text)
        theirs.append(published_number(cell["published_overlap_pct"]))
    return [ours, theirs] if any(theirs[1:]) else [ours]


def notes(shown: Shown) -> list[str]:
    """How heads are ranked, and what gaps are."""
    found: list[str] = [
        Tex(
            r"Per prompt, heads are ranked by $|\Delta|$ and by $|\mathrm{estimate}|$. Higher is "
            r"better; bold: highest of a column. Intervals are in the CSV file."
        )
    ]
    if shown.frame["overlap_pct"].isna().any():
        found.append(Tex("--: not computed, or fewer heads than $k$."))
    return found


TABLE = Table(
    name="table4",
    settings="table4",
    reads={"overlap_summary": "attn_heads"},
    columns="model task corruption method estimator k n_prompts overlap_pct ci_low ci_high "
    "published_overlap_pct",
    rows=rows,
    paper=Paper(
        keys={"model": "model", "task": "task", "method": "method", "k": "k"},
        cells={"topk_overlap_pct": Number("overlap_pct", "published_overlap_pct")},
    ),
    caption=Tex(
        r"Overlap of each method's top-$k$ attention heads with those of activation patching "
        "(percent of $k$, mean over prompts)."
    ),
    label="tab:top-k-overlap",
    body=body,
    notes=notes,
    few="the overlaps are",
)
