"""What is measured: every table under results/metrics, and how results are read.

Each is the result of a rule of its name (`workflow/analyses.py`), one file per setting and site
or, for the tally, one of several settings. A column means the same wherever it stands. Fractions
are fractions: percent is a matter of presentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from hvp_patching.frames import (
    ACCURACY,
    AUTOENCODERS,
    CONVERGENCE_SWEEP,
    COSTS,
    FEATURE_SCORES,
    FLOOR_SCORES,
    HESSIANS,
    PROBES,
    PROMPT,
    PROMPTS,
    RANKING_SCORES,
    ROLE_SCORES,
    SCORES,
    SET_EFFECTS,
    SPECTRA,
    SWEEP,
    TOP,
    Frame,
    FrameError,
    holding,
)
from hvp_patching.settings import KEY, Setting

MODEL = Frame("model", {"model": "id"})
FAITHFULNESS = Frame(
    "faithfulness",
    PROMPT
    | holding("name", "method", "selection")
    | {"level": "fraction of the edges", "n_edges": "count", "n_kept": "count, after pruning"}
    | holding("logits", "m", "m_clean", "m_corrupted"),
    "judge the circuits again",
)
ONE_EDGE = Frame(
    "one_edge",
    dict(FAITHFULNESS.columns)
    | {"exact": "f(1) - f(0) of an edge alone, logits"}
    | holding("logits", "eap_score", "hvp_joint_score"),
    "judge the circuits of one edge again",
)
CLOCK = {
    **holding("s", "seconds", "captures"),
    "per": "what the method's price is counted by: prompt, edge, reader or flagged (edge)",
    **holding("count of what `per` names: timed, and in the graph", "n_scored", "n_units"),
    "n_edges": "count of edges in the graph, or in a circuit",
    "place": "processor and threads of the clock",
}
EDGE_SAMPLE = Frame(
    "edge_sample",
    PROMPT
    | holding("name", "stratum", "writer", "reader", "method")
    | {"edge_score": "logits", "exact": "f(1) - f(0) of an edge alone, logits"}
    | CLOCK,
    "sample the edges again",
)
EDGE_TIMING = Frame(
    "edge_timing",
    PROMPT
    | {"method": "name", "flagged_share": "fraction of components", "n_layers": "count"}
    | CLOCK,
    "time the edges again",
)
READ = (
    *(PROMPTS, SCORES, RANKING_SCORES, TOP, SWEEP, CONVERGENCE_SWEEP, PROBES, ROLE_SCORES),
    *(COSTS, ACCURACY, MODEL, FAITHFULNESS, FEATURE_SCORES, AUTOENCODERS, HESSIANS),
    *(ONE_EDGE, EDGE_SAMPLE, EDGE_TIMING, FLOOR_SCORES),
    *(SET_EFFECTS, SPECTRA),
)
_SIGNS = [sign + sure for sign in ("lower", "higher") for sure in ("", "_sure", "_survives")]
MEANINGS = {
    **{column: what for frame in READ for column, what in frame.columns.items()},
    **holding("count", "n_prompts", "n_all_prompts", "n_records", "n_components", "n_nontrivial"),
    "n_all_records": "count, trivial effects included",
    **holding("count", "n", "n_zero_local", "n_unreliable", "wins", "ties", "losses"),
    **holding("count", "undecided", "k", "steps", "n_timed"),
    **holding("area or mean of f, no unit", "cpr", "cmd", "average"),
    **holding(
        "end of the 95% prompt bootstrap",
        *(f"{area}_{end}" for area in ("cpr", "cmd", "average") for end in ("low", "high")),
    ),
    "area": "cpr, cmd or average",
    "f": "share of the gap between clean and corrupted metric, a fraction",
    "value": "mean or median over prompts, or what a statistic is worth",
    **holding("end of the 95% prompt bootstrap", "ci_low", "ci_high"),
    **holding("smallest or largest of a prompt", "lowest", "highest"),
    "reduction": "1 - error / AP's error, a fraction",
    **holding("end of the reduction's paired 95% interval", "reduction_low", "reduction_high"),
    "top_k_relative_error": "fraction of the prompt's range of truth (section 4.1)",
    "median_relative_error": "median |estimate - truth| / |truth|, a fraction (section 4.2)",
    **holding("estimator of a pair; a difference is first - second", "first", "second"),
    **holding("mean over prompts, a fraction", "first_value", "second_value", "error"),
    **holding("difference of fractions", "difference", "smallest", "largest"),
    "p": "paired bootstrap over prompts, two-sided",
    "p_smallest": "the smallest p that so many prompts can support",
    "decidable": "true or false: p_smallest is below frames.ALPHA",
    "verdict": "of the first: win, tie or loss; undecided where n is too small for any test",
    "q": "p adjusted for all decidable comparisons of a table (Benjamini-Hochberg)",
    "survives": "true or false: q is below frames.ALPHA",
    **holding("name", "task", "corruption"),
    **holding("count by the sign of the difference", *_SIGNS),
    "overlap": "fraction of the k of a top list",
    **holding("rank correlation, no unit", "kendall_tau", "spearman", "pearson"),
    **holding("no unit", *(f"ndcg{by}_at_{k}" for by in ("", "_effect") for k in (5, 10, 20))),
    **holding("rank from 1", "rank_truth", "rank_ap", "rank_hvp"),
    **holding("true or false", "misranked", "flagged", "on_frontier"),
    **holding("nats", "ap", "hvp", "network", "local", "mae", "ap_miss", "hvp_miss"),
    "relative_to_ap": "mae / AP's",
    "rho": "reliability score, no unit, empty where AP is 0",
    **holding("reliability score, no unit", "tau", "rho_median", "rho_low", "rho_high"),
    **holding("fraction of |truth|", "ap_error", "hvp_error", "selective_error", "error_max"),
    **holding("fraction of components", "share", "flagged_share"),
    "accuracy": "fraction of clean prompts that are answered rightly",
    "above_chance": "(accuracy - chance) / (1 - chance), a fraction",
    "able": "true or false: above_chance reaches the configuration's able_from",
    "ceiling": "reduction of correcting all, a fraction",
    **holding("fraction of the gain", "by_rho", "random_mean", "random_low", "random_high"),
    **holding("correlation of estimates with truths", "correlation", "rank_correlation"),
    **holding("name", "quantity", "quartile", "statistic", "family", "cause", "dtype"),
    **holding("limit of a quartile", "low", "high"),
    "n_sets": "count, over all prompts",
    "decay": "|eigenvalue| / the largest one's, a fraction",
    **holding(
        "end of the 95% prompt bootstrap",
        *(
            f"{of}_{end}"
            for of in ("decay", "mass", "covered", "q_error")
            for end in ("low", "high")
        ),
    ),
    "relative_error": "sum |predicted - effect| / sum |effect| over sets and prompts, a fraction",
    "mean_effect": "mean |joint effect|, in the metric's units",
    "best": "true or false: the smallest relative_error but for rules along the set's path",
    **holding(
        "end of the 95% prompt bootstrap",
        *(f"{of}_{end}" for of in ("relative", "median") for end in ("low", "high")),
    ),
    "auroc": "of rho, no unit",
    "ratio_median": "|network| / |local|",
    **holding("nats per cubed unit", *(f"lipschitz{of}" for of in ("_median", "_max"))),
    "lipschitz_scalar_median": "nats per cubed unit",
    "delta_norm_median": "units of the activation",
    "bound_holds_rate": "fraction",
    **holding("fraction of |truth|", "truth_rounding", "estimate_rounding", "floor"),
    **holding("s", "seconds", "seconds_per_component"),
    "forward_equivalents": "forward passes per component",
    "break_even": "components from which AP is faster than the truth",
    "error_share": "sum of |edge_score - exact| over the sum of |exact|, a fraction",
    **holding("fraction of edges with an effect whose edge_score has its sign", "sign_agreement"),
    **holding("s, of all edges of a prompt, captures apart", "seconds_all", "all_low", "all_high"),
    "seconds_per_edge": "s, of one edge alone, captures apart",
    "total_seconds": "s, of all edges on all prompts, captures included",
    "overhead": "total_seconds / EAP's",
    "projected": "true or false: from fewer edges or prompts than total_seconds are of",
    **holding("HVP's error over AP's", "hvp_ratio", "paper_hvp_ratio"),
    **holding("smaller error of MS-HVP and IG over AP's", "floor_ratio", "paper_floor_ratio"),
    "complete": "true or false: all of the model's tasks have the reading",
    **holding("exp of the root mean square of log(ours / paper's)", "factor", "overall_factor"),
    **holding("root mean square of ours - paper's", "gap", "overall_gap"),
    **holding("rank from 1, empty where not complete", "rank", "gap_rank"),
    "closest": "fraction of prompt resamples with rank 1, empty where not complete",
    "budget": "fraction of the components that may be patched, NaN without a policy",
    "pooled": "true or false: effects are means over prompts",
    "n_runs": "count of runs with finite intervals, draws times prompts",
    "coverage": "fraction of the components left, mean over runs",
    "bound_holds": "fraction of runs",
    **holding(
        "end of the 95% binomial interval",
        *(f"{of}_{end}" for of in ("coverage", "bound") for end in ("low", "high")),
    ),
    "width": "of the intervals, over the top_k-th largest |truth|, median over runs",
    "at_most": "bound on the components left above the threshold, median over runs",
    "above": "components left above the threshold, mean over runs",
    **holding(
        "fraction of the true k largest, mean over runs", "recall_5", "recall_10", "recall_20"
    ),
    **holding("end of the 95% prompt bootstrap of recall_10", "recall_low", "recall_high"),
    "patched": "fraction of the components patched, mean over runs",
    "cost_share": "seconds over those of patching every component",
    "alpha": "tolerated fraction of misses",
    "top_k": "count of the largest effects that are asked for",
}

_METHOD = "estimator cost n_prompts value ci_low ci_high lowest highest"
_PAIR = (
    "first second first_value second_value difference ci_low ci_high p p_smallest decidable "
    "n_prompts verdict"
)
_REDUCTION = "reduction reduction_low reduction_high"
_ROW = "prompt_id layer index"
_SCREENING = (
    "method budget pooled n_prompts n_components n_runs coverage coverage_low coverage_high width "
    "at_most above bound_holds bound_low bound_high recall_5 recall_10 recall_20 recall_low "
    "recall_high patched seconds cost_share alpha top_k"
)
MEASURED = {
    "errors": "prompt_id estimator cost n_components n_nontrivial top_k_relative_error "
    "median_relative_error",
    "summary": _METHOD,
    "medians": f"{_METHOD} {_REDUCTION} n_components n_nontrivial n_all_prompts",
    "paired": _PAIR,
    "top_errors": "prompt_id estimator cost top_k_relative_error",
    "sweep_errors": "prompt_id estimator cost top_k_relative_error",
    "hessian_errors": "prompt_id estimator cost top_k_relative_error",
    "hessian_summary": _METHOD,
    "hessian_paired": _PAIR,
    "sweep_summary": _METHOD,
    "steepest_rise": f"{_ROW} estimator steps error",
    "overlap": "prompt_id estimator k overlap",
    "ranking_overlap": "prompt_id estimator k overlap",
    "overlap_summary": "k estimator n_prompts value ci_low ci_high",
    "overlap_paired": f"k {_PAIR}",
    "recovery": "estimator k overlap",
    "ranking": "estimator kendall_tau spearman ndcg_at_5 ndcg_at_10 ndcg_at_20 "
    "ndcg_effect_at_5 ndcg_effect_at_10 ndcg_effect_at_20 n_components n_prompts",
    "case_study": "layer index truth ap hvp rho rank_truth rank_ap rank_hvp misranked n_prompts",
    "head_roles": "layer index role score",
    "ability": "n_prompts accuracy ci_low ci_high chance above_chance able",
    "absolute_errors": "estimator n_prompts n_components n_records mae relative_to_ap "
    + _REDUCTION,
    "prefix": "n_prompts reduction",
    "feature_errors": "layer hook estimator n_prompts n_components n_records n_all_records mae "
    f"{_REDUCTION} correlation rank_correlation uncovered",
    "spectrum_summary": "layer rank n_prompts n_rows decay decay_low decay_high mass mass_low "
    "mass_high covered covered_low covered_high q_error q_error_low q_error_high",
    "set_errors": "metric drawn size predictor n_prompts n_sets mean_effect relative_error "
    "relative_low relative_high median_relative_error median_low median_high best",
    "reliability": f"{_ROW} ap hvp truth rho ap_error hvp_error",
    "flagged": f"{_ROW} ap hvp truth rho flagged ap_miss hvp_miss",
    "agreement": "n spearman",
    "operating": "tau flagged_share ap_error selective_error hvp_error reduction ceiling",
    "selection": "share by_rho random_mean random_low random_high",
    "layers": "layer rho_median rho_low rho_high ap_error hvp_error",
    "auroc": "quantity quartile low high n n_unreliable auroc ci_low ci_high",
    "curvature": f"{_ROW} ap network local ap_error",
    "curvature_summary": "n_prompts n n_zero_local ratio_median spearman pearson",
    "lipschitz": "quantity statistic value",
    "lipschitz_layers": "layer n lipschitz_median lipschitz_scalar_median lipschitz_max "
    "delta_norm_median bound_holds_rate",
    "convergence": "dtype family steps estimator cost n_prompts n_components error error_max "
    "truth_rounding estimate_rounding floor cause",
    "edge_errors": "stratum method n_prompts n_records error_share ci_low ci_high "
    "median_relative_error sign_agreement flagged_share per seconds_per_edge seconds_all captures "
    "n_edges place",
    "edge_effects": "method n_prompts value lowest highest sign_agreement",
    "one_edge_summary": "method selection n_prompts cpr cpr_low cpr_high cmd cmd_low cmd_high "
    "average average_low average_high exact eap_score hvp_joint_score",
    "edge_costs": "method per n_prompts n_timed n_layers n_edges seconds_all all_low all_high "
    "captures total_seconds overhead flagged_share projected place",
    "circuit_summary": "method selection n_prompts cpr cpr_low cpr_high cmd cmd_low "
    "cmd_high average average_low average_high",
    "circuit_differences": "first second selection area first_value second_value difference "
    "ci_low ci_high n_prompts",
    "circuit_curve": "method selection n_prompts level n_edges f",
    "frontier": "estimator cost n_prompts error ci_low ci_high n_components seconds "
    "seconds_per_component forward_equivalents on_frontier break_even device threads",
    "floor_errors": "reading changed prompt_id estimator cost top_k_relative_error",
    "floor_summary": f"reading changed {_METHOD}",
    "screening": _SCREENING,
    "screening_sites": _SCREENING,
    "marks": f"model task corruption {_PAIR} q survives",
    "tally": f"n wins ties losses undecided {' '.join(_SIGNS)} smallest largest",
    "fit": "model task corruption reading hvp_ratio floor_ratio paper_hvp_ratio "
    "paper_floor_ratio complete factor overall_factor gap overall_gap rank gap_rank "
    "closest",
}
FRAMES: Mapping[str, Frame] = {frame.name: frame for frame in READ} | {
    name: Frame(name, {column: MEANINGS[column] for column in columns.split()})
    for name, columns in MEASURED.items()
}
OVERALL = ("marks", "tally", "fit")  # results of several settings together start with these words


def overall_frame(name: str) -> Frame | None:
    """The frame of a result of several settings, such as tally_gim; None for other results."""
    kind = name.partition("_")[0]
    return FRAMES[kind] if kind in OVERALL else None


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
