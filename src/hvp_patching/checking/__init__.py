"""A second look at computed numbers: by the other backend and by plain finite differences.

``HVP_CHECK=1`` turns it on in the workflow; docs/trust.md says what is checked when, and how close
is close enough.
"""

from __future__ import annotations

from hvp_patching.checking.attention_check import check_attention
from hvp_patching.checking.baseline_check import check_baseline
from hvp_patching.checking.check import Check, CheckFailed, Comparison, chosen_level
from hvp_patching.checking.joint_check import check_joint
from hvp_patching.checking.patches_check import check_patches
from hvp_patching.checking.paths_check import check_jets, check_probes, check_scores
from hvp_patching.checking.subject import Exact, Subject

__all__ = [
    "Check",
    "CheckFailed",
    "Comparison",
    "Exact",
    "Subject",
    "check_attention",
    "check_baseline",
    "check_jets",
    "check_joint",
    "check_patches",
    "check_probes",
    "check_scores",
    "chosen_level",
]
