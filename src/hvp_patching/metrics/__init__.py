"""Errors against the truth, their aggregates over prompts, and what the reliability score is worth.

Every aggregate that a table or figure shows is computed here, by a rule (`workflow/analyses.py`).
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "absolute": ("absolute_errors",),
    "auroc": ("auroc_by_quartile",),
    "convergence": ("convergence_errors",),
    "curvature": ("curvature_gap", "curvature_summary"),
    "diagnosis": (
        "agreement",
        "flag",
        "layer_profile",
        "operating_curve",
        "reliability_table",
        "selection_curve",
    ),
    "errors": ("median_relative_error", "prompt_errors", "top_k_relative_error"),
    "frontier": ("frontier",),
    "lipschitz": ("lipschitz_by_layer", "lipschitz_summary"),
    "paired": ("paired", "paired_comparison", "tally"),
    "prefix": ("reduction_by_prefix",),
    "ranking": ("case_study", "rank_agreement", "top_k_overlap", "top_k_recovery"),
    "reliability": ("flagging_score", "reliability_score"),
    "resampling": (
        "bootstrap_interval",
        "paired_bootstrap_p",
        "reduction",
        "reduction_interval",
        "significance_mark",
    ),
    "summary": ("medians", "summarize", "summarize_errors"),
    "sweep": ("steepest_rise", "sweep_errors"),
    "theory": (
        "higher_order_slack",
        "hvp_residual",
        "relative_error",
        "relative_error_bounds",
        "selective_error_bound",
        "selective_estimate",
        "selective_gap",
    ),
}


def __getattr__(name: str) -> Any:
    """Public names, resolved on first use: scipy and scikit-learn take a second to import."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"hvp_patching.metrics.{module}"), name)
    raise AttributeError(f"module 'hvp_patching.metrics' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(name for names in _HOMES.values() for name in names)
