"""How well estimates rank components: overlap of top lists, rank correlation and NDCG.

Components are ranked by |score|, the largest first; equal sizes are ordered by layer, then index.
Where k exceeds the number of components, a top-k quantity is NaN: such a list holds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import ndcg_score

from hvp_patching.metrics.errors import COMPONENT, GROUP, ScoresError, check_tidy
from hvp_patching.metrics.reliability import reliability_score

Relevance = Literal["top_k", "effect"]
Sizes = NDArray[np.float64]
Coefficient = Callable[[Sizes, Sizes], Any]

TOP = (5, 10, 20)
RECOVERY_TOP = (10, 15, 20, 26)
CASE_ESTIMATORS = ("ap", "hvp")


def top_k_overlap(scores: pd.DataFrame, ks: Sequence[int] = TOP) -> pd.DataFrame:
    """Share of each prompt's true top k by |Δ| that is in an estimator's top k by |estimate|.

    Returns prompt_id, estimator, k, overlap (a fraction). Raises ``ScoresError`` for scores that
    ``check_tidy`` refuses, a k below 1 or an
    estimator that covers other prompts than the rest. Tables 4 and 10.
    """
    _check(scores, ks)
    return _overlap(scores, GROUP, ks)


def top_k_recovery(scores: pd.DataFrame, ks: Sequence[int] = RECOVERY_TOP) -> pd.DataFrame:
    """Overlap of the top lists after each component's scores are averaged over prompts.

    Returns estimator, k, overlap (a fraction). Errors as in ``top_k_overlap``. Table 18.
    """
    _check(scores, ks)
    return _overlap(_prompt_means(scores), ["estimator"], ks)


def rank_agreement(scores: pd.DataFrame, ks: Sequence[int] = TOP) -> pd.DataFrame:
    """Rank correlation and NDCG of |mean score| against |mean Δ|, means over prompts first.

    Returns estimator, kendall_tau (tau-b), spearman, for each k ndcg_at_k (relevance ``top_k``,
    the paper's) and ndcg_effect_at_k (relevance ``effect``), n_components and n_prompts; no units.
    A correlation with a constant is NaN. Errors as in ``top_k_overlap``. Table 15, appendix E.7.
    """
    _check(scores, ks)
    rows = []
    for estimator, table in _prompt_means(scores).groupby("estimator", sort=False):
        truth, estimate = table["truth"].abs().to_numpy(), table["estimate"].abs().to_numpy()
        row: dict[str, object] = {
            "estimator": estimator,
            "kendall_tau": _correlation(stats.kendalltau, truth, estimate),
            "spearman": _correlation(stats.spearmanr, truth, estimate),
        }
        row |= {f"ndcg_at_{k}": ndcg(truth, estimate, k) for k in ks}
        row |= {f"ndcg_effect_at_{k}": ndcg(truth, estimate, k, "effect") for k in ks}
        rows.append(row | {"n_components": len(table)})
    return pd.DataFrame(rows).assign(n_prompts=scores["prompt_id"].nunique())


def ndcg(truth: ArrayLike, estimate: ArrayLike, k: int, relevance: Relevance = "top_k") -> float:
    """NDCG@k of the ranking by |estimate|; equal sizes keep their order. NaN for k > n.

    ``truth`` and ``estimate`` are [n_components]. Relevance ``top_k`` is 1 for the k largest
    |truth| and 0 for the rest: it alone reaches only the values that Table 15 prints (0.869 at
    k = 5 is one miss in the last place). ``effect`` is |truth| itself. Raises ``ValueError`` for
    another relevance. Appendix E.7.
    """
    true_size, size = np.abs(np.asarray(truth)), np.abs(np.asarray(estimate))
    if k > len(size):
        return float("nan")
    if relevance == "top_k":
        gain = (_ranks(true_size) <= k).astype(np.float64)
    elif relevance == "effect":
        gain = true_size
    else:
        raise ValueError(f"unknown relevance '{relevance}'; choose one of: top_k, effect")
    return float(ndcg_score([gain], [-_ranks(size)], k=k))


def case_study(scores: pd.DataFrame, within: int = 20, ms_hvp: str = "ms_hvp_5") -> pd.DataFrame:
    """One row per component with its prompt means and ranks, the worst under-ranked one marked.

    The frame ``case_study``, with ms_hvp where ``scores`` has that estimator. rho is that of the
    means; misranked is true for one row: among the ``within`` components of highest true rank the
    one whose AP rank is farthest below, the first by true rank of several.
    Raises ``ScoresError`` where AP or HVP is missing, else as ``top_k_overlap``. Appendix E.10.
    """
    _check(scores, (within,))
    means = _prompt_means(scores)
    wide = means.pivot(index=COMPONENT, columns="estimator", values="estimate").sort_index()
    missing = [name for name in CASE_ESTIMATORS if name not in wide]
    if missing:
        raise ScoresError(f"the case study needs the estimators {', '.join(missing)}: score them")
    table = pd.DataFrame({"truth": means.groupby(COMPONENT)["truth"].first()})
    for name in CASE_ESTIMATORS:
        table[name] = wide[name]
    if ms_hvp in wide:
        table["ms_hvp"] = wide[ms_hvp]
    ap, hvp = (table[name].to_numpy() for name in CASE_ESTIMATORS)
    table["rho"] = reliability_score(ap, 2 * (hvp - ap))
    for name in ("truth", *CASE_ESTIMATORS):
        table[f"rank_{name}"] = _ranks(table[name].abs().to_numpy())
    top = table[table["rank_truth"] <= within].sort_values("rank_truth")
    table["misranked"] = table.index == (top["rank_ap"] - top["rank_truth"]).idxmax()
    table["n_prompts"] = scores["prompt_id"].nunique()
    return table.reset_index()


def _check(scores: pd.DataFrame, ks: Sequence[int]) -> None:
    if any(k < 1 for k in ks):
        raise ScoresError(f"k is {min(ks)}: a top list needs k of at least 1")
    check_tidy(scores)
    prompts = scores.groupby("estimator", sort=False)["prompt_id"].nunique()
    n_prompts = scores["prompt_id"].nunique()
    if (prompts < n_prompts).any():
        estimator = prompts.index[prompts < n_prompts][0]
        raise ScoresError(
            f"estimator '{estimator}' scores {prompts[estimator]} of {n_prompts} prompts; "
            "rank all estimators on the same prompts"
        )


def _prompt_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over prompts per estimator and component, in (layer, index) order: estimate, truth."""
    estimators = scores["estimator"].unique()
    means = scores.groupby(["estimator", *COMPONENT])[["estimate", "truth"]].mean()
    return means.loc[estimators].reset_index()


def _correlation(coefficient: Coefficient, truth: Sizes, estimate: Sizes) -> float:
    if np.ptp(truth) == 0 or np.ptp(estimate) == 0:
        return float("nan")  # scipy gives the same, with a warning
    return float(coefficient(truth, estimate).statistic)


def _ranks(size: Sizes) -> NDArray[np.int64]:
    """1 for the largest; equal sizes in their order."""
    return stats.rankdata(-size, method="ordinal")


def _overlap(scores: pd.DataFrame, by: list[str], ks: Sequence[int]) -> pd.DataFrame:
    ordered = scores.sort_values(COMPONENT, kind="stable")
    rows = []
    for _, table in ordered.groupby(by, sort=False):
        of_truth, of_estimate = (
            _ranks(table[column].abs().to_numpy()) for column in ("truth", "estimate")
        )
        for k in ks:
            shared = int(((of_truth <= k) & (of_estimate <= k)).sum())
            row = {column: table[column].iloc[0] for column in by}
            rows.append(row | {"k": k, "overlap": shared / k if k <= len(table) else np.nan})
    return pd.DataFrame(rows)
