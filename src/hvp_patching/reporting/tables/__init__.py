"""The tables, one module each: what it shows, where the paper's numbers stand in it, its rows."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from hvp_patching.reporting.table import Table


def load_table(name: str) -> Table:
    """The table of a module here, such as 'table8'."""
    table: Table = _module(name).TABLE
    return table


def about(name: str) -> str:
    """What the table of a module shows: the first line of its docstring."""
    return (_module(name).__doc__ or name).partition("\n")[0]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"hvp_patching.reporting.tables.{name}")


def numbered_tables() -> dict[int, Table]:
    """The paper's tables that we have, by their numbers."""
    names = [path.stem for path in Path(__file__).parent.glob("table*.py")]
    numbers = sorted(int(name.removeprefix("table")) for name in names)
    return {number: load_table(f"table{number}") for number in numbers}
