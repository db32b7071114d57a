"""What is measured: every table under results/metrics, and how results are read.

Each is the result of a rule of its name (`workflow/analyses.py`), one file per setting and site
or, for the tallies, one of several settings. Fractions are fractions: percent is presentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from hvp_patching.frames import (
    COMPONENT,
    CONVERGENCE_SWEEP,
    COST,
    COSTS,
    METHOD,
    PLACE,
    PROBES,
    PROMPT,
    PROMPTS,
    ROW,
    SCORES,
    SWEEP,
    Frame,
    FrameError,
    holding,
)
from hvp_patching.settings import KEY, Setting

N = {"n_prompts": "count"}
INTERVAL = {"ci_low": "low end of the 95% prompt bootstrap", "ci_high": "its high end"}
VALUE = N | {"value": "mean or median over prompts"} | INTERVAL
RANGE = {"lowest": "smallest of a prompt", "highest": "largest of a prompt"}
SUMMARY = METHOD | COST | VALUE | RANGE
REDUCTION = {
    "reduction": "1 - error / AP's error, a fraction; empty for AP",
    "reduction_low": "low end of its paired 95% interval",
    "reduction_high": "its high end",
}
TOP_K = {"top_k_relative_error": "fraction of the prompt's range of truth (section 4.1)"}
PAIR = {
    **holding("estimator", "first", "second"),
    **holding("mean over prompts, a fraction", "first_value", "second_value"),
    "difference": "first - second, a fraction",
    **INTERVAL,
    "p": "paired bootstrap over prompts, two-sided",
    **N,
    "verdict": "of the first: win, tie or loss",
}
AT_K = {"k": "length of the list"}
OVERLAP = {"overlap": "fraction of k"}
ESTIMATES = holding("nats", "ap", "hvp", "truth")
RHO = {"rho": "no unit, empty where AP is 0"}

MEASURED = (
    Frame(
        "errors",
        PROMPT
        | METHOD
        | COST
        | {"n_components": "count", "n_nontrivial": "of them, with |truth| > trivial_effect"}
        | TOP_K
        | {"median_relative_error": "median |estimate - truth| / |truth|, a fraction"},
    ),
    Frame("summary", SUMMARY),
    Frame(
        "medians",
        SUMMARY
        | REDUCTION
        | holding("sum over all prompts", "n_components", "n_nontrivial")
        | {"n_all_prompts": "count, those without an effect included"},
    ),
    Frame("paired", PAIR),
    Frame("sweep_errors", PROMPT | METHOD | COST | TOP_K),
    Frame("sweep_summary", SUMMARY),
    Frame("sweep_paired", PAIR),
    Frame(
        "steepest_rise",
        ROW | METHOD | {"steps": "K of MS-HVP", "error": "a fraction of truth_range"},
    ),
    Frame("overlap", PROMPT | METHOD | AT_K | OVERLAP),
    Frame("overlap_summary", AT_K | METHOD | VALUE),
    Frame("overlap_paired", AT_K | PAIR),
    Frame("recovery", METHOD | AT_K | OVERLAP),
    Frame(
        "ranking",
        METHOD
        | holding("no unit", "kendall_tau", "spearman", *(f"ndcg_at_{k}" for k in (5, 10, 20)))
        | holding("no unit, graded by effect", *(f"ndcg_effect_at_{k}" for k in (5, 10, 20)))
        | {"n_components": "count"}
        | N,
    ),
    Frame(
        "case_study",
        COMPONENT
        | holding("mean over prompts, nats", "truth", "ap", "hvp")
        | RHO
        | holding("from 1", "rank_truth", "rank_ap", "rank_hvp")
        | {"misranked": "true for one component"}
        | N,
    ),
    Frame(
        "absolute_errors",
        METHOD
        | N
        | {"n_components": "count", "n_records": "prompts times components"}
        | {"mae": "mean |estimate - truth|, nats", "relative_to_ap": "mae / AP's"}
        | REDUCTION,
    ),
    Frame("prefix", N | {"reduction": "fraction"}),
    Frame(
        "reliability",
        ROW | ESTIMATES | RHO | holding("fraction of |truth|", "ap_error", "hvp_error"),
    ),
    Frame(
        "flagged",
        ROW
        | ESTIMATES
        | RHO
        | {"flagged": "rho above the threshold"}
        | holding("|estimate - truth|, nats", "ap_miss", "hvp_miss"),
    ),
    Frame("agreement", {"n": "pairs of prompt and component", "spearman": "no unit"}),
    Frame(
        "operating",
        {"tau": "threshold"}
        | holding("fraction", "flagged_share", "ap_error", "selective_error", "hvp_error")
        | {"reduction": "fraction", "ceiling": "reduction of correcting all, a fraction"},
    ),
    Frame(
        "selection",
        {"share": "of components, 0 to 1"}
        | holding("fraction", "by_rho", "random_mean", "random_low", "random_high"),
    ),
    Frame(
        "layers",
        {"layer": "number from 0"}
        | holding("no unit", "rho_median", "rho_low", "rho_high")
        | holding("fraction", "ap_error", "hvp_error"),
    ),
    Frame(
        "auroc",
        {"quantity": "delta_norm or effect", "quartile": "Q1 to Q4, all"}
        | holding("limit of the quartile", "low", "high")
        | holding("count", "n", "n_unreliable")
        | {"auroc": "of rho, no unit"}
        | INTERVAL,
    ),
    Frame("curvature", ROW | holding("nats", "ap", "network", "local") | {"ap_error": "fraction"}),
    Frame(
        "curvature_summary",
        N
        | holding("count", "n", "n_zero_local")
        | {"ratio_median": "|network| / |local|"}
        | holding("no unit", "spearman", "pearson"),
    ),
    Frame("lipschitz", {"quantity": "name", "statistic": "name", "value": "number"}),
    Frame(
        "lipschitz_layers",
        {"layer": "number from 0", "n": "count", "bound_holds_rate": "fraction"}
        | holding("nats per cubed unit", "lipschitz_median", "lipschitz_scalar_median")
        | {"lipschitz_max": "nats per cubed unit", "delta_norm_median": "units of the activation"},
    ),
    Frame(
        "convergence",
        {"dtype": "of the model", "family": "estimator without its steps", "steps": "count"}
        | METHOD
        | COST
        | N
        | {"n_components": "count"}
        | holding("fraction", "error", "error_max", "truth_rounding", "estimate_rounding", "floor")
        | {"cause": "what stops it, in words"},
    ),
    Frame(
        "frontier",
        METHOD
        | COST
        | N
        | {"error": "mean top-k error, a fraction"}
        | INTERVAL
        | {"n_components": "computed at once", "seconds": "of all of them"}
        | {"seconds_per_component": "s", "forward_equivalents": "forward passes per component"}
        | {"on_frontier": "no other is as cheap and as good"}
        | {"break_even": "components from which AP is faster than the truth"}
        | PLACE,
    ),
    Frame(
        "tally",
        {"n": "comparisons"}
        | holding("count", "wins", "ties", "losses")
        | {"weak": "decided on fewer than ``SMALLEST_SAMPLE`` prompts"}
        | holding("count, by the difference", "lower", "lower_sure", "higher", "higher_sure")
        | holding("difference, a fraction", "smallest", "largest"),
    ),
)
READ = (PROMPTS, SCORES, SWEEP, CONVERGENCE_SWEEP, PROBES, COSTS, Frame("model", {"model": "id"}))
FRAMES: Mapping[str, Frame] = {frame.name: frame for frame in (*READ, *MEASURED)}


def read_result(
    name: str,
    paths: Sequence[Path | str],
    settings: Sequence[Setting],
    sites: Sequence[str] = (),
) -> pd.DataFrame:
    """The rows of all files in order, each with the columns of its setting (and site) in front.

    ``settings``, and ``sites`` if given, are parallel to ``paths``. Raises ``FrameError`` where the
    lists differ in length or are empty, a setting (and site) occurs twice, or a file lacks a
    column of ``FRAMES[name]``.
    """
    if len(paths) != len(settings) or (sites and len(sites) != len(paths)):
        counts = f"{len(settings)} settings" + (f", {len(sites)} sites" if sites else "")
        raise FrameError(f"{len(paths)} files of '{name}' but {counts}: give one of each per file")
    if not paths:
        raise FrameError(f"no settings for '{name}': choose at least one model and task")
    found: dict[tuple[object, ...], pd.DataFrame] = {}
    for i, (path, setting) in enumerate(zip(paths, settings, strict=True)):
        key = (setting, *sites[i : i + 1])
        if key in found:
            raise FrameError(f"{', '.join(map(str, key))} is listed twice: give it once")
        table = FRAMES[name].check(pd.read_parquet(path), str(path))
        own = asdict(setting) | ({"site": sites[i]} if sites else {})
        found[key] = pd.concat([pd.DataFrame(own, index=table.index), table], axis=1)
    return pd.concat(found.values(), ignore_index=True)


def by_setting(table: pd.DataFrame) -> dict[Setting, pd.DataFrame]:
    """Each setting's rows of ``read_result``'s table, in order of appearance."""
    groups = table.groupby(list(KEY), sort=False)
    return {Setting(*map(str, key)): group for key, group in groups}
