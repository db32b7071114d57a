"""Table 10: top heads found by GIM and by attribution patching, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.frames import ALPHA
from hvp_patching.reporting.cells import count, fixed, points, published_number
from hvp_patching.reporting.latex import Cell, Row, Span, Tabular, Tex, grey
from hvp_patching.reporting.marks import marked_p, marks_notes
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, Results, records_by_key
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Shown, Table

GIM, AP = "gim", "ap"
KS = (5, 10)  # shown; every k of the overlaps is in the CSV and in the count


def rows(results: Results) -> Iterator[Record]:
    """One line per setting and k, in percent; the difference GIM - AP in points.

    A k above the number of heads has none.
    """
    for row in results.pairs("marks_table10", GIM, AP):
        yield row | {
            "ap_pct": 100 * row["second_value"],
            "gim_pct": 100 * row["first_value"],
            # overlaps are multiples of 1/k, so that a difference of rounding alone is none
            "difference_pp": round(100 * row["difference"], 9),
            "ci_low": 100 * row["ci_low"],
            "ci_high": 100 * row["ci_high"],
        }


def body(shown: Shown) -> Tabular:
    """One line per setting, and a grey one with the paper's values."""
    lines: list[Row] = []
    for setting, group in by_setting(shown.frame).items():
        cells = records_by_key(group, ("k",), str(setting))
        ours: list[Cell] = [setting_label(setting), count(group["n_prompts"].iloc[0])]
        theirs: list[Cell] = []
        for k in KS:
            cell = cells.get((k,), {})
            ours += [fixed(cell.get(name), 1) for name in ("ap_pct", "gim_pct")]
            ours += [points(cell.get("difference_pp"), 1), marked_p(cell)]
            theirs += _published(cell)
        lines.append(ours)
        if any(theirs):
            lines.append([grey("paper"), None, *theirs])
    names = [method_label(AP), method_label(GIM), Tex(r"$\Delta$"), Tex("$p$")]
    heading: list[Row] = [
        [None, None, *(Span(f"Top-{k}", 4) for k in KS)],
        ["Model, task", Tex("$n$"), *names * len(KS)],
    ]
    return Tabular(heading, lines, "lr" + "rrrr" * len(KS))


def _published(cell: Record) -> list[Cell]:
    if pd.isna(cell.get("published_ap_pct")):
        return [None] * 4
    difference = cell["published_difference_sign"] * cell["published_abs_difference_pp"]
    sign = "+" if difference > 0 else "-"
    return [
        published_number(cell["published_ap_pct"]),
        published_number(cell["published_gim_pct"]),
        grey(Tex(rf"${sign}${abs(difference):.1f}")),
        None,
    ]


def gim_sentence(tally: Record, ks: list[int]) -> str:
    """In how many settings GIM finds fewer of the top heads than AP, and how sure that is."""
    return (
        f"GIM's overlap is below AP's in {tally['lower']} of {tally['n']} comparisons "
        f"(settings and k = {', '.join(map(str, ks))}; {tally['lower_sure']} at p < {ALPHA}, "
        f"{tally['lower_survives']} survive Benjamini-Hochberg), above it in {tally['higher']} "
        f"({tally['higher_sure']} and {tally['higher_survives']})."
    )


TABLE = Table(
    name="table10",
    settings="table2",
    reads={"marks_table10": "", "tally_gim": ""},
    columns="model task corruption k n_prompts ap_pct gim_pct difference_pp ci_low ci_high p q "
    "decidable survives verdict published_ap_pct published_gim_pct published_abs_difference_pp "
    "published_difference_sign",
    rows=rows,
    paper=Paper(
        keys={"model": "model", "task": "task", "k": "k"},
        cells={
            "ap_overlap_pct": Number("ap_pct", "published_ap_pct"),
            "gim_overlap_pct": Number("gim_pct", "published_gim_pct"),
            "reported_abs_difference_pp": Number(
                lambda row: abs(row["difference_pp"]), "published_abs_difference_pp"
            ),
            "difference_sign_inferred": Number(
                lambda row: np.sign(row["difference_pp"]), "published_difference_sign"
            ),
        },
    ),
    caption=Tex(
        "Overlap of the top-$k$ attention heads of AP and of GIM with those of activation patching "
        "(percent of $k$, mean over prompts)."
    ),
    label="tab:gim-overlap",
    body=body,
    notes=lambda shown: [
        gim_sentence(shown.results.one("tally_gim"), sorted(shown.frame["k"].unique())),
        *marks_notes(shown.results["marks_table10"], "AP"),
        Tex(
            r"$\Delta$: GIM $-$ AP in percentage points, negative where GIM finds fewer of the "
            r"true top heads."
        ),
    ],
    grey=Tex(
        r"Grey: the paper's value for the same setting, with $\Delta$'s sign as its two overlaps "
        "imply it."
    ),
    few="the differences are",
    wide=True,
)
