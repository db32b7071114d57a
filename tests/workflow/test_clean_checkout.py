"""What must hold on a clean checkout, before anything is computed and without a network."""

from __future__ import annotations

import json
import re
import shlex
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

from artefacts import FIGURES, TABLES

pytestmark = pytest.mark.workflow

SMK = "workflow/rules/*.smk"
COMPUTE_RULES = (
    "compute_jets",
    "compute_baseline",
    "compute_probes",
    "compute_sweep",
    "compute_convergence",
    "compute_sets",
    "compute_spectrum",
)
# "rule name:", or an anonymous rule that a loop makes one of each table or figure
RULE = re.compile(r"^(?:rule (\w+)| +rule):\n(.*?)(?=^\S|\Z)", re.M | re.S)
PROFILES = {"config": 6, "smoke": 4, "paper": 14}


@pytest.mark.parametrize(("config", "settings"), PROFILES.items(), ids=PROFILES)
def test_table2_needs_its_own_settings_alone(clean, config, settings):
    profile = f"config/{config}.yaml"
    result = clean.call("snakemake", "-n", "tables/table2.tex", "--configfile", profile)
    assert result.status == 0, result.output
    jobs = result.jobs()
    for rule in ("compute_truth", "compute_top", "measure_top_errors", "measure_summary"):
        assert jobs[rule] == settings
    # what every component is measured for stands in other tables
    elsewhere = {"compute_jets", "compute_ranking_jets", "compute_baseline", "compute_hessians"}
    assert not elsewhere & set(jobs)
    assert jobs["table2"] == 1
    # a user reads one line per job, not its list of source files
    assert "src/hvp_patching" not in result.output
    assert "Measure every component for the largest effects: " in result.output


@pytest.fixture(scope="module")
def dry_run(clean):
    """A dry run of everything in one profile, once for all tests that look at it."""

    @cache
    def run(config):
        named = ["--configfile", f"config/{config}.yaml"] if config != "config" else []
        result = clean.call("snakemake", "-n", "--cores", "1", *named)
        assert result.status == 0, result.output
        return result

    return run


@pytest.mark.parametrize("config", PROFILES)
def test_every_profile_makes_every_artefact(dry_run, config):
    jobs = dry_run(config).jobs()
    made = {*FIGURES, *(f"{name}_table" if name in FIGURES else name for name in TABLES)}
    both = {*TABLES} & {*FIGURES}
    made = {*TABLES, *FIGURES} | {f"{name}_table" for name in both}
    for name in (*made, "compare_with_paper"):
        assert jobs[name] == 1, name


def test_the_default_profile_is_found(dry_run):
    assert "Using workflow specific profile profiles/default" in dry_run("config").output


def test_the_paper_is_made_on_demand(clean, dry_run):
    """It needs LaTeX, which a reader may not have: all else is made without."""
    assert "paper" not in dry_run("smoke").jobs()
    smoke = ["--configfile", "config/smoke.yaml"]
    result = clean.call("snakemake", "-n", "paper/replication.pdf", *smoke)
    assert result.status == 0, result.output
    jobs = result.jobs()
    assert jobs["paper"] == jobs["numbers"] == jobs["build_claims"] == 1
    assert jobs["table2"] == jobs["figure12"] == 1


def test_the_gpu_profile_changes_the_engine_alone(clean, dry_run):
    result = clean.call("snakemake", "-n", "--workflow-profile", "gpu", "--verbose")
    assert result.status == 0, result.output
    assert result.jobs() == dry_run("config").jobs()


def test_files_keep_to_the_house_rules(clean):
    assert len(clean.text("Snakefile").splitlines()) < 60
    files = sorted(clean.root.glob(SMK))
    assert files
    for path in files:
        text = path.read_text()
        assert len(text.splitlines()) < 200, path.name
        assert text.startswith('"""Defines rules that '), path.name


def _rules(root: Path) -> dict[str, str]:
    """Bodies of the rules by name; a loop's rule has its script's name."""
    found = {}
    for path in sorted(root.glob(SMK)):
        for name, body in RULE.findall(path.read_text()):
            key = name or re.search(r"scripts/(\w+)\.py", body).group(1)
            found[key] = textwrap.dedent(body)
    return found


def test_every_rule_with_a_script_logs_and_says_what_it_does(clean):
    rules = {name: body for name, body in _rules(clean.root).items() if "script:" in body}
    assert len(rules) >= 10
    for name, body in rules.items():
        for directive in ("log:", "message:", "conda:"):
            assert re.search(rf"^ *{directive}$", body, re.M), (name, directive)
        script = re.search(r'"\.\./scripts/(\w+\.py)"', body).group(1)
        assert (clean.root / "workflow" / "scripts" / script).is_file()


def test_compute_rules_declare_threads_memory_and_benchmark(clean):
    for name in COMPUTE_RULES:
        body = _rules(clean.root)[name]
        assert "threads: THREADS" in body
        assert "mem_mb=" in body
        assert "benchmark:" in body


def test_every_artefact_has_a_rule_and_every_table_rule_is_asked_for(dry_run):
    listed = re.search(r"^rule all:\n +input: (.+)$", dry_run("config").output, re.M)
    asked = set(listed.group(1).split(", "))
    tables = {f"tables/{name}.tex" for name in TABLES}
    figures = {f"figures/{name}.pdf" for name in FIGURES}
    assert tables | figures | {"results/comparison.csv"} <= asked


def test_every_artefact_has_a_caption_of_its_own(clean):
    names = (*TABLES, *FIGURES, "comparison")
    captions = [clean.text(f"workflow/report/{name}.rst").strip() for name in dict.fromkeys(names)]
    assert all(captions)
    assert len(set(captions)) == len(captions)


def test_notebooks_are_stored_without_outputs_and_take_parameters(clean):
    notebooks = sorted(clean.root.glob("notebooks/*.ipynb"))
    assert len(notebooks) == len(FIGURES)
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert not [c for c in code if c["outputs"] or c["execution_count"] is not None], path.name
        tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
        assert len(tagged) == 1, path.name
        names = re.findall(r"^(\w+) *=", "".join(tagged[0]["source"]), re.M)
        assert names == ["inputs", "settings", "params", "provenance", "pdf", "csv"], path.name


def test_the_slurm_profile_has_memory_and_a_gpu_for_every_rule_that_loads_a_model(clean):
    profile = yaml.safe_load(clean.text("workflow/profiles/slurm/config.yaml"))
    rules, scripts = _rules(clean.root), {}
    for name, body in rules.items():
        if "script:" in body:
            script = re.search(r"scripts/(\w+)\.py", body).group(1)
            scripts[name] = clean.text(f"workflow/scripts/{script}.py")
    loads = ("load_model(", "rule_session.measuring(")
    loading = {name for name, text in scripts.items() if any(call in text for call in loads)}
    on_a_gpu = {name for name in loading if "device=" in rules[name]}
    assert {"compute_jets", "compute_attention", "describe_model"} <= loading
    granted = re.compile(r"threads: (THREADS|CORES)$", re.M)
    threaded = {name for name in loading if granted.search(rules[name])}
    listed = set(clean.call("snakemake", "--list-rules").output.split())
    by_loops = {name for name in listed if name.startswith("compute_")}
    assert {"compute_truth", "compute_ranking_jets", "compute_top", *threaded} <= listed
    resources = profile["set-resources"]
    assert set(resources) == loading | by_loops
    assert all(found["mem_mb"] >= 64000 for found in resources.values())
    # the plugin refuses --gres within slurm_extra
    with_gpu = {name for name, found in resources.items() if found.get("gres") == "gpu:1"}
    assert with_gpu == on_a_gpu | by_loops
    assert not [name for name, found in resources.items() if "slurm_extra" in found]
    assert set(profile["set-threads"]) == threaded | by_loops


def test_the_commands_of_the_readme_say_what_they_mean(clean):
    """Options that take many values swallow targets that stand behind them."""
    from snakemake.cli import get_argument_parser, parse_config

    lines = re.findall(r"^(snakemake .+?)(?:  +#.*)?$", clean.text("README.md"), re.M)
    assert len(lines) >= 3
    for line in lines:
        words = shlex.split(line)[1:]
        given = get_argument_parser().parse_args(words)
        parse_config(given.config)
        targets = {word for word in words if word.startswith(("tables/", "figures/", "results/"))}
        assert set(given.targets) == targets, line
        assert all((clean.root / path).is_file() for path in given.configfile), line


def test_the_conda_environment_has_the_versions_of_the_lock(clean):
    locked = set(re.findall(r"^([a-z0-9-]+)==([\w.]+)", clean.text("requirements.lock"), re.M))
    pins = dict(re.findall(r"- ([a-z0-9-]+)==([\w.]+)", clean.text("workflow/envs/library.yaml")))
    assert pins.pop("torch") == "2.13.0"  # not in the lock: its build differs by platform
    assert set(pins.items()) <= locked
    project = clean.text("pyproject.toml").partition("dependencies = [")[2].partition("]")[0]
    figures = {"papermill", "ipykernel"}  # notebooks are a matter of the workflow
    assert set(re.findall(r'"([a-z0-9-]+)', project)) - {"torch"} == set(pins) - figures
