"""Table 11: AP and HVP by component type and model, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.reporting.cells import count, percent, with_interval
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, grey
from hvp_patching.reporting.names import (
    component_name,
    model_name,
    published_component,
    setting_label,
    task_label,
)
from hvp_patching.reporting.paper import Paper, beside
from hvp_patching.reporting.results import Record, Results, records, setting_of
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import ALL_SITES, Shown, Table
from hvp_patching.reporting.tables.components import (
    atp_star_notes,
    by_place,
    error_cells,
    neuron_notes,
    reduction_cells,
)
from hvp_patching.settings import KEY

AP, HVP = "ap", "hvp"
WITH_INTERVAL = (AP, HVP)
ERROR_ONLY = ("gim", "atp_star")
PARTS = ("pct", "ci_low_pct", "ci_high_pct")
NUMBERS = tuple(f"{n}_{part}" for n in ("ap_error", "hvp_error", "reduction") for part in PARTS)


def rows(results: Results) -> Iterator[Record]:
    """One line per site and setting, in percent; the reduction is 1 - HVP / AP."""
    for key, ours in by_place(results["medians"]).items():
        row: Record = dict(zip((*KEY, "site"), key, strict=True))
        row |= {"n_prompts": ours[AP]["n_all_prompts"], "n_records": ours[AP]["n_nontrivial"]}
        for method in (*WITH_INTERVAL, *ERROR_ONLY):
            names = (f"{method}_error_{part}" for part in PARTS)
            row |= error_cells(ours.get(method), *names)
        yield row | reduction_cells(ours.get(HVP))


def body(shown: Shown) -> Tabular:
    """One block of lines per component type; a grey line has the paper's values."""
    one_task = _one_task(shown.frame)
    lines: list[Row] = []
    for site, group in shown.frame.groupby("site", sort=False):
        lines.append(Block(component_name(str(site))))
        for row in records(group):
            lines += _setting_rows(row, one_task)
    return Tabular(_heading(shown.frame, one_task), lines, "@{}l" + "r" * 7 + "@{}")


def _one_task(frame: pd.DataFrame) -> bool:
    return len(frame[["task", "corruption"]].drop_duplicates()) == 1


def _heading(frame: pd.DataFrame, one_task: bool) -> list[Row]:
    methods = (*WITH_INTERVAL, *ERROR_ONLY)
    tasks = "task (corruption)" if frame["corruption"].any() else "task"
    return [
        [None, None, None, Span("Error", len(methods)), None],
        [
            "Model" if one_task else f"Model, {tasks}",
            Tex("$n$"),
            "Records",
            *(method_label(method) for method in methods),
            "Reduction",
        ],
    ]


def _setting_rows(row: Record, one_task: bool) -> list[Row]:
    setting = setting_of(row)
    ours: list[Cell] = [
        model_name(setting.model) if one_task else setting_label(setting),
        count(row["n_prompts"]),
        count(row["n_records"]),
        *(_with_interval(row, f"{method}_error") for method in WITH_INTERVAL),
        *(percent(row[f"{method}_error_pct"]) for method in ERROR_ONLY),
        _with_interval(row, "reduction"),
    ]
    if pd.isna(row["published_ap_error_pct"]):
        return [ours]
    theirs: list[Cell] = [
        grey("paper"),
        None,
        grey(count(row["published_n_records"])),
        *(_published(row, f"{method}_error") for method in WITH_INTERVAL),
        *[None] * len(ERROR_ONLY),
        _published(row, "reduction"),
    ]
    return [ours, theirs]


def _with_interval(row: Record, name: str) -> Tex:
    value, low, high = (row[f"{name}_{part}"] for part in PARTS)
    return with_interval(percent(value), low, high)


def _published(row: Record, name: str) -> Cell:
    value, low, high = (row[f"published_{name}_{part}"] for part in PARTS)
    if pd.isna(value):
        return None
    return grey(f"{value:.1f}" if pd.isna(low) else f"{value:.1f} [{low:.1f}, {high:.1f}]")


def notes(shown: Shown) -> list[str]:
    """What is measured, and what some methods and neurons are."""
    frame = shown.frame
    return [
        Tex(
            r"Error: median over the $n$ prompts of the prompt's median of "
            r"$|\mathrm{estimate} - \Delta| / |\Delta|$ over components with a nontrivial effect; "
            r"records: such component--prompt pairs. Reduction: $1 - \mathrm{HVP} / \mathrm{AP}$, "
            r"prompts resampled in pairs. --: no such method for this component type, or not "
            r"computed."
        ),
        *neuron_notes(frame["model"], frame["site"]),
        *atp_star_notes(m for m in ERROR_ONLY if frame[f"{m}_error_pct"].notna().any()),
    ]


def caption(shown: Shown) -> str:
    """Names the task where it is one."""
    task = ""
    if _one_task(shown.frame):
        task = f": {task_label(setting_of(records(shown.frame)[0]))}"
    return (
        "Median relative error of AP and HVP by component type and model, and the reduction of the "
        f"error by HVP (percent, with 95% prompt-bootstrap intervals){task}."
    )


TABLE = Table(
    name="table11",
    settings="component_settings",
    reads={"medians": ALL_SITES},
    columns=(
        *KEY,
        "site",
        "n_prompts",
        "n_records",
        *NUMBERS,
        *(f"{method}_error_pct" for method in ERROR_ONLY),
        "published_n_records",
        *(f"published_{name}" for name in NUMBERS),
    ),
    rows=rows,
    paper=Paper(
        keys={
            "model": "model",
            "task": "task",
            "component": lambda row: published_component(row["site"]),
        },
        cells=beside(*NUMBERS, "n_records"),
    ),
    caption=caption,
    label="tab:component-types",
    body=body,
    notes=notes,
    grey="Grey: the paper's value, interval and records for the same setting.",
    wide=True,
)
