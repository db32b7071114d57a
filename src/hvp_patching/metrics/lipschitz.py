"""How smooth the Hessian is along patch paths, and whether the cubic bound built on it holds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hvp_patching.metrics.theory import hvp_residual


def lipschitz_summary(probes: pd.DataFrame, trivial_effect: float = 1e-6) -> pd.DataFrame:
    """The frame ``lipschitz``: the estimated constant L and the bound it gives, as in Table 6.

    ``probes`` is the frame of that name; but for n_records all is over rows with |effect| >
    trivial_effect. cubic_bound is L |delta|^3 / 6 and actual_residual |effect - ap - q / 2|, in
    nats; ratio_row is bound / residual (residuals of exactly 0 left out); how often the bound holds
    with either estimate is a count and percent. NaN where no row is left. Appendix B.2.
    """
    table = _with_bounds(probes, trivial_effect)
    residual = table["residual"]
    ratio = (table["bound"] / residual)[residual > 0]
    n = len(table)
    rows: list[tuple[str, str, float]] = []
    for quantity, values in (
        ("lipschitz_hat", table["lipschitz"]),
        ("lipschitz_scalar", table["lipschitz_scalar"]),
        ("cubic_bound", table["bound"]),
        ("actual_residual", residual),
    ):
        rows += [
            (quantity, "median", values.median()),
            (quantity, "mean", values.mean()),
            (quantity, "p90", float(values.quantile(0.9))),
            (quantity, "max", values.max()),
        ]
    for quantity, holds in (
        ("bound_holds", table["holds"]),
        ("bound_holds_scalar", residual <= table["bound_scalar"]),
    ):
        rows += [
            (quantity, "count", holds.sum()),
            (quantity, "n_nontrivial_records", n),
            (quantity, "rate_pct", 100 * holds.mean()),
        ]
    rows += [
        ("ratio_row", "median", ratio.median()),
        ("ratio_row", "mean", ratio.mean()),
        ("ratio_row", "p10", float(ratio.quantile(0.1))),
        ("sample", "n_prompts", probes["prompt_id"].nunique()),
        ("sample", "n_layers", probes["layer"].nunique()),
        ("sample", "n_heads_total", len(probes[["layer", "index"]].drop_duplicates())),
        ("sample", "n_records", len(probes)),
        ("sample", "n_nontrivial_records", n),
    ]
    summary = pd.DataFrame(rows, columns=["quantity", "statistic", "value"])
    return summary.astype({"value": np.float64})


def lipschitz_by_layer(probes: pd.DataFrame, trivial_effect: float = 1e-6) -> pd.DataFrame:
    """The frame ``lipschitz_layers``: the same by layer, for layers that have a row.

    ``probes`` as for ``lipschitz_summary``, trivial effects left out alike. Appendix B.2.
    """
    layers = _with_bounds(probes, trivial_effect).groupby("layer")
    return layers.agg(
        n=("lipschitz", "size"),
        lipschitz_median=("lipschitz", "median"),
        lipschitz_scalar_median=("lipschitz_scalar", "median"),
        lipschitz_max=("lipschitz", "max"),
        delta_norm_median=("delta_norm", "median"),
        bound_holds_rate=("holds", "mean"),
    ).reset_index()


def _with_bounds(probes: pd.DataFrame, trivial_effect: float) -> pd.DataFrame:
    table = probes[probes["effect"].abs() > trivial_effect]
    cubed = table["delta_norm"] ** 3 / 6
    bound = table["lipschitz"] * cubed
    residual = hvp_residual(table["effect"], table["ap"], table["q"])
    return table.assign(
        bound=bound,
        bound_scalar=table["lipschitz_scalar"] * cubed,
        residual=residual,
        holds=residual <= bound,
    )
