"""Circuits: published ones, and what attention patterns say about the roles of heads."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hvp_patching.circuits.known import known_circuit, read_circuit

if TYPE_CHECKING:
    from hvp_patching.circuits.attention import (
        attention_patterns,
        mean_role_scores,
        patterns_frame,
        role_scores,
    )

__all__ = [
    "attention_patterns",
    "known_circuit",
    "mean_role_scores",
    "patterns_frame",
    "read_circuit",
    "role_scores",
]


# Resolved on first use: a known circuit is read without seconds of importing torch.
def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("hvp_patching.circuits.attention"), name)
    raise AttributeError(f"module 'hvp_patching.circuits' has no attribute '{name}'")
