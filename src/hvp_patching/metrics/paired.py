"""Two methods on the same prompts: their difference, who wins, and how often.

A comparison whose prompts are too few for any test is undecided, which is neither win, tie nor
loss. Of many comparisons some win by chance: ``marks`` says which of a table's hold when the share
of false ones among them is kept below ``ALPHA``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from hvp_patching.frames import ALPHA
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.resampling import (
    DECIMALS,
    bootstrap_interval,
    paired_bootstrap_p,
    significance_mark,
    smallest_p,
)

Verdict = Literal["win", "tie", "loss", "undecided"]
COLUMNS = (
    *("first", "second", "first_value", "second_value", "difference", "ci_low", "ci_high"),
    *("p", "p_smallest", "decidable", "n_prompts", "verdict"),
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
    prompts, level 1 - alpha), all fractions; p; p_smallest (``smallest_p``); decidable: whether
    that is below alpha; n_prompts; verdict: ``undecided`` where it is not, else ``win`` where the
    first's error is lower at p < alpha (higher, if that is better), ``loss`` the reverse, or
    ``tie``. One prompt has no interval and no p.
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
    p_smallest = smallest_p(ours, theirs, n_resamples)
    lower, higher = (theirs, ours) if higher_is_better else (ours, theirs)
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
        "p_smallest": p_smallest,
        "decidable": p_smallest < alpha,
        "n_prompts": len(table),
        "verdict": VERDICTS[significance_mark(lower, higher, p, alpha)]
        if p_smallest < alpha
        else "undecided",
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


def marks(comparisons: pd.DataFrame, firsts: Sequence[str], second: str) -> pd.DataFrame:
    """The frame ``marks``: the comparisons of a table, those of ``firsts`` with ``second``.

    ``comparisons`` has the rows of the frame ``paired`` of several settings. q is Benjamini and
    Hochberg's adjusted p over all decidable rows, of the larger of p and p_smallest, for they take
    p-values that are no smaller than chance makes them; NaN for the others. Where it is below
    ``ALPHA`` the verdict ``survives``: always one at p < ``ALPHA``.
    """
    chosen = comparisons["first"].isin(firsts) & (comparisons["second"] == second)
    rows = comparisons[chosen]
    decidable = rows["decidable"].to_numpy(dtype=bool)
    q = np.full(len(rows), np.nan)
    if decidable.any():
        p = rows.loc[decidable, ["p", "p_smallest"]].astype(float).max(axis=1)
        q[decidable] = stats.false_discovery_control(p, method="bh")
    return rows.assign(q=q, survives=q < ALPHA)


def tally(marked: pd.DataFrame, firsts: Sequence[str], second: str) -> pd.DataFrame:
    """The frame ``tally``, one row: how ``firsts`` fare against ``second`` in all settings.

    ``marked`` is the frame ``marks``. Wins, ties, losses and undecided are the verdicts; lower and
    higher count the signs of the differences, lower_sure and higher_sure those of wins and losses,
    lower_survives and higher_survives those that survive; smallest and largest are differences,
    NaN without any comparison.
    """
    rows = marked[marked["first"].isin(firsts) & (marked["second"] == second)]
    verdicts, survives = rows["verdict"], rows["survives"].astype(bool)
    sure = verdicts.isin(["win", "loss"])
    difference = rows["difference"].astype(float).round(DECIMALS)
    return pd.DataFrame(
        {
            "n": [len(rows)],
            "wins": int((verdicts == "win").sum()),
            "ties": int((verdicts == "tie").sum()),
            "losses": int((verdicts == "loss").sum()),
            "undecided": int((verdicts == "undecided").sum()),
            "lower": int((difference < 0).sum()),
            "lower_sure": int(((difference < 0) & sure).sum()),
            "lower_survives": int(((difference < 0) & survives).sum()),
            "higher": int((difference > 0).sum()),
            "higher_sure": int(((difference > 0) & sure).sum()),
            "higher_survives": int(((difference > 0) & survives).sum()),
            "smallest": rows["difference"].min(),
            "largest": rows["difference"].max(),
        }
    )
