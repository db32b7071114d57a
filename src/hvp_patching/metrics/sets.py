"""How far predictors of the joint effect of a set of components are from it, by the set's size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hvp_patching.frames import SET_EFFECTS
from hvp_patching.metrics.errors import ScoresError

Floats = NDArray[np.float64]
KIND = ["metric", "drawn", "size"]
ENDS = (0.025, 0.975)
EXPANSIONS = ("joint_ap", "joint_hvp")  # at the unpatched run alone


def set_errors(
    effects: pd.DataFrame, trivial_effect: float = 1e-6, n_resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The frame ``set_errors``: one row per metric, way of drawing, size and predictor.

    ``effects`` is the frame ``set_effects``. relative_error is Σ|predicted − effect| / Σ|effect|
    over sets and prompts, median_relative_error the median of |predicted − effect| / |effect| over
    those with |effect| > trivial_effect (in the metric's units); both as fractions, NaN where there
    is no effect. best: the smallest relative_error but for rules of several steps along the set's
    path. Prompts are resampled, with all their sets; ends are NaN for a single prompt, and
    where a resample has no effect. Raises ``ScoresError`` for no rows, numbers that are not finite,
    a set that stands twice, and predictors or prompts with other sets than the rest.
    """
    SET_EFFECTS.check(effects)
    if effects.empty:
        raise ScoresError("the effects of sets have no rows: compute at least one prompt")
    for column in ("predicted", "joint_effect"):
        if not np.isfinite(effects[column].to_numpy(dtype=float)).all():
            raise ScoresError(f"the effects of sets hold a {column} that is not finite")
    rows = []
    for key, group in effects.groupby(KIND, sort=False):
        own = list(_of_kind(group, key, trivial_effect, n_resamples, seed))
        errors = [row["relative_error"] for row in own if not _steps(row["predictor"])]
        least = min(errors, default=float("nan"))
        rows += [
            row | {"best": row["relative_error"] == least and not _steps(row["predictor"])}
            for row in own
        ]
    return pd.DataFrame(rows)


def _steps(predictor: str) -> bool:
    """Whether it is a rule of several steps along the set's path, which converges to the effect."""
    return predictor.startswith("joint_") and predictor not in EXPANSIONS


def _of_kind(
    group: pd.DataFrame, key: Any, trivial_effect: float, n_resamples: int, seed: int
) -> Iterator[dict[str, Any]]:
    where = ", ".join(map(str, key))
    effects: pd.DataFrame | None = None
    for predictor, rows in group.groupby("predictor", sort=False):
        named = f"{where}: predictor '{predictor}'"
        effect, miss = _tables(rows, named)
        if effects is not None and not effect.equals(effects):
            raise ScoresError(f"{named} has other sets or effects than the rest; compute all again")
        effects = effect
        e, m = np.abs(effect.to_numpy()), np.abs(miss.to_numpy())
        relative = np.divide(m, e, out=np.full_like(m, np.nan), where=e > trivial_effect)
        drawn = _resamples(len(e), n_resamples, seed)
        total = float(e.sum())
        yield {
            **dict(zip(KIND, key, strict=True)),
            "predictor": predictor,
            "n_prompts": len(e),
            "n_sets": e.size,
            "mean_effect": float(e.mean()),
            "relative_error": float(m.sum()) / total if total > 0 else float("nan"),
            **_ends("relative", _ratios(m.sum(1), e.sum(1), drawn)),
            "median_relative_error": _median(relative),
            **_ends("median", _medians(relative, drawn)),
        }


def _tables(rows: pd.DataFrame, named: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Joint effects and what a predictor misses of them, a row a prompt and a column a set."""
    place = ["prompt_id", "number"]
    if rows.duplicated(place).any():
        raise ScoresError(f"{named}: a set stands twice; give every prompt its own id")
    rows = rows.assign(miss=rows["predicted"] - rows["joint_effect"])
    effect, miss = (
        rows.pivot(index="prompt_id", columns="number", values=name).sort_index()
        for name in ("joint_effect", "miss")
    )
    if effect.isna().any(axis=None):
        raise ScoresError(f"{named}: a prompt lacks a set that others have; compute all again")
    return effect, miss


def _resamples(n: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Numbers of prompts, [n_resamples, n]; none of a single prompt."""
    return np.random.default_rng(seed).integers(n, size=(n_resamples if n > 1 else 0, n))


def _ratios(miss: Floats, effect: Floats, drawn: NDArray[np.int64]) -> Floats:
    below = effect[drawn].sum(1)
    above = miss[drawn].sum(1)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _medians(relative: Floats, drawn: NDArray[np.int64]) -> Floats:
    return np.array([_median(relative[prompts]) for prompts in drawn], dtype=np.float64)


def _median(values: Floats) -> float:
    """NaN where every value is."""
    kept = values[~np.isnan(values)]
    return float(np.median(kept)) if kept.size else float("nan")


def _ends(name: str, values: Floats) -> dict[str, float]:
    if not values.size or np.isnan(values).any():
        return {f"{name}_low": float("nan"), f"{name}_high": float("nan")}
    low, high = np.quantile(values, ENDS)
    return {f"{name}_low": float(low), f"{name}_high": float(high)}
