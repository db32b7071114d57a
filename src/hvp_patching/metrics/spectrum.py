"""Spectra of the residual stream's Hessian over prompts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hvp_patching.frames import SPECTRA
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.resampling import bootstrap_interval

QUANTITIES = ("decay", "mass", "covered", "q_error")


def spectrum_summary(spectra: pd.DataFrame, n_resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The frame ``spectrum_summary``: means over prompts for every layer and rank, with intervals.

    ``spectra`` is the frame of that name. decay is |eigenvalue| / the largest one's. Prompts are
    resampled. Raises ``ScoresError`` for no rows, or where a prompt has another layer or rank than
    the rest.
    """
    SPECTRA.check(spectra)
    if spectra.empty:
        raise ScoresError("the spectra have no rows: compute at least one prompt")
    size = spectra["eigenvalue"].abs()
    largest = size.groupby([spectra["prompt_id"], spectra["layer"]]).transform("max")
    table = spectra.assign(decay=size / largest).sort_values("prompt_id", kind="stable")
    rows, prompts = [], table["prompt_id"].nunique()
    for (layer, rank), group in table.groupby(["layer", "rank"], sort=True):
        if len(group) != prompts:
            raise ScoresError(
                f"layer {layer}, rank {rank} has {len(group)} of {prompts} prompts; compute all "
                "again"
            )
        row: dict[str, Any] = {"layer": layer, "rank": rank, "n_prompts": prompts}
        row["n_rows"] = int(group["n_rows"].max())
        for name in QUANTITIES:
            low, high = bootstrap_interval(group[name], n_resamples=n_resamples, seed=seed)
            row |= {name: float(group[name].mean()), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)
