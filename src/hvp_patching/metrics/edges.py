"""Scores of edges against exact patching on a sample, and what they cost (Table 14, tables/edges).

Errors are over records, pairs of an edge and a prompt; intervals resample prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from hvp_patching.aggregates import EDGE_SAMPLE, EDGE_TIMING, ONE_EDGE
from hvp_patching.metrics.circuits import circuit_summary
from hvp_patching.metrics.reliability import flagging_score
from hvp_patching.metrics.resampling import bootstrap_interval

EAP, FLAGGED = "eap", "flagged"
SECOND_ORDER = ("hvp_", "selective")  # what they add to EAP is a second-order term
RECORD = ["prompt_id", "writer", "reader"]
ONE = ("input", "m0")
ALL = "all"  # every sampled edge once


class EdgesError(ValueError):
    """Samples or seconds of edges of which nothing can be told."""


def edge_errors(
    sample: pd.DataFrame,
    tau: float = 0.5,
    trivial_effect: float = 1e-6,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """The frame ``edge_errors``: one row a stratum and method, and `all` for each edge once.

    ``sample`` is the frame ``edge_sample``. Edges with an effect up to trivial_effect (logits) have
    no relative error and no sign. Seconds are means over prompts: of one edge alone (the whole pass
    where that scores all at once) and of all edges (projected where each, or each reader, has its
    price).
    EdgesError where EAP is not among the methods, or there are no rows.
    """
    EDGE_SAMPLE.check(sample)
    methods = sample["method"].unique()
    if sample.empty or EAP not in methods:
        raise EdgesError("the sample of edges has no scores by 'eap'; sample the edges again")
    kept = sample[sample["method"].isin(_everywhere(sample))]
    ap = kept[kept["method"] == EAP].drop_duplicates(RECORD).set_index(RECORD)["edge_score"]
    kept = kept.join(ap.rename("ap"), on=RECORD)
    once = kept.drop_duplicates([*RECORD, "method"]).assign(stratum=ALL)
    seconds = {str(name): _seconds(rows) for name, rows in kept.groupby("method", sort=False)}
    rows = []
    for (stratum, method), group in pd.concat([once, kept]).groupby(
        ["stratum", "method"], sort=False
    ):
        found = _errors(group, trivial_effect, n_resamples, seed)
        flagged = _flagged(group, str(method), tau)
        own: dict[str, Any] = {"stratum": stratum, "method": method, "flagged_share": flagged}
        rows.append(own | found | seconds[str(method)])
    return pd.DataFrame(rows)


def _everywhere(sample: pd.DataFrame) -> list[str]:
    """Methods that score every sampled edge; others are for the one edge alone."""
    counts = sample.drop_duplicates([*RECORD, "method"])["method"].value_counts()
    return [str(name) for name in sample["method"].unique() if counts[name] == counts[EAP]]


def _errors(
    group: pd.DataFrame, trivial_effect: float, n_resamples: int, seed: int
) -> dict[str, Any]:
    miss, size = (group["edge_score"] - group["exact"]).abs(), group["exact"].abs()
    nontrivial = size > trivial_effect
    sums = pd.DataFrame({"miss": miss, "size": size}).groupby(group["prompt_id"]).sum()
    low, high = _ratio_interval(sums.sort_index(), n_resamples, seed)
    same = np.sign(group["edge_score"]) == np.sign(group["exact"])
    return {
        "n_prompts": len(sums),
        "n_records": len(group),
        "error_share": _ratio(float(miss.sum()), float(size.sum())),
        "ci_low": low,
        "ci_high": high,
        "median_relative_error": float((miss / size)[nontrivial].median()),
        "sign_agreement": float(same[nontrivial].mean()),
    }


def _ratio(first: float, second: float) -> float:
    return first / second if second > 0 else float("nan")


def _ratio_interval(sums: pd.DataFrame, n_resamples: int, seed: int) -> tuple[float, float]:
    """Percentile interval of a ratio of sums over prompts; NaN for one prompt or without effect."""
    n = len(sums)
    if n == 1:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    miss, size = (sums[name].to_numpy()[drawn].sum(1) for name in ("miss", "size"))
    if not bool((size > 0).all()):
        return float("nan"), float("nan")
    low, high = np.quantile(miss / size, (0.025, 0.975))
    return float(low), float(high)


def _flagged(group: pd.DataFrame, method: str, tau: float) -> float:
    """Share whose second-order term is above tau · |EAP|; NaN for a method that has none."""
    if not method.startswith(SECOND_ORDER):
        return float("nan")
    rho = flagging_score(group["ap"], 2 * (group["edge_score"] - group["ap"]))
    return float((rho > tau).mean())


def _seconds(rows: pd.DataFrame) -> dict[str, Any]:
    """A method's seconds of one edge and of all edges of a prompt, means over prompts."""
    each = rows.drop_duplicates("prompt_id")
    per = each["per"].iloc[0]
    known = per != FLAGGED  # whose price depends on how many edges are
    one = each["seconds"] / each["n_scored"]
    return {
        "per": per,
        "seconds_per_edge": float(one.mean()) if known else float("nan"),
        "seconds_all": float((one * each["n_units"]).mean()) if known else float("nan"),
        "captures": float(each["captures"].mean()),
        "n_edges": int(each["n_edges"].iloc[0]),
        "place": " and ".join(sorted(set(each["place"]))),
    }


def edge_effects(sample: pd.DataFrame) -> pd.DataFrame:
    """The frame ``edge_effects``: the edge from the embedding into MLP 0 by every method.

    value: mean over prompts, logits; lowest, highest: of a prompt; sign_agreement: the share of
    prompts on which the score has the sign of the exact effect. EdgesError without the edge.
    """
    EDGE_SAMPLE.check(sample)
    one = sample[(sample["writer"] == ONE[0]) & (sample["reader"] == ONE[1])]
    if one.empty:
        raise EdgesError("the sample lacks the edge input->m0; sample the edges again")
    one = one.drop_duplicates([*RECORD, "method"])
    rows = []
    for method, group in one.groupby("method", sort=False):
        same = np.sign(group["edge_score"]) == np.sign(group["exact"])
        rows.append(
            {
                "method": method,
                "n_prompts": len(group),
                "value": float(group["edge_score"].mean()),
                "lowest": float(group["edge_score"].min()),
                "highest": float(group["edge_score"].max()),
                "sign_agreement": float(same.mean()),
            }
        )
    return pd.DataFrame(rows)


def one_edge_summary(
    values: pd.DataFrame, n_resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> pd.DataFrame:
    """circuit_summary of the frame ``one_edge``, with the edge's mean effect and scores beside."""
    ONE_EDGE.check(values)
    found = circuit_summary(values, n_resamples, seed, level)
    first = values.iloc[0]
    return found.assign(**{name: float(first[name]) for name in _ABOUT})


_ABOUT = ("exact", "eap_score", "hvp_joint_score")


def edge_costs(timing: pd.DataFrame, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The frame ``edge_costs``: one row a method, EAP first; ``timing`` is that of its name.

    seconds_all is the mean over the prompts that a method was timed on (n_timed), projected to all
    edges where each has its price; total_seconds are those of all prompts with their captures,
    overhead is that total over EAP's. EdgesError where EAP was not timed on every prompt.
    """
    EDGE_TIMING.check(timing)
    n = timing["prompt_id"].nunique()
    base = timing[timing["method"] == EAP]
    if base.empty or len(base) != n:
        raise EdgesError("EAP was not timed on every prompt; time the edges again")
    captures = float(base["captures"].mean())
    eap_total = n * (captures + float(base["seconds"].mean()))
    rows = list(_costs(timing, n, captures, n_resamples, seed))
    return pd.DataFrame(rows).assign(overhead=lambda t: t["total_seconds"] / eap_total)


def _costs(
    timing: pd.DataFrame, n: int, captures: float, n_resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    for method, group in timing.groupby("method", sort=False):
        group = group.sort_values("prompt_id", kind="stable")
        n_edges = int(group["n_edges"].iloc[0])
        scale = (group["n_units"] / group["n_scored"]).to_numpy()
        seconds = group["seconds"].to_numpy() * scale
        low, high = bootstrap_interval(seconds, n_resamples=n_resamples, seed=seed)
        flagged = group["flagged_share"].dropna()
        yield {
            "method": method,
            "per": group["per"].iloc[0],
            "n_prompts": n,
            "n_timed": len(group),
            "n_layers": int(group["n_layers"].iloc[0]),
            "n_edges": n_edges,
            "seconds_all": float(seconds.mean()),
            "all_low": low,
            "all_high": high,
            "captures": captures,
            "total_seconds": n * (captures + float(seconds.mean())),
            "flagged_share": float(flagged.mean()) if len(flagged) else float("nan"),
            "projected": bool(len(group) < n or (scale != 1).any()),
            "place": " and ".join(sorted(set(group["place"]))),
        }
