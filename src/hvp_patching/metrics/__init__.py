"""Errors against the truth, prompt bootstrap and the reliability score."""

from hvp_patching.metrics.bootstrap import (
    bootstrap_interval,
    paired_bootstrap_p,
    significance_mark,
)
from hvp_patching.metrics.errors import (
    median_relative_error,
    prompt_errors,
    top_k_relative_error,
)
from hvp_patching.metrics.reliability import reliability_score
from hvp_patching.metrics.summary import summarize_errors

__all__ = [
    "bootstrap_interval",
    "median_relative_error",
    "paired_bootstrap_p",
    "prompt_errors",
    "reliability_score",
    "significance_mark",
    "summarize_errors",
    "top_k_relative_error",
]
