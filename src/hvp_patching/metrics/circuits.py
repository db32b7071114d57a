"""Circuits over prompts: CPR, CMD and average of every method, with intervals (Table 16).

f is a ratio of means over prompts, so that prompts are drawn again before the means are taken; the
areas of every resample are those of its own curve.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hvp_patching.metrics.faithfulness import (
    AREAS,
    VALUES,
    FaithfulnessError,
    areas,
    faithfulness_curve,
)

BY = ["method", "selection"]
DIFFERENCES = (
    *("first", "second", "selection", "area", "first_value", "second_value", "difference"),
    *("ci_low", "ci_high", "n_prompts"),
)


def circuit_summary(
    values: pd.DataFrame, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """One row a method and selection: n_prompts, and cpr, cmd, average with their ends.

    values: one row a prompt, method, selection and level, with the columns of VALUES, m a logit
    difference; no row where there is none, of a model that does not do the task. Ends are NaN for
    a single prompt, and where a resample's clean and corrupted means
    are equal.
    FaithfulnessError for a column or a prompt that is missing, and as in faithfulness_curve.
    """
    missing = [name for name in (*BY, *VALUES) if name not in values]
    if missing:
        raise FaithfulnessError(f"the values of circuits lack the column '{missing[0]}'")
    rows: list[dict[str, object]] = []
    for (method, selection), group in values.groupby(BY, sort=False):
        found = areas(faithfulness_curve(group))
        ends = _intervals(group, n_resamples, seed, level)
        row: dict[str, object] = {"method": method, "selection": selection}
        row["n_prompts"] = group["prompt_id"].nunique()
        for area in AREAS:
            row |= {area: found[area]}
            row |= dict(zip((f"{area}_low", f"{area}_high"), ends[area], strict=True))
        rows.append(row)
    columns = [f"{area}{end}" for area in AREAS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*BY, "n_prompts", *columns])


def circuit_differences(
    values: pd.DataFrame, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """The frame ``circuit_differences``: every method's areas minus those of every other.

    values: as in ``circuit_summary``, every method judged on the same prompts. One row a pair of
    methods, selection and area, with first_value, second_value, difference and its ends: both
    methods' areas are taken of the same resampled prompts. Ends are NaN as in ``circuit_summary``.
    FaithfulnessError as there, and where two methods were judged on different prompts.
    Appendix E.8.
    """
    groups: dict[Any, pd.DataFrame] = dict(list(values.groupby(BY, sort=False)))
    if len({tuple(sorted(set(group["prompt_id"]))) for group in groups.values()}) > 1:
        raise FaithfulnessError("two methods' circuits are of different prompts; judge them again")
    summary: dict[Any, Any] = circuit_summary(values, 1, seed).set_index(BY).to_dict("index")
    drawn = {key: _resampled(group, n_resamples, seed) for key, group in groups.items()}
    tails = [(1 - level) / 2, (1 + level) / 2]
    rows = []
    for (first, selection), (second, other) in permutations(groups, 2):
        ours, theirs = drawn[first, selection], drawn[second, other]
        for area in AREAS if selection == other else ():
            low, high = np.nan, np.nan
            if ours is not None and theirs is not None:
                low, high = np.quantile(ours[area] - theirs[area], tails)
            first_value, second_value = (summary[name, selection][area] for name in (first, second))
            names = (first, second, selection, area)
            found = (first_value, second_value, first_value - second_value, low, high)
            rows.append((*names, *found, summary[first, selection]["n_prompts"]))
    return pd.DataFrame(rows, columns=DIFFERENCES)


def circuit_curve(values: pd.DataFrame) -> pd.DataFrame:
    """The frame ``circuit_curve``: f of every method and selection at each level, and n_prompts.

    values: as in ``circuit_summary``; FaithfulnessError as in ``faithfulness_curve``.
    """
    curves = [
        faithfulness_curve(group).assign(
            method=str(method), selection=str(selection), n_prompts=group["prompt_id"].nunique()
        )
        for (method, selection), group in values.groupby(BY, sort=False)
    ]
    return pd.concat(curves, ignore_index=True)[[*BY, "n_prompts", "level", "n_edges", "f"]]


def _intervals(
    group: pd.DataFrame, n_resamples: int, seed: int, level: float
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the areas."""
    sampled = _resampled(group, n_resamples, seed)
    if sampled is None:
        return dict.fromkeys(AREAS, (np.nan, np.nan))
    tails = [(1 - level) / 2, (1 + level) / 2]
    found = {area: np.quantile(values, tails) for area, values in sampled.items()}
    return {area: (float(low), float(high)) for area, (low, high) in found.items()}


def _resampled(
    group: pd.DataFrame, n_resamples: int, seed: int
) -> dict[str, NDArray[np.float64]] | None:
    """The areas of resampled prompts, in the order of their names; None where there are none.

    The same number of prompts is drawn alike, so that two methods' areas are of the same draws.
    """
    table = group.pivot(index="prompt_id", columns="level", values="m").sort_index()
    if bool(table.isna().any(axis=None)):
        raise FaithfulnessError("a prompt lacks a level of the circuits; judge all on each prompt")
    n = len(table)
    if n == 1:
        return None
    ends = group.groupby("prompt_id", sort=True)[["m_clean", "m_corrupted"]].first().to_numpy()
    drawn = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    m, (clean, corrupted) = table.to_numpy()[drawn].mean(1), ends[drawn].mean(1).T
    if bool((clean == corrupted).any()):
        return None
    f = (m - corrupted[:, None]) / (clean - corrupted)[:, None]
    levels = table.columns.to_numpy(float)
    sampled = (
        np.trapezoid(f, levels, axis=1),
        np.trapezoid(np.abs(1 - f), levels, axis=1),
        f.mean(1),
    )
    return dict(zip(AREAS, sampled, strict=True))
