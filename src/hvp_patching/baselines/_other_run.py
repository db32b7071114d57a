"""What needs gradients of both runs, or between them: zero corruption has no second one."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from hvp_patching.prompts.pair import (
    ZERO_CORRUPTION,
    PromptPair,
    TokenPair,
    as_token_pair,
    label,
)

OTHER = MappingProxyType({"noising": "denoising", "denoising": "noising"})


def tokens_of_two_runs(model: Any, pair: PromptPair | TokenPair, name: str) -> TokenPair:
    """The tokenised pair; ValueError in the baseline's name under zero corruption."""
    tokens = as_token_pair(model, pair)
    if tokens.corruption == ZERO_CORRUPTION:
        raise ValueError(
            f"{label(tokens)}: {name} reads gradients of the corrupted run, which zero corruption "
            "does not have; choose another corruption or another baseline"
        )
    return tokens
