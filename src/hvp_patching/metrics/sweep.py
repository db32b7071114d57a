"""Sweeps: many estimators on the few components of largest effect."""

from __future__ import annotations

import pandas as pd

from hvp_patching.frames import SWEEP
from hvp_patching.metrics.errors import GROUP, ScoresError, check_scores, top_k_relative_error

HEAD = ["prompt_id", "layer", "index"]
MS_HVP = r"^ms_hvp_(\d+)$"

# The range was measured in other batches than the rows, in float32.
ROUNDING = 1e-4


def sweep_errors(sweep: pd.DataFrame, k: int = 5) -> pd.DataFrame:
    """Top-k relative error of every estimator of a sweep, which holds the top components alone.

    ``sweep`` is a scores table with truth_range (nats), the range of Δ over all components of the
    prompt. Returns prompt_id, estimator, cost, top_k_relative_error: the mean |estimate - Δ| over
    the k largest |Δ|, over truth_range; a fraction, NaN where there are fewer than k rows. Raises
    ``ScoresError`` where truth_range is below the rows' own, or as ``check_scores`` does.
    Figures 5 and 6.
    """
    check_scores(sweep, k)
    SWEEP.check(sweep, "the sweep")
    groups = sweep.groupby(GROUP, sort=False)
    of_rows = groups["truth"].max() - groups["truth"].min()
    of_all = groups["truth_range"].first()
    narrow = of_all[~(of_all >= of_rows * (1 - ROUNDING))]
    if len(narrow):
        prompt = narrow.index[0][0]
        raise ScoresError(
            f"prompt '{prompt}': truth_range is {narrow.iloc[0]}, but its effects span "
            f"{of_rows[narrow.index[0]]}; run the sweep again"
        )
    table = pd.DataFrame({"cost": groups["cost"].first()})
    # the error over the range of these rows, set over the range of all components instead
    table["top_k_relative_error"] = top_k_relative_error(sweep, k) * of_rows / of_all
    return table.reset_index()


def steepest_rise(sweep: pd.DataFrame) -> pd.DataFrame:
    """The frame ``steepest_rise``: the component whose error rises most from one K to a larger one.

    ``sweep`` is the frame of that name; HVP is MS-HVP of one step. The component and prompt with
    the largest rise of |estimate - Δ| / truth_range, at every K in order; no rows where no error
    rises. The mean error falls with K, that of one component need not. Figure 6a.
    """
    steps = sweep["estimator"].replace("hvp", "ms_hvp_1").str.extract(MS_HVP)[0]
    table = sweep.assign(steps=steps).dropna(subset="steps").astype({"steps": "int64"})
    table["error"] = (table["estimate"] - table["truth"]).abs() / table["truth_range"]
    table = table.sort_values([*HEAD, "steps"])
    rise = table.groupby(HEAD)["error"].diff()
    chosen = table.iloc[:0]
    if rise.max() > 0:
        worst = table.loc[[rise.idxmax()], HEAD]
        chosen = table.merge(worst, on=HEAD)
    return chosen[[*HEAD, "estimator", "steps", "error"]].reset_index(drop=True)
