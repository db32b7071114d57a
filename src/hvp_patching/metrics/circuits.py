"""Circuits over prompts: CPR, CMD and average of every method, with intervals (Table 16).

f is a ratio of means over prompts, so that prompts are drawn again before the means are taken; the
areas of every resample are those of its own curve.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from hvp_patching.metrics.faithfulness import (
    AREAS,
    VALUES,
    FaithfulnessError,
    areas,
    faithfulness_curve,
)

BY = ["method", "selection"]


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


def _intervals(
    group: pd.DataFrame, n_resamples: int, seed: int, level: float
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the areas, prompts in the order of their names."""
    table = group.pivot(index="prompt_id", columns="level", values="m").sort_index()
    if bool(table.isna().any(axis=None)):
        raise FaithfulnessError("a prompt lacks a level of the circuits; judge all on each prompt")
    n = len(table)
    nothing = dict.fromkeys(AREAS, (np.nan, np.nan))
    if n == 1:
        return nothing
    ends = group.groupby("prompt_id", sort=True)[["m_clean", "m_corrupted"]].first().to_numpy()
    drawn = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    m, (clean, corrupted) = table.to_numpy()[drawn].mean(1), ends[drawn].mean(1).T
    if bool((clean == corrupted).any()):
        return nothing
    f = (m - corrupted[:, None]) / (clean - corrupted)[:, None]
    levels = table.columns.to_numpy(float)
    sampled = (
        np.trapezoid(f, levels, axis=1),
        np.trapezoid(np.abs(1 - f), levels, axis=1),
        f.mean(1),
    )
    tails = [(1 - level) / 2, (1 + level) / 2]
    found = (np.quantile(values, tails) for values in sampled)
    return {area: (float(a), float(b)) for area, (a, b) in zip(AREAS, found, strict=True)}
