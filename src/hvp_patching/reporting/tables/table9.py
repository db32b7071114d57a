"""Table 9: MS-HVP against integrated Hessians by cost, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.reporting.cells import count, fixed, p_value, points, published_number
from hvp_patching.reporting.latex import Block, Row, Tabular, Tex, bold, grey
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, ReportError, Results, records, records_by_key
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.settings import KEY

REFERENCE, AP = "ms_hvp_5", "ap"
# our estimators and the paper's method of the same cost
METHODS = {"ms_hvp_5": "ms_hvp", "ih_pi_5": "ih_pi", "ih_dr_3": "ih_dr", "ih_dr_5": "ih_dr"}


def rows(results: Results) -> Iterator[Record]:
    """One line per setting and estimator, AP first, in percent and percentage points.

    p and verdict are the estimator's against MS-HVP; one that was not swept has no line.
    """
    pairs = by_setting(results["sweep_paired"])
    for setting, group in by_setting(results["sweep_summary"]).items():
        ours = records_by_key(group, ("estimator",), str(setting))
        paired = records_by_key(pairs[setting], ("first", "second"), str(setting))
        for needed in (AP, REFERENCE):
            if (needed,) not in ours:
                raise ReportError(
                    f"{setting}: Table 9 needs the errors of '{needed}'; "
                    "add it to the sweep's estimators"
                )
        for estimator in (AP, *METHODS):
            if (estimator,) in ours:
                found = ours[(estimator,)]
                against = paired.get((estimator, REFERENCE), {})
                gain = paired.get((estimator, AP), {})
                yield {
                    **found,
                    "top5_rel_error_pct": 100 * found["value"],
                    "vs_ap_pp": 100 * gain["difference"] if gain else None,
                    "p_vs_ms_hvp": against.get("p"),
                    "verdict_vs_ms_hvp": against.get("verdict"),
                }


def body(shown: Shown) -> Tabular:
    """One block of lines per setting; a grey line under a method has the paper's values."""
    lines: list[Row] = []
    for setting, group in by_setting(shown.frame).items():
        n_prompts = count(group["n_prompts"].iloc[0])
        lines.append(Block(Tex(rf"{setting_label(setting)} ($n = {n_prompts}$)")))
        lowest = fixed(group["top5_rel_error_pct"].min())
        for row in records(group):
            lines += _method_rows(row, lowest)
    return Tabular([["Method", "Cost", "Error", "vs. AP", Tex("$p$")]], lines, "@{}lrrrr@{}")


def _method_rows(row: Record, lowest: Tex) -> list[Row]:
    error = fixed(row["top5_rel_error_pct"])
    compared = row["estimator"] != REFERENCE
    ours: Row = [
        method_label(row["estimator"]),
        count(row["cost"]),
        bold(error) if error == lowest else error,
        points(row["vs_ap_pp"]) if row["estimator"] != AP else None,
        p_value(row["p_vs_ms_hvp"]) if compared else None,
    ]
    if pd.isna(row["published_pct"]):
        return [ours]
    change = f"{row['published_abs_vs_ap_pp']:.2f}"
    error_there = published_number(row["published_pct"], 2)
    return [ours, [grey("paper"), None, error_there, grey(Tex(rf"$\pm${change}")), None]]


def comparison_sentence(tally: Record) -> str:
    """How often MS-HVP has the lower error, and by how many points it leads or trails."""
    if not tally["n"]:
        return "No integrated Hessians were swept."
    return (
        f"MS-HVP has the lower error in {tally['higher']} of {tally['n']} comparisons with "
        f"integrated Hessians; their error minus its own is {100 * tally['smallest']:.2f} to "
        f"{100 * tally['largest']:.2f} points."
    )


TABLE = Table(
    name="table9",
    settings="table9",
    reads={"sweep_summary": "attn_heads", "sweep_paired": "attn_heads", "tally_ih": ""},
    columns=(
        *KEY,
        "estimator",
        "cost",
        "n_prompts",
        "top5_rel_error_pct",
        "vs_ap_pp",
        "p_vs_ms_hvp",
        "verdict_vs_ms_hvp",
        "published_pct",
        "published_abs_vs_ap_pp",
    ),
    rows=rows,
    paper=Paper(
        keys={
            "model": "model",
            "task": "task",
            "method": lambda row: METHODS.get(row["estimator"]),
            "cost_backward_passes": "cost",
        },
        cells={
            "top5_rel_error_pct": Number("top5_rel_error_pct", "published_pct"),
            "reported_abs_change_vs_ap_pp": Number(
                lambda row: abs(row["vs_ap_pp"]), "published_abs_vs_ap_pp"
            ),
        },
    ),
    caption="MS-HVP against integrated Hessians: top-5 relative error of attention heads, percent, "
    "mean over prompts.",
    label="tab:integrated-hessians",
    body=body,
    notes=lambda shown: [
        comparison_sentence(shown.results.one("tally_ih")),
        Tex(
            r"Cost: backward passes per component and prompt. vs. AP: error minus AP's in "
            r"percentage points, negative where better. $p$: against MS-HVP (paired bootstrap over "
            r"prompts). Bold: lowest error. IH-DR takes an $n \times n$ grid."
        ),
    ],
    grey=Tex(
        "Grey: the paper's value for the same setting; the sign of its change against AP is "
        r"unknown, and printed as $\pm$."
    ),
    few="p-values are",
)
