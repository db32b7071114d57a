"""How long the runs behind a query took, by the workflow's benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd


def measured_minutes(timings: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Minutes of all runs of each query, from those benchmark files (``s``, seconds) that exist.

    A query without any is left out: its results may come from an earlier run.
    """
    found = {}
    for query, paths in timings.items():
        there = [path for path in paths if Path(path).is_file()]
        if there:
            seconds = sum(float(pd.read_csv(path, sep="\t")["s"].sum()) for path in there)
            found[query] = round(seconds / 60, 3)
    return found
