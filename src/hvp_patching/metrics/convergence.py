"""How path estimators approach the truth with their number of steps, and what stops them.

In exact arithmetic integrated gradients and multi-step HVP converge to Δ for every component. In
floating point they stop at a floor; the same numbers in two precisions show where it comes from.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from hvp_patching.frames import CONVERGENCE_SWEEP
from hvp_patching.metrics.errors import COMPONENT, ScoresError, check_tidy

EPSILON = {name: float(np.finfo(name).eps) for name in ("float16", "float32", "float64")}
# A floor is reached where the error lies within this factor of one of the two roundings: medians
# over few components scatter by a few times, and an error that still falls lies far above.
REACHED = 10.0
TRUTH = "rounding of the two forward passes whose difference is Δ"
DERIVATIVES = "rounding of the derivatives"
NOT_REACHED = "not reached"
ROUNDINGS = ["truth_rounding", "estimate_rounding"]
KEY = ["prompt_id", *COMPONENT, "estimator"]
GROUP = ["dtype", "family"]


def convergence_errors(sweep: pd.DataFrame) -> pd.DataFrame:
    """The frame ``convergence``: errors by precision and number of steps, and each floor.

    ``sweep`` is the frame ``convergence_sweep``, of estimators with a number of steps (ig_16).
    n_components is per prompt; error, error_max: median and largest
    |estimate - Δ| / |Δ| over components and prompts, Δ in the same dtype; truth_rounding,
    estimate_rounding: medians of |Δ - Δ*| / |Δ*| and |estimate - estimate*| / |Δ*|, where the
    star marks the most precise dtype; its own are taken to be the next one's times the ratio of
    their machine epsilons (NaN where there is one dtype alone); floor: the smallest error of the
    dtype and family; cause: the larger of the roundings at that floor (``TRUTH``,
    ``DERIVATIVES``) if the floor is within ``REACHED`` times it, else ``NOT_REACHED``. All are
    fractions. Raises ``ScoresError`` for an estimator without steps, an unknown dtype, dtypes
    with different estimates, an effect of 0, or as ``check_tidy`` does. Section 4.3.
    """
    CONVERGENCE_SWEEP.check(sweep, "the sweep")
    dtypes = sorted(sweep["dtype"].unique(), key=_epsilon)
    by_dtype = {name: sweep[sweep["dtype"] == name] for name in dtypes}
    for rows in by_dtype.values():
        _check(rows)
    best = by_dtype[dtypes[0]]
    table = pd.concat([_errors(rows, best) for rows in by_dtype.values()], ignore_index=True)
    if len(dtypes) > 1:
        ratio = _epsilon(dtypes[0]) / _epsilon(dtypes[1])
        known = table[table["dtype"] == dtypes[1]].set_index("estimator")[ROUNDINGS]
        ours = table["dtype"] == dtypes[0]
        table.loc[ours, ROUNDINGS] = ratio * known.loc[table.loc[ours, "estimator"]].to_numpy()
    else:
        table[ROUNDINGS] = np.nan
    return table.merge(_floors(table), on=GROUP, how="left")


def _epsilon(dtype: str) -> float:
    if dtype not in EPSILON:
        raise ScoresError(f"unknown dtype '{dtype}'; known: {', '.join(EPSILON)}")
    return EPSILON[dtype]


def _check(rows: pd.DataFrame) -> None:
    check_tidy(rows)
    without = rows.loc[~rows["estimator"].str.fullmatch(r".+_\d+"), "estimator"]
    if len(without):
        raise ScoresError(
            f"estimator '{without.iloc[0]}' has no number of steps to converge with; leave it out"
        )
    still = rows[rows["truth"] == 0]
    if len(still):
        row = still.iloc[0]
        raise ScoresError(
            f"prompt '{row['prompt_id']}': layer {row['layer']}, index {row['index']} has no "
            "effect, so no relative error; take components of larger effect"
        )


def _errors(rows: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """One line per estimator of one dtype, beside the most precise dtype's rows `best`."""
    pairs = rows.merge(best[[*KEY, "estimate", "truth"]], on=KEY, suffixes=("", "_best"))
    if not len(pairs) == len(rows) == len(best):
        raise ScoresError(
            f"dtype '{rows['dtype'].iloc[0]}' shares {len(pairs)} of its {len(rows)} estimates "
            f"with the {len(best)} of '{best['dtype'].iloc[0]}'; compute the convergence again"
        )
    size = pairs["truth_best"].abs()
    pairs["error"] = ((pairs["estimate"] - pairs["truth"]) / pairs["truth"]).abs()
    pairs["truth_rounding"] = (pairs["truth"] - pairs["truth_best"]).abs() / size
    pairs["estimate_rounding"] = (pairs["estimate"] - pairs["estimate_best"]).abs() / size
    groups = pairs.groupby(["dtype", "estimator"], sort=False)
    table = groups[["cost"]].first()
    table["n_prompts"] = groups["prompt_id"].nunique()
    table["n_components"] = groups.size() // table["n_prompts"]
    table["error"] = groups["error"].median()
    table["error_max"] = groups["error"].max()
    table[ROUNDINGS] = groups[ROUNDINGS].median()
    table = table.reset_index()
    names = table["estimator"].str.extract(r"(.+)_(\d+)")
    table.insert(1, "family", names[0])
    table.insert(2, "steps", names[1].astype("int64"))
    return table


def _floors(table: pd.DataFrame) -> pd.DataFrame:
    """dtype, family, floor and cause."""
    floors = table.loc[table.groupby(GROUP, sort=False)["error"].idxmin()].copy()
    larger = floors[ROUNDINGS].max(axis=1)
    by_truth = floors["truth_rounding"] >= floors["estimate_rounding"]
    reached = floors["error"] <= REACHED * larger
    floors["cause"] = np.where(reached, np.where(by_truth, TRUTH, DERIVATIVES), NOT_REACHED)
    return floors[[*GROUP, "error", "cause"]].rename(columns={"error": "floor"})
