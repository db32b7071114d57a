"""The curvature gap: a neuron's own curvature beside that of the network behind it.

Both second-order terms are read off the scores: HVP adds half the network's quadratic form to AP,
the local correction half the neuron's own term. Section 3.3, Figure 2.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from hvp_patching.metrics.errors import ScoresError, check_tidy

COMPONENT = ["prompt_id", "layer", "index"]
NEEDED = ("ap", "hvp", "local_curvature")


def curvature_gap(scores: pd.DataFrame, trivial_effect: float = 1e-6) -> pd.DataFrame:
    """The frame ``curvature``: both second-order terms of every component and prompt.

    ``scores`` have the estimators ap, hvp and local_curvature. network is f''(0), local the sum
    over positions of phi''(h) delta^2 dm/dphi (signed), ap_error NaN where |truth| <=
    ``trivial_effect`` nats. Raises ``ScoresError`` as ``check_tidy`` does, and where one of the
    three estimators is absent. Section 3.3.
    """
    check_tidy(scores)
    absent = [name for name in NEEDED if not (scores["estimator"] == name).any()]
    if absent:
        raise ScoresError(
            f"the curvature gap needs the estimators {', '.join(NEEDED)}; the scores lack "
            f"{', '.join(absent)}: add them to the configuration"
        )
    table = scores.pivot(index=COMPONENT, columns="estimator", values="estimate")
    ap = table["ap"]
    truth = scores[scores["estimator"] == "ap"].set_index(COMPONENT)["truth"].reindex(ap.index)
    size = truth.abs()
    gap = pd.DataFrame(
        {
            "ap": ap,
            "network": 2 * (table["hvp"] - ap),
            "local": 2 * (table["local_curvature"] - ap),
            "ap_error": (ap - truth).abs() / size.where(size > trivial_effect),
        }
    )
    return gap.reset_index()


def curvature_summary(scores: pd.DataFrame, trivial_effect: float = 1e-6) -> pd.DataFrame:
    """How the two terms compare over all components and prompts, in one row.

    n_prompts and n (components and prompts); n_zero_local (of those, with a local term of 0);
    ratio_median, ratio_low, ratio_high (median and quartiles of |network| / |local| over the
    others); spearman, pearson of the two magnitudes and spearman_signed, pearson_signed of the
    signed terms; ap_error_spearman_network and ap_error_spearman_local, how AP's relative error
    ranks with |network| / |ap| and with |local| / |ap|. NaN for fewer than three pairs and for a
    constant. Raises ``ScoresError`` as ``curvature_gap`` does. Section 3.3.
    """
    gap = curvature_gap(scores, trivial_effect)
    network, local = gap["network"].abs(), gap["local"].abs()
    ap = gap["ap"].abs().where(gap["ap"] != 0)
    low, middle, high = (network / local.where(local > 0)).quantile([0.25, 0.5, 0.75])
    row = {
        "n_prompts": gap["prompt_id"].nunique(),
        "n": len(gap),
        "n_zero_local": int((local == 0).sum()),
        "ratio_median": middle,
        "ratio_low": low,
        "ratio_high": high,
        "spearman": _correlation(network, local, "spearman"),
        "pearson": _correlation(network, local, "pearson"),
        "spearman_signed": _correlation(gap["network"], gap["local"], "spearman"),
        "pearson_signed": _correlation(gap["network"], gap["local"], "pearson"),
        "ap_error_spearman_network": _correlation(network / ap, gap["ap_error"], "spearman"),
        "ap_error_spearman_local": _correlation(local / ap, gap["ap_error"], "spearman"),
    }
    return pd.DataFrame([row])


def _correlation(
    first: pd.Series, second: pd.Series, method: Literal["pearson", "spearman"]
) -> float:
    """Correlation of the pairs without NaN; NaN below three pairs or where one is constant."""
    pairs = pd.concat([first, second], axis=1).dropna()
    if len(pairs) < 3 or (pairs.nunique() < 2).any():
        return float("nan")
    return float(pairs.iloc[:, 0].corr(pairs.iloc[:, 1], method=method))
