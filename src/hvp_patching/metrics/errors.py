"""How far estimates are from the truth, per prompt and estimator."""

from __future__ import annotations

import pandas as pd

from hvp_patching.frames import SCORES, FrameError

GROUP = ["prompt_id", "estimator"]
COMPONENT = ["layer", "index"]


class ScoresError(FrameError):
    """A scores table from which no error can be computed."""


def prompt_errors(scores: pd.DataFrame, k: int = 5, trivial_effect: float = 1e-6) -> pd.DataFrame:
    """Both errors of every estimator on every prompt, from tidy scores of one model and task.

    Returns one row per prompt and estimator: prompt_id, estimator, cost, n_components,
    n_nontrivial (components with |truth| > trivial_effect, in nats), top_k_relative_error (NaN
    for a prompt of fewer than k components, as resid_post of a shallow model has) and
    median_relative_error, as fractions. Raises ``ScoresError`` as ``check_scores`` does.
    Sections 4.1 (top-k) and 4.2 (median).
    """
    check_scores(scores, k)
    nontrivial = scores["truth"].abs() > trivial_effect
    groups = scores.groupby(GROUP, sort=False)
    table = pd.DataFrame({"cost": groups["cost"].first(), "n_components": groups.size()})
    table["n_nontrivial"] = nontrivial.groupby([scores[column] for column in GROUP]).sum()
    table["top_k_relative_error"] = top_k_relative_error(scores, k)
    table["median_relative_error"] = median_relative_error(scores, trivial_effect)
    return table.reset_index()


def top_k_relative_error(scores: pd.DataFrame, k: int = 5) -> pd.Series:
    """Mean |estimate - truth| over the k largest |truth|, over that prompt's range of truth.

    A fraction per (prompt_id, estimator), NaN where there are fewer than k components. Equal
    |truth| are ordered by layer, then index. The scores are taken as checked by
    ``check_scores``. Section 4.1.
    """
    largest = (
        scores.assign(size=scores["truth"].abs())
        .sort_values(["size", *COMPONENT], ascending=[False, True, True])
        .groupby(GROUP, sort=False)
        .head(k)
    )
    miss = (largest["estimate"] - largest["truth"]).abs()
    mean_miss = miss.groupby([largest[column] for column in GROUP]).mean()
    truth = scores.groupby(GROUP)["truth"]
    return (mean_miss / (truth.max() - truth.min())).where(truth.size() >= k)


def median_relative_error(scores: pd.DataFrame, trivial_effect: float = 1e-6) -> pd.Series:
    """Median |estimate - truth| / |truth| over the components with |truth| > trivial_effect.

    A fraction per (prompt_id, estimator); NaN where a prompt has no effect above
    ``trivial_effect`` (nats). Tables 3, 11 and 12.
    """
    size = scores["truth"].abs()
    relative = (scores["estimate"] - scores["truth"]).abs() / size.where(size > trivial_effect)
    return relative.groupby([scores[column] for column in GROUP]).median()


def check_scores(scores: pd.DataFrame, k: int) -> None:
    """Raise ``ScoresError`` naming the first prompt from which no honest error can be computed.

    Refused: what ``check_tidy`` refuses, k below 1, and a prompt of k components or more without
    any spread of truth.
    """
    check_tidy(scores)
    if k < 1:
        raise ScoresError(f"k is {k}: the top-k error needs k of at least 1")
    prompts = scores.drop_duplicates(["prompt_id", *COMPONENT]).groupby("prompt_id", sort=False)
    spread = prompts["truth"].max() - prompts["truth"].min()
    flat = spread.index[(spread == 0) & (prompts.size() >= k)]
    if len(flat):
        raise ScoresError(
            f"prompt '{flat[0]}': every component has the same true effect, "
            "so no relative error exists; drop the prompt or check its corruption"
        )


def check_tidy(scores: pd.DataFrame) -> None:
    """Raise ``ScoresError`` naming the first prompt whose scores do not fit together.

    Refused: missing columns, no rows, values that are not finite, a component scored twice, truth
    or cost that depend on the wrong thing, and estimators that cover different components of a
    prompt.
    """
    SCORES.check(scores)
    if scores.empty:
        raise ScoresError("the scores have no rows: score at least one prompt")
    _check_finite(scores)
    _check_once(scores)
    _check_truth_and_cost(scores)
    _check_sizes(scores)


def _check_finite(scores: pd.DataFrame) -> None:
    for column in (*GROUP, *COMPONENT):
        if scores[column].isna().any():
            prompt = scores["prompt_id"][scores[column].isna()].iloc[0]
            raise ScoresError(f"prompt '{prompt}': a row has no {column}; score the prompt again")
    for column in ("estimate", "truth", "cost"):
        # NaN and both infinities fail this comparison
        bad = scores[~(scores[column].abs() < float("inf"))]
        if len(bad):
            row = bad.iloc[0]
            raise ScoresError(
                f"prompt '{row['prompt_id']}': {column} of estimator '{row['estimator']}' at layer "
                f"{row['layer']}, index {row['index']} is {row[column]}; compute it again"
            )


def _check_once(scores: pd.DataFrame) -> None:
    twice = scores[scores.duplicated([*GROUP, *COMPONENT])]
    if len(twice):
        row = twice.iloc[0]
        raise ScoresError(
            f"prompt '{row['prompt_id']}': layer {row['layer']}, index {row['index']} is scored "
            f"twice by estimator '{row['estimator']}'; give every prompt its own id"
        )


def _check_truth_and_cost(scores: pd.DataFrame) -> None:
    truths = scores.groupby(["prompt_id", *COMPONENT])["truth"].agg(["min", "max"])
    unequal = truths[truths["min"] != truths["max"]]
    if len(unequal):
        (prompt, layer, index), (low, high) = unequal.index[0], unequal.iloc[0]
        raise ScoresError(
            f"prompt '{prompt}': layer {layer}, index {index} has two truths, {low} and {high}; "
            "score all estimators against the same activation patching"
        )
    costs = scores.groupby("estimator")["cost"].agg(["min", "max"])
    unequal = costs[costs["min"] != costs["max"]]
    if len(unequal):
        low, high = unequal.iloc[0]
        raise ScoresError(f"estimator '{unequal.index[0]}' has two costs, {low} and {high}")


def _check_sizes(scores: pd.DataFrame) -> None:
    in_prompt = scores.drop_duplicates(["prompt_id", *COMPONENT]).groupby("prompt_id").size()
    sizes = scores.groupby(GROUP, sort=False).size()
    short = sizes[sizes != in_prompt.reindex(sizes.index.get_level_values("prompt_id")).to_numpy()]
    if len(short):
        prompt, estimator = short.index[0]
        raise ScoresError(
            f"prompt '{prompt}': estimator '{estimator}' scores {short.iloc[0]} components of "
            f"{in_prompt[prompt]}; score all of them"
        )
