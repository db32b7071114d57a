"""How an error reduction settles as prompts are added."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hvp_patching.metrics.errors import ScoresError, check_tidy


def reduction_by_prefix(
    scores: pd.DataFrame,
    estimator: str = "hvp",
    reference: str = "ap",
    trivial_effect: float = 1e-6,
) -> pd.DataFrame:
    """Error reduction from the first n prompts, n = 1, 2, …, in the order in which they stand.

    All components with |Δ| > trivial_effect (nats) of the first n prompts are pooled: reduction =
    1 - median |estimate - Δ|/|Δ| of ``estimator`` over that of ``reference``, a fraction; NaN
    where the prefix has no such component or a reference without error. Returns n_prompts,
    reduction. Raises ``ScoresError`` where an estimator is missing or covers other prompts, or as
    ``check_tidy`` does. Figure 9.
    """
    check_tidy(scores)
    order = {prompt: n for n, prompt in enumerate(scores["prompt_id"].unique(), start=1)}
    effects = scores[scores["truth"].abs() > trivial_effect]
    relative = ((effects["estimate"] - effects["truth"]) / effects["truth"]).abs()
    position = effects["prompt_id"].map(order)
    for name in (estimator, reference):
        covered = scores.loc[scores["estimator"] == name, "prompt_id"].nunique()
        if covered < len(order):
            raise ScoresError(
                f"estimator '{name}' is scored on {covered} of {len(order)} prompts; score them all"
            )
    medians = {
        name: [
            relative[(position <= n) & (effects["estimator"] == name)].median()
            for n in order.values()
        ]
        for name in (estimator, reference)
    }
    below = np.array(medians[reference])
    ratio = np.array(medians[estimator]) / np.where(below > 0, below, np.nan)
    return pd.DataFrame({"n_prompts": list(order.values()), "reduction": 1 - ratio})
