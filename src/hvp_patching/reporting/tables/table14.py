"""Table 14: seconds of the methods that score edges, the paper's beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.circuits.method_names import split_name
from hvp_patching.reporting.cells import GAP, count, fixed, percent, significant
from hvp_patching.reporting.latex import Tex, escape
from hvp_patching.reporting.names import model_name, setting_label
from hvp_patching.reporting.paper import Number, Paper, beside
from hvp_patching.reporting.results import Record, Results, records, setting_of
from hvp_patching.reporting.style import edge_method_label
from hvp_patching.reporting.table import Column, Shown, Table, grid, ours, theirs
from hvp_patching.settings import KEY

PAPERS_MODELS = ("gpt2-small", "qwen2.5-0.5b")
# The paper's rows by ours: it does not say along which path its HVP of edges is taken, and both
# paths cost the same.
PAPERS_METHODS = {
    "eap": "eap",
    "eap_ig_inputs": "eap_ig_inputs",
    "hvp_joint": "hvp",
    "ms_hvp_joint": "ms_hvp",
    "hvp_joint_flagged": "selective_hvp",
}


def rows(results: Results) -> Iterator[Record]:
    """The frame ``edge_costs``, shares in percent."""
    for row in records(results["edge_costs"]):
        yield row | {"flagged_pct": 100 * row["flagged_share"]}


def papers_model(row: Record) -> str:
    """The paper's model that a row stands beside: itself, that of its architecture, or GPT-2."""
    model = str(row["model"])
    if model in PAPERS_MODELS:
        return model
    return PAPERS_MODELS[1] if model.startswith("qwen") else PAPERS_MODELS[0]


def papers_method(row: Record) -> str:
    """The paper's method of a row; its own name where it has none."""
    return PAPERS_METHODS.get(split_name(row["method"])[0], str(row["method"]))


def of_papers_models(ours: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The rows that are of the paper's models: others only stand beside its numbers."""
    return ours[ours["model"].isin(PAPERS_MODELS)]


def _seconds(row: Record) -> Tex:
    value = significant(row["seconds_all"])
    low, high = row["all_low"], row["all_high"]
    if pd.isna(low) or pd.isna(high):
        return value
    return Tex(rf"{value}~{{\scriptsize [{significant(low)}, {significant(high)}]}}")


def _total(row: Record) -> Tex:
    text = significant(row["total_seconds"])
    return Tex(rf"\textit{{{text}}}") if row["projected"] else text


def _flagged(row: Record) -> Tex:
    return GAP if pd.isna(row["flagged_pct"]) else percent(row["flagged_pct"])


SHOWN = (
    Column("Method", ours("method", edge_method_label), align="l"),
    Column("Timed", ours("n_timed", count)),
    Column("Seconds a prompt", _seconds),
    Column("All prompts (s)", _total, theirs("published_attribution_seconds")),
    Column(Tex(r"$/$ EAP"), ours("overhead", lambda value: fixed(value, 1))),
    Column(Tex(r"Flagged (\%)"), _flagged, theirs("published_flagged_pct", 0)),
)


def _title(row: Record) -> Tex:
    edges, prompts = count(row["n_edges"]), count(row["n_prompts"])
    captures = significant(row["captures"])
    return Tex(
        f"{setting_label(setting_of(row))}: {edges} edges, {prompts} prompts, captures "
        f"{captures} s a prompt"
    )


def notes(shown: Shown) -> list[str]:
    """What is timed, what is projected, and on what."""
    tau = shown.results.options["tau"]
    places = sorted({str(place) for place in shown.frame["place"]})
    return [
        Tex(
            "Wall clock of scoring every edge of a prompt, one stopwatch a method and prompt, mean "
            r"with its 95\% interval over prompts. Captures, both runs with all writers' outputs, "
            "come before every method and are timed apart; all prompts, and the ratio to EAP, "
            "include them. Italic: projected from the prompts timed, and for own HVP and exact "
            "patching from random edges to all. The edges replaced are those that EAP-IG (inputs) "
            "moves most; both methods' seconds are in theirs."
        ),
        Tex(
            rf"Flagged: edges with a reliability score above {tau:g}, by the curvature of that "
            r"path; of own HVP, among random edges."
        ),
        escape(f"Timed alone on {'; '.join(places)}."),
    ]


def grey_note(shown: Shown) -> str:
    """Whose the grey numbers are."""
    text = (
        "Grey: the paper's seconds for 100 examples on a single GPU that our copy of it does not "
        "name; its selective row is an estimate there. It does not say along which path its HVP "
        "and MS-HVP are taken: they stand beside the joint one's."
    )
    others = [model for model in dict.fromkeys(shown.frame["model"]) if model not in PAPERS_MODELS]
    if others:
        beside_what = ", ".join(
            f"{model_name(papers_model({'model': model}))} beside {model_name(model)}"
            for model in others
        )
        text += f" Other models: {beside_what}."
    return text


def _cells() -> dict[str, Number]:
    repeated = beside("n_edges", "flagged_pct", attribution_seconds="total_seconds")
    return repeated | {"n_layers": Number("n_layers"), "overhead_vs_eap": Number("overhead")}


TABLE = Table(
    name="table14",
    settings="table14",
    reads={"edge_costs": "edges"},
    options=("tau",),
    columns="model task corruption method per n_layers n_edges n_prompts n_timed captures "
    "seconds_all all_low all_high total_seconds overhead flagged_pct projected place "
    "published_n_edges published_attribution_seconds published_flagged_pct",
    rows=rows,
    paper=Paper(
        keys={"model": papers_model, "method": papers_method},
        cells=_cells(),
        lost={"overhead_vs_eap": "overhead cell lost"},
        select=of_papers_models,
    ),
    caption="Edge-level timing: seconds that each method takes to score all edges.",
    label="tab:edge-timing",
    body=lambda shown: grid(shown.frame, SHOWN, KEY, _title),
    notes=notes,
    grey=grey_note,
)
