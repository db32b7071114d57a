"""Table 16: how faithful the circuits of every method are, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isnan
from typing import Any

from hvp_patching.circuits.method_names import split_name
from hvp_patching.reporting.cells import fixed
from hvp_patching.reporting.latex import Tabular, Tex
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.paper import Paper, Value, beside, read
from hvp_patching.reporting.results import Record, ReportError, Results, records, setting_of
from hvp_patching.reporting.style import edge_method_label
from hvp_patching.reporting.table import Column, Shown, Table, grid, theirs
from hvp_patching.settings import KEY

# The paper does not say along which path its edge HVP and MS-HVP are taken, and its flags and
# seconds fit the joint one badly (docs/circuits.md): they stand beside none of ours. Its selection
# is the signed one: CMD >= |CPR - 0.999| in all its rows, and f above 1.
SELECTIONS = ("signed", "absolute")
NOT_SHOWN = "not shown"
UNABLE = "the model does not do the task"
ENDS = ("", "_low", "_high")
AREAS_SHOWN = [f"{area}{end}" for area in ("cpr", "cmd", "average") for end in ENDS]


def _published_method(row: Record) -> str:
    """The paper's method of a row under signed selection; another id where it has none."""
    family, _ = split_name(row["method"])
    return family if row["selection"] == "signed" else f"{family}/{row['selection']}"


def rows(results: Results) -> Iterator[Record]:
    """The frame ``circuit_summary``; rows without areas where the model does not do the task.

    No circuit was judged there: what it recovers of a task that fails says nothing.
    """
    circuits = results["circuit_summary"]
    for ability in records(results["ability"]):
        setting = setting_of(ability)
        about = {name: ability[name] for name in ("accuracy", "chance", "able")}
        if ability["able"]:
            own = circuits[(circuits[list(KEY)] == [ability[name] for name in KEY]).all(axis=1)]
            if own.empty:
                raise ReportError(f"{setting}: no circuits were judged; judge them again")
            yield from (row | about for row in records(own))
            continue
        for method in results.options["circuit_methods"]:
            for selection in SELECTIONS:
                row = {name: ability[name] for name in (*KEY, "n_prompts")} | about
                row |= {"method": method, "selection": selection, "missing_reason": UNABLE}
                yield row | dict.fromkeys(AREAS_SHOWN)


def _if_able(cell: Value) -> Callable[[Record], Any]:
    """A cell, empty on the one line of a model that does not do the task."""
    return lambda row: read(row, cell) if row["able"] else ""


def _area(name: str) -> Callable[[Record], Tex]:
    def cell(row: Record) -> Tex:
        text, low, high = (row[f"{name}{end}"] for end in ENDS)
        if isnan(low) or isnan(high):
            return fixed(text, 3)
        return Tex(rf"{fixed(text, 3)}~{{\scriptsize [{fixed(low)}, {fixed(high)}]}}")

    return cell


SHOWN = (
    Column(
        "Method",
        lambda row: edge_method_label(row["method"]) if row["able"] else NOT_SHOWN,
        align="l",
    ),
    Column("Selection", _if_able("selection"), align="l"),
    Column("CPR", _if_able(_area("cpr")), _if_able(theirs("published_cpr", 3))),
    Column("CMD", _if_able(_area("cmd")), _if_able(theirs("published_cmd", 3))),
    Column(
        "Average", _if_able(_area("average")), _if_able(theirs("published_avg_faithfulness", 3))
    ),
)


def _title(row: Record) -> Tex:
    head = rf"{setting_label(setting_of(row))}: $n = {int(row['n_prompts'])}$, clean prompts right "
    text = rf"{head}{100 * row['accuracy']:.0f}\%"
    if not row["able"]:
        text += rf" (by chance {100 * row['chance']:.0f}\%): {row['missing_reason']}"
    return Tex(text)


def body(shown: Shown) -> Tabular:
    """One block a setting, a line a method and selection; no lines where there are no areas."""
    able = shown.frame["able"]
    blocks = shown.frame[able | ~shown.frame.duplicated(KEY)]
    return grid(blocks, SHOWN, KEY, _title)


TABLE = Table(
    name="table16",
    settings="table16",
    reads={"circuit_summary": "edges", "ability": "attn_heads"},
    options=("circuit_methods",),
    columns="model task corruption method selection n_prompts accuracy chance able cpr cpr_low "
    "cpr_high cmd cmd_low cmd_high average average_low average_high published_cpr published_cmd "
    "published_avg_faithfulness missing_reason",
    rows=rows,
    paper=Paper(
        keys={"model": "model", "task": "task", "method": _published_method},
        cells=beside("cpr", "cmd", avg_faithfulness="average"),
    ),
    caption="Faithfulness of circuits of the best edges, ten levels: CPR, CMD and the plain mean.",
    label="tab:faithfulness",
    body=body,
    notes=lambda shown: [
        "Edges are scored on one half of the prompts, circuits judged on the other (n). Signed: "
        "the edges that help most; absolute: the largest in size. CMD rewards f near 1, and half "
        "of either area lies above 50% of the edges.",
        "EAP, N edges by own HVP (or patched): EAP but for the N edges that EAP-IG (inputs) moves "
        "most, on the mean. Flagged: by that path's curvature, at a threshold of 0.5.",
        "The paper does not say along which path its HVP and MS-HVP of edges are taken; they "
        "stand beside none of ours.",
    ],
)
