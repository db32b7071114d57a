"""Table 2 where truth and estimate disagree, and how near its pattern comes to the paper's."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hvp_patching.frames import AS_DEFINED, FLOOR_METHODS, FLOOR_SCORES, MEAN_FIRST
from hvp_patching.metrics.errors import COMPONENT, ScoresError
from hvp_patching.metrics.sweep import sweep_errors
from hvp_patching.settings import KEY

OF_ALL = "mean over prompts"
ERROR = "top_k_relative_error"
RATIOS = ("hvp_ratio", "floor_ratio")
PATHS = (("ms_hvp_5", "ig_10"), ("ms_hvp", "ig"))  # our ids and the paper's of path methods
WITHIN = ["model", "reading"]


def floor_errors(scores: pd.DataFrame, k: int = 5) -> pd.DataFrame:
    """The frame ``floor_errors``: top-k relative error per prompt, estimator and reading.

    ``scores`` is the frame ``floor_scores``. Errors are fractions, as in ``sweep_errors``; where
    the mean over prompts is taken before the error, there is one of all prompts. Raises
    ``ScoresError`` as ``sweep_errors`` does.
    """
    FLOOR_SCORES.check(scores)
    parts = []
    for reading, own in scores.groupby("reading", sort=False):
        rows = _mean_scores(own) if reading == MEAN_FIRST else own
        errors = sweep_errors(rows.sort_values("prompt_id", kind="stable"), k)
        parts.append(errors.assign(reading=reading, changed=bool(own["changed"].any())))
    return pd.concat(parts, ignore_index=True)


def _mean_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """One prompt's worth of scores: means of estimates and truths over all prompts."""
    by = [*COMPONENT, "estimator", "cost", "truth_range"]
    means = scores.groupby(by, as_index=False, sort=False)[["estimate", "truth"]].mean()
    return means.assign(prompt_id=OF_ALL)


def paper_pattern(published: pd.DataFrame) -> pd.DataFrame:
    """hvp_ratio and floor_ratio of each task: medians over the models of the paper's Table 2."""
    table = published.pivot(
        index=["model", "task"], columns="method", values="top5_rel_error_pct"
    ).astype("float64")
    return _ratios(table, PATHS[1]).groupby("task").median()


def fit(
    errors: pd.DataFrame, published: pd.DataFrame, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The frame ``fit``: every reading's ratios beside the paper's, and how far they are apart.

    ``errors`` has the rows of the frame ``floor_errors`` of several settings, ``published`` is the
    paper's Table 2. hvp_ratio is HVP's mean error over AP's, floor_ratio the smaller one of
    MS-HVP's and IG's over AP's; the paper's are medians over its models. Over all ratios of a
    model, factor is exp of the root mean square of log(ours / paper's), gap the root mean square
    of ours − paper's; overall_ are those of all models. rank and gap_rank order by these the
    readings that every task has, as defined among them; closest is the share of prompt resamples
    in which a reading has rank 1, NaN with a single prompt. Tasks that the paper's table lacks
    have no rows. Raises ``ScoresError`` where it lacks them all.
    """
    means = errors.groupby([*KEY, "reading", "estimator"], sort=False)[ERROR].mean()
    ours = _ratios(means.unstack("estimator", sort=False), PATHS[0]).reset_index()
    theirs = paper_pattern(published).add_prefix("paper_").reset_index()
    rows = ours.merge(theirs, on="task")
    if rows.empty:
        tasks = ", ".join(dict.fromkeys(errors["task"]))
        raise ScoresError(f"the paper's Table 2 has none of the tasks {tasks}; choose one it has")
    n_tasks = rows.groupby(WITHIN)["task"].transform("nunique")
    of_model = rows[rows["reading"] == AS_DEFINED].groupby("model")["task"].nunique()
    rows["complete"] = n_tasks == rows["model"].map(of_model)
    rows = rows.merge(_distances(rows, WITHIN), on=WITHIN)
    rows = rows.merge(_distances(rows, ["reading"]).add_prefix("overall_"), on="reading")
    everywhere = rows.groupby("reading")["complete"].all()
    everywhere &= rows.groupby("reading")["model"].nunique() == rows["model"].nunique()
    ranked = rows.drop_duplicates("reading").set_index("reading").loc[everywhere[everywhere].index]
    for name, column in (("rank", "overall_factor"), ("gap_rank", "overall_gap")):
        rows[name] = rows["reading"].map(ranked[column].rank(method="first"))
    shares = _closest(errors, rows[rows["reading"].isin(ranked.index)], n_resamples, seed)
    return rows.assign(closest=rows["reading"].map(shares).astype("float64"))


def _closest(
    errors: pd.DataFrame, rows: pd.DataFrame, n_resamples: int, seed: int
) -> dict[str, float]:
    """The share of resamples of each setting's prompts in which a reading comes closest.

    Nothing where a setting has a single prompt.
    """
    by = [*KEY, "reading"]
    groups = dict(list(errors.groupby(by, sort=False)))
    squares: dict[str, NDArray[np.float64]] = {}
    counts: list[int] = []
    for row in rows.to_dict("records"):
        own = groups[tuple(row[name] for name in by)]
        table = own.pivot(index="prompt_id", columns="estimator", values=ERROR).sort_index()
        n = len(table)  # the same draws for every reading of as many prompts
        counts += [n] if row["reading"] != MEAN_FIRST else []
        drawn = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
        means = table[list(FLOOR_METHODS)].to_numpy()[drawn].mean(1)
        ratios = _ratios(pd.DataFrame(means, columns=list(FLOOR_METHODS)), PATHS[0])
        with np.errstate(divide="ignore"):
            miss = np.log(ratios.to_numpy() / [row[f"paper_{name}"] for name in RATIOS])
        squares[row["reading"]] = squares.get(row["reading"], 0.0) + (miss**2).sum(1)
    names = list(squares)
    if 1 in counts:
        return {}  # one prompt is drawn whenever anything is
    best = np.stack([squares[name] for name in names]).argmin(0)
    return {name: float((best == i).mean()) for i, name in enumerate(names)}


def _ratios(table: pd.DataFrame, paths: tuple[str, str]) -> pd.DataFrame:
    """The two ratios from a table with a column of errors per method."""
    floor = table[list(paths)].min(axis=1)
    return pd.DataFrame(
        {"hvp_ratio": table["hvp"] / table["ap"], "floor_ratio": floor / table["ap"]},
        index=table.index,
    )


def _distances(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """factor and gap over all ratios of each group, indexed by the columns ``by``."""
    ours = rows[list(RATIOS)].to_numpy(float)
    theirs = rows[[f"paper_{name}" for name in RATIOS]].to_numpy(float)
    with np.errstate(divide="ignore"):  # an error of exactly 0 is infinitely far off
        logarithms = np.log(ours / theirs) ** 2
    squares = pd.DataFrame(
        {"factor": logarithms.mean(1), "gap": ((ours - theirs) ** 2).mean(1)},
        index=rows.index,
    )
    roots = squares.groupby([rows[name] for name in by]).mean() ** 0.5
    return roots.assign(factor=np.exp(roots["factor"]))
