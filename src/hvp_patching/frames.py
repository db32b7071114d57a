"""The tables that pass from one room to another: their columns with units, and one check.

A table is a parquet file of the same name under results/ (workflow/grammar.py says where), one per
setting and site, or one of several settings. Rooms agree on this page alone. Fractions are
fractions: percent is a matter of presentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from hvp_patching.settings import KEY, Setting

SMALLEST_SAMPLE = 6  # prompts: 2 * 0.5**6 = 0.031, the first exact test that reaches p < 0.05
ALPHA = 0.05  # below this p, a comparison is decided
VERDICTS = ("win", "tie", "loss")

# Operations of a cost table, beside ``derivative``'s and the baselines, which have their own names
FORWARD, BASE_RUN, PATCHING, REVERSE = "forward", "base_run", "patching", "reverse_pass"
# Methods that no score holds; the second is followed by k, as in ap_then_patching_10
EXACT, SCREENED = "activation_patching", "ap_then_patching"
COUNTS = (1, 10)  # of components computed at once, beside all of them


def derivative(node: float, order: int) -> str:
    """Name of the operation that computes f', …, f^(order) of a component at one node."""
    return f"order_{order}_at_zero" if node == 0 else f"order_{order}"


class FrameError(ValueError):
    """A table that lacks what its readers need."""


@dataclass(frozen=True)
class Frame:
    """A table: its columns with what they hold, and how to have it made again."""

    name: str
    columns: Mapping[str, str]
    again: str = "measure it again"

    def check(self, table: pd.DataFrame, what: str = "") -> pd.DataFrame:
        """The table itself; ``FrameError`` where it lacks columns. ``what`` names it, as a path."""
        absent = [column for column in self.columns if column not in table.columns]
        if absent:
            named = what or f"the table '{self.name}'"
            raise FrameError(f"{named} lacks the columns {', '.join(absent)}: {self.again}")
        return table


PROMPT = {"prompt_id": "name, unique in a setting"}
COMPONENT = {"layer": "number from 0", "index": "head, neuron or 0 within the layer"}
ROW = PROMPT | COMPONENT
COST = {"cost": "nominal backward passes per component and prompt"}
METHOD = {"estimator": "id, with its number of steps"}
SCORE = ROW | METHOD | {"estimate": "nats", "truth": "f(1) - f(0), nats"} | COST
N_PROMPTS = {"n_prompts": "count"}
INTERVAL = {"ci_low": "low end of the 95% prompt bootstrap", "ci_high": "its high end"}
VALUE = N_PROMPTS | {"value": "mean or median over prompts"} | INTERVAL
RANGE = {"lowest": "smallest of a prompt", "highest": "largest of a prompt"}
REDUCTION = {
    "reduction": "1 - error / AP's error, a fraction; empty for AP",
    "reduction_low": "low end of its paired 95% interval",
    "reduction_high": "its high end",
}
SIZES = {"n_components": "count", "n_nontrivial": "of them, with |truth| > trivial_effect"}
TOP_K = {"top_k_relative_error": "fraction of the prompt's range of truth (section 4.1)"}
PAIR = {
    "first": "estimator",
    "second": "estimator that it is set against",
    "first_value": "mean over prompts, a fraction",
    "second_value": "mean over prompts, a fraction",
    "difference": "first - second, a fraction",
    **INTERVAL,
    "p": "paired bootstrap over prompts, two-sided",
    **N_PROMPTS,
    "verdict": "of the first: win, tie or loss, at p < 0.05",
}
LAYER = {"layer": "number from 0"}
SCORE_AGAIN = "score them again"

FRAMES: Mapping[str, Frame] = {
    frame.name: frame
    for frame in (
        Frame("prompts", PROMPT | {"metric": "what m is, in words"}, "build the prompts again"),
        Frame("scores", SCORE, SCORE_AGAIN),
        Frame(
            "sweep",
            SCORE | {"truth_range": "max truth - min truth over all components, nats"},
            "run the sweep again",
        ),
        Frame("convergence_sweep", SCORE | {"dtype": "of the model"}, "compute it again"),
        Frame(
            "probes",
            ROW
            | dict.fromkeys(("effect", "ap", "q"), "nats")
            | {"delta_norm": "norm of the patch, in units of the activation"}
            | dict.fromkeys(("lipschitz", "lipschitz_scalar"), "nats per cubed unit"),
            "probe again",
        ),
        Frame(
            "costs",
            {"operation": "name", "rows": "components that a call serves", "seconds": "s"}
            | {"device": "cpu or cuda", "threads": "count"},
        ),
        Frame(
            "errors",
            PROMPT
            | METHOD
            | COST
            | SIZES
            | TOP_K
            | {"median_relative_error": "median |estimate - truth| / |truth|, a fraction"},
        ),
        Frame("summary", METHOD | COST | VALUE | RANGE),
        Frame(
            "medians",
            METHOD | COST | VALUE | RANGE | REDUCTION | SIZES | {"n_all_prompts": "count"},
        ),
        Frame("paired", PAIR),
        Frame("sweep_errors", PROMPT | METHOD | COST | TOP_K),
        Frame("sweep_summary", METHOD | COST | VALUE | RANGE),
        Frame("sweep_paired", PAIR),
        Frame(
            "steepest_rise",
            ROW | METHOD | {"steps": "K of MS-HVP", "error": "a fraction of truth_range"},
        ),
        Frame("overlap", PROMPT | METHOD | {"k": "length of the list", "overlap": "fraction of k"}),
        Frame("overlap_summary", {"k": "length of the list"} | METHOD | VALUE),
        Frame("overlap_paired", {"k": "length of the list"} | PAIR),
        Frame("recovery", METHOD | {"k": "length of the list", "overlap": "fraction of k"}),
        Frame(
            "ranking",
            METHOD
            | dict.fromkeys(("kendall_tau", "spearman"), "no unit")
            | {f"ndcg_at_{k}": "no unit" for k in (5, 10, 20)}
            | {f"ndcg_effect_at_{k}": "no unit, graded by effect" for k in (5, 10, 20)}
            | {"n_components": "count"}
            | N_PROMPTS,
        ),
        Frame(
            "case_study",
            COMPONENT
            | dict.fromkeys(("truth", "ap", "hvp"), "mean over prompts, nats")
            | {"rho": "no unit"}
            | {f"rank_{name}": "from 1" for name in ("truth", "ap", "hvp")}
            | {"misranked": "true for one component"}
            | N_PROMPTS,
        ),
        Frame(
            "absolute_errors",
            METHOD
            | N_PROMPTS
            | {"n_components": "count", "n_records": "prompts times components"}
            | {"mae": "mean |estimate - truth|, nats", "relative_to_ap": "mae / AP's"}
            | REDUCTION,
        ),
        Frame("prefix", N_PROMPTS | {"reduction": "fraction"}),
        Frame(
            "reliability",
            ROW
            | dict.fromkeys(("ap", "hvp", "truth"), "nats")
            | {"rho": "no unit, empty where AP is 0"}
            | dict.fromkeys(("ap_error", "hvp_error"), "fraction of |truth|"),
        ),
        Frame(
            "flagged",
            ROW
            | dict.fromkeys(("ap", "hvp", "truth"), "nats")
            | {"rho": "no unit, empty where AP is 0", "flagged": "rho above the threshold"}
            | dict.fromkeys(("ap_miss", "hvp_miss"), "|estimate - truth|, nats"),
        ),
        Frame("agreement", {"n": "pairs of prompt and component", "spearman": "no unit"}),
        Frame(
            "operating",
            {"tau": "threshold"}
            | dict.fromkeys(
                ("flagged_share", "ap_error", "selective_error", "hvp_error", "reduction"),
                "fraction",
            )
            | {"ceiling": "reduction of correcting all, a fraction"},
        ),
        Frame(
            "selection",
            {"share": "of components, 0 to 1"}
            | dict.fromkeys(("by_rho", "random_mean", "random_low", "random_high"), "fraction"),
        ),
        Frame(
            "layers",
            LAYER
            | dict.fromkeys(("rho_median", "rho_low", "rho_high"), "no unit")
            | dict.fromkeys(("ap_error", "hvp_error"), "fraction"),
        ),
        Frame(
            "auroc",
            {"quantity": "delta_norm or effect", "quartile": "Q1 to Q4, all"}
            | dict.fromkeys(("low", "high"), "limits of the quartile")
            | dict.fromkeys(("n", "n_unreliable"), "count")
            | {"auroc": "of rho, no unit"}
            | INTERVAL,
        ),
        Frame(
            "curvature",
            ROW | dict.fromkeys(("ap", "network", "local"), "nats") | {"ap_error": "fraction"},
        ),
        Frame(
            "curvature_summary",
            N_PROMPTS
            | dict.fromkeys(("n", "n_zero_local"), "count")
            | {"ratio_median": "|network| / |local|"}
            | dict.fromkeys(("spearman", "pearson"), "no unit"),
        ),
        Frame("lipschitz", {"quantity": "name", "statistic": "name", "value": "number"}),
        Frame(
            "lipschitz_layers",
            LAYER
            | {"n": "count", "bound_holds_rate": "fraction"}
            | dict.fromkeys(
                ("lipschitz_median", "lipschitz_scalar_median", "lipschitz_max"),
                "nats per cubed unit",
            )
            | {"delta_norm_median": "units of the activation"},
        ),
        Frame(
            "convergence",
            {"dtype": "of the model", "family": "estimator without its steps", "steps": "count"}
            | METHOD
            | COST
            | N_PROMPTS
            | {"n_components": "count"}
            | dict.fromkeys(
                ("error", "error_max", "truth_rounding", "estimate_rounding", "floor"), "fraction"
            )
            | {"cause": "what stops it, in words"},
        ),
        Frame(
            "frontier",
            METHOD
            | COST
            | N_PROMPTS
            | {"error": "mean top-k error, a fraction"}
            | INTERVAL
            | {"n_components": "computed at once", "seconds": "of all of them"}
            | {"seconds_per_component": "s", "forward_equivalents": "forward passes per component"}
            | {"on_frontier": "no other is as cheap and as good"}
            | {"break_even": "components from which AP is faster than the truth"}
            | {"device": "cpu or cuda", "threads": "count"},
        ),
        Frame(
            "tally",
            {"n": "comparisons", "wins": "count", "ties": "count", "losses": "count"}
            | {"weak": "decided ones on fewer prompts than ``SMALLEST_SAMPLE``"}
            | dict.fromkeys(
                ("lower", "lower_sure", "higher", "higher_sure"), "count, by difference"
            )
            | dict.fromkeys(("smallest", "largest"), "difference, a fraction"),
        ),
        # of the whole profile
        Frame("model", {"model": "id"}, "describe the model again"),
    )
}


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
