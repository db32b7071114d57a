"""What artefacts are made of, and what is measured (workflow/artefacts.py and analyses.py)."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from hvp_patching.aggregates import FRAMES, overall_frame
from hvp_patching.claims.reading import read_queries
from hvp_patching.reporting.tables import load_table, numbered_tables

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow"))

import analyses  # noqa: E402
import artefacts  # noqa: E402
import grammar  # noqa: E402

PROFILES = ["config", "smoke", "paper"]


def load(profile):
    config = {}
    for name in dict.fromkeys(("config", profile)):
        update_config(config, yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()))
    return config


CONFIG = load("config")
ANALYSES, OVERALL = analyses.analyses(CONFIG), analyses.overall(CONFIG)
SPECS = {name: load_table(name) for name in artefacts.TABLES} | {
    f"{name} (figure)": figure for name, figure in artefacts.FIGURES.items()
}


@pytest.mark.parametrize(("name", "analysis"), [*ANALYSES.items(), *OVERALL.items()])
def test_every_analysis_is_a_function_with_these_options_and_a_frame(name, analysis):
    module, function = analysis.function.split(".")
    found = getattr(importlib.import_module(f"hvp_patching.metrics.{module}"), function)
    published = getattr(analysis, "published", "")  # the paper's table comes after what is read
    reads = (*analysis.reads, published) if published else analysis.reads
    inspect.signature(found).bind(*reads, **analysis.options)
    assert not published or (ROOT / f"data/published/{published}.csv").is_file()
    assert name in FRAMES or (name in OVERALL and overall_frame(name))
    for read in analysis.reads:
        assert read in FRAMES or overall_frame(read)
        assert read in ANALYSES or read in grammar.PATHS or read in OVERALL
    assert (ROOT / "src/hvp_patching" / f"{analysis.module}.py").is_file()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", OVERALL)
def test_an_analysis_of_several_settings_reads_each_of_them(name, profile):
    config = load(profile)
    analysis = OVERALL[name]
    names = artefacts.settings_of(config, analysis.settings)
    paths = artefacts.result_files(config, analysis.reads[0], names, analysis.site)
    # a tally counts a table's marks, so that it cannot count another family of comparisons
    assert len(paths) == (len(names) if names else 1)
    assert bool(names) == (analysis.reads[0] not in OVERALL)
    if name.startswith("tally"):
        assert analysis.reads[0].startswith("marks_")


def test_every_analysis_is_read_by_an_artefact_the_ledger_or_another_analysis():
    read = {name for spec in SPECS.values() for name in spec.reads}
    read |= {query.result for query in read_queries(ROOT / "data/claims/queries.yaml").values()}
    read |= {
        name for analysis in (*ANALYSES.values(), *OVERALL.values()) for name in analysis.reads
    }
    assert {*ANALYSES, *OVERALL} <= read


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", SPECS)
def test_every_artefact_can_say_what_it_is_made_of(name, profile):
    config = load(profile)
    made = artefacts.artefact(config, SPECS[name])
    for result, paths in made.inputs.items():
        assert paths
        assert not [path for path in paths if "{" in path]
        if result not in OVERALL and result != "model":
            assert len(paths) == len(made.settings)
    assert set(made.inputs) | {"circuit"} >= set(SPECS[name].reads)
    if made.sites:
        assert len(made.sites) == len(made.settings) == 5 * len(dict.fromkeys(made.settings))
    assert len(artefacts.prompt_files(config, made)) == len(dict.fromkeys(made.settings))


def test_a_published_circuit_is_read_where_there_is_one():
    case = artefacts.FIGURES["figure10"]
    assert "circuit" not in artefacts.artefact(load("smoke"), case).inputs
    paths = artefacts.artefact(load("paper"), case).inputs["circuit"]
    assert paths == ["data/circuits/gpt2-small_ioi.csv"]


def test_tables_are_named_as_their_modules_and_stand_in_the_papers_order():
    for name in artefacts.TABLES:
        assert load_table(name).name == name
    numbered = [name for name in artefacts.TABLES if name.startswith("table")]
    assert numbered == [f"table{number}" for number in numbered_tables()]
    labels = [load_table(name).label for name in artefacts.TABLES]
    assert len(set(labels)) == len(labels)
    assert artefacts.compared() == [n for n in numbered if n not in ("table1", "table5")]
