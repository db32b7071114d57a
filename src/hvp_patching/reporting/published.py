"""The paper's numbers, as stored in data/published/."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hvp_patching.reporting.files import ReportError


def load_published(folder: Path | str, table: int) -> pd.DataFrame:
    """Published table by its number in the paper; ``ReportError`` where there is no such file."""
    path = Path(folder) / f"table{table:02d}.csv"
    if not path.is_file():
        raise ReportError(f"no published table {table}: {path} is missing; check it out again")
    return pd.read_csv(path)
