"""Attention of the clean run, and what it says about each head's role (rule compute_attention)."""

from __future__ import annotations

import pandas as pd

from hvp_patching.checking import check_attention
from hvp_patching.circuits.attention import (
    attention_patterns,
    mean_role_scores,
    patterns_frame,
    role_scores,
)
from hvp_patching.measuring.measurement import Measurement


def measure_attention(measurement: Measurement) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first prompt's patterns (patterns_frame), and all prompts' mean_role_scores.

    Errors as in attention_patterns; CheckFailed.
    """
    m, first = measurement, pd.DataFrame()
    scores: list[pd.DataFrame] = []
    for subject in m.each():
        patterns = attention_patterns(m.model, subject.tokens)
        check_attention(m.check, subject, patterns)
        if not scores:
            texts = [m.model.tokenizer.decode([token]) for token in subject.tokens.clean_ids]
            first = patterns_frame(patterns, subject.tokens, texts)
        scores.append(role_scores(patterns, subject.tokens))
    return first, mean_role_scores(scores)
