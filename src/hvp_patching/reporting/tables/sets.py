"""Sets of heads patched together: how far their effect is from what predicts it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from hvp_patching.reporting.cells import GAP, percent, significant, with_interval
from hvp_patching.reporting.latex import Block, Cell, Row, Tabular, Tex, bold
from hvp_patching.reporting.names import setting_label
from hvp_patching.reporting.results import Record, Results, records, setting_of
from hvp_patching.reporting.style import MethodStyle, method_label, method_style
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.settings import KEY

METRICS = {"logprob": "log-probability", "logit_difference": "logit difference"}
DRAWN = {"random": "heads drawn at random", "top": "the heads of largest effect"}
# What no method of its own is: sums and corrections of them. A rule along the set's path looks as
# the rule does everywhere.
OWN = {
    "sum_exact": MethodStyle("Sum of exact", "#000000", "*"),
    "exact_pairs": MethodStyle("Sum of exact + pairs", "#00AACC", "h"),
    "sum_ap": MethodStyle("Sum of AP", "#D55E00", "o"),
    "sum_hvp": MethodStyle("Sum of HVP (no pairs)", "#CC1199", "p"),
    "joint_hvp": MethodStyle("HVP of the set (all pairs)", "#E69F00", "s"),
}
PERCENT = {
    "relative_error_pct": "relative_error",
    "ci_low_pct": "relative_low",
    "ci_high_pct": "relative_high",
    "median_relative_error_pct": "median_relative_error",
    "median_ci_low_pct": "median_low",
    "median_ci_high_pct": "median_high",
}
NOTES = (
    Tex(
        r"All heads of a set are held at the other run's value in one pass; $|\Delta_S|$ is the "
        r"size of that effect, in nats or logits, mean over sets and prompts. Errors: "
        r"$\sum|\mathrm{predicted} - \Delta_S| / \sum|\Delta_S|$ over sets and prompts in percent, "
        r"with the interval over prompts (medians: CSV file). Bold: the smallest but "
        r"for MS-HVP and IG of the set, which converge to its effect."
    ),
    Tex(
        r"Sums are over the heads of the set, each patched alone; pairs are "
        r"$\sum_{i<j} C_{ij}$, the interactions of its heads at the unpatched run; HVP, MS-HVP and "
        r"IG of the set are taken along the path that moves all its heads together. "
        r"A set's own effect takes one forward pass, less than any of these."
    ),
)


def predictor_style(predictor: str) -> MethodStyle:
    """Name, colour and marker of a predictor; ``ValueError`` for an unknown one."""
    if predictor in OWN:
        return OWN[predictor]
    kind, _, rule = predictor.partition("_")
    named = {"joint": "{} of the set", "sum": "Sum of {}"}.get(kind)
    if named is None:
        raise ValueError(
            f"unknown predictor '{predictor}' of sets; choose one of: {', '.join(OWN)}"
        )
    style = method_style(rule)
    return MethodStyle(named.format(method_label(rule)), style.colour, style.marker)


def rows(results: Results) -> Iterator[Record]:
    """The frame ``set_errors`` of every setting, errors in percent."""
    for row in records(results["set_errors"]):
        yield row | {name: 100 * row[source] for name, source in PERCENT.items()}


def body(shown: Shown) -> Tabular:
    """A block for every setting, metric and way of drawing; a line a predictor, a column a size."""
    frame = shown.frame
    sizes = list(dict.fromkeys(int(size) for size in frame["size"]))
    lines: list[Row] = []
    for _, group in frame.groupby([*KEY, "metric", "drawn"], sort=False):
        first = records(group)[0]
        what = f"{METRICS.get(first['metric'], first['metric'])}, {DRAWN[first['drawn']]}"
        lines.append(Block(f"{setting_label(setting_of(first))}: {what}"))
        lines += _lines(group, sizes)
    heading = ["Predictor", *(f"{size} head{'s' * (size != 1)}" for size in sizes)]
    return Tabular([heading], lines, f"@{{}}l{'r' * len(sizes)}@{{}}")


def _lines(group: pd.DataFrame, sizes: list[int]) -> Iterator[list[Cell]]:
    of_size = group.drop_duplicates("size").set_index("size")["mean_effect"].to_dict()
    yield [Tex(r"$|\Delta_S|$"), *(significant(of_size.get(size)) for size in sizes)]
    for predictor, own in group.groupby("predictor", sort=False):
        cells = {int(row["size"]): row for row in records(own)}
        yield [predictor_style(str(predictor)).name, *(_cell(cells.get(size)) for size in sizes)]


def _cell(row: Record | None) -> Tex:
    if row is None:
        return GAP
    error = percent(row["relative_error_pct"])
    return with_interval(
        bold(error) if row["best"] else error, row["ci_low_pct"], row["ci_high_pct"]
    )


TABLE = Table(
    name="sets",
    settings="sets",
    reads={"set_errors": "attn_heads"},
    columns="model task corruption metric drawn size predictor n_prompts n_sets mean_effect "
    f"{' '.join(PERCENT)} best",
    rows=rows,
    caption="Sets of attention heads patched together: errors of what predicts their joint effect.",
    label="tab:sets",
    body=body,
    notes=lambda shown: NOTES,
    wide=True,
)
