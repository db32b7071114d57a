"""Table 15: how well each method ranks the heads, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from types import MappingProxyType

import pandas as pd

from hvp_patching.aggregates import by_setting
from hvp_patching.reporting.cells import fixed, published_number
from hvp_patching.reporting.latex import Block, Cell, Row, Span, Tabular, Tex, grey
from hvp_patching.reporting.names import model_name, task_label
from hvp_patching.reporting.paper import Number, Paper, beside
from hvp_patching.reporting.results import Record, Results, records_by_key
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.settings import Setting

# our estimators by method; IH-DR stands in the paper's table alone
METHODS = MappingProxyType(
    {
        "ap": "ap",
        "hvp": "hvp",
        "ms_hvp": "ms_hvp_5",
        "ig": "ig_10",
        "ih_pi": "ih_pi_5",
        "ih_dr": "ih_dr_3",
        "gim": "gim",
    }
)
SHOWN = MappingProxyType(
    {
        "kendall_tau": Tex(r"$\tau$"),
        "spearman": Tex(r"$r_s$"),
        "ndcg_at_5": Tex("@5"),
        "ndcg_at_10": Tex("@10"),
        "ndcg_at_20": Tex("@20"),
    }
)
IN_FILE = ("ndcg_effect_at_5", "ndcg_effect_at_10", "ndcg_effect_at_20")
PRINTED = ("kendall_tau", "ndcg_at_5", "ndcg_at_10", "ndcg_at_20")
TASKS_ABREAST = 3


def rows(results: Results) -> Iterator[Record]:
    """One line per setting and method; ``scored`` says whether it was."""
    for setting, group in by_setting(results["ranking"]).items():
        ours = records_by_key(group, ("estimator",), str(setting))
        size = {name: group[name].iloc[0] for name in ("n_components", "n_prompts")}
        for method, estimator in METHODS.items():
            found = ours.get((estimator,), {})
            row: Record = {**vars(setting), "method": method, "estimator": estimator, **size}
            yield row | {"scored": bool(found)} | {n: found.get(n) for n in (*SHOWN, *IN_FILE)}


def scored_or_published(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the lines that neither we nor the paper have numbers for."""
    return frame[frame["scored"] | frame["published_kendall_tau"].notna()]


def body(shown: Shown) -> list[Tabular]:
    """One block of lines per model, tasks side by side; grey lines have the paper's values."""
    frame = shown.frame
    tasks = [
        Setting("", *key)
        for key in frame[["task", "corruption"]].drop_duplicates().itertuples(index=False)
    ]
    n_grids = ceil(len(tasks) / TASKS_ABREAST)
    height = ceil(len(tasks) / n_grids)
    return [_grid(frame, tasks[start : start + height]) for start in range(0, len(tasks), height)]


def _grid(frame: pd.DataFrame, tasks: Sequence[Setting]) -> Tabular:
    """Rows of those models that have one of the tasks."""
    rows: list[Row] = []
    for model, group in frame.groupby("model", sort=False):
        cells = records_by_key(group, ("task", "corruption", "method"), str(model))
        columns = [(task.task, task.corruption) for task in tasks]
        if not any(key[:2] in columns for key in cells):
            continue
        sizes = ", ".join(f"{n}" for n in sorted(group["n_components"].unique()))
        rows.append(Block(f"{model_name(str(model))} ({sizes} heads)"))
        for method, estimator in METHODS.items():
            found = [cells.get((*column, method), {}) for column in columns]
            if any(found):
                rows += _method_rows(estimator, found)
    names = [Span(task_label(task), len(SHOWN), r"c@{\hskip 9pt}", "r") for task in tasks]
    numbers = r"@{\hskip 9pt}" + r"@{\hskip 5pt}".join("r" * len(SHOWN))
    return Tabular(
        [[None, *names], ["Method", *[*SHOWN.values()] * len(tasks)]],
        rows,
        f"@{{}}l{numbers * len(tasks)}@{{}}",
    )


def _method_rows(estimator: str, cells: Sequence[Record]) -> list[Row]:
    ours: list[Cell] = [method_label(estimator)]
    theirs: list[Cell] = [grey("paper")]
    for cell in cells:
        ours += [fixed(cell.get(name), 3) for name in SHOWN] if cell else [None] * len(SHOWN)
        theirs += [published_number(cell.get(f"published_{name}"), 3) for name in SHOWN]
    return [ours, theirs] if any(theirs[1:]) else [ours]


def notes(shown: Shown) -> list[str]:
    """How heads are ranked, and what gaps are."""
    listed = ", ".join(str(n) for n in sorted({int(n) for n in shown.frame["n_prompts"]}))
    found: list[str] = [
        Tex(
            rf"Each head's estimates and true effects are averaged over the prompts ($n = {listed}$"
            r"), then ranked by size. @$k$: NDCG at $k$ with relevance 1 for the $k$ heads of "
            r"largest true effect, as the paper's printed values require; graded by the effect "
            r"itself in the CSV file."
        )
    ]
    if shown.frame[list(SHOWN)].isna().any(axis=None):
        found.append(Tex("--: not computed, or fewer heads than $k$."))
    return found


TABLE = Table(
    name="table15",
    settings="table15",
    reads={"ranking": "attn_heads"},
    columns=" ".join(
        ("model task corruption method estimator n_components n_prompts", *SHOWN, *IN_FILE)
    )
    + "".join(f" published_{name}" for name in PRINTED),
    rows=rows,
    finish=scored_or_published,
    paper=Paper(
        keys={"model": "model", "task": "task", "method": "method"},
        cells={"n_heads_total": Number("n_components")} | beside(*PRINTED),
    ),
    caption=Tex(
        r"Agreement of each method's ranking of attention heads with that of activation patching: "
        r"Kendall's $\tau$, Spearman's $r_s$ and NDCG@$k$ (no units; 1 is best)."
    ),
    label="tab:ranking",
    body=body,
    notes=notes,
    few="the ranks are",
    wide=True,
)
