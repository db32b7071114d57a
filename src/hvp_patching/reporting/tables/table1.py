"""Table 1: the models as loaded, the paper's row beside ours where the model is the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hvp_patching.reporting.latex import Cell, Row, Tabular, Tex, grey
from hvp_patching.reporting.paper import Paper, beside
from hvp_patching.reporting.results import Record, ReportError, Results, records
from hvp_patching.reporting.table import Shown, Table

HEADINGS: dict[str, str] = {
    "model": "Model",
    "n_layers": "Layers",
    "n_heads": "Heads",
    "n_key_value_heads": "KV heads",
    "d_model": Tex(r"$d_{\mathrm{model}}$"),
    "d_mlp": Tex(r"$d_{\mathrm{mlp}}$"),
    "activation": "Activation",
    "n_params": "Parameters",
    "licence": "Licence",
}
PUBLISHED = ("n_layers", "n_heads", "d_model", "d_mlp", "activation")


def rows(results: Results) -> Sequence[Record]:
    """Every model as it was read off the loaded one."""
    models = records(results["model"])
    for model in models:
        absent = [key for key in HEADINGS if key not in model]
        if absent:
            raise ReportError(f"{model['model']}: Table 1 needs {', '.join(absent)}")
    return models


def with_differences(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns in which the paper's row of the same model differs, apart by spaces."""
    known = frame["published_paper_label"].notna()
    differs = [
        " ".join(key for key in PUBLISHED if row[f"published_{key}"] != row[key])
        for row in records(frame)
    ]
    return frame.assign(differs=pd.Series(differs, index=frame.index, dtype=object).where(known))


def body(shown: Shown) -> Tabular:
    """One line per model, and a grey one where the paper has it."""
    lines: list[Row] = []
    for model in records(shown.frame):
        lines.append([_shown(key, model[key]) for key in HEADINGS])
        if pd.notna(model["published_paper_label"]):
            lines.append([_published(model, key) for key in HEADINGS])
    return Tabular([list(HEADINGS.values())], lines, "lrrrrrlrl")


def _shown(key: str, value: Any) -> Cell:
    if pd.isna(value):
        return None
    return Tex(f"{int(value):,}".replace(",", "{,}")) if key == "n_params" else str(value)


def _published(model: Record, key: str) -> Cell:
    if key == "model":
        return grey(f"paper: {model['published_paper_label']}")
    if key not in PUBLISHED:
        return None
    value = model[f"published_{key}"]
    return grey(value if isinstance(value, str) else f"{value:g}")


def notes(shown: Shown) -> list[str]:
    """Where the numbers come from, and the paper's that differ."""
    found = ["Layers, heads, widths and activation as read off the loaded model."]
    if shown.frame["published_paper_label"].notna().any():
        found.append("Grey: the paper's row for the same model.")
    for row in records(shown.frame):
        if isinstance(row["notice"], str) and row["notice"]:
            found.append(f"{row['model']} {row['notice']}.")
    return found + [
        f"{row['model']}: the paper differs in {row['differs'].replace(' ', ', ')}."
        for row in records(shown.frame)
        if isinstance(row["differs"], str) and row["differs"]
    ]


TABLE = Table(
    name="table1",
    reads={"model": ""},
    columns=" ".join(HEADINGS)
    + " notice published_paper_label published_n_layers published_n_heads published_d_model "
    "published_d_mlp published_activation differs",
    rows=rows,
    paper=Paper(
        keys={"model": "model"},
        cells=beside(*PUBLISHED),
        shows={"published_paper_label": "paper_label"},
    ),
    finish=with_differences,
    caption="Models.",
    label="tab:models",
    body=body,
    notes=notes,
    stand_ins=False,
)
