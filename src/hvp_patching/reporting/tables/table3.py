"""Table 3: HVP against prior corrections by component type, the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import pandas as pd

from hvp_patching.reporting.cells import GAP, count, interval, percent, published_number
from hvp_patching.reporting.latex import Cell, Row, Space, Span, Tabular, Tex, bold, grey
from hvp_patching.reporting.names import component_name, published_component, setting_label
from hvp_patching.reporting.paper import Number, Paper, beside
from hvp_patching.reporting.results import Record, Results, records
from hvp_patching.reporting.style import method_label
from hvp_patching.reporting.table import ALL_SITES, Shown, Table
from hvp_patching.reporting.tables.components import (
    atp_star_notes,
    by_place,
    error_cells,
    neuron_notes,
    one_pass_notes,
)
from hvp_patching.settings import KEY

AP, TRUTH = "ap", "activation_patching"
SHORT = {  # five component types leave little room
    TRUTH: "Act. patching",
    "second_order_share": "2nd-order share",
    "ig_inputs_5": "IG inputs (5)",
    "clean_corrupted": "Clean + corr.",
}
GAP_AFTER = r"@{\hskip 8pt}"
GROUP = rf"r@{{ }}r{GAP_AFTER}"  # error and reduction of one component type
# the paper's methods, in its order; the baselines that it leaves out stand before HVP
BEFORE, AFTER = (AP, "atp_star", "atp_star_qkv", "gim"), ("hvp", TRUTH)
PUBLISHED = MappingProxyType({TRUTH: "truth"})  # ids of the published table that are not ours


def methods(results: Results) -> list[str]:
    """The methods shown, those of the option ``baselines`` among them."""
    return list(dict.fromkeys([*BEFORE, *results.options["baselines"], *AFTER]))


def rows(results: Results) -> Iterator[Record]:
    """One line per site and method, in percent; activation patching has no error by definition."""
    results.setting("Table 3")
    for (*key, site), ours in by_place(results["medians"]).items():
        for method in methods(results):
            found, ap = ours.get(method), ours[AP]
            row: Record = {**dict(zip(KEY, key, strict=True)), "site": site, "method": method}
            row |= {name: ap[name] for name in ("n_components", "n_nontrivial")}
            row["n_prompts"] = ap["n_all_prompts"]
            if method == TRUTH:
                row |= {"cost": 0, "error_pct": 0.0, "reduction_pct": 100.0}
            elif found and found["n_prompts"]:
                row |= {name: found[name] for name in ("cost", "n_prompts")}
                row |= error_cells(found, "error_pct", "ci_low", "ci_high")
                row["reduction_pct"] = 100 * found["reduction"]
            yield row


def body(shown: Shown) -> Tabular:
    """A method takes two lines, the second with the intervals, and two grey ones of the paper's."""
    frame = shown.frame
    sites = list(frame["site"].unique())
    lines: list[Row] = []
    for method in frame["method"].unique():
        lines += [Space()] * bool(lines)
        lines += _method_rows(method, records(frame[frame["method"] == method]), _lowest(frame))
    return Tabular(_heading(sites), lines, f"@{{}}l{GAP_AFTER}{GROUP * len(sites)}r@{{}}")


def _heading(sites: Sequence[str]) -> list[Row]:
    names = [Span(component_name(site), 2, rf"@{{}}c{GAP_AFTER}", "r") for site in sites]
    return [
        [None, *names, None],
        ["Method", *["Error", "Red."] * len(sites), "Cost"],
    ]


def _lowest(frame: pd.DataFrame) -> dict[str, Tex]:
    """The lowest printed error of each site, activation patching aside."""
    estimated = frame[(frame["method"] != TRUTH) & frame["error_pct"].notna()]
    lowest = estimated.groupby("site")["error_pct"].min()
    return {str(site): percent(error) for site, error in lowest.items()}


def _method_rows(method: str, cells: list[Record], lowest: Mapping[str, Tex]) -> list[Row]:
    costs = {cell["cost"] for cell in cells if pd.notna(cell["cost"])}
    values: list[Cell] = [SHORT.get(method, method_label(method))]
    intervals: list[Cell] = [None]
    papers: list[Cell] = [grey("paper")]
    paper_intervals: list[Cell] = [None]
    for cell in cells:
        error = percent(cell["error_pct"])
        best = method != TRUTH and error == lowest.get(cell["site"])
        values += [
            Tex("0") if method == TRUTH else bold(error) if best else error,
            None if method == "ap" or error == GAP else percent(cell["reduction_pct"]),
        ]
        intervals += [interval(cell["ci_low"], cell["ci_high"]), None]
        papers += [
            published_number(cell[f"published_{name}"]) for name in ("error_pct", "reduction_pct")
        ]
        paper_intervals += [_published_interval(cell), None]
    values.append(Tex("/".join(f"{cost:g}" for cost in sorted(costs))) if costs else GAP)
    below = [] if method == TRUTH else [intervals]
    if any(papers[1:]) and method != TRUTH:
        below += [papers, paper_intervals]
    return [values, *([*line, None] for line in below if any(line))]


def _published_interval(cell: Record) -> Cell:
    low, high = cell["published_error_ci_low_pct"], cell["published_error_ci_high_pct"]
    return None if pd.isna(low) else grey(f"[{low:.1f}, {high:.1f}]")


def notes(shown: Shown) -> list[str]:
    """What is measured, on how many records, and what some methods and neurons are."""
    frame = shown.frame
    sites = frame.drop_duplicates("site")
    by_site = "; ".join(
        f"{component_name(row['site'])} {count(row['n_nontrivial'])} of "
        f"{count(row['n_components'])}"
        for row in records(sites)
    )
    prompts = sorted({int(n) for n in sites["n_prompts"]})
    return [
        Tex(
            r"Error: median over prompts of the prompt's median of "
            r"$|\mathrm{estimate} - \Delta| / |\Delta|$ over components with a nontrivial effect; "
            r"bold: lowest of a column. Red.: reduction against AP. Cost: nominal backward passes "
            r"per component and prompt; activation patching takes one forward pass instead. "
            r"--: no such method for this component type, or not computed."
        ),
        Tex(
            rf"Prompts: $n = {'$, $'.join(map(str, prompts))}$. Records (nontrivial component--"
            rf"prompt pairs): {by_site}."
        ),
        *neuron_notes(frame["model"], frame["site"]),
        *one_pass_notes(frame.loc[frame["error_pct"].notna(), "method"]),
        *atp_star_notes(frame.loc[frame["error_pct"].notna(), "method"]),
    ]


TABLE = Table(
    name="table3",
    settings="table3",
    reads={"medians": ALL_SITES},
    options=("baselines",),
    columns="model task corruption site method cost n_prompts n_components n_nontrivial error_pct "
    "ci_low ci_high reduction_pct published_error_pct published_error_ci_low_pct "
    "published_error_ci_high_pct published_reduction_pct",
    rows=rows,
    paper=Paper(
        keys={
            "model": "model",
            "task": "task",
            "component": lambda row: published_component(row["site"]),
            "method": lambda row: PUBLISHED.get(row["method"], row["method"]),
        },
        cells=beside("error_pct", error_ci_low_pct="ci_low", error_ci_high_pct="ci_high")
        | beside("reduction_pct")
        | {"cost_backward_passes": Number("cost")},
        lost={"cost_backward_passes": "cost column values lost"},
    ),
    caption=lambda shown: (
        "Median relative error of each method by component type, with its 95% prompt-bootstrap "
        "interval, and the reduction of the error against AP (percent): "
        f"{setting_label(shown.results.setting('Table 3'))}."
    ),
    label="tab:prior-corrections",
    body=body,
    notes=notes,
    grey="Grey: the paper's value, interval and reduction for the same setting.",
    wide=True,
)
