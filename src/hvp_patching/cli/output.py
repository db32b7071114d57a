"""A run as a file: JSON (all numbers), CSV (the ranked table) or one HTML page without network."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvp_patching.cli.run import Run
from hvp_patching.files import write_text

if TYPE_CHECKING:
    import pandas as pd


def check_place(path: Path) -> None:
    """ValueError where no file can be written at `path`."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"--out {path}: {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--out {path}: the folder {folder} may not be written")


def write(run: Run, path: Path) -> None:
    """Write a run in the format that the ending names, whole or not at all.

    WriteError as `files.write_text`.
    """
    write_text(path, FORMATS[path.suffix.lower()](run))


def as_json(run: Run) -> str:
    """Facts, the sentence, every component and every prompt's numbers; no number is null."""
    content = {
        **run.facts,
        "sentence": run.sentence,
        "components": _records(run.frame),
        "prompts": [
            {"prompt_id": name, "components": _records(rows.drop(columns="prompt_id"))}
            for name, rows in (
                run.prompts.groupby("prompt_id", sort=False) if len(run.prompts) else ()
            )
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): _plain(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(run: Run) -> str:
    """The facts as comments, then every component; read back by read_csv(comment="#")."""
    facts = {**run.facts, "sentence": run.sentence}
    head = "".join(f"# {name}: {_said(value)}\n" for name, value in facts.items())
    return head + run.frame.to_csv(index=False, lineterminator="\n", float_format="%.10g")


def _said(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{name} {one}" for name, one in value.items()]
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return " ".join(text.split())


def as_html(run: Run) -> str:
    """One page that needs nothing else."""
    from hvp_patching.cli.page import page

    return page(run, {name: _said(value) for name, value in run.facts.items()})


FORMATS: Mapping[str, Callable[[Run], str]] = {".json": as_json, ".csv": as_csv, ".html": as_html}
