"""Tables 6 and 7: how smooth the Hessian is along the patch, and whether the cubic bound holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from types import MappingProxyType
from typing import Any

import pandas as pd

from hvp_patching.reporting.cells import count, percent, significant
from hvp_patching.reporting.latex import Cell, Row, Space, Span, Tabular, Tex, escape, grey
from hvp_patching.reporting.names import setting_label, stand_in_sentence
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, ReportError, Results, records, records_by_key
from hvp_patching.reporting.table import Shown, Table

SUMMARY, LAYERS = "summary", "layers"
STATISTICS = MappingProxyType({"median": "Median", "mean": "Mean", "p90": "p90", "max": "Max"})
QUANTITIES = MappingProxyType(
    {
        "lipschitz_hat": Tex(r"$\hat L$"),
        "lipschitz_scalar": Tex(r"$\hat L_{\mathrm{scalar}}$"),
        "cubic_bound": Tex(r"$\hat L \|\delta\|^3 / 6$ (cubic bound)"),
        "actual_residual": Tex(r"$|\Delta - \mathrm{AP} - q/2|$ (actual residual)"),
    }
)
HOLDS = MappingProxyType(
    {
        "bound_holds": Tex(r"Bound holds with $\hat L$"),
        "bound_holds_scalar": Tex(r"Bound holds with $\hat L_{\mathrm{scalar}}$"),
    }
)
# columns of lipschitz_by_layer as quantity and statistic, the fraction as percent
BY_LAYER = MappingProxyType(
    {
        "n": ("bound_holds", "n_nontrivial_records", 1),
        "lipschitz_median": ("lipschitz_hat", "median", 1),
        "lipschitz_max": ("lipschitz_hat", "max", 1),
        "lipschitz_scalar_median": ("lipschitz_scalar", "median", 1),
        "delta_norm_median": ("delta_norm", "median", 1),
        "bound_holds_rate": ("bound_holds", "rate_pct", 100),
    }
)
GROUPS = 3  # of layers side by side

Cells = Mapping[tuple[Any, ...], Record]


def rows(results: Results) -> Iterator[Record]:
    """The panel "summary", then the panel "layers", in long form.

    L is in nats per cubed unit of the activation, bound and residual in nats, rates in percent.
    """
    summary = results["lipschitz"]
    if summary.empty:
        raise ReportError("no Lipschitz summary; probe at least one prompt")
    records_by_key(summary, ("quantity", "statistic"), "the Lipschitz summary")
    for row in records(summary):
        yield row | {"panel": SUMMARY, "layer": None}
    for row in records(results["lipschitz_layers"]):
        for column, (quantity, statistic, factor) in BY_LAYER.items():
            cells = {"quantity": quantity, "statistic": statistic, "value": factor * row[column]}
            yield {**row, "panel": LAYERS, **cells}


def whole_layers(frame: pd.DataFrame) -> pd.DataFrame:
    """With layers as whole numbers, which the summary has none of."""
    return frame.astype({"layer": "Int64"})


def body(shown: Shown) -> list[Tabular]:
    """Two grids, the summary with grey lines of the paper's values and the layers."""
    panel = shown.frame[shown.frame["panel"] == LAYERS]
    return [_summary_grid(_cells(shown)), _layer_grid(panel)]


def _cells(shown: Shown) -> Cells:
    panel = shown.frame[shown.frame["panel"] == SUMMARY]
    return records_by_key(panel, ("quantity", "statistic"), "the Lipschitz summary")


def _summary_grid(cells: Cells) -> Tabular:
    rows: list[Row] = []
    for quantity, name in QUANTITIES.items():
        rows.append([name, *(_value(cells, quantity, s) for s in STATISTICS)])
        if _has_published(cells, quantity):
            theirs = [_value(cells, quantity, s, "published") for s in STATISTICS]
            rows.append([grey("paper"), *(grey(value) for value in theirs)])
    rows.append(Space())
    for quantity, name in HOLDS.items():
        rows += [_sentence(f"{name}: {_rate(cells, quantity, 'value')}")]
        if _has_published(cells, quantity):
            rows.append(_sentence(grey(Tex(f"paper: {_rate(cells, quantity, 'published')}"))))
    slack = ", ".join(
        f"{statistic} {_value(cells, 'ratio_row', statistic)}"
        for statistic in ("median", "mean", "p10")
    )
    rows += [Space(), _sentence(f"Cubic bound / actual residual: {slack}")]
    return Tabular([[None, *STATISTICS.values()]], rows, "lrrrr")


def _sentence(text: str) -> Row:
    return [Span(Tex(text), 1 + len(STATISTICS), "l")]


def _value(cells: Cells, quantity: str, statistic: str, column: str = "value") -> Tex:
    return significant(cells.get((quantity, statistic), {}).get(column))


def _has_published(cells: Cells, quantity: str) -> bool:
    return any(pd.notna(row["published"]) for key, row in cells.items() if key[0] == quantity)


def _rate(cells: Cells, quantity: str, column: str) -> str:
    held, of, rate = (
        cells.get((quantity, statistic), {}).get(column)
        for statistic in ("count", "n_nontrivial_records", "rate_pct")
    )
    return rf"{count(held)} / {count(of)} = {percent(rate)}\%"


def _layer_grid(panel: pd.DataFrame) -> Tabular:
    """Layers in columns side by side, read downwards."""
    shown = panel.pivot(index="layer", columns=["quantity", "statistic"], values="value")
    lines = [
        [
            Tex(str(layer)),
            significant(row["lipschitz_hat", "median"]),
            percent(row["bound_holds", "rate_pct"]),
        ]
        for layer, row in shown.sort_index().iterrows()
    ]
    height = max(1, ceil(len(lines) / GROUPS))
    blank: list[Cell] = [None] * 3
    rows: list[Row] = []
    for i in range(height):
        found = [lines[j] if j < len(lines) else blank for j in range(i, GROUPS * height, height)]
        rows.append([cell for group in found for cell in group])
    heading: list[Cell] = ["Layer", Tex(r"Median $\hat L$"), Tex(r"Holds (\%)")]
    return Tabular([heading * GROUPS], rows, r"@{\hskip 2em}".join(["rrr"] * GROUPS))


def notes(shown: Shown) -> list[str]:
    """What is estimated, and on which sample."""
    return [
        Tex(
            r"$H(t)$: Hessian at $a + t\delta$. $\hat L$: largest "
            r"$\|H(t)\delta - H(s)\delta\| / (|t-s| \|\delta\|^2)$ over pairs of "
            r"$t, s \in \{0, \frac{1}{2}, 1\}$; $\hat L_{\mathrm{scalar}}$: largest "
            r"$|f''(t) - f''(s)| / (|t-s| \|\delta\|^3)$. Both bound the true $L$ from below, so "
            r"the cubic bound may fail. Unit of $\hat L$: nats per cubed unit of the activation; "
            r"of bound and residual: nats. Layers: median $\hat L$, and share of records in which "
            r"the bound with $\hat L$ holds."
        ),
        _sample(_cells(shown), "value", "Sample"),
    ]


def _sample(cells: Cells, column: str, name: str) -> Tex:
    size = {
        statistic: cells.get(("sample", statistic), {}).get(column)
        for statistic in ("n_prompts", "n_heads_total", "n_records", "n_nontrivial_records")
    }
    prompts, heads, total, nontrivial = (count(value) for value in size.values())
    product = "" if pd.isna(size["n_records"]) else f" = {total} records"
    return Tex(
        rf"{name}: {prompts} prompts $\times$ {heads} heads{product}, {nontrivial} records with a "
        "nontrivial effect."
    )


def of_papers_model(ours: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """The summary; the file names no model, which is the paper's where it has published numbers."""
    summary = ours[ours["panel"] == SUMMARY]
    (model,) = published["model"].unique()
    return summary.assign(model=model if summary["published"].notna().any() else "")


def lipschitz_table(number: int) -> Table:
    """Table 6 or 7."""

    def caption(shown: Shown) -> str:
        setting = shown.results.setting(f"Table {number}")
        stand_in = stand_in_sentence([setting.model], shown.paper_models)
        return Tex(
            "Smoothness of the Hessian along the patches of attention heads, and the cubic bound "
            rf"on the error of HVP, over all records and by layer: {escape(setting_label(setting))}"
            rf". {escape(stand_in)}".strip()
        )

    return Table(
        name=f"table{number}",
        settings=f"table{number}",
        reads={"lipschitz": "attn_heads", "lipschitz_layers": "attn_heads"},
        columns="panel layer quantity statistic value published",
        rows=rows,
        finish=whole_layers,
        paper=Paper(
            keys={
                "model": lambda row: row["model"] if row["panel"] == SUMMARY else None,
                "quantity": "quantity",
                "statistic": "statistic",
            },
            cells={"value": Number("value", "published")},
            lost={"value": "values lost"},
            select=of_papers_model,
        ),
        caption=caption,
        label=f"tab:lipschitz-{number}",
        body=body,
        notes=notes,
        grey=lambda shown: Tex(
            "Grey: the paper's value; its task is not stated. "
            + _sample(_cells(shown), "published", "Its sample")
        ),
        few="the distributions are",
        fewest=lambda shown: int(_cells(shown)["sample", "n_prompts"]["value"]),
        stand_ins=False,
        wide=True,
    )
