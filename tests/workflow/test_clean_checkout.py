"""What must hold on a clean checkout, before anything is computed and without a network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

SMK = "workflow/rules/*.smk"
RULE = re.compile(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", re.M | re.S)


@pytest.mark.parametrize(
    ("config", "settings"), [("config", 6), ("smoke", 6), ("paper", 14)], ids=lambda value: value
)
def test_every_profile_resolves(clean, config, settings):
    result = clean.call("snakemake", "-n", "--cores", "1", "--configfile", f"config/{config}.yaml")
    assert result.status == 0, result.output
    jobs = result.jobs()
    assert jobs["compute_jets"] == jobs["compute_baseline"] == jobs["measure_errors"] == settings
    assert jobs["table2"] == 1
    # a user reads one line per job, not its list of source files
    assert "src/hvp_patching" not in result.output
    assert "Compute jets of" in result.output


def test_the_default_profile_is_found(clean):
    result = clean.call("snakemake", "-n", "--cores", "1")
    assert "Using workflow specific profile profiles/default" in result.output


def test_the_gpu_profile_changes_the_engine_alone(clean):
    result = clean.call("snakemake", "-n", "--workflow-profile", "gpu", "--verbose")
    assert result.status == 0, result.output
    assert result.jobs()["compute_jets"] == 6


def test_lint_is_clean(clean):
    result = clean.call("snakemake", "--lint")
    assert result.status == 0, result.output
    assert "Lints for" not in result.output


@pytest.mark.skipif(not shutil.which("snakefmt"), reason="snakefmt is not installed")
def test_format_is_clean(clean):
    result = clean.call("snakefmt", "--check", "Snakefile", "workflow")
    assert result.status == 0, result.output


def test_files_keep_to_the_house_rules(clean):
    assert len(clean.text("Snakefile").splitlines()) < 60
    files = sorted(clean.root.glob(SMK))
    assert files
    for path in files:
        text = path.read_text()
        assert len(text.splitlines()) < 200, path.name
        assert text.startswith('"""Defines rules that '), path.name


def _rules(root: Path) -> dict[str, str]:
    return dict(rule for path in sorted(root.glob(SMK)) for rule in RULE.findall(path.read_text()))


def test_every_rule_with_a_script_logs_and_says_what_it_does(clean):
    rules = {name: body for name, body in _rules(clean.root).items() if "script:" in body}
    assert len(rules) >= 10
    for name, body in rules.items():
        for directive in ("log:", "message:", "conda:"):
            assert f"    {directive}\n" in body, (name, directive)
        script = re.search(r'"\.\./scripts/(\w+\.py)"', body).group(1)
        assert (clean.root / "workflow" / "scripts" / script).is_file()


def test_compute_rules_declare_threads_memory_and_benchmark(clean):
    for name in ("compute_jets", "compute_baseline"):
        body = _rules(clean.root)[name]
        assert "threads: THREADS" in body
        assert "mem_mb=" in body
        assert "benchmark:" in body


def test_every_artefact_has_a_rule_and_every_table_rule_is_asked_for(clean):
    listed = clean.call("snakemake", "-n", "--cores", "1", "--quiet", "all", "--summary")
    assert listed.status == 0, listed.output
    asked = {line.split("\t")[0] for line in listed.output.splitlines()}
    tables = {f"tables/{name}.tex" for name in _rules(clean.root) if name.startswith("table")}
    assert tables
    assert tables <= asked


def test_the_slurm_profile_names_rules_that_exist(clean):
    text = clean.text("workflow/profiles/slurm/config.yaml")
    named = set(re.findall(r"^  (compute_\w+):", text, re.M))
    assert named == {"compute_jets", "compute_baseline"}
    assert named <= set(_rules(clean.root))


def test_the_conda_environment_has_the_versions_of_the_lock(clean):
    locked = set(re.findall(r"^([a-z0-9-]+)==([\w.]+)", clean.text("requirements.lock"), re.M))
    pins = dict(re.findall(r"- ([a-z0-9-]+)==([\w.]+)", clean.text("workflow/envs/library.yaml")))
    assert pins.pop("torch") == "2.13.0"  # not in the lock: its build differs by platform
    assert set(pins.items()) <= locked
    project = clean.text("pyproject.toml").partition("dependencies = [")[2].partition("]")[0]
    assert set(re.findall(r'"([a-z-]+)', project)) - {"torch"} == set(pins)
