"""Table 10: top heads found by GIM, the other baselines and AP, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.frames import ALPHA
from hvp_patching.reporting.cells import count, fixed, points, published_number
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, grey
from hvp_patching.reporting.marks import marked_p, marks_notes
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, Results, records_by_key
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.reporting.tables.components import one_pass_notes

GIM, AP = "gim", "ap"
KS = (5, 10)  # shown; every k of the overlaps is in the CSV and in the count


def rows(results: Results) -> Iterator[Record]:
    """One line per setting, baseline and k, in percent; the difference to AP in points.

    The options name the baselines. A k above the number of heads has none.
    """
    for method in results.options["baselines"]:
        for row in results.pairs("marks_table10", method, AP):
            yield row | {
                "method": method,
                "ap_pct": 100 * row["second_value"],
                "overlap_pct": 100 * row["first_value"],
                # overlaps are multiples of 1/k, so that a difference of rounding alone is none
                "difference_pp": round(100 * row["difference"], 9),
                "ci_low": 100 * row["ci_low"],
                "ci_high": 100 * row["ci_high"],
            }


def body(shown: Shown) -> Tabular:
    """A block of lines per setting, AP's first; a grey line has the paper's values."""
    lines: list[Row] = []
    for setting, group in by_setting(shown.frame).items():
        n = count(group["n_prompts"].iloc[0])
        lines.append(Block(Tex(rf"{setting_label(setting)} ($n = {n}$)")))
        cells = records_by_key(group, ("method", "k"), str(setting))
        methods = list(group["method"].unique())
        of_ap = [cells.get((methods[0], k), {}) for k in KS]
        lines.append(_line(AP, [[fixed(cell.get("ap_pct"), 1), None, None] for cell in of_ap]))
        for method in methods:
            own = [cells.get((method, k), {}) for k in KS]
            lines.append(_line(method, [_ours(cell) for cell in own]))
            if any(theirs := [_published(cell) for cell in own if cell]) and any(theirs[0]):
                lines.append([grey("paper"), *(part for cell in theirs for part in cell)])
    heading: list[Row] = [
        [None, *(Span(f"Top-{k}", 3) for k in KS)],
        ["Method", *["Overlap", Tex(r"$\Delta$"), Tex("$p$")] * len(KS)],
    ]
    return Tabular(heading, lines, "l" + "rrr" * len(KS))


def _line(method: str, parts: Sequence[Sequence[Cell]]) -> Row:
    return [method_label(method), *(cell for part in parts for cell in part)]


def _ours(cell: Record) -> list[Cell]:
    difference = points(cell.get("difference_pp"), 1)
    return [fixed(cell.get("overlap_pct"), 1), difference, marked_p(cell)]


def _published(cell: Record) -> list[Cell]:
    if pd.isna(cell.get("published_ap_pct")):
        return [None] * 3
    difference = cell["published_difference_sign"] * cell["published_abs_difference_pp"]
    sign = "+" if difference > 0 else "-"
    overlap = published_number(cell["published_gim_pct"])
    return [overlap, grey(Tex(rf"${sign}${abs(difference):.1f}")), None]


def _paper_model(row: Record) -> str:
    """The paper has GIM alone: other methods stand for none of its rows."""
    return str(row["model"] if row["method"] == GIM else f"{row['method']} on {row['model']}")


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
    options=("baselines",),
    columns="model task corruption method k n_prompts ap_pct overlap_pct difference_pp ci_low "
    "ci_high p q decidable survives verdict published_ap_pct published_gim_pct "
    "published_abs_difference_pp published_difference_sign",
    rows=rows,
    paper=Paper(
        keys={"model": _paper_model, "task": "task", "k": "k"},
        cells={
            "ap_overlap_pct": Number("ap_pct", "published_ap_pct"),
            "gim_overlap_pct": Number("overlap_pct", "published_gim_pct"),
            "reported_abs_difference_pp": Number(
                lambda row: abs(row["difference_pp"]), "published_abs_difference_pp"
            ),
            "difference_sign_inferred": Number(
                lambda row: np.sign(row["difference_pp"]), "published_difference_sign"
            ),
        },
    ),
    caption=Tex(
        "Overlap of the top-$k$ attention heads of AP, GIM and the other baselines with those of "
        "activation patching (percent of $k$, mean over prompts)."
    ),
    label="tab:gim-overlap",
    body=body,
    notes=lambda shown: [
        gim_sentence(shown.results.one("tally_gim"), sorted(shown.frame["k"].unique())),
        *marks_notes(shown.results["marks_table10"], "AP"),
        Tex(
            r"$\Delta$: minus AP's overlap, in percentage points: negative where a method finds "
            r"fewer of the true top heads."
        ),
        *one_pass_notes(shown.frame["method"]),
    ],
    grey=Tex(
        r"Grey: the paper's value for the same setting, with $\Delta$'s sign as its two overlaps "
        "imply it."
    ),
    few="the differences are",
    wide=True,
)
