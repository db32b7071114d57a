"""Rows that a query looks at: filtered, one column per method, with derived columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from hvp_patching.claims.reading import ClaimsError, Query, check_expression

STEPS = r"_(\d+)$"


def select(frame: pd.DataFrame, query: Query) -> pd.DataFrame:
    """The query's rows of a frame: where, pivot, derive, keep, mean_by, in this order.

    ``steps`` is added beside ``estimator`` or ``method``: the number in its name, 1 for hvp. Raises
    ``ClaimsError`` for a column or method that is not there.
    """
    try:
        return _select(frame, query)
    except (KeyError, pd.errors.UndefinedVariableError) as error:
        absent = str(error).strip("'\"")
        raise ClaimsError(f"query '{query.name}': its table has no {absent}") from None


def _select(frame: pd.DataFrame, query: Query) -> pd.DataFrame:
    method = "estimator" if "estimator" in frame else "method"
    if method in frame and "steps" not in frame:
        names = frame[method].replace(to_replace="hvp", value="hvp_1")
        numbers = names.str.extract(STEPS, expand=False)
        frame = frame.assign(steps=pd.Series(pd.to_numeric(numbers), dtype="float64"))
    for column, wanted in query.where.items():
        chosen = wanted if isinstance(wanted, list) else [wanted]
        frame = frame[frame[column].isin(chosen)]
    if query.pivot:
        frame = _wide(frame, query.pivot)
    for column, expression in query.derive.items():
        found: Any = _evaluated(frame, expression, query)
        frame = frame.assign(**{column: found})
    if query.keep and len(frame):
        kept: Any = _evaluated(frame, query.keep, query)
        frame = frame[kept.astype(bool)]
    if query.mean_by:
        frame = frame.groupby(list(query.mean_by), sort=False).mean(numeric_only=True).reset_index()
    return frame


def _evaluated(frame: pd.DataFrame, expression: str, query: Query) -> Any:
    check_expression(expression, query.name)
    return frame.eval(expression, engine="python")


def _wide(frame: pd.DataFrame, pivot: Mapping[str, Any]) -> pd.DataFrame:
    """One row per value of the index, one column per method; without an index, one row."""
    columns, values = pivot["columns"], pivot["values"]
    index = list(pivot.get("index", []))
    if not index:
        frame, index = frame.assign(all=0), ["all"]
    wide: pd.DataFrame = frame.set_index([*index, columns])[values].unstack(columns)
    return wide.reset_index()
