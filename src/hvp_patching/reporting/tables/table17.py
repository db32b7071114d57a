"""Table 17: errors of AP and HVP over features of sparse autoencoders, the paper's beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from hvp_patching.reporting.cells import GAP, count, fixed, percent, significant
from hvp_patching.reporting.latex import Tex, escape
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Paper, beside
from hvp_patching.reporting.results import Record, ReportError, Results, records, setting_of
from hvp_patching.reporting.table import Column, Shown, Table, grid, ours, theirs
from hvp_patching.settings import KEY

AP, HVP = "ap", "hvp"
PAPERS_MODEL, PAPERS_TASK = "gpt2-small", "ioi"
PAPERS_LAYERS = (5, 9)
QUALITY = ("n_features", "activation", "trained", "explained_variance", "l0", "dead")
LOSSES = ("loss", "loss_spliced", "loss_zero", "loss_recovered")
SMALLEST = 0.001  # nats; smaller numbers are printed with three digits


def rows(results: Results) -> Iterator[Record]:
    """One row per autoencoder: errors of AP and HVP in nats, fractions, and its quality."""
    quality = {(setting_of(row), row["hook"]): row for row in records(results["autoencoders"])}
    depths: dict[Any, int] = {}
    for (model, task, corruption, _, hook), group in results["feature_errors"].groupby(
        [*KEY, "layer", "hook"], sort=False
    ):
        methods = {row["estimator"]: row for row in records(group)}
        for method in (AP, HVP):
            if method not in methods:
                raise ReportError(f"{model}/{task}: no '{method}' of features; score it")
        ap, hvp = methods[AP], methods[HVP]
        key = (model, task, corruption)
        row = {name: ap[name] for name in (*KEY, "layer", "hook", "n_prompts", "n_records")}
        about = quality.get((setting_of(ap), hook))
        if about is None:
            raise ReportError(f"{model}: no autoencoder at {hook} was assessed; assess it again")
        yield row | {
            "depth": depths.setdefault(key, 0),
            "n_distinct": ap["n_components"],
            "n_all_records": ap["n_all_records"],
            "ap_mae": ap["mae"],
            "hvp_mae": hvp["mae"],
            "reduction_pct": 100 * hvp["reduction"],
            "reduction_ci_low_pct": 100 * hvp["reduction_low"],
            "reduction_ci_high_pct": 100 * hvp["reduction_high"],
            "ap_correlation": ap["correlation"],
            "hvp_correlation": hvp["correlation"],
            "ap_rank_correlation": ap["rank_correlation"],
            "hvp_rank_correlation": hvp["rank_correlation"],
            "uncovered": ap["uncovered"],
            **{f"autoencoder_{name}": about[name] for name in (*QUALITY, *LOSSES)},
        }
        depths[key] += 1


def papers_layer(row: Record) -> Any:
    """The paper's layer that a row stands beside: its own in the paper's model, else by depth."""
    if row["model"] == PAPERS_MODEL:
        return row["layer"]
    return PAPERS_LAYERS[row["depth"]] if row["depth"] < len(PAPERS_LAYERS) else None


def of_papers_setting(ours: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The rows that are of the paper's model and task: others only stand beside its numbers."""
    own = (ours["model"] == PAPERS_MODEL) & (ours["task"] == PAPERS_TASK)
    usual = ours["corruption"].fillna("") == ""  # a CSV file gives an empty cell back as NaN
    return ours[own & usual]


def _nats(value: float) -> Tex:
    """Five decimals, where they hold three digits or more."""
    return fixed(value, 5) if abs(value) >= SMALLEST else significant(value)


def _both(name: str, decimals: int) -> Any:
    return lambda row: Tex(
        rf"{fixed(row[f'ap_{name}'], decimals)}~$\to$~{fixed(row[f'hvp_{name}'], decimals)}"
    )


def _layer(row: Record) -> Tex:
    where = str(row["hook"]).rpartition("hook_resid_")[2]
    return Tex(rf"{int(row['layer'])} ({escape(where)})")


def _reduction(row: Record) -> Tex:
    low, high = row["reduction_ci_low_pct"], row["reduction_ci_high_pct"]
    value = percent(row["reduction_pct"])
    if value is GAP or pd.isna(low):
        return value
    return Tex(rf"{value}~{{\scriptsize [{percent(low)}, {percent(high)}]}}")


def _published_correlations(row: Record) -> Any:
    ap, hvp = row["published_ap_correlation"], row["published_hvp_correlation"]
    if pd.isna(ap) or pd.isna(hvp):
        return None
    return theirs("text")({"text": f"{ap:.4f} to {hvp:.4f}"})


def _published_layer(row: Record) -> Any:
    return theirs("n", 0)({"n": row["published_n_features"]})


SHOWN = (
    Column("Layer", _layer, align="l"),
    Column("Records", ours("n_records", count), _published_layer),
    Column("AP", ours("ap_mae", _nats), theirs("published_ap_mae", 6)),
    Column("HVP", ours("hvp_mae", _nats), theirs("published_hvp_mae", 6)),
    Column("Reduction (%)", _reduction, theirs("published_reduction_pct")),
    Column("Pearson", _both("correlation", 4), _published_correlations),
    Column("Unc.", ours("uncovered")),
    Column("EV", ours("autoencoder_explained_variance")),
    Column(Tex("$L_0$"), lambda row: fixed(row["autoencoder_l0"], 1)),
    Column("LR", ours("autoencoder_loss_recovered")),
)


def notes(shown: Shown) -> list[str]:
    """What is counted, what the quality columns mean, and whose the autoencoders are."""
    threshold = shown.results.options["features"]["threshold"]
    found: list[str] = [
        Tex(
            rf"A record is a feature on a prompt with $|\Delta| > {threshold:g}$ nats; the paper's "
            r"threshold is lost. Its 2,500 are 50 for each of 50 prompts, so that it may have kept "
            r"the largest alone. AP, HVP: MAE in nats, over records; reduction "
            r"$1 - \mathrm{HVP} / \mathrm{AP}$ with its 95\% interval, prompts resampled; "
            r"correlations of estimates with $\Delta$, AP to HVP (rank correlations: CSV file). "
            r"Layer (pre): the residual stream before it. A patch replaces one feature's code at "
            r"all positions and keeps the rest, the reconstruction's error included."
        ),
        Tex(
            r"Unc.: uncovered, $\|\delta - \sum_j \delta f_j\, d_j\| / \|\delta\|$ of the residual "
            r"stream's change, mean over prompts: what no feature stands for (above 1: the codes' "
            r"change points elsewhere). EV: explained variance; $L_0$: mean active features; LR: "
            r"loss recovered, the share of the cross-entropy that zero ablation costs and the "
            r"reconstruction keeps; on held-out text sampled from the model, first positions left "
            r"out."
        ),
    ]
    own = shown.frame[shown.frame["autoencoder_trained"].astype(bool)]
    if len(own):
        sizes = ", ".join(sorted({count(n) for n in own["autoencoder_n_features"]}))
        models = sorted({str(model) for model in own["model"]})
        found.append(
            Tex(
                rf"The autoencoders of {escape(', '.join(models))} are our own ({sizes} features), "
                r"trained for minutes on text that the model sampled: far smaller and rougher than "
                r"the paper's, which have 24{,}576 features."
            )
        )
    return found


def grey_note(shown: Shown) -> str:
    """Whether the paper's numbers are of the same setting."""
    if (shown.frame["model"] == PAPERS_MODEL).all():
        return "Grey: the paper's value for the same layer."
    return Tex(
        r"Grey: the paper's GPT-2 small on IOI at layers 5 and 9 of 12, beside our shallower and "
        r"deeper layer: another model with other autoencoders, so the sizes do not compare."
    )


TABLE = Table(
    name="table17",
    settings="table17",
    reads={"feature_errors": "sae_features", "autoencoders": "sae_features"},
    options=("features",),
    columns="model task corruption layer hook depth n_prompts n_records n_distinct n_all_records "
    "ap_mae hvp_mae reduction_pct reduction_ci_low_pct reduction_ci_high_pct ap_correlation "
    "hvp_correlation ap_rank_correlation hvp_rank_correlation uncovered "
    + " ".join(f"autoencoder_{name}" for name in (*QUALITY, *LOSSES))
    + " published_n_features published_ap_mae published_hvp_mae published_reduction_pct "
    "published_ap_correlation published_hvp_correlation",
    rows=rows,
    paper=Paper(
        keys={"layer": papers_layer},
        cells=beside(
            "ap_mae",
            "hvp_mae",
            "reduction_pct",
            "ap_correlation",
            "hvp_correlation",
            n_features="n_records",
        ),
        select=of_papers_setting,
    ),
    caption="Features of sparse autoencoders of the residual stream as patches: errors of AP and "
    "HVP against activation patching.",
    label="tab:features",
    body=lambda shown: grid(shown.frame, SHOWN, KEY, lambda row: setting_label(setting_of(row))),
    notes=notes,
    grey=grey_note,
    wide=True,
)
