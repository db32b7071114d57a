"""Statistics of a query's rows, with 95% intervals that resample prompts.

A statistic takes columns as arrays, so that a resample is an index into them. ``of`` names which
columns play which part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from hvp_patching.claims.comparisons import Estimate
from hvp_patching.claims.reading import ClaimsError, Query

Columns = Mapping[str, NDArray[Any]]
LEVEL = 0.95
PROMPT = "prompt_id"


def value(x: NDArray[Any]) -> float:
    """The only number there is."""
    if len(x) != 1:
        raise ClaimsError(f"{len(x)} rows where one was asked for")
    return float(x[0])


def mean(x: NDArray[Any]) -> float:
    """Mean, of true and false a share."""
    return float(np.mean(x))


def median(x: NDArray[Any]) -> float:
    """Median without undefined values, NaN without any other."""
    return _median(x.astype(float))


def quantile(x: NDArray[Any], q: float) -> float:
    """Quantile without undefined values, NaN without any other."""
    there = x.astype(float)
    there = there[~np.isnan(there)]
    return float(np.quantile(there, q)) if len(there) else math.nan


def total(x: NDArray[Any]) -> float:
    """Sum."""
    return float(np.sum(x))


def count(x: NDArray[Any]) -> float:
    """Number of rows."""
    return float(len(x))


def distinct(x: NDArray[Any]) -> float:
    """Number of different values."""
    return float(len(set(x.tolist())))


def minimum(x: NDArray[Any]) -> float:
    """Smallest value without undefined ones, NaN without any other."""
    return quantile(x, 0)


def maximum(x: NDArray[Any]) -> float:
    """Largest value without undefined ones, NaN without any other."""
    return quantile(x, 1)


def spread(x: NDArray[Any]) -> float:
    """Largest over smallest value."""
    return maximum(x) / minimum(x)


def spearman(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Rank correlation of the defined pairs, NaN below three of them or for a constant."""
    x, y = x.astype(float), y.astype(float)
    there = np.isfinite(x) & np.isfinite(y)
    x, y = x[there], y[there]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def ratio_of_means(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Mean of x over mean of y."""
    return _ratio(float(np.mean(x)), float(np.mean(y)))


def reduction(x: NDArray[Any], y: NDArray[Any]) -> float:
    """1 - mean of x over mean of y."""
    return 1 - ratio_of_means(x, y)


def reduction_of_medians(x: NDArray[Any], y: NDArray[Any]) -> float:
    """1 - median of x over median of y."""
    return 1 - _ratio(median(x), median(y))


def difference_of_medians(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Median of x minus median of y."""
    return median(x) - median(y)


def margin(x: NDArray[Any], *others: NDArray[Any]) -> float:
    """Mean of x minus the smallest mean of the others."""
    return float(np.mean(x)) - min(float(np.mean(other)) for other in others)


def contrast(x: NDArray[Any], by: NDArray[Any]) -> float:
    """Mean of x where ``by`` is true, minus that of the rest, without undefined values."""
    x, by = x.astype(float), by.astype(bool)
    return _mean(x[by]) - _mean(x[~by])


def contrast_of_medians(x: NDArray[Any], by: NDArray[Any]) -> float:
    """Median of x where ``by`` is true, minus that of the rest."""
    x, by = x.astype(float), by.astype(bool)
    return _median(x[by]) - _median(x[~by])


def ratio_between(x: NDArray[Any], by: NDArray[Any]) -> float:
    """Mean of x where ``by`` is true, over that of the rest."""
    x, by = x.astype(float), by.astype(bool)
    return _ratio(_mean(x[by]), _mean(x[~by]))


def excess(x: NDArray[Any], by: NDArray[Any]) -> float:
    """Share of the sum of x where ``by`` is true, minus their share of the rows."""
    by = by.astype(bool)
    return _ratio(float(x[by].sum()), float(x.sum())) - float(by.mean())


def enrichment(x: NDArray[Any], weight: NDArray[Any], by: NDArray[Any]) -> float:
    """Share of the sum of x where ``by`` is true, over their share of the weight."""
    by = by.astype(bool)
    share = _ratio(float(x[by].sum()), float(x.sum()))
    return _ratio(share, float(weight[by].sum() / weight.sum()))


def power(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Slope of log (mean y) against log x."""
    places, means = _means(x, y)
    if len(places) < 2 or (means <= 0).any():
        return math.nan
    return float(np.polyfit(np.log(places), np.log(means), 1)[0])


def largest_rise(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Largest change of the mean of y from one x to the next; below 0 where it always falls."""
    _, means = _means(x, y)
    return float(np.diff(means).max()) if len(means) > 1 else math.nan


def growing_gain(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Largest growth of the fall of mean y per unit of x; at most 0 where gains shrink."""
    places, means = _means(x, y)
    if len(places) < 3:
        return math.nan
    gains = -np.diff(means) / np.diff(places)
    return float(np.diff(gains).max())


def lead(x: NDArray[Any], by: NDArray[Any]) -> float:
    """Smallest x where ``by`` is true, minus the largest of the rest."""
    x, by = x.astype(float), by.astype(bool)
    return minimum(x[by]) - maximum(x[~by]) if by.any() and not by.all() else math.nan


def spearman_of_reduction(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Rank correlation of x with 1 - y / x."""
    return spearman(x, 1 - y / x)


def lead_of_reduction(x: NDArray[Any], y: NDArray[Any], by: NDArray[Any], key: str) -> float:
    """1 - x / y of the row that ``by`` calls ``key``, minus the largest of the others."""
    return lead(1 - x / y, by == key)


def time_ratio(names: NDArray[Any], seconds: NDArray[Any], first: str, second: str) -> float:
    """Seconds of one method over those of another."""
    over, under = (seconds[names == name] for name in (first, second))
    return _ratio(value(over), value(under)) if len(over) and len(under) else math.nan


def gap(low: NDArray[Any], high: NDArray[Any]) -> float:
    """Largest lower end minus smallest upper end: above 0 where two intervals are disjoint."""
    return maximum(low) - minimum(high)


STATISTICS: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (
        *(value, mean, median, quantile, total, count, distinct, minimum, maximum, spread),
        *(spearman, ratio_of_means, reduction, reduction_of_medians, difference_of_medians),
        *(margin, contrast, contrast_of_medians, ratio_between, excess, enrichment, power),
        *(largest_rise, growing_gain, lead, gap, spearman_of_reduction, lead_of_reduction),
        time_ratio,
    )
}


# Increasing in every row, so that the ends of the rows bound them: several rows hold at once
OF_ENDS = ("value", "minimum", "maximum")


def estimate(frame: pd.DataFrame, query: Query, n_resamples: int = 1000, seed: int = 0) -> Estimate:
    """The query's number of these rows, its interval and its prompts, in the query's scale.

    The interval is that of a prompt bootstrap, of the columns that ``interval`` names ('low
    high', whose smallest or largest are taken as those of the rows), or none. NaN without any row.
    Raises ``ClaimsError`` for a column that is not there.
    """
    if frame.empty and query.statistic not in ("count", "total"):
        return Estimate(math.nan, n=0)
    names, options = _parts(query, frame)
    function = STATISTICS[query.statistic]
    columns = [frame[name].to_numpy() for name in names]
    with np.errstate(all="ignore"):
        found = query.scale * function(*columns, **options)
        low, high = _interval(frame, query, columns, options, n_resamples, seed)
    return Estimate(found, query.scale * low, query.scale * high, _n(frame))


def _parts(query: Query, frame: pd.DataFrame) -> tuple[list[str], dict[str, Any]]:
    """Columns in the statistic's order, and its numbers and words (written as '=ioi')."""
    words = {key: part[1:] for key, part in query.of.items() if str(part).startswith("=")}
    names = [
        str(part) for key, part in query.of.items() if isinstance(part, str) and key not in words
    ]
    options = words | {key: part for key, part in query.of.items() if not isinstance(part, str)}
    absent = [name for name in names if name not in frame]
    if absent:
        raise ClaimsError(f"query '{query.name}': its table has no column '{absent[0]}'")
    return names, options


def _interval(
    frame: pd.DataFrame,
    query: Query,
    columns: list[NDArray[Any]],
    options: Mapping[str, Any],
    n_resamples: int,
    seed: int,
) -> tuple[float, float]:
    if query.interval not in ("prompts", "none"):
        low, high = (frame[name].to_numpy() for name in query.interval.split())
        if query.statistic not in OF_ENDS:
            raise ClaimsError(f"query '{query.name}': no interval of a {query.statistic} of ends")
        function = STATISTICS[query.statistic]
        return function(low, **options), function(high, **options)
    if query.interval == "none" or PROMPT not in frame or frame[PROMPT].nunique() < 2:
        return math.nan, math.nan
    rows = [np.flatnonzero(codes) for codes in _members(frame[PROMPT])]
    rng = np.random.default_rng(seed)
    function = STATISTICS[query.statistic]
    drawn = []
    for _ in range(n_resamples):
        index = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        drawn.append(function(*(column[index] for column in columns), **options))
    tail = (1 - LEVEL) / 2
    return quantile(np.array(drawn), tail), quantile(np.array(drawn), 1 - tail)


def _members(prompts: pd.Series) -> list[NDArray[np.bool_]]:
    return [(prompts == name).to_numpy() for name in sorted(prompts.unique())]


def _n(frame: pd.DataFrame) -> int | None:
    """Prompts behind these rows, None where the rows do not say."""
    if PROMPT in frame:
        return int(frame[PROMPT].nunique())
    return int(frame["n_prompts"].max()) if "n_prompts" in frame and len(frame) else None


def _means(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    places, group = np.unique(x, return_inverse=True)
    return places, np.bincount(group, weights=y) / np.bincount(group)


def _ratio(over: float, under: float) -> float:
    return over / under if under != 0 else math.nan


def _mean(x: NDArray[Any]) -> float:
    x = x[np.isfinite(x)]
    return float(x.mean()) if len(x) else math.nan


def _median(x: NDArray[Any]) -> float:
    x = x[np.isfinite(x)]
    return float(np.median(x)) if len(x) else math.nan
