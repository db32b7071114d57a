"""Means over prompts of every component, each with its bootstrap interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AT_ONCE = 4096  # components: their resampled means take 32 MB


def mean_intervals(
    values: Floats, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Mean over prompts and the ends of its percentile interval, [n_components] each.

    ``values`` is [n_components, n_prompts], in any unit; prompts are resampled, the same for every
    component. A single prompt gives NaN ends. ``ValueError`` for no prompt or another shape.
    Section 4.1.
    """
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(
            f"need values [n_components, n_prompts] of a prompt or more, got shape {values.shape}"
        )
    means, n = values.mean(axis=1), values.shape[1]
    low = np.full(len(values), np.nan)
    high = low.copy()
    if n == 1:
        return means, low, high
    draws = np.random.default_rng(seed).integers(n, size=(n_resamples, n))
    shares = np.stack([np.bincount(draw, minlength=n) for draw in draws]) / n
    tails = [(1 - level) / 2, (1 + level) / 2]
    for start in range(0, len(values), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        low[some], high[some] = np.quantile(values[some] @ shares.T, tails, axis=1)
    return means, low, high
