"""The floors: where the error floors of the paper's Table 2 could come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from hvp_patching.frames import AS_DEFINED, FLOOR_METHODS, READINGS
from hvp_patching.reporting.cells import GAP, fixed, percent, significant
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, bold, grey
from hvp_patching.reporting.names import model_name, task_name
from hvp_patching.reporting.results import Record, Results, records_by_key
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.reporting.tables.floors_words import MEANINGS, conjecture, reading_label
from hvp_patching.settings import KEY

MEASURED, SAME, UNDEFINED = "measured", "as defined", "undefined"
ENDS = {"_pct": "value", "_ci_low_pct": "ci_low", "_ci_high_pct": "ci_high"}
HEADS = ("AP", "HVP", "MS", "IG")  # of FLOOR_METHODS, short: they stand once for each task
RATIOS = ("hvp_ratio", "floor_ratio")
FIT = (
    *(*RATIOS, "paper_hvp_ratio", "paper_floor_ratio", "complete"),
    *("factor", "overall_factor", "gap", "overall_gap", "rank", "gap_rank", "closest"),
)


def rows(results: Results) -> Iterator[Record]:
    """One row per setting and reading: each method's error in percent, and the fit.

    A reading that the task or the model does not have is one row without numbers.
    """
    by = (*KEY, "reading")
    errors = records_by_key(results["floor_summary"], (*by, "estimator"), "the table of floors")
    fits = records_by_key(results["fit_floors"], by, "the table of floors")
    chosen = [name for name in READINGS if name in {key[3] for key in errors}]
    for setting in dict.fromkeys(key[:3] for key in errors):
        for reading in chosen:
            key = (*setting, reading)
            row: Record = dict(zip(by, key, strict=True)) | {"state": UNDEFINED}
            for method in FLOOR_METHODS:
                found = errors.get((*key, method))
                if found is not None:
                    row["state"] = MEASURED if found["changed"] else SAME
                    # of all prompts where their mean comes first and is one number
                    row["n_prompts"] = errors[(*setting, AS_DEFINED, method)]["n_prompts"]
                    row |= {f"{method}{end}": 100 * found[name] for end, name in ENDS.items()}
            yield row | {name: fits.get(key, {}).get(name) for name in FIT}


def body(shown: Shown) -> list[Tabular]:
    """Errors of every method, then the ratios beside the paper's: a line per reading."""
    return [_errors(shown.frame), _fits(shown.frame)]


def _errors(frame: pd.DataFrame) -> Tabular:
    lines: list[Row] = []
    for model, of_model in frame.groupby("model", sort=False):
        lines.append(Block(model_name(str(model))))
        for reading, cells in _by_reading(of_model, frame):
            lines.append([reading, *(part for cell in cells for part in _error_cells(cell))])
    return _tabular(frame, HEADS, lines)


def _error_cells(row: Record | None) -> list[Any]:
    if row is None or row["state"] == UNDEFINED:
        return [GAP] * len(FLOOR_METHODS)
    if row["state"] == SAME:
        return [Span("= as defined", len(FLOOR_METHODS))]
    return [percent(row[f"{name}_pct"]) for name in FLOOR_METHODS]


def _fits(frame: pd.DataFrame) -> Tabular:
    lines: list[Row] = []
    for model, of_model in frame.groupby("model", sort=False):
        lines.append(Block(model_name(str(model))))
        defined = next(iter(_by_reading(of_model, frame)))[1]
        papers = [grey(_ratio(row, f"paper_{name}")) for row in defined for name in RATIOS]
        lines.append([grey("paper"), *papers, None, None])
        for reading, cells in _by_reading(of_model, frame):
            ratios = [_ratio(row, name) for row in cells for name in RATIOS]
            lines.append([reading, *ratios, *_distance(of_model, cells)])
    return _tabular(frame, ["HVP", "floor"], lines, ["Factor", "Gap"])


def _ratio(row: Record | None, name: str) -> Tex:
    return GAP if row is None else fixed(row[name])


def _distance(of_model: pd.DataFrame, cells: Sequence[Record | None]) -> list[Cell]:
    """A reading's factor and gap; the smallest of the model's complete readings are bold."""
    row = next((cell for cell in cells if cell and pd.notna(cell["factor"])), None)
    if row is None:
        return [GAP, GAP]
    texts = {"factor": significant(row["factor"]), "gap": fixed(row["gap"])}
    if not row["complete"]:
        return [grey(text) for text in texts.values()]
    whole = of_model[of_model["complete"].eq(True)]
    return [bold(text) if row[name] == whole[name].min() else text for name, text in texts.items()]


def _by_reading(
    of_model: pd.DataFrame, frame: pd.DataFrame
) -> Iterator[tuple[str, list[Record | None]]]:
    """Each reading's name with the model's rows of it, one a task; None where it has none."""
    for reading, group in of_model.groupby("reading", sort=False):
        rows = records_by_key(group, ("task",), "the table of floors")
        yield reading_label(str(reading)), [rows.get((task,)) for task in frame["task"].unique()]


def _tabular(
    frame: pd.DataFrame, names: Sequence[str], lines: list[Row], further: Sequence[str] = ()
) -> Tabular:
    """A grid with the same columns for every task, and further ones."""
    tasks = [task_name(task) for task in frame["task"].unique()]
    header: list[Row] = [
        [None, *(Span(task, len(names)) for task in tasks), *(None for _ in further)],
        ["Truth", *(name for _ in tasks for name in names), *further],
    ]
    return Tabular(header, lines, "@{}l" + "r" * (len(names) * len(tasks) + len(further)) + "@{}")


def notes(shown: Shown) -> list[str]:
    """What changes in each reading, what the ratios are, and which one fits best."""
    there = [name for name in dict.fromkeys(shown.frame["reading"]) if name in MEANINGS]
    changes = "; ".join(f"{reading_label(name)}: {MEANINGS[name]}" for name in there)
    found = [
        "Estimates are as defined throughout (MS: MS-HVP with K=5; IG with N=10); what changes is "
        "the truth that they are compared with, and with it which five heads are the largest. "
        f"{changes[:1].upper()}{changes[1:]}. --: the task has no foil, or the tokenizer no BOS.",
        "Second part: HVP's error over AP's, and the floor over AP's error; the floor is the "
        "smaller error of MS-HVP and IG. Grey: the paper's Table 2, median over its models. "
        "Factor: by how much the ratios miss the paper's, exp of the root mean square of log(ours "
        "/ paper's) over all of the model's; gap: root mean square of ours minus the paper's. In "
        "grey: of fewer tasks than the others, and not ranked.",
    ]
    return [*found, conjecture(shown.frame)]


TABLE = Table(
    name="floors",
    settings="floors",
    reads={"floor_summary": "attn_heads", "fit_floors": "attn_heads"},
    columns="model task corruption reading state n_prompts "
    + " ".join(f"{name}{end}" for name in FLOOR_METHODS for end in ENDS)
    + " "
    + " ".join(FIT),
    rows=rows,
    caption="Where could the paper's error floors come from? Top-5 relative error (percent) of "
    "attention heads where the truth disagrees with the estimates in one respect, and how near "
    "the pattern comes to that of the paper's Table 2.",
    label="tab:floors",
    body=body,
    notes=notes,
    few="the errors are",
    comments=lambda shown: [conjecture(shown.frame)],
    wide=True,
)
