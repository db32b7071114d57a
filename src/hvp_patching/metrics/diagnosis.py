"""What the reliability score says about attribution patching, and what correcting by it gains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hvp_patching.metrics.errors import COMPONENT, ScoresError, check_tidy
from hvp_patching.metrics.reliability import flagging_score, reliability_score

KEY = ["prompt_id", *COMPONENT]
# 0, then twenty values a decade from 0.005 to 5, with 0.5 among them
TAUS = (0.0, *(float(f"{0.5 * 10 ** (step / 20):.4g}") for step in range(-40, 21)))
CURVE_POINTS = 100


def reliability_table(scores: pd.DataFrame, trivial_effect: float = 1e-6) -> pd.DataFrame:
    """The frame ``reliability``: rho and relative errors of AP and HVP, per prompt and component.

    ``scores`` have the estimators ap and hvp. rho = |hvp - ap| / |ap| is NaN where ap is 0, errors
    are where |truth| <= trivial_effect, in nats. Raises ``ScoresError`` where an estimator is
    missing or the scores do not fit together. Section 3.2.
    """
    chosen = scores[scores["estimator"].isin(["ap", "hvp"])] if "estimator" in scores else scores
    check_tidy(chosen)
    ap, hvp = (
        chosen.loc[chosen["estimator"] == name, [*KEY, "estimate", "truth"]].rename(
            columns={"estimate": name}
        )
        for name in ("ap", "hvp")
    )
    table = ap.merge(hvp.drop(columns="truth"), on=KEY)
    if not len(table) == len(ap) == len(hvp):
        raise ScoresError(
            f"ap has {len(ap)} scores and hvp {len(hvp)}, {len(table)} of them for the same "
            "prompts and components; score every prompt with both"
        )
    table["rho"] = reliability_score(
        table["ap"].to_numpy(), 2 * (table["hvp"] - table["ap"]).to_numpy()
    )
    size = table["truth"].abs()
    for name in ("ap", "hvp"):
        missed = (table[name] - table["truth"]).abs()
        table[f"{name}_error"] = missed / size.where(size > trivial_effect)
    return table[[*KEY, "ap", "hvp", "truth", "rho", "ap_error", "hvp_error"]]


def flag(table: pd.DataFrame, tau: float) -> pd.DataFrame:
    """The frame ``flagged``: what Screen–Flag–Fix flags at threshold ``tau``, and what it gains.

    ``table`` is the frame ``reliability``, whose columns stay; AP = 0 counts as flagged where hvp
    differs. Figure 1.
    """
    misses = {f"{name}_miss": (table[name] - table["truth"]).abs() for name in ("ap", "hvp")}
    return table.assign(flagged=_score(table) > tau, **misses)


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """The frame ``agreement``: Spearman's correlation of rho with AP's relative error.

    ``table`` is the frame ``reliability``; pairs in which either is not defined are left out, NaN
    without any. Figure 3.
    """
    pairs = table[["rho", "ap_error"]]
    spearman = pairs.corr("spearman").loc["rho", "ap_error"]
    return pd.DataFrame({"n": [len(pairs.dropna())], "spearman": spearman})


def operating_curve(table: pd.DataFrame, taus: Sequence[float] | None = None) -> pd.DataFrame:
    """Flagged share and error left when HVP corrects only the components with rho > tau.

    ``table`` is ``reliability_table``'s; ``taus`` are ``TAUS`` by default. Returns one row per
    threshold, all fractions: tau, flagged_share (of all components; AP = 0 counts as flagged
    where hvp differs), ap_error, selective_error, hvp_error (median over prompts of the prompts'
    medians), reduction = 1 - selective / ap, ceiling = 1 - hvp / ap. Raises ``ValueError`` for a
    negative threshold. Figure 7.
    """
    thresholds = [float(tau) for tau in (TAUS if taus is None else taus)]
    if not all(tau >= 0 for tau in thresholds):
        raise ValueError(f"flag thresholds must be at least 0, got {min(thresholds):g}")
    score = _score(table)
    full, none = (_median_of_medians(table, table[name]) for name in ("hvp_error", "ap_error"))
    curve = pd.DataFrame({"tau": thresholds})
    curve["flagged_share"] = [float((score > tau).mean()) for tau in thresholds]
    curve["ap_error"] = none
    curve["selective_error"] = [
        _median_of_medians(table, table["hvp_error"].where(score > tau, table["ap_error"]))
        for tau in thresholds
    ]
    curve["hvp_error"] = full
    curve["reduction"] = 1 - curve["selective_error"] / curve["ap_error"]
    curve["ceiling"] = 1 - curve["hvp_error"] / curve["ap_error"]
    return curve


def selection_curve(table: pd.DataFrame, n_random: int = 200, seed: int = 0) -> pd.DataFrame:
    """Share of the full HVP gain that correcting part of the components brings.

    Components of all prompts of ``reliability_table``'s table are corrected in order of falling
    rho, or in ``n_random`` random orders. The gain of one is |ap - truth| - |hvp - truth| in nats.
    Returns share (of components, 0 to 1), by_rho, random_mean, random_low, random_high (2.5 and
    97.5 percentiles), as fractions of the gain of correcting all; NaN where that is not above 0.
    Figure 6b.
    """
    gain = ((table["ap"] - table["truth"]).abs() - (table["hvp"] - table["truth"]).abs()).to_numpy()
    n = len(gain)
    counts = np.unique(np.round(np.linspace(0, n, min(n, CURVE_POINTS) + 1)).astype(int))
    gain = gain / (gain.sum() if gain.sum() > 0 else np.nan)
    by_rho = np.argsort(-_score(table), kind="stable")
    rng = np.random.default_rng(seed)
    random = np.array([_captured(rng.permutation(gain), counts) for _ in range(n_random)])
    low, high = np.percentile(random, [2.5, 97.5], axis=0)
    return pd.DataFrame(
        {
            "share": counts / n,
            "by_rho": _captured(gain[by_rho], counts),
            "random_mean": random.mean(axis=0),
            "random_low": low,
            "random_high": high,
        }
    )


def layer_profile(table: pd.DataFrame) -> pd.DataFrame:
    """Reliability score and errors by layer, over the heads and prompts of one setting.

    ``table`` is ``reliability_table``'s. Returns layer, rho_median, rho_low, rho_high (quartiles;
    components with AP = 0 are left out), ap_error, hvp_error (medians over non-trivial effects,
    fractions); NaN where a layer has none. Figure 4.
    """
    layers = table.groupby("layer")
    rho = layers["rho"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    return pd.DataFrame(
        {
            "rho_median": rho[0.5],
            "rho_low": rho[0.25],
            "rho_high": rho[0.75],
            "ap_error": layers["ap_error"].median(),
            "hvp_error": layers["hvp_error"].median(),
        }
    ).reset_index()


def _score(table: pd.DataFrame) -> NDArray[np.float64]:
    return flagging_score(table["ap"], 2 * (table["hvp"] - table["ap"]))


def _median_of_medians(table: pd.DataFrame, error: pd.Series) -> float:
    return float(error.groupby(table["prompt_id"]).median().median())


def _captured(gain: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of the first `counts` gains; of none, 0 or NaN as the gains are."""
    return np.concatenate([0 * gain[:1], np.cumsum(gain)])[counts]
