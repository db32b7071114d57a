"""Error against measured cost: what accuracy costs, for one component and for all of them.

Nominal costs count backward passes. Here every method, exact activation patching among them, is
put down at what it takes on the machine: seconds, and whole forward passes of the same duration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hvp_patching.estimators import by_name
from hvp_patching.frames import (
    BASE_RUN,
    COSTS,
    COUNTS,
    EXACT,
    FORWARD,
    PATCHING,
    REVERSE,
    SCREENED,
    derivative,
)
from hvp_patching.metrics.errors import ScoresError, check_tidy, top_k_relative_error
from hvp_patching.metrics.summary import summarize


def frontier(
    sweep_errors: pd.DataFrame,
    scores: pd.DataFrame,
    costs: pd.DataFrame,
    counts: Sequence[int] = COUNTS,
    ks: Sequence[int] = (5, 10, 20, 40),
    top_k: int = 5,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``frontier``: error and measured cost of every method, for `counts` and for all.

    The arguments are the frames of these names; ``scores`` has AP of all components, and the
    reverse pass of ``costs`` tells how many there are. cost is NaN outside the sweep; on_frontier
    is ``pareto`` among the rows of one n_components, break_even ``Seconds.break_even``. ``EXACT``
    has the error 0; ``SCREENED``_k, among all components alone, is AP of all, then exact patching
    of the k of largest |AP|. Raises ``ScoresError`` where an operation was not measured, AP is not
    scored, no prompt is in both, or as ``check_tidy`` does.
    """
    sweep_errors, scores = _same_prompts(sweep_errors, scores)
    seconds = Seconds(costs)
    every = seconds.n_components
    resampling: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    errors = _rows(summarize(sweep_errors, **resampling))
    errors.append({"estimator": EXACT, "error": 0.0})
    screened = screened_errors(scores, [k for k in ks if k < every], top_k)
    with_ap = errors + _rows(summarize(screened, **resampling))
    rows: list[dict[str, Any]] = []
    for n in sorted({*(count for count in counts if count < every), every}):
        methods = with_ap if n == every else errors
        rows += [
            {**method, "n_components": n, "seconds": seconds.of(method["estimator"], n)}
            for method in methods
        ]
    table = pd.DataFrame(rows)
    table["seconds_per_component"] = table["seconds"] / table["n_components"]
    table["forward_equivalents"] = table["seconds_per_component"] / seconds.forward
    for _, group in table.groupby("n_components"):
        table.loc[group.index, "on_frontier"] = pareto(group["seconds"], group["error"])
    place = {name: costs[name].iloc[0] for name in ("device", "threads")}
    table = table.astype({"on_frontier": bool})
    return table.assign(break_even=seconds.break_even(), **place)


def _same_prompts(
    sweep_errors: pd.DataFrame, scores: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the prompts that both have: errors of other prompts are not to be compared."""
    common = set(sweep_errors["prompt_id"]) & set(scores["prompt_id"])
    if not common:
        raise ScoresError("the sweep and the scores have no prompt in common; compute them again")
    swept, scored = (table[table["prompt_id"].isin(common)] for table in (sweep_errors, scores))
    return swept, scored


def pareto(cost: pd.Series, error: pd.Series) -> pd.Series:
    """True where no other row costs no more, errs no more and is better in one of the two.

    Rows without an error are False.
    """
    x, y = cost.to_numpy(dtype=float), error.to_numpy(dtype=float)
    no_worse = (x <= x[:, None]) & (y <= y[:, None])
    better = (x < x[:, None]) | (y < y[:, None])
    dominated: NDArray[np.bool_] = np.any(no_worse & better, axis=1)
    return error.notna() & ~dominated


def screened_errors(scores: pd.DataFrame, ks: Sequence[int], top_k: int = 5) -> pd.DataFrame:
    """Top-k errors of AP after exact patching of each prompt's k components of largest |AP|.

    ``scores`` holds all components and the estimator ap. Returns prompt_id, estimator
    (``SCREENED``_k), cost (NaN), top_k_relative_error (a fraction). Equal |AP| are taken in
    (layer, index) order. Raises ``ScoresError`` without AP, or as ``check_tidy`` does.
    """
    check_tidy(scores)
    ap = scores[scores["estimator"] == "ap"]
    if ap.empty:
        raise ScoresError("no scores of 'ap': add it to the estimators and score again")
    ap = ap.assign(size=ap["estimate"].abs())
    ap = ap.sort_values(["size", "layer", "index"], ascending=[False, True, True])
    place = ap.groupby("prompt_id").cumcount()
    frames = []
    for k in ks:
        patched = ap["estimate"].mask(place < k, ap["truth"])
        name = f"{SCREENED}_{k}"
        frames.append(top_k_relative_error(ap.assign(estimate=patched, estimator=name), top_k))
    if not frames:
        return pd.DataFrame(columns=["prompt_id", "estimator", "cost", "top_k_relative_error"])
    errors = pd.concat(frames).rename("top_k_relative_error").reset_index()
    return errors.assign(cost=np.nan)


class Seconds:
    """Durations of methods, put together from the measured operations of a cost table.

    Between the measured numbers of rows they are interpolated, beyond them proportional. Raises
    ``FrameError`` where columns or the operations that every method needs are missing.
    """

    def __init__(self, costs: pd.DataFrame) -> None:
        COSTS.check(costs, "the table of costs")
        self._curves = {
            str(name): rows.sort_values("rows")[["rows", "seconds"]].to_numpy(dtype=float).T
            for name, rows in costs.groupby("operation")
        }
        self.n_components = int(self._curve(REVERSE)[0][-1])
        self.forward = self._of_rows(FORWARD, 1)
        self._base = self._of_rows(BASE_RUN, 1)

    def of(self, estimator: str, n: int) -> float:
        """Seconds for the estimates of `n` components of one prompt.

        AP and baselines take what all components take. ``ScoresError`` where an operation that
        the estimator needs was not measured.
        """
        if estimator == "ap":
            return self._of_all(REVERSE)
        if estimator == EXACT:
            return self._base + self._of_rows(PATCHING, n)
        if estimator.startswith(f"{SCREENED}_"):
            k = int(estimator.removeprefix(f"{SCREENED}_"))
            return self._of_all(REVERSE) + self._of_rows(PATCHING, k)
        if estimator in self._curves:
            return self._of_all(estimator)
        needed = Counter(derivative(node, order) for node, order in _request(estimator).items())
        parts = [self._of_rows(name, n * count) for name, count in needed.items()]
        return self._base + sum(parts)

    def break_even(self) -> float:
        """The smallest number of components that one reverse pass is faster than patching.

        NaN where patching all of them is faster.
        """
        numbers = range(1, self.n_components + 1)
        dearer = (n for n in numbers if self.of(EXACT, n) > self.of("ap", n))
        return float(next(dearer, np.nan))

    def _of_all(self, operation: str) -> float:
        return float(self._curve(operation)[1][-1])

    def _of_rows(self, operation: str, rows: int) -> float:
        measured, seconds = self._curve(operation)
        if rows > measured[-1]:
            return float(seconds[-1] * rows / measured[-1])
        return float(np.interp(rows, measured, seconds))

    def _curve(self, operation: str) -> NDArray[np.float64]:
        """Rows and seconds, [2, n_measured], by rows."""
        if operation not in self._curves:
            raise ScoresError(f"the costs lack the operation '{operation}': measure it")
        return self._curves[operation]


def _request(estimator: str) -> dict[float, int]:
    try:
        return by_name(estimator).request()
    except ValueError:  # a baseline
        raise ScoresError(f"the costs lack the operation '{estimator}': measure it") from None


def _rows(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Estimator, cost, n_prompts, error and its interval, as the rows of the frontier."""
    kept = ["estimator", "cost", "n_prompts", "value", "ci_low", "ci_high"]
    table = summary[kept].rename(columns={"value": "error"})
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
