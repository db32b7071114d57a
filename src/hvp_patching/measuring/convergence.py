"""Convergence: estimators of growing cost on a few large effects (rule compute_convergence)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from hvp_patching.cache import Store
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.measuring.sweeps import measure_sweep


def measure_convergence(
    measurement: Measurement,
    store: Store,
    jets: pd.DataFrame,
    names: Sequence[str],
    k: int,
    dtypes: Sequence[str],
) -> pd.DataFrame:
    """measure_sweep in each precision in turn, told apart by the column dtype."""
    sweeps = [
        measure_sweep(replace(measurement, dtype=dtype), store, jets, names, k).assign(dtype=dtype)
        for dtype in dtypes
    ]
    return pd.concat(sweeps, ignore_index=True)
