"""Absolute errors of AP and HVP over every component and prompt, where many tokens change."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hvp_patching.metrics.errors import COMPONENT, ScoresError, check_tidy
from hvp_patching.metrics.summary import AP, with_reductions


def absolute_errors(
    scores: pd.DataFrame,
    methods: Sequence[str] = (AP, "hvp"),
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``absolute_errors``: mean |estimate - Δ| of AP and the other ``methods``.

    ``scores`` is the frame of that name. The reductions' intervals resample prompts, in pairs;
    relative_to_ap is NaN where AP has no error. Table 13. Raises ``ScoresError`` where a method is
    not scored on every component of every prompt or prompts differ in theirs, else as
    ``check_tidy``.
    """
    chosen = scores[scores["estimator"].isin(methods)] if "estimator" in scores else scores
    check_tidy(chosen)
    error = (chosen["estimate"] - chosen["truth"]).abs()
    table = chosen.assign(error=error).pivot(
        index=["prompt_id", *COMPONENT], columns="estimator", values="error"
    )
    for method in methods:
        if method not in table or table[method].isna().any():
            raise ScoresError(f"'{method}' is not scored on all heads of all prompts: score it")
    prompts = table.groupby("prompt_id", sort=False)
    if prompts.size().nunique() != 1:
        raise ScoresError("prompts differ in their heads; score them again")
    means = prompts[list(methods)].mean()
    of_ap = float(means[AP].mean())
    rows = pd.DataFrame({"estimator": list(methods), "n_prompts": len(means)})
    rows["n_components"] = len(chosen[COMPONENT].drop_duplicates())
    rows["n_records"] = len(table)
    rows["mae"] = [float(means[method].mean()) for method in methods]
    rows["relative_to_ap"] = rows["mae"] / (of_ap if of_ap > 0 else float("nan"))
    by_method = {method: means[method] for method in methods}
    return with_reductions(rows, by_method, "mean", n_resamples, seed)
