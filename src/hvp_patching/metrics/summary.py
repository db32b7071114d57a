"""From errors per prompt to one line per method: value, interval, p against AP, mark."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from hvp_patching.metrics.bootstrap import (
    Statistic,
    bootstrap_interval,
    paired_bootstrap_p,
    significance_mark,
)
from hvp_patching.metrics.errors import ScoresError


def summarize_errors(
    errors: pd.DataFrame,
    by: Sequence[str] = ("model", "task"),
    column: str = "top_k_relative_error",
    statistic: Statistic = "mean",
    reference: str = "ap",
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Aggregate errors over prompts, with a prompt bootstrap and a paired p against AP.

    ``errors`` is ``prompt_errors``' table with the columns ``by`` added. Returns one row per
    setting and estimator: by, estimator, cost, n_prompts, value, ci_low, ci_high (units of
    ``column``), p_vs_ap (NaN for the reference and for one prompt), mark. Raises ``ScoresError``
    where the reference is missing or an estimator covers other prompts. Table 2.
    """
    rows: list[dict[Hashable, object]] = []
    for setting, group in errors.groupby(list(by), sort=False):
        where = ", ".join(str(part) for part in setting)
        table = group.pivot(index="prompt_id", columns="estimator", values=column)
        if reference not in table:
            raise ScoresError(
                f"{where}: no errors of '{reference}', which the others are set against"
            )
        costs = group.groupby("estimator")["cost"].first()
        for estimator in group["estimator"].unique():
            _check_same_prompts(table, estimator, where)
            values, base = table[estimator].to_numpy(), table[reference].to_numpy()
            is_reference = estimator == reference
            p = (
                float("nan")
                if is_reference
                else paired_bootstrap_p(values, base, n_resamples=n_resamples, seed=seed)
            )
            low, high = bootstrap_interval(values, statistic, n_resamples=n_resamples, seed=seed)
            rows.append(
                dict(zip(by, setting, strict=True))
                | {
                    "estimator": estimator,
                    "cost": costs[estimator],
                    "n_prompts": len(values),
                    "value": float(table[estimator].agg(statistic)),
                    "ci_low": low,
                    "ci_high": high,
                    "p_vs_ap": p,
                    "mark": significance_mark(values, base, p),
                }
            )
    return pd.DataFrame(rows)


def _check_same_prompts(table: pd.DataFrame, estimator: str, where: str) -> None:
    lacking = table.index[table[estimator].isna()]
    if len(lacking):
        raise ScoresError(
            f"{where}: estimator '{estimator}' has no error for prompt '{lacking[0]}' "
            f"({len(table) - len(lacking)} of {len(table)} prompts); score the same prompts"
        )
