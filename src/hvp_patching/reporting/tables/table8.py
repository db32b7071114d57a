"""Table 8: MS-HVP against integrated gradients at equal cost, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

from hvp_patching.estimators import by_name
from hvp_patching.frames import ALPHA
from hvp_patching.reporting.cells import (
    GAP,
    count,
    points,
    unsigned,
    with_interval,
)
from hvp_patching.reporting.latex import Cell, Tex
from hvp_patching.reporting.marks import marked_p, marks_notes
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, Results, records_by_key, setting_of
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Column, Table, grid, ours, theirs
from hvp_patching.settings import KEY

MS_HVP, IG = "ms_hvp_5", "ig_10"


def rows(results: Results) -> Iterator[Record]:
    """The comparison of every setting, in percent; the difference MS-HVP - IG in points.

    Beside them the lowest error of the baselines, which the options name.
    """
    summary = results["summary"]
    one_pass = summary[summary["estimator"].isin(results.options["baselines"])]
    lowest = one_pass.loc[one_pass.groupby(list(KEY))["value"].idxmin()]
    best = records_by_key(lowest, KEY, "Table 8")
    for row in results.pairs("marks_table8", MS_HVP, IG):
        found = best.get(tuple(row[name] for name in KEY), {"estimator": "", "value": float("nan")})
        yield row | {
            "best_one_pass": found["estimator"],
            "best_one_pass_pct": 100 * found["value"],
            "ms_hvp_pct": 100 * row["first_value"],
            "ig_pct": 100 * row["second_value"],
            "difference_pp": 100 * row["difference"],
            "ci_low": 100 * row["ci_low"],
            "ci_high": 100 * row["ci_high"],
        }


def _one_pass(row: Record) -> Cell:
    return method_label(row["best_one_pass"]) if row["best_one_pass"] else GAP


SHOWN = (
    Column("Model, task", lambda row: setting_label(setting_of(row)), align="l"),
    Column(Tex("$n$"), ours("n_prompts", count)),
    Column(method_label(MS_HVP), ours("ms_hvp_pct"), theirs("published_ms_hvp_pct", 2)),
    Column(method_label(IG), ours("ig_pct"), theirs("published_ig_pct", 2)),
    Column(
        "Difference (pp)",
        lambda row: with_interval(points(row["difference_pp"]), row["ci_low"], row["ci_high"]),
        ours("published_abs_difference_pp", unsigned),
    ),
    Column(Tex("$p$"), marked_p, theirs("published_p", 3)),
    Column("Verdict", lambda row: row["verdict"], theirs("published_verdict"), align="l"),
)
BEST = (
    SHOWN[0],
    Column("Lowest of one pass", _one_pass, align="l"),
    Column("Error", ours("best_one_pass_pct")),
)


def verdict_sentence(tally: Record) -> str:
    """How often MS-HVP wins, ties and loses, and which of that survives the other settings."""
    survive = tally["lower_survives"] + tally["higher_survives"]
    return (
        f"MS-HVP against IG over {tally['n']} settings: {tally['wins']} won, {tally['ties']} tied, "
        f"{tally['losses']} lost, {tally['undecided']} undecided; of those won or lost {survive} "
        "survive Benjamini-Hochberg."
    )


TABLE = Table(
    name="table8",
    settings="table2",
    reads={"marks_table8": "", "tally_ms_hvp": "", "summary": "attn_heads"},
    options=("baselines",),
    columns="model task corruption n_prompts ms_hvp_pct ig_pct difference_pp ci_low ci_high p q "
    "decidable survives verdict best_one_pass best_one_pass_pct published_ms_hvp_pct "
    "published_ig_pct published_abs_difference_pp published_p published_verdict",
    rows=rows,
    paper=Paper(
        keys={"model": "model", "task": "task"},
        cells={
            "ms_hvp_top5_rel_error_pct": Number("ms_hvp_pct", "published_ms_hvp_pct"),
            "ig_top5_rel_error_pct": Number("ig_pct", "published_ig_pct"),
            "ms_hvp_cost": Number(lambda row: by_name(MS_HVP).cost),
            "ig_cost": Number(lambda row: by_name(IG).cost),
            "reported_abs_difference_pp": Number(
                lambda row: abs(row["difference_pp"]), "published_abs_difference_pp"
            ),
            "p_value": Number("p", "published_p"),
        },
        shows={"published_verdict": "verdict"},
    ),
    caption="MS-HVP against integrated gradients at equal cost (10 backward passes per component "
    "and prompt): top-5 relative error of attention heads, percent, mean over prompts.",
    label="tab:ms-hvp-ig",
    body=lambda shown: [grid(shown.frame, SHOWN), grid(shown.frame, BEST)],
    notes=lambda shown: [
        verdict_sentence(shown.results.one("tally_ms_hvp")),
        *marks_notes(shown.results["marks_table8"], "IG"),
        Tex(
            r"Lowest of one pass: the baseline of lowest error among those that take one or few "
            r"passes for all components. Difference: MS-HVP $-$ IG with its 95\% interval, "
            r"negative where MS-HVP is better; "
            rf"verdict: win or loss of MS-HVP where $p < {ALPHA}$, else tie."
        ),
    ],
    grey=Tex(
        r"Grey: the paper's value for the same setting; the sign of its difference is unknown, and "
        r"printed as $\pm$."
    ),
    few="the intervals are",
    wide=True,
)
