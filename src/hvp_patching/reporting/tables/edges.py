"""Edges against exact patching of each alone: errors by stratum, seconds, one edge of circuits."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.reporting.cells import GAP, count, fixed, percent, significant
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, escape
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.results import Record, Results, records
from hvp_patching.reporting.style import edge_method_label
from hvp_patching.reporting.table import Shown, Table

ALL, EXACT = "all", "exact"
STRATA = {
    "largest": "top",
    "random": "rand.",
    "q": "q",
    "k": "k",
    "v": "v",
    "mlp": "MLP",
    "logits": "log.",
}
# The edge from the embedding into MLP 0, and signed circuits with its score changed
ONE = ("exact", "eap", "hvp_own", "ms_hvp_own_5", "ig_own_10", "hvp_joint")
CIRCUITS = {
    "eap": "EAP",
    "eap_right": "edge exact",
    "hvp_joint": "HVP (joint)",
    "hvp_joint_without": "edge left out",
}
ERRORS, EFFECT, CIRCUIT = "errors", "one edge", "circuits"  # what a line of the CSV file is of


def rows(results: Results) -> Iterator[Record]:
    """The frames ``edge_errors``, ``edge_effects`` and ``one_edge_summary``, each by its block."""
    for row in records(results["edge_errors"]):
        yield {"block": ERRORS} | row
    for row in records(results["edge_effects"]):
        yield {"block": EFFECT} | row
    for row in records(results["one_edge_summary"]):
        yield {"block": CIRCUIT} | row


def _block(shown: Shown, block: str) -> pd.DataFrame:
    return shown.frame[shown.frame["block"] == block]


def errors(shown: Shown) -> Tabular:
    """A line a method: Σ|error| / Σ|effect| in every stratum, and what else tells of it."""
    lines: list[Row] = []
    for setting, group in by_setting(_block(shown, ERRORS)).items():
        whole = group[group["stratum"] == ALL]
        first = records(whole)[0]
        sizes = f"{count(first['n_records'])} edges on {count(first['n_prompts'])} prompts"
        captures = significant(first["captures"])
        lines.append(
            Block(Tex(f"{escape(setting_label(setting))}: {sizes}, captures {captures} s a prompt"))
        )
        for row in records(whole):
            own = group[group["method"] == row["method"]].set_index("stratum")["error_share"]
            lines.append(_line(row, own.to_dict()))
    share = Span(Tex(r"$\sum|\mathrm{error}| / \sum|\mathrm{effect}|$"), len(STRATA))
    heading: list[Row] = [
        [None, share, None, None, None, Span("Seconds", 2)],
        ["Method", *STRATA.values(), "med.", "sign", "flag", "edge", "all"],
    ]
    return Tabular(heading, lines, "@{}l" + "r" * (len(STRATA) + 5) + "@{}")


def _line(row: Record, shares: dict[str, float]) -> list[Cell]:
    exact = row["method"] == EXACT
    return [
        edge_method_label(row["method"]),
        *(GAP if exact else _share(shares.get(stratum)) for stratum in STRATA),
        GAP if exact else _share(row["median_relative_error"]),
        GAP if exact else percent(100 * row["sign_agreement"]),
        GAP if pd.isna(row["flagged_share"]) else percent(100 * row["flagged_share"]),
        significant(row["seconds_per_edge"]),
        significant(row["seconds_all"]),
    ]


def _share(value: float | None) -> Tex:
    """Two decimals, or three where they would be 0.00."""
    return fixed(value, 3 if value is not None and abs(value) < 0.01 else 2)


def one_edge(shown: Shown) -> Tabular:
    """Exact effect and scores of one edge: the mean over prompts, and its range below."""
    lines: list[Row] = []
    for setting, group in by_setting(_block(shown, EFFECT)).items():
        found = {row["method"]: row for row in records(group)}
        cells = [found.get(method) for method in ONE]
        lines.append([setting_label(setting), *(_value(cell) for cell in cells)])
        lines.append([None, *(_range(cell) for cell in cells)])
    names = ["Exact" if method == EXACT else edge_method_label(method) for method in ONE]
    return Tabular([["Input to MLP 0", *names]], lines, "@{}l" + "r" * len(ONE) + "@{}")


def _value(row: Record | None) -> Cell:
    if row is None:
        return GAP
    right = round(row["sign_agreement"] * row["n_prompts"])
    text = fixed(row["value"])
    return text if row["method"] == EXACT else Tex(rf"{text}~({right}/{int(row['n_prompts'])})")


def _range(row: Record | None) -> Cell:
    if row is None:
        return None
    return Tex(rf"{{\scriptsize [{fixed(row['lowest'], 1)}, {fixed(row['highest'], 1)}]}}")


def circuits(shown: Shown) -> Tabular:
    """CPR of signed circuits, by EAP and joint HVP, as they are and with the edge changed."""
    lines: list[Row] = []
    for setting, group in by_setting(_block(shown, CIRCUIT)).items():
        found = {row["method"]: row for row in records(group)}
        lines.append([setting_label(setting), *(_cpr(found.get(name)) for name in CIRCUITS)])
    return Tabular(
        [["CPR, signed selection", *CIRCUITS.values()]],
        lines,
        "@{}l" + "r" * len(CIRCUITS) + "@{}",
    )


def _cpr(row: Record | None) -> Cell:
    if row is None:
        return GAP
    if pd.isna(row["cpr_low"]):
        return fixed(row["cpr"])
    ends = f"{fixed(row['cpr_low'])}, {fixed(row['cpr_high'])}"
    return Tex(rf"{fixed(row['cpr'])}~{{\scriptsize [{ends}]}}")


def notes(shown: Shown) -> list[str]:
    """What the strata, the columns and the last two grids are."""
    tau = shown.results.options["tau"]
    places = sorted(set(_block(shown, ERRORS)["place"].dropna()))
    found: list[str] = [
        Tex(
            r"Every sampled edge is patched alone, effects in logits. Strata, on each prompt: "
            r"the edges of largest $|\mathrm{EAP}|$, random ones, the largest into each kind of "
            r"reader. med.: median $|\mathrm{error}| / |\mathrm{effect}|$; sign: percent with the "
            rf"effect's; flag: percent with a reliability score above {tau:g} by that method's "
            r"curvature; all three over every sampled edge once. Seconds without captures: of one "
            r"edge alone, and of all edges of a prompt, projected where each edge or reader has "
            r"its price; a sample has few edges a hook, so that these projections are high."
        ),
        escape(f"Timed on {'; '.join(places)}, not alone on the machine."),
        Tex(
            r"Input to MLP 0, the edge from the embedding: mean over prompts in logits (prompts on "
            r"which its sign is right); range below. Circuits as in Table 16: EAP, and where this "
            r"one edge has its mean exact effect; joint HVP, and without this one edge."
        ),
    ]
    if any("gemma" in str(model) for model in shown.frame["model"]):
        found.append(
            "A norm follows Gemma's attention: patching a head's edge passes the head's change "
            "through the norm of all heads' sum, exactly, and the changes of heads do not add up."
        )
    return found


TABLE = Table(
    name="edges",
    settings="edges",
    reads={"edge_errors": "edges", "edge_effects": "edges", "one_edge_summary": "edges"},
    options=("tau",),
    columns="block model task corruption stratum method n_prompts n_records error_share ci_low "
    "ci_high median_relative_error sign_agreement flagged_share per seconds_per_edge seconds_all "
    "captures n_edges place value lowest highest selection cpr cpr_low cpr_high cmd cmd_low "
    "cmd_high average average_low average_high exact eap_score hvp_joint_score",
    rows=rows,
    caption="Scores of edges against exact patching of each edge alone, with measured seconds, and "
    "the edge from the embedding into the first MLP.",
    label="tab:edges",
    body=lambda shown: [errors(shown), one_edge(shown), circuits(shown)],
    notes=notes,
    wide=True,
)
