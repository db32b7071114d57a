"""Table 1: the models as loaded, the paper's row beside ours where the model is the paper's."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hvp_patching.reporting.files import ReportError, write_text
from hvp_patching.reporting.latex import Cell, Row, Tex, booktabs, grey
from hvp_patching.reporting.provenance import TEX, Provenance, csv_text, header

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


def table1_frame(models: Sequence[Mapping[str, object]], published: pd.DataFrame) -> pd.DataFrame:
    """One row per model: the keys of ``HEADINGS``, published_* where the paper has the model.

    ``models`` are read off the loaded models. ``differs`` names the columns in which
    the paper's row differs. Raises ``ReportError`` naming a model and the key that it lacks.
    """
    if not models:
        raise ReportError("Table 1 has no models: choose at least one")
    theirs = published.set_index("model")
    rows = []
    for model in models:
        absent = [key for key in HEADINGS if key not in model]
        if absent:
            raise ReportError(f"{model.get('model', 'a model')}: Table 1 needs {', '.join(absent)}")
        row = {key: model[key] for key in HEADINGS}
        if model["model"] in theirs.index:
            paper = theirs.loc[str(model["model"])]
            row |= {f"published_{key}": paper[key] for key in ("paper_label", *PUBLISHED)}
            row["differs"] = " ".join(key for key in PUBLISHED if paper[key] != model[key])
        rows.append(row)
    columns = [*HEADINGS, "published_paper_label", *(f"published_{k}" for k in PUBLISHED)]
    return pd.DataFrame(rows, columns=[*columns, "differs"])


def table1_tex(frame: pd.DataFrame, provenance: Provenance) -> str:
    """The table as a booktabs fragment below its header comment; ``frame`` is table1_frame's."""
    rows: list[Row] = []
    for model in frame.to_dict("records"):
        rows.append([_shown(key, model[key]) for key in HEADINGS])
        if pd.notna(model["published_paper_label"]):
            rows.append([_published(model, key) for key in HEADINGS])
    notes = ["Layers, heads, widths and activation as read off the loaded model."]
    if frame["published_paper_label"].notna().any():
        notes.append("Grey: the paper's row for the same model.")
    differing = frame[frame["differs"].fillna("") != ""]
    notes += [
        f"{row['model']}: the paper differs in {row['differs'].replace(' ', ', ')}."
        for _, row in differing.iterrows()
    ]
    table = booktabs(
        [list(HEADINGS.values())],
        rows,
        align="lrrrrrlrl",
        caption="Models.",
        label="tab:models",
        notes=notes,
    )
    return header(provenance, TEX) + table


def _shown(key: str, value: Any) -> Cell:
    if pd.isna(value):
        return None
    return Tex(f"{int(value):,}".replace(",", "{,}")) if key == "n_params" else str(value)


def _published(model: Mapping[Hashable, Any], key: str) -> Cell:
    if key == "model":
        return grey(f"paper: {model['published_paper_label']}")
    if key not in PUBLISHED:
        return None
    value = model[f"published_{key}"]
    return grey(value if isinstance(value, str) else f"{value:g}")


def write_table1(
    frame: pd.DataFrame, provenance: Provenance, tex_path: Path | str, csv_path: Path | str
) -> None:
    """Write the CSV, then the LaTeX fragment; each whole or not at all."""
    write_text(csv_path, csv_text(frame, provenance))
    write_text(tex_path, table1_tex(frame, provenance))
