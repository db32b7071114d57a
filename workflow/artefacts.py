"""The artefacts in the paper's order, one line each, and which results each one is made of.

A table says of itself what it reads (hvp_patching.reporting.tables); a figure is a notebook, and
its line says it here. `rules/tables.smk` and `figures.smk` make a rule of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyses import needs_of, overall
from choices import NEEDS, TOP, n_prompts, setting, setting_files
from code_inputs import project_file
from grammar import figure_file, path_of, path_of_overall, table_file

from hvp_patching.reporting.table import ALL_SITES
from hvp_patching.reporting.tables import load_table
from hvp_patching.settings import Setting

Config = Mapping[str, Any]
HEADS = "attn_heads"


@dataclass(frozen=True)
class Figure:
    """A notebook, the configuration's key of its settings, result -> site, further keys."""

    notebook: str
    settings: str | tuple[str, ...]
    reads: Mapping[str, str]
    options: tuple[str, ...] = ()
    all_corruptions: bool = False


TABLES = (
    "table1",
    "table2",
    "table3",
    "table4",
    "table5",
    "table6",
    "table7",
    "table8",
    "table9",
    "table10",
    "table11",
    "table12",
    "table13",
    "table14",
    "table15",
    "table16",
    "table17",
    "table18",
    "edges",
    "frontier",
    "floors",
    "sets",
    "screening",
    "screening_sites",
)


def _heads(*results: str) -> dict[str, str]:
    return dict.fromkeys(results, HEADS)


KINDS, CASE = "component_settings", "case_study"
NEURONS = dict.fromkeys(("curvature", "curvature_summary", "medians"), "mlp_pre")
SWEEP = _heads("sweep_errors", "sweep_summary", "steepest_rise", "selection")
FIGURES = {
    "figure1": Figure("figure01_screen_flag_fix", CASE, _heads("flagged", "prompts"), ("tau",)),
    "figure2": Figure("figure02_curvature_gap", KINDS, NEURONS),
    "figure3": Figure(
        "figure03_reliability", KINDS, _heads("reliability", "agreement", "auroc"), ("tau",)
    ),
    "figure4": Figure("figure04_layers", CASE, _heads("layers"), ("tau",)),
    "figure5": Figure(
        "figure05_error_against_cost", "regimes", _heads("sweep_summary"), ("regimes",)
    ),
    "figure6": Figure("figure06_sweep_and_selection", "pathological", SWEEP),
    "figure7": Figure("figure07_operating_curves", KINDS, _heads("operating"), ("tau",)),
    "figure8": Figure("figure08_quartiles", KINDS, _heads("auroc")),
    "figure9": Figure("figure09_prompts", (KINDS, "table13"), _heads("prefix")),
    "figure10": Figure("figure10_head_map", CASE, _heads("case_study", "circuit")),
    "figure11": Figure("figure11_roles", CASE, _heads("case_study", "circuit", "head_roles")),
    "figure12": Figure(
        "figure12_attention", CASE, _heads("case_study", "circuit", "head_roles", "attention")
    ),
    "convergence": Figure("convergence", "table2", _heads("convergence")),
    "edges": Figure("edges", "edges", {"edge_errors": "edges"}),
    "frontier": Figure("frontier", "frontier", _heads("frontier")),
    "floors": Figure("floors", "floors", _heads("floor_summary", "fit_floors")),
    "sets": Figure("sets", "sets", _heads("set_errors")),
    "spectrum": Figure("spectrum", "spectrum", _heads("spectrum_summary")),
    "screening": Figure("screening", "screening", _heads("screening")),
}


def setting_keys() -> tuple[str, ...]:
    """The configuration's keys that name the settings of an artefact, one or several."""
    keys = [load_table(name).settings for name in TABLES]
    for figure in FIGURES.values():
        keys += [figure.settings] if isinstance(figure.settings, str) else figure.settings
    return tuple(dict.fromkeys(key for key in keys if key))


@dataclass(frozen=True)
class Artefact:
    """What a table or figure is made of.

    settings: 'model/task' of every path, in order; sites: likewise, where it shows several;
    inputs: name -> paths; prompts: how many each of its needs has in each setting; options: keys
    of the configuration that it depends on besides.
    """

    settings: Sequence[str]
    sites: Sequence[str]
    inputs: Mapping[str, list[str]]
    prompts: Mapping[str, Mapping[str, int]]
    options: Mapping[str, Any] = field(default_factory=dict)


def settings_of(
    config: Config, keys: str | Sequence[str], all_corruptions: bool = False
) -> list[str]:
    """The settings of one configuration key or several: one, a list or the values of a mapping.

    With all corruptions each stands once with the task's usual one and with `other_corruptions`.
    """
    names: list[str] = []
    for key in [keys] if isinstance(keys, str) else keys:
        value = config[key] if key else []
        value = list(value.values()) if isinstance(value, Mapping) else value
        names += [value] if isinstance(value, str) else value
    if all_corruptions:
        names = [
            f"{name}/{corruption}"
            for name in names
            for corruption in (setting(config, name)["corruption"], *config["other_corruptions"])
        ]
    return names


def artefact(config: Config, spec: Any) -> Artefact:
    """What a table or figure of this specification is made of under a configuration."""
    names = settings_of(config, spec.settings, spec.all_corruptions)
    sites = config["sites"] if ALL_SITES in spec.reads.values() else [""]
    inputs = {
        result: [
            path
            for one in (sites if site == ALL_SITES else [site])
            for path in result_files(config, result, names, one)
        ]
        for result, site in spec.reads.items()
    }
    return Artefact(
        [name for _ in sites for name in names],
        [site for site in sites for _ in names] if sites != [""] else [],
        {result: paths for result, paths in inputs.items() if paths},
        {name: _counts(config, name, spec.reads) for name in names},
        {key: config[key] for key in spec.options},
    )


def _counts(config: Config, name: str, results: Iterable[str]) -> dict[str, int]:
    """The prompts of a setting by what the results need them for, in the order of NEEDS."""
    parsed = Setting.parse(name)
    needed = set().union(*(needs_of(config, result) for result in results))
    found = [need for need in NEEDS if need in (needed or {TOP})]
    return {need: n_prompts(config, parsed.model, parsed.task, need) for need in found}


def result_files(config: Config, result: str, names: Sequence[str], site: str = HEADS) -> list[str]:
    """One file of a result per setting; models and results of several settings have none."""
    if result == "model":
        return [path_of(result).format(model=model) for model in config["models"]]
    if result in overall(config):
        return [path_of_overall(result)]
    if result == "circuit":  # only where one was published for this model
        known = config["known_circuits"]
        parsed = {name: Setting.parse(name) for name in names}
        names = [name for name, one in parsed.items() if one.model in known.get(one.task, ())]
    files = setting_files(config, names, path_of(result), site=site)
    return [project_file(path) for path in files] if result == "circuit" else files


def prompt_files(config: Config, made: Artefact) -> list[str]:
    """The prompts of every setting, whose counts an artefact states."""
    return setting_files(config, dict.fromkeys(made.settings), path_of("prompts"))


def artefacts() -> list[str]:
    """Every table and figure that the configuration can make, and what gathers them all."""
    tables = [f"tables/{name}.tex" for name in TABLES]
    figures = [f"figures/{name}.pdf" for name in FIGURES]
    return [*tables, *figures, *map(path_of, ("comparison", "claims", "report"))]


def caption_of(table: str) -> str:
    """Caption of a table in Snakemake's report, as its rule names it; one that says what it is."""
    own = Path(__file__).parent / "report" / f"{table}.rst"
    return f"../report/{table if own.is_file() else 'table'}.rst"


def named(name: str) -> str:
    """An artefact as it is called: 'Table 2', 'Figure 3', 'Frontier'."""
    for kind in ("table", "figure"):
        if name.removeprefix(kind).isdigit():
            return f"{kind.title()} {name.removeprefix(kind)}"
    return name.replace("_", " ").capitalize()


def table_paths(name: str) -> dict[str, str]:
    """A table's files by their endings, the one to look at first."""
    return {ending: table_file(name, ending) for ending in ("html", "csv", "tex")}


def figure_paths(name: str) -> dict[str, str]:
    """A figure's files by their endings, the one to look at first."""
    return {ending: figure_file(name, ending) for ending in ("svg", "csv", "pdf")}


def input_files(made: Artefact) -> list[str]:
    """Every result that an artefact reads."""
    return [path for paths in made.inputs.values() for path in paths]


def labels_of(name: str, title: str) -> dict[str, str]:
    """How Snakemake's report lists an artefact."""
    return {"artefact": named(name), "shows": title.partition(": ")[2] or title}


def compared() -> list[str]:
    """Tables with published numbers to set ours against."""
    return [name for name in TABLES if load_table(name).paper and name != "table1"]
