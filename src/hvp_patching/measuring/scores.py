"""Scores: every estimator's estimate beside the true effect, one tidy table per setting.

Rule score_estimators.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hvp_patching.estimators import Estimator
from hvp_patching.frames import ROW, SCORES
from hvp_patching.paths.jets import Jets

COMPONENT = list(ROW)
COLUMNS = list(SCORES.columns)


def score_estimators(jets: pd.DataFrame, estimators: Sequence[Estimator]) -> pd.DataFrame:
    """Estimates in nats from a jets table, with truth = f(1) − f(0) (section 3.1).

    jets: columns prompt_id, layer, index, node, f, f1, …, as written by Jets.to_frame.
    Returns COLUMNS, one row per prompt, component and estimator. ValueError if the jets lack a
    node or order.
    """
    frames = []
    for prompt_id, table in jets.groupby("prompt_id", sort=False):
        one = Jets.from_frame(table)
        truth = (one.at(1.0, 0) - one.at(0.0, 0)).numpy()
        frames += [
            one.components.assign(
                prompt_id=prompt_id,
                estimator=estimator.name,
                estimate=estimator(one).numpy(),
                truth=truth,
                cost=estimator.cost,
            )
            for estimator in estimators
        ]
    return pd.concat(frames, ignore_index=True).loc[:, COLUMNS]


def add_baseline(scores: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Append a baseline's estimates of the scored components, with their truth.

    baseline: columns prompt_id, layer, index, estimator, estimate, cost, one row per prompt and
    component; components that are not scored are left out. ValueError if a scored one is missing.
    """
    first = scores["estimator"].iloc[0]
    truth = scores.loc[scores["estimator"] == first, [*COMPONENT, "truth"]]
    merged = truth.merge(baseline, on=COMPONENT, how="left", validate="1:1")
    covered = int(merged["estimate"].notna().sum())
    if covered < len(truth):
        name = baseline["estimator"].iloc[0]
        raise ValueError(
            f"baseline '{name}' has estimates for {covered} of the jets' {len(truth)} components; "
            "delete results/baselines and run again"
        )
    added: pd.DataFrame = merged[COLUMNS]
    return pd.concat([scores, added], ignore_index=True)
