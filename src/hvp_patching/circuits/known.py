"""Circuits that others have published, head by head, as stored in data/circuits/."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hvp_patching.files import DATA

COLUMNS = ["layer", "index", "role"]


def circuits_folder() -> Path:
    """data/circuits of the checkout: one file {model}_{task}.csv per published circuit."""
    return DATA / "circuits"


def known_circuit(model: str, task: str, folder: Path | str | None = None) -> pd.DataFrame | None:
    """The published circuit of a model and task: layer, index, role of each head; None without one.

    gpt2-small/ioi has the 26 heads of Wang et al. (2023). Section 4.5 and appendix E.10 say 23 and
    18 heads, call L4H11 a duplicate-token head and exchange the roles of L9H9 and L10H7; the
    circuit's own paper has L4H11 as a previous-token head, L9H9 as a name mover and L10H7 as a
    negative one. ValueError where the folder is missing, or a file is not such a table.
    """
    place = circuits_folder() if folder is None else Path(folder)
    if not place.is_dir():
        raise ValueError(f"no known circuits at {place}: run from a checkout, or give the folder")
    path = place / f"{model}_{task}.csv"
    return read_circuit(path) if path.is_file() else None


def read_circuit(path: Path | str) -> pd.DataFrame:
    """Heads of one circuit file: layer, index, role, in the file's order.

    ValueError where a column is missing, there is no head, or a head stands twice.
    """
    circuit = pd.read_csv(path, comment="#")
    missing = [column for column in COLUMNS if column not in circuit]
    if missing:
        raise ValueError(f"{path} lacks the column '{missing[0]}'; give {', '.join(COLUMNS)}")
    if circuit.empty:
        raise ValueError(f"{path} names no head; give at least one")
    twice = circuit[circuit.duplicated(["layer", "index"])]
    if len(twice):
        layer, index = twice.iloc[0][["layer", "index"]]
        raise ValueError(f"{path} names head {index} of layer {layer} twice; remove one")
    return circuit[COLUMNS]
