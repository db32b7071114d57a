"""Table 18: recovery of the true top heads, and the head that AP ranks most wrongly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import pandas as pd

from hvp_patching.reporting.cells import GAP, significant
from hvp_patching.reporting.latex import Row, Tabular, Tex, escape, grey
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, ReportError, Results, records
from hvp_patching.reporting.style import method_label, method_style
from hvp_patching.reporting.table import Shown, Table

METHODS = ("ap", "hvp", "ms_hvp", "ig")
BY_STYLE = MappingProxyType({method_style(method): method for method in METHODS})


def rows(results: Results) -> Sequence[Record]:
    """One line per estimator of ``METHODS`` and k, in percent; empty above the number of heads."""
    setting = results.setting("Table 18")
    found = [
        row | {"method": BY_STYLE[style], "overlap_pct": 100 * row["overlap"]}
        for row in records(results["recovery"])
        if (style := method_style(row["estimator"])) in BY_STYLE
    ]
    if not found:
        raise ReportError(f"{setting}: no recovery by {', '.join(METHODS)}; score one of them")
    return sorted(found, key=lambda row: METHODS.index(row["method"]))


def case_study_sentence(
    case_study: pd.DataFrame,
    number: Callable[[float], str] = "{:.3g}".format,
    rho: str = "rho",
) -> str:
    """What befell the head that AP ranks farthest below its true rank.

    ``case_study`` is ``case_study``'s frame; ``number`` prints estimates in nats and ``rho`` is
    the name of the reliability score. Raises ``ReportError`` unless one head is marked.
    """
    marked = records(case_study[case_study["misranked"]])
    if len(marked) != 1:
        raise ReportError(f"{len(marked)} heads are marked as misranked, not 1: measure again")
    head = marked[0]
    truth, ap, hvp, reliability = (number(head[name]) for name in ("truth", "ap", "hvp", "rho"))
    finding = (
        "The head that AP ranks farthest below its true rank"
        if head["rank_ap"] > head["rank_truth"]
        else "AP ranks none of the true top heads too low; the first of them"
    )
    return (
        f"{finding}: L{head['layer']}H{head['index']}, rank {head['rank_truth']} by true effect, "
        f"{head['rank_ap']} by AP, {head['rank_hvp']} by HVP; mean true effect {truth}, "
        f"AP {ap}, HVP {hvp} nats; {rho} = {reliability}."
    )


def body(shown: Shown) -> Tabular:
    """One line per estimator, and a grey one with the paper's values."""
    ks = sorted(shown.frame["k"].unique())
    lines: list[Row] = []
    for estimator, group in shown.frame.groupby("estimator", sort=False):
        by_k = group.set_index("k")
        lines.append([method_label(str(estimator)), *(_share(by_k["overlap_pct"][k]) for k in ks)])
        theirs = by_k["published_overlap_pct"]
        if theirs.notna().any():
            lines.append([grey("paper"), *(grey(_share(theirs[k])) for k in ks)])
    return Tabular([["Method", *(f"Top-{k}" for k in ks)]], lines, "l" + "r" * len(ks))


def _share(value: float) -> Tex:
    return GAP if pd.isna(value) else Tex(rf"{value:.0f}\%")


def n_prompts(shown: Shown) -> int:
    """Over how many prompts the scores are averaged."""
    return int(shown.results["case_study"]["n_prompts"].iloc[0])


def notes(shown: Shown) -> list[str]:
    """How heads are ranked, the case study's head, and what gaps are."""
    heads = shown.results["case_study"]
    found: list[str] = [
        Tex(
            rf"Heads are ranked by the size of their mean over $n = {n_prompts(shown)}$ prompts, "
            rf"{len(heads)} heads in all."
        ),
        Tex(case_study_sentence(heads, significant, r"$\rho$")),
    ]
    if shown.frame["overlap_pct"].isna().any():
        found.append(Tex("--: fewer heads than $k$."))
    return found


TABLE = Table(
    name="table18",
    settings="case_study",
    reads={"recovery": "attn_heads", "case_study": "attn_heads"},
    columns="model task corruption method estimator k overlap_pct published_overlap_pct",
    rows=rows,
    paper=Paper(
        keys={"model": "model", "task": "task", "method": "method", "k": "k"},
        cells={"topk_overlap_pct": Number("overlap_pct", "published_overlap_pct")},
    ),
    caption=lambda shown: Tex(
        "Share of the $k$ attention heads of largest true effect that a method has among its own "
        rf"top $k$ (percent): {escape(setting_label(shown.results.setting('Table 18')))}."
    ),
    label="tab:recovery",
    body=body,
    notes=notes,
    few="ranks and shares are",
    fewest=n_prompts,
    comments=lambda shown: [case_study_sentence(shown.results["case_study"])],
)
