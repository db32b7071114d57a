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
READ = (
    *(PROMPTS, SCORES, RANKING_SCORES, TOP, SWEEP, CONVERGENCE_SWEEP, PROBES, ROLE_SCORES),
    *(COSTS, ACCURACY, MODEL, FAITHFULNESS, FEATURE_SCORES, AUTOENCODERS),
    *(SET_EFFECTS, SPECTRA),
)
_SIGNS = [sign + sure for sign in ("lower", "higher") for sure in ("", "_sure", "_survives")]
MEANINGS = {
    **{column: what for frame in READ for column, what in frame.columns.items()},
    **holding("count", "n_prompts", "n_all_prompts", "n_records", "n_components", "n_nontrivial"),
    "n_all_records": "count, trivial effects included",
    **holding("count", "n", "n_zero_local", "n_unreliable", "wins", "ties", "losses"),
    **holding("count", "undecided", "k", "steps"),
    **holding("area or mean of f, no unit", "cpr", "cmd", "average"),
    **holding(
        "end of the 95% prompt bootstrap",
        *(f"{area}_{end}" for area in ("cpr", "cmd", "average") for end in ("low", "high")),
    ),
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
}

_METHOD = "estimator cost n_prompts value ci_low ci_high lowest highest"
_PAIR = (
    "first second first_value second_value difference ci_low ci_high p p_smallest decidable "
    "n_prompts verdict"
)
_REDUCTION = "reduction reduction_low reduction_high"
_ROW = "prompt_id layer index"
MEASURED = {
    "errors": "prompt_id estimator cost n_components n_nontrivial top_k_relative_error "
    "median_relative_error",
    "summary": _METHOD,
    "medians": f"{_METHOD} {_REDUCTION} n_components n_nontrivial n_all_prompts",
    "paired": _PAIR,
    "top_errors": "prompt_id estimator cost top_k_relative_error",
    "sweep_errors": "prompt_id estimator cost top_k_relative_error",
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
    "circuit_summary": "method selection n_prompts cpr cpr_low cpr_high cmd cmd_low "
    "cmd_high average average_low average_high",
    "frontier": "estimator cost n_prompts error ci_low ci_high n_components seconds "
    "seconds_per_component forward_equivalents on_frontier break_even device threads",
    "marks": f"model task corruption {_PAIR} q survives",
    "tally": f"n wins ties losses undecided {' '.join(_SIGNS)} smallest largest",
}
FRAMES: Mapping[str, Frame] = {frame.name: frame for frame in READ} | {
    name: Frame(name, {column: MEANINGS[column] for column in columns.split()})
    for name, columns in MEASURED.items()
}
OVERALL = ("marks", "tally")  # results of several settings together start with these words


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
