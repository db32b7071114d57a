"""Tables and figures beyond Table 2: which results each one shows, and with which settings.

A specification is data for one rule: `workflow/rules/tables.smk` and `figures.smk` make a rule of
each, and Snakemake reruns it where one of its inputs or parameters changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from choices import setting, setting_files
from code_inputs import project_file

Config = Mapping[str, Any]
SCORES = "results/scores/{model}/{task}/{corruption}/{site}.parquet"
ERRORS = "results/metrics/{model}/{task}/{corruption}/{site}.parquet"
ANALYSIS = "results/metrics/{model}/{task}/{corruption}/{site}/{analysis}.parquet"
PROMPTS = "results/prompts/{model}/{task}/{corruption}.parquet"
COSTS = "results/timing/costs/{model}/{task}/{corruption}/{site}.parquet"
ATTENTION = "results/attention/{model}/{task}/{corruption}{suffix}.parquet"


@dataclass(frozen=True)
class Artefact:
    """What a table or figure is made of.

    settings: 'model/task' of every path, in order; inputs: name -> paths; params: the few numbers
    and choices it depends on besides.
    """

    settings: Sequence[str]
    inputs: Mapping[str, list[str]]
    params: Mapping[str, Any] = field(default_factory=dict)


Make = Callable[[Config], Artefact]


def analyses(config: Config, names: Sequence[str], analysis: str, site: str = "attn_heads") -> list:
    """One analysis of every setting."""
    return setting_files(config, names, ANALYSIS, site=site, analysis=analysis)


def _statistics(config: Config) -> dict[str, Any]:
    metrics = config["metrics"]
    return {"resamples": metrics["bootstrap_resamples"], "seed": metrics["bootstrap_seed"]}


def _by_site(config: Config, names: Sequence[str]) -> Artefact:
    """Errors at every kind of component; settings and sites run in parallel with the paths."""
    sites = config["sites"]
    pairs = [(site, name) for site in sites for name in names]
    return Artefact(
        [name for _, name in pairs],
        {"errors": [f for s, n in pairs for f in setting_files(config, [n], ERRORS, site=s)]},
        {"sites": [site for site, _ in pairs], **_statistics(config)},
    )


def _table3(config: Config) -> Artefact:
    return _by_site(config, [config["table3"]])


def _table11(config: Config) -> Artefact:
    return _by_site(config, config["component_settings"])


def _lipschitz(config: Config, name: str) -> Artefact:
    inputs = {
        "lipschitz": analyses(config, [name], "lipschitz"),
        "layers": analyses(config, [name], "lipschitz_layers"),
    }
    return Artefact([name], inputs)


def _table6(config: Config) -> Artefact:
    return _lipschitz(config, config["table6"])


def _table7(config: Config) -> Artefact:
    return _lipschitz(config, config["table7"])


def _table18(config: Config) -> Artefact:
    name = config["case_study"]
    inputs = {key: analyses(config, [name], key) for key in ("recovery", "case_study")}
    return Artefact([name], inputs)


def _figure1(config: Config) -> Artefact:
    name = config["case_study"]
    inputs = {
        "reliability": analyses(config, [name], "reliability"),
        "prompts": setting_files(config, [name], PROMPTS),
    }
    return Artefact([name], inputs, {"tau": config["tau"]})


def _figure2(config: Config) -> Artefact:
    names = config["component_settings"]
    kinds = ("curvature", "curvature_summary", "curvature_errors")
    return Artefact(names, {kind: analyses(config, names, kind, "mlp_pre") for kind in kinds})


def _figure3(config: Config) -> Artefact:
    names = config["component_settings"]
    inputs = {key: analyses(config, names, key) for key in ("reliability", "auroc")}
    return Artefact(names, inputs, {"tau": config["tau"]})


def _curves(config: Config, names: Sequence[str], analysis: str, **params: Any) -> Artefact:
    """One analysis of every setting, which no longer says over how many prompts it went."""
    inputs = {analysis: analyses(config, names, analysis)}
    return Artefact(names, inputs | {"prompts": setting_files(config, names, PROMPTS)}, params)


def _figure4(config: Config) -> Artefact:
    return _curves(config, [config["case_study"]], "layers", tau=config["tau"])


def _figure6(config: Config) -> Artefact:
    names = [config["pathological"]]
    inputs = {key: analyses(config, names, key) for key in ("sweep_errors", "selection")}
    inputs["sweep"] = setting_files(
        config, names, "results/sweeps/{model}/{task}/{corruption}/attn_heads.parquet"
    )
    return Artefact(names, inputs)


def _figure7(config: Config) -> Artefact:
    return _curves(config, config["component_settings"], "operating", tau=config["tau"])


def _figure8(config: Config) -> Artefact:
    return _curves(config, config["component_settings"], "auroc")


def _case_study(config: Config, *kinds: str) -> Artefact:
    """Maps of the case study's heads; known circuits are files of our own."""
    name = config["case_study"]
    where = setting(config, name)
    inputs = {"case_study": analyses(config, [name], "case_study")}
    if "roles" in kinds:
        inputs["roles"] = [ATTENTION.format(**where, suffix="_roles")]
    if "attention" in kinds:
        inputs["attention"] = [ATTENTION.format(**where, suffix="")]
    if where["model"] in config["known_circuits"].get(where["task"], ()):
        inputs["circuit"] = [project_file(f"data/circuits/{where['model']}_{where['task']}.csv")]
    return Artefact([name], inputs)


def _figure10(config: Config) -> Artefact:
    return _case_study(config)


def _figure11(config: Config) -> Artefact:
    return _case_study(config, "roles")


def _figure12(config: Config) -> Artefact:
    return _case_study(config, "roles", "attention")


def _table4(config: Config) -> Artefact:
    names = config["table4"]
    return Artefact(names, {"overlap": analyses(config, names, "overlap")}, _statistics(config))


def _table8(config: Config) -> Artefact:
    names = config["table2"]
    errors = setting_files(config, names, ERRORS, site="attn_heads")
    return Artefact(names, {"errors": errors}, _statistics(config))


def _table9(config: Config) -> Artefact:
    names = config["table9"]
    errors = analyses(config, names, "sweep_errors")
    return Artefact(names, {"sweep_errors": errors}, _statistics(config))


def _table10(config: Config) -> Artefact:
    names = config["table2"]
    return Artefact(names, {"overlap": analyses(config, names, "overlap")}, _statistics(config))


def _table12(config: Config) -> Artefact:
    names = [
        f"{name}/{corruption}"
        for name in config["table12"]
        for corruption in (setting(config, name)["corruption"], *config["other_corruptions"])
    ]
    errors = setting_files(config, names, ERRORS, site="attn_heads")
    return Artefact(names, {"errors": errors}, _statistics(config))


def _table13(config: Config) -> Artefact:
    names = config["table13"]
    scores = setting_files(config, names, SCORES, site="attn_heads")
    return Artefact(names, {"scores": scores}, _statistics(config))


def _table15(config: Config) -> Artefact:
    names = config["table15"]
    return Artefact(names, {"ranking": analyses(config, names, "ranking")})


def _figure5(config: Config) -> Artefact:
    names = list(config["regimes"].values())
    errors = analyses(config, names, "sweep_errors")
    return Artefact(names, {"sweep_errors": errors}, {"regimes": list(config["regimes"])})


def _figure9(config: Config) -> Artefact:
    names = [*config["component_settings"], *config["table13"]]
    return Artefact(names, {"prefix": analyses(config, names, "prefix")})


def _convergence(config: Config) -> Artefact:
    names = config["table2"]
    return Artefact(names, {"convergence": analyses(config, names, "convergence")})


def _frontier(config: Config) -> Artefact:
    names = config["frontier"]
    inputs = {
        "sweep_errors": analyses(config, names, "sweep_errors"),
        "scores": setting_files(config, names, SCORES, site="attn_heads"),
        "costs": setting_files(config, names, COSTS, site="attn_heads"),
    }
    top_k = config["metrics"]["top_k"]
    return Artefact(names, inputs, {"top_k": top_k, **_statistics(config)})


# Made by one generic rule each; Tables 1, 2 and 5 have rules of their own.
TABLES: dict[str, Make] = {
    "table3": _table3,
    "table6": _table6,
    "table7": _table7,
    "table11": _table11,
    "table18": _table18,
    "table4": _table4,
    "table8": _table8,
    "table9": _table9,
    "table10": _table10,
    "table12": _table12,
    "table13": _table13,
    "table15": _table15,
    "frontier": _frontier,
}
FIGURES: dict[str, Make] = {
    "figure1": _figure1,
    "figure2": _figure2,
    "figure3": _figure3,
    "figure4": _figure4,
    "figure6": _figure6,
    "figure7": _figure7,
    "figure8": _figure8,
    "figure10": _figure10,
    "figure11": _figure11,
    "figure12": _figure12,
    "figure5": _figure5,
    "figure9": _figure9,
    "convergence": _convergence,
    "frontier": _frontier,
}
NOTEBOOKS: dict[str, str] = {
    "figure1": "notebooks/figure01_screen_flag_fix.ipynb",
    "figure2": "notebooks/figure02_curvature_gap.ipynb",
    "figure3": "notebooks/figure03_reliability.ipynb",
    "figure4": "notebooks/figure04_layers.ipynb",
    "figure6": "notebooks/figure06_sweep_and_selection.ipynb",
    "figure7": "notebooks/figure07_operating_curves.ipynb",
    "figure8": "notebooks/figure08_quartiles.ipynb",
    "figure10": "notebooks/figure10_head_map.ipynb",
    "figure11": "notebooks/figure11_roles.ipynb",
    "figure12": "notebooks/figure12_attention.ipynb",
    "figure5": "notebooks/figure05_error_against_cost.ipynb",
    "figure9": "notebooks/figure09_prompts.ipynb",
    "convergence": "notebooks/convergence.ipynb",
    "frontier": "notebooks/frontier.ipynb",
}


# tables with published numbers to set ours against
COMPARED = sorted([2, *(int(name[5:]) for name in TABLES if name.startswith("table"))])


def artefacts() -> list[str]:
    """Every table and figure that the configuration can make, and the comparison of them all."""
    tables = [f"tables/{name}.tex" for name in ("table1", "table2", "table5", *TABLES)]
    return [*tables, *(f"figures/{name}.pdf" for name in FIGURES), "results/comparison.csv"]


def prompt_files(config: Config, artefact: Artefact) -> list[str]:
    """The prompts of every setting, whose counts an artefact states."""
    return setting_files(config, dict.fromkeys(artefact.settings), PROMPTS)
