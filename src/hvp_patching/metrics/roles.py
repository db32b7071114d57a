"""Which role each head has by its attention."""

from __future__ import annotations

import pandas as pd

from hvp_patching.frames import NO_ROLE

HEAD = ["layer", "index"]
ROLE_THRESHOLD = 0.3  # six times an even spread over a prompt of 20 tokens


def assign_roles(scores: pd.DataFrame, threshold: float = ROLE_THRESHOLD) -> pd.DataFrame:
    """One role per head, that of its largest score: layer, index, role, score, by layer and index.

    "other" where no score reaches `threshold` (a probability). ValueError for a threshold outside
    [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the role threshold is {threshold:g}; give a probability in [0, 1]")
    defined = scores.assign(score=scores["score"].fillna(-1.0))
    best = defined.loc[defined.groupby(HEAD)["score"].idxmax(), [*HEAD, "role", "score"]]
    best = best.assign(
        role=best["role"].where(best["score"] >= threshold, NO_ROLE),
        score=best["score"].where(best["score"] >= 0),
    )
    return best.sort_values(HEAD).reset_index(drop=True)
