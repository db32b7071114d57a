"""Results as the tables read them: one frame per name, and rows as dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hvp_patching.aggregates import FRAMES, overall_frame, read_result
from hvp_patching.settings import KEY, Setting, only_setting

Record = dict[str, Any]


class ReportError(ValueError):
    """An artefact that cannot be made."""


@dataclass(frozen=True)
class Results:
    """What a table is made of: frames by name with their settings' columns, and options."""

    frames: Mapping[str, pd.DataFrame]
    settings: Sequence[Setting] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.frames[name]

    def one(self, name: str) -> Record:
        """The only row of a frame."""
        (row,) = records(self.frames[name])
        return row

    def pairs(self, name: str, first: str, second: str) -> list[Record]:
        """The rows of a paired comparison; ``ReportError`` naming a setting that lacks it."""
        frame = self.frames[name]
        rows = records(frame[(frame["first"] == first) & (frame["second"] == second)])
        there = {setting_of(row) for row in rows}
        for setting in self.settings:
            if setting not in there:
                raise ReportError(
                    f"{setting}: no comparison of '{first}' with '{second}': score both"
                )
        return rows

    def setting(self, what: str) -> Setting:
        """The setting of a table that shows one; ``ValueError`` naming them where they differ."""
        return only_setting(self.settings, what)


def read_results(
    inputs: Mapping[str, Sequence[str]],
    settings: Sequence[Setting],
    sites: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Results:
    """Read the files under each name, in the order of ``settings`` (and ``sites``).

    Models and results of several settings have files of no setting. Raises ``FrameError`` as
    ``read_result`` does.
    """
    frames = {}
    for name, paths in inputs.items():
        if name == "model":
            models = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
            frames[name] = FRAMES[name].check(pd.DataFrame(models))
        elif frame := overall_frame(name):
            (path,) = paths
            frames[name] = frame.check(pd.read_parquet(path), str(path))
        else:
            frames[name] = read_result(name, paths, settings, sites)
    return Results(frames, settings, options or {})


def records(frame: pd.DataFrame) -> list[Record]:
    """One dictionary per row, in order."""
    return frame.to_dict("records")  # type: ignore[return-value]


def records_by_key(
    frame: pd.DataFrame, columns: Sequence[str], what: str
) -> dict[tuple[Any, ...], Record]:
    """Rows by the values of some columns; ``ReportError`` naming ``what`` where two agree."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in records(frame):
        key = tuple(record[column] for column in columns)
        if key in found:
            named = " / ".join(str(part) for part in key)
            raise ReportError(f"{what} has two rows for {named}: give it each once")
        found[key] = record
    return found


def setting_of(row: Mapping[str, Any]) -> Setting:
    """The setting whose columns a row has."""
    return Setting(*(str(row[name]) for name in KEY))
