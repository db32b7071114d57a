"""Errors of AP and HVP over features of sparse autoencoders (appendix E.9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from hvp_patching.frames import FEATURE_SCORES
from hvp_patching.metrics.errors import COMPONENT, ScoresError, check_tidy
from hvp_patching.metrics.summary import AP, with_reductions


def feature_errors(
    scores: pd.DataFrame, threshold: float = 1e-4, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The frame ``feature_errors``: one row per autoencoder and estimator.

    ``scores`` is the frame ``feature_scores``. Kept are pairs of feature and prompt (records) with
    |truth| > threshold, in nats; mae, correlation (Pearson) and rank_correlation (Spearman) are
    over them, n_all_records counts all. The reductions' intervals resample prompts. uncovered is a
    mean over prompts. Raises ``ScoresError`` where no effect is above the threshold, AP is not
    scored, or as ``check_tidy``.
    """
    FEATURE_SCORES.check(scores)
    check_tidy(scores)
    groups = scores.groupby(["layer", "hook"], sort=True)
    return pd.concat(
        [_of_autoencoder(rows, threshold, n_resamples, seed) for _, rows in groups],
        ignore_index=True,
    )


def _of_autoencoder(
    scores: pd.DataFrame, threshold: float, n_resamples: int, seed: int
) -> pd.DataFrame:
    hook = scores["hook"].iloc[0]
    kept = scores[scores["truth"].abs() > threshold].sort_values("prompt_id", kind="stable")
    if kept.empty:
        largest = float(scores["truth"].abs().max())
        raise ScoresError(
            f"{hook}: no feature has an effect above {threshold:g} nats, the largest is "
            f"{largest:.2g}; lower the threshold"
        )
    if AP not in set(kept["estimator"]):
        raise ScoresError(f"{hook}: no estimates of '{AP}', which others are set against")
    rows = pd.DataFrame(list(_rows(kept)))
    rows = rows.assign(
        layer=int(scores["layer"].iloc[0]),
        hook=hook,
        n_prompts=kept["prompt_id"].nunique(),
        n_components=len(kept[COMPONENT].drop_duplicates()),
        n_all_records=len(scores[["prompt_id", *COMPONENT]].drop_duplicates()),
        uncovered=float(scores.drop_duplicates("prompt_id")["uncovered"].mean()),
    )
    miss = kept.assign(miss=(kept["estimate"] - kept["truth"]).abs())
    # a ratio of sums over records is one of means over prompts of each prompt's sum
    sums = miss.groupby(["estimator", "prompt_id"], sort=True)["miss"].sum()
    by_estimator = {str(name): sums.loc[name] for name in rows["estimator"]}
    return with_reductions(rows, by_estimator, "mean", n_resamples, seed)


def _rows(kept: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for estimator, rows in kept.groupby("estimator", sort=False):
        estimate, truth = rows["estimate"].to_numpy(), rows["truth"].to_numpy()
        yield {
            "estimator": estimator,
            "n_records": len(rows),
            "mae": float(np.abs(estimate - truth).mean()),
            "correlation": _correlation(estimate, truth),
            "rank_correlation": _correlation(_ranks(estimate), _ranks(truth)),
        }


def _ranks(values: np.ndarray) -> np.ndarray:
    return pd.Series(values).rank().to_numpy()


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; NaN where either is constant."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
