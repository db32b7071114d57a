"""Two methods on the same prompts: their difference, who wins, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from hvp_patching.frames import ALPHA, SMALLEST_SAMPLE
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.resampling import (
    bootstrap_interval,
    paired_bootstrap_p,
    significance_mark,
)

Verdict = Literal["win", "tie", "loss"]
COLUMNS = (
    *("first", "second", "first_value", "second_value", "difference", "ci_low", "ci_high"),
    *("p", "n_prompts", "verdict"),
)
VERDICTS: dict[str, Verdict] = {"better": "win", "none": "tie", "worse": "loss"}


def paired_comparison(
    errors: pd.DataFrame,
    first: str,
    second: str,
    n_resamples: int = 1000,
    seed: int = 0,
    alpha: float = ALPHA,
    column: str = "top_k_relative_error",
    higher_is_better: bool = False,
) -> dict[str, object]:
    """Mean errors of two estimators on the same prompts, their difference, and who wins.

    ``errors`` is ``prompt_errors``' table of one setting. Returns first, second, first_value,
    second_value, difference (first - second) with ci_low, ci_high (percentile bootstrap over
    prompts, level 1 - alpha), all fractions; p; n_prompts; verdict: ``win`` where the first's
    error is lower at p < alpha (higher, if that is better), ``loss`` the reverse, else ``tie``.
    One prompt has no interval and no p; with fewer than ``SMALLEST_SAMPLE`` prompts a win or loss
    means little.
    Raises ``ScoresError`` where an estimator or a prompt is missing. Table 8.
    """
    table = errors.pivot(index="prompt_id", columns="estimator", values=column)
    for name in (first, second):
        if name not in table:
            raise ScoresError(f"no errors of '{name}': add it to the estimators and score again")
        if table[name].isna().any():
            prompt = table.index[table[name].isna()][0]
            raise ScoresError(f"estimator '{name}' has no {column} for prompt '{prompt}'")
    ours, theirs = table[first].to_numpy(), table[second].to_numpy()
    p = paired_bootstrap_p(ours, theirs, n_resamples=n_resamples, seed=seed)
    low, high = bootstrap_interval(
        ours - theirs, "mean", n_resamples=n_resamples, level=1 - alpha, seed=seed
    )
    return {
        "first": first,
        "second": second,
        "first_value": float(ours.mean()),
        "second_value": float(theirs.mean()),
        "difference": float((ours - theirs).mean()),
        "ci_low": low,
        "ci_high": high,
        "p": p,
        "n_prompts": len(table),
        "verdict": VERDICTS[
            significance_mark(*((theirs, ours) if higher_is_better else (ours, theirs)), p, alpha)
        ],
    }


def paired(
    errors: pd.DataFrame,
    references: Sequence[str],
    column: str = "top_k_relative_error",
    by: Sequence[str] = (),
    n_resamples: int = 1000,
    seed: int = 0,
    higher_is_better: bool = False,
) -> pd.DataFrame:
    """The frame ``paired``: every estimator against each of the references.

    ``errors`` has one row per prompt, estimator and value of the columns ``by``, which come first
    in the result; a group without any value is left out. A reference that was not scored has no
    rows. Raises ``ScoresError`` as ``paired_comparison`` does. Tables 2, 8, 9 and 10.
    """
    groups = [((), errors)] if not by else errors.groupby(list(by), sort=False)
    rows = []
    for key, group in groups:
        if group[column].isna().all():
            continue
        names = list(group["estimator"].unique())
        for second in references:
            for first in names if second in names else ():
                if first != second:
                    found = paired_comparison(
                        group,
                        first,
                        second,
                        n_resamples,
                        seed,
                        column=column,
                        higher_is_better=higher_is_better,
                    )
                    rows.append(dict(zip(by, key, strict=True)) | found)
    return pd.DataFrame(rows, columns=[*by, *COLUMNS])


# Differences of rounding alone are none: shares are multiples of 1/k.
DECIMALS = 11


def tally(comparisons: pd.DataFrame, firsts: Sequence[str], second: str) -> pd.DataFrame:
    """The frame ``tally``, one row: how ``firsts`` fare against ``second`` in all settings.

    ``comparisons`` has the rows of the frame ``paired`` of several settings. Wins and losses are
    the verdicts; lower and higher count the signs of the differences, lower_sure and higher_sure
    those at p < ``ALPHA``; smallest and largest are differences, NaN without any comparison.
    """
    chosen = comparisons["first"].isin(firsts) & (comparisons["second"] == second)
    rows = comparisons[chosen]
    verdicts, sure = rows["verdict"], rows["p"] < ALPHA
    difference = rows["difference"].astype(float).round(DECIMALS)
    return pd.DataFrame(
        {
            "n": [len(rows)],
            "wins": int((verdicts == "win").sum()),
            "ties": int((verdicts == "tie").sum()),
            "losses": int((verdicts == "loss").sum()),
            "weak": int(((verdicts != "tie") & (rows["n_prompts"] < SMALLEST_SAMPLE)).sum()),
            "lower": int((difference < 0).sum()),
            "lower_sure": int(((difference < 0) & sure).sum()),
            "higher": int((difference > 0).sum()),
            "higher_sure": int(((difference > 0) & sure).sum()),
            "smallest": rows["difference"].min(),
            "largest": rows["difference"].max(),
        }
    )
