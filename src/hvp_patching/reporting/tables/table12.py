"""Table 12: AP and HVP under several corruptions, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

from hvp_patching.reporting.cells import count
from hvp_patching.reporting.latex import Tabular, Tex
from hvp_patching.reporting.names import CORRUPTIONS, corruption_name, setting_label
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, ReportError, Results
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Column, Shown, Table, grid, ours, theirs
from hvp_patching.reporting.tables.components import (
    by_place,
    error_cells,
    reduction_cell,
    reduction_cells,
)
from hvp_patching.settings import KEY, Setting

AP, HVP = "ap", "hvp"


def rows(results: Results) -> Iterator[Record]:
    """One line per model, task and corruption, in percent; the reduction is 1 - HVP / AP."""
    for key, methods in by_place(results["medians"]).items():
        setting = Setting(*key)
        if not setting.corruption:
            raise ReportError(f"'{setting}' names no corruption: write it as model/task/corruption")
        if HVP not in methods:
            raise ReportError(f"{setting}: Table 12 needs the errors of '{HVP}': score it")
        row: Record = dict(zip(KEY, key, strict=True))
        row |= {"n_prompts": methods[AP]["n_all_prompts"], "n_records": methods[AP]["n_nontrivial"]}
        for method in (AP, HVP):
            names = (f"{method}_{part}" for part in ("pct", "ci_low", "ci_high"))
            row |= error_cells(methods[method], *names)
        yield row | reduction_cells(methods[HVP])


SHOWN = (
    Column("Corruption", ours("corruption", corruption_name), align="l"),
    Column(Tex("$n$"), ours("n_prompts", count)),
    Column(method_label(AP), ours("ap_pct"), theirs("published_ap_pct")),
    Column(method_label(HVP), ours("hvp_pct"), theirs("published_hvp_pct")),
    Column("Reduction", reduction_cell, theirs("published_reduction_pct")),
)


def body(shown: Shown) -> Tabular:
    """One block of lines per model and task; a grey line has the paper's values."""
    title = lambda row: setting_label(Setting(row["model"], row["task"]))  # noqa: E731
    return grid(shown.frame, SHOWN, ["model", "task"], title)


def notes(shown: Shown) -> list[str]:
    """What is measured, and what the corruptions are."""
    named = [name for name in shown.frame["corruption"].unique() if name in CORRUPTIONS]
    return [
        Tex(
            r"Error: median over the $n$ prompts of the prompt's median of "
            r"$|\mathrm{estimate} - \Delta| / |\Delta|$ over heads with a nontrivial effect. "
            r"Reduction: $1 - \mathrm{HVP} / \mathrm{AP}$, prompts resampled in pairs."
        ),
        "; ".join(f"{corruption_name(name)}: {CORRUPTIONS[name]}" for name in named) + ".",
    ]


TABLE = Table(
    name="table12",
    settings="table12",
    all_corruptions=True,
    reads={"medians": "attn_heads"},
    columns="model task corruption n_prompts n_records ap_pct ap_ci_low ap_ci_high hvp_pct "
    "hvp_ci_low hvp_ci_high reduction_pct reduction_ci_low_pct reduction_ci_high_pct "
    "published_ap_pct published_hvp_pct published_reduction_pct",
    rows=rows,
    paper=Paper(
        keys={"model": "model", "task": "task", "corruption": "corruption"},
        cells={
            "ap_median_error_pct": Number("ap_pct", "published_ap_pct"),
            "hvp_median_error_pct": Number("hvp_pct", "published_hvp_pct"),
            "reduction_pct": Number("reduction_pct", "published_reduction_pct"),
        },
    ),
    caption="Median relative error of attention heads by corruption, and its reduction by HVP with "
    "a 95% interval (percent).",
    label="tab:corruptions",
    body=body,
    notes=notes,
    grey="Grey: the paper's value for the same model, task and corruption.",
)
