"""Table 2: top-5 relative error of the paper's six methods, and of those that it leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan

import pandas as pd

from hvp_patching.reporting.latex import Block, Cell, Row, Tabular, Tex, bold, grey
from hvp_patching.reporting.marks import MARKS, marks_notes, overhang, sign
from hvp_patching.reporting.names import task_name
from hvp_patching.reporting.paper import Number, Paper
from hvp_patching.reporting.results import Record, ReportError, Results, records, records_by_key
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import Shown, Table
from hvp_patching.reporting.tables.components import one_pass_notes

AP = "ap"
USUAL_METRIC = "log-probability of the target"


def rows(results: Results) -> Iterator[Record]:
    """One line per model, task and method: our error in percent, and its mark against AP.

    The options name the profile, in order the estimator of each method of the paper, and the
    baselines, those that the paper leaves out among them.
    """
    methods = dict(results.options["table2_columns"])
    beyond = [name for name in results.options["baselines"] if name not in methods.values()]
    methods |= {name: name for name in beyond}
    summary = records_by_key(results["summary"], ("model", "task", "estimator"), "Table 2")
    paired = records_by_key(results["marks_table2"], ("model", "task", "first"), "Table 2")
    metrics = results["prompts"].groupby(["model", "task"])["metric"].first()
    for model, task in dict.fromkeys(key[:2] for key in summary):
        if (model, task, AP) not in summary:
            raise ReportError(f"{model}/{task}: Table 2 needs the errors of 'ap', which are absent")
        for method, estimator in methods.items():
            row: Record = {
                "block": results.options["profile"],
                "model": model,
                "task": task,
                "method": method,
                "estimator": estimator,
                "n_prompts": summary[model, task, AP]["n_prompts"],
                "metric": metrics[model, task],
                "mark": "none",
            }
            ours, beside_ap = (d.get((model, task, estimator)) for d in (summary, paired))
            if ours is None:
                row["missing_reason"] = "not computed"
            else:
                row["cost"] = ours["cost"]
                row["top5_rel_error_pct"] = 100 * ours["value"]
                row |= {name: 100 * ours[name] for name in ("ci_low", "ci_high")}
            if beside_ap is not None:
                row |= {"p_vs_ap": beside_ap["p"], "q_vs_ap": beside_ap["q"]}
                row |= {name: beside_ap[name] for name in ("decidable", "survives")}
                row["mark"] = MARKS[beside_ap["verdict"]]
            yield row


def body(shown: Shown) -> list[Tabular]:
    """The paper's methods, and below them the others: a line per model and task.

    A grey one has the paper's values. The lowest error of a line is bold; profiles that mix have a
    rule between them.
    """
    papers = shown.frame["method"].isin(shown.results.options["table2_columns"])
    return [_grid(shown.frame[part]) for part in (papers, ~papers) if part.any()]


def _grid(frame: pd.DataFrame) -> Tabular:
    lines: list[Row] = []
    blocks = frame.groupby("block", sort=False)
    for block, rows_of_profile in blocks:
        lines += [Block(f"{block} profile")] if len(blocks) > 1 else []
        for _, setting in rows_of_profile.groupby(["model", "task"], sort=False):
            lines += _setting_rows(records(setting))
    align = "lr" + "r" * frame["estimator"].nunique()
    return Tabular(_heading(frame), lines, align)


def _heading(frame: pd.DataFrame) -> list[Row]:
    """Names of the columns, their steps where they have any, their cost where it is one."""
    names: list[Cell] = ["Model / task", Tex("$n$")]
    steps: list[Cell] = [grey("steps"), None]
    costs: list[Cell] = [grey("cost"), None]
    for estimator in frame["estimator"].unique():
        name, _, step = method_label(estimator).removesuffix(")").partition(" (")
        cost = frame.loc[frame["estimator"] == estimator, "cost"].dropna().unique()
        names.append(name)
        steps.append(grey(Tex(f"${step.replace('=', '{=}')}$")) if step else None)
        costs.append(grey(f"{cost[0]:g}") if len(cost) == 1 else None)
    return [names, steps, costs]


def _setting_rows(methods: list[Record]) -> list[Row]:
    first = methods[0]
    ours: list[Cell] = [f"{first['model']} / {task_name(first['task'])}", int(first["n_prompts"])]
    values = [round(method["top5_rel_error_pct"], 2) for method in methods]
    lowest = min((value for value in values if not isnan(value)), default=None)
    for value, method in zip(values, methods, strict=True):
        number = bold(f"{value:.2f}") if value == lowest else Tex(f"{value:.2f}")
        ours.append(Tex("--") if isnan(value) else overhang(number, _sign(method)))
    printed = [method["published_n"] for method in methods if pd.notna(method["published_n"])]
    if not printed:
        return [ours]
    theirs: list[Cell] = [grey("paper"), grey(f"{printed[0]:g}")]
    for method in methods:
        value = method["published_pct"]
        if pd.isna(value):
            theirs.append(grey("--"))
        else:
            mark = sign(method["published_mark"])
            theirs.append(overhang(grey(f"{value:.2f}"), grey(mark) if mark else mark))
    return [ours, theirs]


def _sign(method: Record) -> Tex:
    return sign(method["mark"], method["survives"] is True)


def notes(shown: Shown) -> list[str]:
    """What marks and costs mean, other metrics than usual, and gaps."""
    found: list[str] = [
        Tex(
            r"Lower is better; bold: lowest of a row. Cost: backward passes per component and "
            r"prompt; one reverse pass of cost 1 serves all components."
        ),
        *one_pass_notes(shown.frame["method"]),
        *marks_notes(shown.results["marks_table2"], "AP"),
    ]
    unusual = shown.frame[shown.frame["metric"] != USUAL_METRIC]
    for (task, metric), group in unusual.groupby(["task", "metric"], sort=False):
        models = ", ".join(group["model"].unique())
        found.append(f"Metric of {task_name(str(task))} ({models}): {metric}.")
    gaps = shown.frame[shown.frame["top5_rel_error_pct"].isna()]
    if len(gaps):
        found.append(f"--: {', '.join(gaps['missing_reason'].unique())}.")
    return found


TABLE = Table(
    name="table2",
    settings="table2",
    reads={"summary": "attn_heads", "marks_table2": "", "prompts": "attn_heads"},
    options=("table2_columns", "baselines"),
    columns="block model task method estimator n_prompts cost top5_rel_error_pct ci_low ci_high "
    "p_vs_ap q_vs_ap decidable survives mark published_pct published_mark published_n "
    "published_missing_reason missing_reason metric",
    rows=rows,
    paper=Paper(
        keys={"model": "model", "task": "task", "method": "method"},
        cells={
            "n_prompts": Number("n_prompts", "published_n"),
            "cost_backward_passes": Number("cost"),
            "top5_rel_error_pct": Number("top5_rel_error_pct", "published_pct"),
        },
        shows={"published_mark": "significance", "published_missing_reason": "missing_reason"},
    ),
    caption="Top-5 relative error of attention heads (percent, mean over prompts).",
    label="tab:main-comparison",
    body=body,
    notes=notes,
    grey="Grey: the paper's value, number of prompts and mark for the same setting.",
)
