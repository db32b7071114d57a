"""Table 9: MS-HVP against integrated Hessians by cost, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple

from hvp_patching.aggregates import by_setting
from hvp_patching.reporting.cells import count, fixed, points, unsigned
from hvp_patching.reporting.latex import Tabular, Tex, bold
from hvp_patching.reporting.marks import marked_p, marks_notes
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import (
    Record,
    ReportError,
    Results,
    records_by_key,
    setting_of,
)
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Column, Shown, Table, grid, ours, theirs
from hvp_patching.settings import KEY

REFERENCE, AP = "ms_hvp_5", "ap"
# our estimators and the paper's method of the same cost
METHODS = {"ms_hvp_5": "ms_hvp", "ih_pi_5": "ih_pi", "ih_dr_3": "ih_dr", "ih_dr_5": "ih_dr"}
# integrated Hessians with their first-order path term, which the paper leaves out
METHODS |= {"ih_full_3": "", "ih_full_5": ""}


def rows(results: Results) -> Iterator[Record]:
    """One line per setting and estimator, AP first, in percent and percentage points.

    p, q and verdict are the estimator's against MS-HVP; one that was not measured has no line.
    """
    marked = records_by_key(results["marks_table9"], (*KEY, "first"), "Table 9")
    pairs = by_setting(results["hessian_paired"])
    for setting, group in by_setting(results["hessian_summary"]).items():
        swept = records_by_key(group, ("estimator",), str(setting))
        paired = records_by_key(pairs[setting], ("first", "second"), str(setting))
        for needed in (AP, REFERENCE):
            if (needed,) not in swept:
                raise ReportError(
                    f"{setting}: Table 9 needs the errors of '{needed}'; "
                    "add it to table9_estimators"
                )
        for estimator in (AP, *METHODS):
            if (estimator,) in swept:
                found = swept[(estimator,)]
                against = marked.get((*astuple(setting), estimator), {})
                gain = paired.get((estimator, AP), {})
                yield {
                    **found,
                    "top5_rel_error_pct": 100 * found["value"],
                    "vs_ap_pp": 100 * gain["difference"] if gain else None,
                    "p_vs_ms_hvp": against.get("p"),
                    "q_vs_ms_hvp": against.get("q"),
                    **{name: against.get(name) for name in ("decidable", "survives")},
                    "verdict_vs_ms_hvp": against.get("verdict"),
                }


SHOWN = (
    Column("Method", ours("estimator", method_label), align="l"),
    Column("Cost", ours("cost", count)),
    Column(
        "Error",
        lambda row: bold(row["error"]) if row["error"] == row["lowest"] else row["error"],
        theirs("published_pct", 2),
    ),
    Column(
        "vs. AP",
        lambda row: points(row["vs_ap_pp"]) if row["estimator"] != AP else None,
        ours("published_abs_vs_ap_pp", unsigned),
    ),
    Column(
        Tex("$p$"),
        lambda row: (
            marked_p(row, "p_vs_ms_hvp", "verdict_vs_ms_hvp")
            if row["estimator"] != REFERENCE
            else None
        ),
    ),
)


def body(shown: Shown) -> Tabular:
    """One block of lines per setting; a grey line under a method has the paper's values."""
    error = shown.frame["top5_rel_error_pct"]
    lowest = error.groupby([shown.frame[name] for name in KEY]).transform("min")
    frame = shown.frame.assign(error=error.map(fixed), lowest=lowest.map(fixed))
    return grid(frame, SHOWN, KEY, _title)


def _title(row: Record) -> str:
    return Tex(rf"{setting_label(setting_of(row))} ($n = {count(row['n_prompts'])}$)")


def comparison_sentence(tally: Record) -> str:
    """How often MS-HVP has the lower error, and by how many points it leads or trails."""
    if not tally["n"]:
        return "No integrated Hessians were measured."
    return (
        f"MS-HVP has the lower error in {tally['higher']} of {tally['n']} comparisons with "
        f"integrated Hessians; their error minus its own is {100 * tally['smallest']:.2f} to "
        f"{100 * tally['largest']:.2f} points."
    )


_MARKS = {"marks_table9": "", "tally_ih": ""}
TABLE = Table(
    name="table9",
    settings="table9",
    reads={"hessian_summary": "attn_heads", "hessian_paired": "attn_heads", **_MARKS},
    columns="model task corruption estimator cost n_prompts top5_rel_error_pct vs_ap_pp "
    "p_vs_ms_hvp q_vs_ms_hvp decidable survives verdict_vs_ms_hvp published_pct "
    "published_abs_vs_ap_pp",
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
        *marks_notes(shown.results["marks_table9"], "MS-HVP"),
        Tex(
            r"Cost: backward passes per component and prompt. vs. AP: error minus AP's in "
            r"percentage points, negative where better. $p$: against MS-HVP. Bold: lowest "
            r"error. IH-DR takes an $n \times n$ grid; IH, full is the same "
            r"with the first-order path term that the others leave out: exact in the limit."
        ),
    ],
    grey=Tex(
        "Grey: the paper's value for the same setting; the sign of its change against AP is "
        r"unknown, and printed as $\pm$."
    ),
    few="the errors are",
)
