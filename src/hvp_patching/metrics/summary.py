"""From values per prompt to one line per method: mean or median, interval, reduction against AP."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.resampling import STATISTICS, Statistic, bootstrap_interval, reduction

AP = "ap"


def summarize(
    values: pd.DataFrame,
    column: str = "top_k_relative_error",
    statistic: Statistic = "mean",
    by: Sequence[str] = (),
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``summary``: each estimator's statistic over prompts, in units of ``column``.

    ``values`` has one row per prompt, estimator and value of the columns ``by``, which come first
    in the result. Prompts in which no estimator has a value are left out; without any, value and
    interval are NaN. Prompts are resampled in the order in which they stand. Raises ``ScoresError``
    where an estimator lacks a prompt that another one has. Sections 4.1 and 4.2.
    """
    rows: list[dict[Hashable, object]] = []
    for key, group in _groups(values, by):
        prompts = _same_prompts(group, column, key)
        for estimator, own in group.groupby("estimator", sort=False):
            kept = own.loc[own["prompt_id"].isin(prompts), column].to_numpy(dtype=np.float64)
            row: dict[Hashable, object] = dict(zip(by, key, strict=True))
            row |= {"estimator": estimator, "n_prompts": len(kept)}
            row |= {"cost": own["cost"].iloc[0]} if "cost" in own else {}
            if len(kept):
                low, high = bootstrap_interval(kept, statistic, n_resamples=n_resamples, seed=seed)
                row |= {"value": float(STATISTICS[statistic](kept)), "ci_low": low, "ci_high": high}
                row |= {"lowest": kept.min(), "highest": kept.max()}
            rows.append(row)
    numbers = ["value", "ci_low", "ci_high", "lowest", "highest"]
    first = [*by, "estimator", *(["cost"] if "cost" in values else []), "n_prompts"]
    return pd.DataFrame(rows, columns=[*first, *numbers]).astype(dict.fromkeys(numbers, "float64"))


def summarize_errors(errors: pd.DataFrame, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The frame ``summary`` of the frame ``errors``: mean top-k errors, fractions. Table 2."""
    return summarize(_ordered(errors), n_resamples=n_resamples, seed=seed)


def medians(errors: pd.DataFrame, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The frame ``medians``: medians over prompts of their median errors, beside AP's.

    ``errors`` is the frame of that name. Prompts without a nontrivial effect have no error and are
    left out; n_components and n_nontrivial are sums over all n_all_prompts. Raises ``ScoresError``
    without AP. Tables 3, 11 and 12.
    """
    ap = errors[errors["estimator"] == AP]
    if ap.empty:
        raise ScoresError(f"no errors of '{AP}', which the others are set against: score it")
    ordered = _ordered(errors)
    table = summarize(ordered, "median_relative_error", "median", (), n_resamples, seed)
    groups = ordered.groupby("estimator")["median_relative_error"]
    by_estimator = {str(name): values for name, values in groups}
    table = with_reductions(table, by_estimator, "median", n_resamples, seed)
    counts = {name: int(ap[name].sum()) for name in ("n_components", "n_nontrivial")}
    return table.assign(**counts, n_all_prompts=len(ap))


def with_reductions(
    table: pd.DataFrame,
    errors: dict[str, pd.Series],
    statistic: Statistic,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """``table`` with reduction, reduction_low and reduction_high against AP, as fractions.

    ``errors`` has every estimator's errors of the prompts, in one order; those without one are
    left out. All three are NaN for AP itself, and as ``reduction`` says.
    """
    found = {
        name: reduction(values.dropna(), errors[AP].dropna(), statistic, n_resamples, seed)
        for name, values in errors.items()
        if name != AP
    }
    columns = ("reduction", "reduction_low", "reduction_high")
    nothing = (np.nan, np.nan, np.nan)
    parts = [found.get(str(name), nothing) for name in table["estimator"]]
    return table.assign(**dict(zip(columns, np.array(parts, dtype=float).T, strict=True)))


def _ordered(values: pd.DataFrame) -> pd.DataFrame:
    """Prompts by name, so that resamples do not depend on the order of a file."""
    return values.sort_values("prompt_id", kind="stable")


def _groups(
    values: pd.DataFrame, by: Sequence[str]
) -> Iterable[tuple[tuple[object, ...], pd.DataFrame]]:
    """The groups of the columns ``by`` with their keys, in order; one of all rows without any."""
    if not by:
        return [((), values)]
    return ((tuple(key), group) for key, group in values.groupby(list(by), sort=False))


def _same_prompts(group: pd.DataFrame, column: str, key: Iterable[object]) -> pd.Index:
    """The prompts that have a value; ``ScoresError`` for an estimator without one of them."""
    table = group.pivot(index="prompt_id", columns="estimator", values=column)
    table = table.dropna(how="all")
    lacking = table.columns[table.isna().any()]
    if len(lacking):
        estimator, absent = lacking[0], table.index[table[lacking[0]].isna()]
        where = "".join(f"{part}, " for part in key)
        raise ScoresError(
            f"{where}estimator '{estimator}' has no {column} for prompt '{absent[0]}' "
            f"({len(table) - len(absent)} of {len(table)} prompts); score the same prompts"
        )
    return table.index
