"""Table 11: AP and HVP by component type and model, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.reporting.cells import count, percent, with_interval
from hvp_patching.reporting.latex import Cell, Span, Tabular, Tex, grey
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
from hvp_patching.reporting.table import ALL_SITES, Column, Shown, Table, grid, ours
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
    for key, methods in by_place(results["medians"]).items():
        row: Record = dict(zip((*KEY, "site"), key, strict=True))
        row |= {"n_prompts": methods[AP]["n_all_prompts"], "n_records": methods[AP]["n_nontrivial"]}
        for method in (*WITH_INTERVAL, *ERROR_ONLY):
            names = (f"{method}_error_{part}" for part in PARTS)
            row |= error_cells(methods.get(method), *names)
        yield row | reduction_cells(methods.get(HVP))


def body(shown: Shown) -> Tabular:
    """One block of lines per component type; a grey line has the paper's values."""
    one_task = _one_task(shown.frame)
    tasks = "task (corruption)" if shown.frame["corruption"].any() else "task"
    columns = [
        Column(
            "Model" if one_task else f"Model, {tasks}",
            ours("model", model_name) if one_task else _setting,
            align="l",
        ),
        Column(Tex("$n$"), ours("n_prompts", count)),
        Column(
            "Records",
            ours("n_records", count),
            lambda row: None if row["n_none"] else grey(count(row["published_n_records"])),
        ),
        *(_numbers_of(method_label(method), f"{method}_error") for method in WITH_INTERVAL),
        *(
            Column(method_label(method), ours(f"{method}_error_pct", percent))
            for method in ERROR_ONLY
        ),
        _numbers_of("Reduction", "reduction"),
    ]
    above = [None, None, None, Span("Error", len(WITH_INTERVAL) + len(ERROR_ONLY)), None]
    frame = shown.frame.assign(n_none=shown.frame["published_ap_error_pct"].isna())
    return grid(frame, columns, ["site"], ours("site", component_name), [above])


def _setting(row: Record) -> str:
    return setting_label(setting_of(row))


def _numbers_of(heading: str, name: str) -> Column:
    """A number with its interval, and the paper's."""

    def our_cell(row: Record) -> Cell:
        value, low, high = (row[f"{name}_{part}"] for part in PARTS)
        return with_interval(percent(value), low, high)

    def their_cell(row: Record) -> Cell:
        value, low, high = (row[f"published_{name}_{part}"] for part in PARTS)
        if pd.isna(value):
            return None
        return grey(f"{value:.1f}" if pd.isna(low) else f"{value:.1f} [{low:.1f}, {high:.1f}]")

    return Column(heading, our_cell, their_cell)


def _one_task(frame: pd.DataFrame) -> bool:
    return len(frame[["task", "corruption"]].drop_duplicates()) == 1


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
    columns=" ".join(("model task corruption site n_prompts n_records", *NUMBERS))
    + " gim_error_pct atp_star_error_pct published_n_records "
    + " ".join(f"published_{name}" for name in NUMBERS),
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
