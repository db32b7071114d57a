"""How faithful circuits are: the recovered share of the metric, and the areas under its curve.

f = (m_circuit − m_corrupted) / (m_clean − m_corrupted), where each m is the mean over prompts
first: a ratio of means. That, and CPR, CMD and the average, are as in the circuit benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

LEVELS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # the benchmark's ten
AREAS = ("cpr", "cmd", "average")
VALUES = ("prompt_id", "level", "n_edges", "n_kept", "m", "m_clean", "m_corrupted")


class FaithfulnessError(ValueError):
    """Values of circuits of which no faithfulness can be told."""


def checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """The levels as increasing fractions; FaithfulnessError for one outside (0, 1], or a repeat."""
    given = [levels] if isinstance(levels, int | float) else list(levels)
    for level in given:
        if isinstance(level, bool | str) or not 0 < level <= 1:
            raise FaithfulnessError(
                f"level {level!r} is outside (0, 1]; give fractions of the edges, such as 0.01"
            )
    if not given:
        raise FaithfulnessError("no levels given; give at least one fraction of the edges")
    if len(set(given)) != len(given):
        raise FaithfulnessError(f"a level stands twice in {given}")
    return tuple(sorted(float(level) for level in given))


def faithfulness_curve(values: pd.DataFrame) -> pd.DataFrame:
    """One row a level: level, n_edges, n_kept, m, m_clean, m_corrupted (means), f (no unit).

    values: one row a prompt and level, with the columns of VALUES, m in the metric's units.
    FaithfulnessError where columns are missing, or clean and corrupted means are equal.
    """
    missing = [name for name in VALUES if name not in values]
    if missing:
        raise FaithfulnessError(f"the values of circuits lack the column '{missing[0]}'")
    groups = values.groupby("level", sort=True)
    curve = groups[["n_edges", "n_kept"]].first()
    curve = curve.join(groups[["m", "m_clean", "m_corrupted"]].mean()).reset_index()
    gap = curve["m_clean"] - curve["m_corrupted"]
    if bool((gap == 0).any()):
        raise FaithfulnessError(
            "the clean and corrupted runs have the same mean metric "
            f"({curve['m_clean'].iloc[0]:g}), so that no share of it can be recovered; give pairs "
            "that the metric tells apart"
        )
    return curve.assign(f=(curve["m"] - curve["m_corrupted"]) / gap)


def areas(curve: pd.DataFrame) -> dict[str, float]:
    """cpr, cmd and average of one curve with columns level and f, without unit.

    CPR: trapezoid area under f over the level on a linear axis, from the smallest level to the
    largest; CMD: that of |1 − f|; average: the plain mean of f. Table 16.
    """
    ordered = curve.sort_values("level")
    level, f = ordered["level"].to_numpy(float), ordered["f"].to_numpy(float)
    found = (np.trapezoid(f, level), np.trapezoid(np.abs(1 - f), level), f.mean())
    return dict(zip(AREAS, map(float, found), strict=True))
