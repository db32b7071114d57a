"""Scores: every estimator's estimate beside the true effect, one tidy table per setting."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hvp_patching.estimators import Estimator
from hvp_patching.paths.jets import Jets

COLUMNS = ["prompt_id", "layer", "index", "estimator", "estimate", "truth", "cost"]


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
    """Append a baseline's estimates, with the truth of the same prompts and components.

    baseline: columns prompt_id, component (position in (layer, index) order), estimator,
    estimate, cost. ValueError if it covers other prompts or another number of components.
    """
    first = scores["estimator"].iloc[0]
    truth = scores.loc[scores["estimator"] == first, ["prompt_id", "layer", "index", "truth"]]
    truth = truth.assign(component=truth.groupby("prompt_id", sort=False).cumcount())
    merged = truth.merge(baseline, on=["prompt_id", "component"], how="outer", validate="1:1")
    if bool(merged.isna().to_numpy().any()):
        name = baseline["estimator"].iloc[0]
        raise ValueError(
            f"baseline '{name}' has {len(baseline)} estimates where the jets have {len(truth)} "
            "components; delete results/baselines and run again"
        )
    added: pd.DataFrame = merged[COLUMNS]
    return pd.concat([scores, added], ignore_index=True)
