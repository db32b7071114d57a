"""What is measured: one line per aggregate, each a rule that makes the frame of that name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from choices import (
    ALL_COMPONENTS,
    CIRCUITS,
    EDGE_SAMPLE,
    EDGE_TIMING,
    FLOORS,
    PROBES,
    SETS,
    SPECTRUM,
    SWEEP,
    TOP,
)

Config = Mapping[str, Any]
# On which prompts of its setting each result is measured; analyses follow what they read.
MEASURED_FOR = {
    **dict.fromkeys(("truth", "top", "hessians", "accuracy"), TOP),
    **dict.fromkeys(("scores", "ranking_scores", "attention", "roles"), ALL_COMPONENTS),
    "sweep": SWEEP,
    "probes": PROBES,
    "feature_scores": TOP,
    **dict.fromkeys(("faithfulness", "one_edge"), CIRCUITS),
    "edge_sample": EDGE_SAMPLE,
    "edge_timing": EDGE_TIMING,
    "faithfulness": CIRCUITS,
    "floor_scores": FLOORS,
    "set_effects": SETS,
    "spectra": SPECTRUM,
}


@dataclass(frozen=True)
class Analysis:
    """A function of hvp_patching.metrics ('module.function'), the results it reads, its options."""

    function: str
    reads: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Where the function stands, as in 'metrics/errors'."""
        return f"metrics/{self.function.split('.')[0]}"


@dataclass(frozen=True)
class Overall(Analysis):
    """An analysis of the settings of one configuration key together; reads one result of each.

    Without a key it reads another result of several settings. published: the table of the paper
    that it reads last.
    """

    settings: str = ""
    site: str = "attn_heads"
    published: str = ""


def analyses(config: Config) -> dict[str, Analysis]:
    """Every analysis of one setting and site, by the name of its result."""
    metrics = config["metrics"]
    trivial = {"trivial_effect": metrics["trivial_effect"]}
    seed = {"seed": metrics["bootstrap_seed"]}
    resamples = {"n_resamples": metrics["bootstrap_resamples"], **seed}
    top_k = {"k": metrics["top_k"]}
    tau, unreliable = {"tau": config["tau"]}, {"unreliable": config["unreliable"]}
    at_k = {"column": "overlap", "by": ["k"], **resamples}
    return {
        "errors": Analysis("errors.prompt_errors", ("scores",), top_k | trivial),
        "medians": Analysis("summary.medians", ("errors",), resamples),
        "top_errors": Analysis("sweep.sweep_errors", ("top",), top_k),
        "summary": Analysis("summary.summarize_errors", ("top_errors",), resamples),
        "paired": Analysis(
            "paired.paired",
            ("top_errors",),
            {"references": ["ap", "ig_10"], **resamples},
        ),
        "hessian_errors": Analysis("sweep.sweep_errors", ("hessians",), top_k),
        "hessian_summary": Analysis("summary.summarize_errors", ("hessian_errors",), resamples),
        "hessian_paired": Analysis(
            "paired.paired", ("hessian_errors",), {"references": ["ap", "ms_hvp_5"], **resamples}
        ),
        "sweep_errors": Analysis("sweep.sweep_errors", ("sweep",), top_k),
        "sweep_summary": Analysis("summary.summarize", ("sweep_errors",), resamples),
        "steepest_rise": Analysis("sweep.steepest_rise", ("sweep",)),
        "overlap": Analysis("ranking.top_k_overlap", ("scores",)),
        "ranking_overlap": Analysis("ranking.top_k_overlap", ("ranking_scores",)),
        "overlap_summary": Analysis("summary.summarize", ("ranking_overlap",), at_k),
        "overlap_paired": Analysis(
            "paired.paired",
            ("overlap",),
            {"references": ["ap"], "higher_is_better": True, **at_k},
        ),
        "recovery": Analysis("ranking.top_k_recovery", ("ranking_scores",)),
        "ranking": Analysis("ranking.rank_agreement", ("ranking_scores",)),
        "case_study": Analysis("ranking.case_study", ("scores",)),
        "ability": Analysis(
            "ability.ability", ("accuracy",), {"able_from": config["able_from"], **resamples}
        ),
        "head_roles": Analysis("roles.assign_roles", ("roles",)),
        "absolute_errors": Analysis("absolute.absolute_errors", ("scores",), resamples),
        "prefix": Analysis("prefix.reduction_by_prefix", ("scores",), trivial),
        "reliability": Analysis("diagnosis.reliability_table", ("scores",), trivial),
        "flagged": Analysis("diagnosis.flag", ("reliability",), tau),
        "agreement": Analysis("diagnosis.agreement", ("reliability",)),
        "operating": Analysis("diagnosis.operating_curve", ("reliability",)),
        "selection": Analysis("diagnosis.selection_curve", ("reliability",), seed),
        "layers": Analysis("diagnosis.layer_profile", ("reliability",)),
        "auroc": Analysis("auroc.auroc_by_quartile", ("probes",), unreliable | trivial | resamples),
        "curvature": Analysis("curvature.curvature_gap", ("scores",), trivial),
        "curvature_summary": Analysis("curvature.curvature_summary", ("scores",), trivial),
        "lipschitz": Analysis("lipschitz.lipschitz_summary", ("probes",), trivial),
        "lipschitz_layers": Analysis("lipschitz.lipschitz_by_layer", ("probes",), trivial),
        "convergence": Analysis("convergence.convergence_errors", ("convergence_sweep",)),
        "feature_errors": Analysis(
            "features.feature_errors",
            ("feature_scores",),
            {"threshold": config["features"]["threshold"], **resamples},
        ),
        "floor_errors": Analysis("floors.floor_errors", ("floor_scores",), top_k),
        "floor_summary": Analysis(
            "summary.summarize", ("floor_errors",), {"by": ["reading", "changed"], **resamples}
        ),
        "spectrum_summary": Analysis("spectrum.spectrum_summary", ("spectra",), resamples),
        "set_errors": Analysis("sets.set_errors", ("set_effects",), trivial | resamples),
        "circuit_summary": Analysis("circuits.circuit_summary", ("faithfulness",), resamples),
        "circuit_differences": Analysis(
            "circuits.circuit_differences", ("faithfulness",), resamples
        ),
        "circuit_curve": Analysis("circuits.circuit_curve", ("faithfulness",)),
        "edge_errors": Analysis("edges.edge_errors", ("edge_sample",), tau | trivial | resamples),
        "edge_effects": Analysis("edges.edge_effects", ("edge_sample",)),
        "one_edge_summary": Analysis("edges.one_edge_summary", ("one_edge",), resamples),
        "edge_costs": Analysis("edges.edge_costs", ("edge_timing",), resamples),
        "frontier": Analysis(
            "frontier.frontier",
            ("sweep_errors", "scores", "costs"),
            {"top_k": metrics["top_k"], **resamples},
        ),
        "screening": Analysis("screening.screening", ("ranking_scores", "costs"), tau | resamples),
        "screening_sites": Analysis(
            "screening.screening",
            ("scores",),
            {"policies": ["largest_upper", "random"], **tau, **resamples},
        ),
    }


def overall(config: Config) -> dict[str, Overall]:
    """Every analysis of several settings together, by the name of its result."""
    metrics = config["metrics"]
    resamples = {"n_resamples": metrics["bootstrap_resamples"], "seed": metrics["bootstrap_seed"]}
    shown = dict.fromkeys([*config["table2_columns"].values(), *config["baselines"]])
    columns = [name for name in shown if name != "ap"]
    ihs = [name for name in config["table9_estimators"] if name.startswith("ih_")]
    beside_ap = {"firsts": columns, "second": "ap"}
    equal_cost = {"firsts": ["ms_hvp_5"], "second": "ig_10"}
    beside_ms_hvp = {"firsts": ["ap", *ihs], "second": "ms_hvp_5"}
    gim = {"firsts": ["gim"], "second": "ap"}
    return {
        "marks_table2": Overall("paired.marks", ("paired",), beside_ap, "table2"),
        "marks_table8": Overall("paired.marks", ("paired",), equal_cost, "table2"),
        "marks_table9": Overall("paired.marks", ("hessian_paired",), beside_ms_hvp, "table9"),
        "marks_table10": Overall(
            "paired.marks",
            ("overlap_paired",),
            {"firsts": list(config["baselines"]), "second": "ap"},
            "table2",
        ),
        "tally_ms_hvp": Overall("paired.tally", ("marks_table8",), equal_cost),
        "tally_ih": Overall("paired.tally", ("marks_table9",), beside_ms_hvp | {"firsts": ihs}),
        "tally_gim": Overall("paired.tally", ("marks_table10",), gim),
        "fit_floors": Overall(
            "floors.fit", ("floor_errors",), resamples, "floors", published="table02"
        ),
    }


def needs_of(config: Config, result: str) -> set[str]:
    """What a result's prompts are for: a need, or those of all that it is measured on."""
    if result in MEASURED_FOR:
        return {MEASURED_FOR[result]}
    every = analyses(config) | overall(config)
    reads = every[result].reads if result in every else ()
    return set().union(*(needs_of(config, name) for name in reads))
