"""The package by itself: its requirements are ranges, and what is installed runs the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hvp_patching import __version__
from hvp_patching.models import tiny as tiny_models

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = dict(
    re.findall(r"^([a-z0-9_.-]+)==([\w.+]+)", (ROOT / "requirements.lock").read_text(), re.M)
)
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(one) for group in (PROJECT["dependencies"], *extras) for one in group]


def test_library_users_get_ranges():
    """Exact pins are the lock's."""
    for one in map(Requirement, PROJECT["dependencies"]):
        operators = {part.operator for part in one.specifier}
        assert operators & {">=", ">"}, one
        assert not operators & {"==", "==="}, one


def test_the_lock_lies_within_the_ranges():
    for one in requirements():
        if one.name != "torch":  # its build differs by platform: the Makefile names the version
            assert one.specifier.contains(LOCK[one.name.lower()]), one
    torch = next(one for one in requirements() if one.name == "torch")
    assert torch.specifier.contains(
        re.search(r"torch==([\d.]+)", (ROOT / "Makefile").read_text())[1]
    )


def test_the_workflow_is_an_extra():
    names = {Requirement(one).name for one in PROJECT["dependencies"]}
    assert not names & {"snakemake", "papermill", "jupyter"}
    workflow = PROJECT["optional-dependencies"]["workflow"]
    assert {Requirement(one).name for one in workflow} >= {"snakemake", "papermill"}


def test_the_versions_agree():
    assert PROJECT["version"] == __version__


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The package as pip installs it, in a folder of its own, away from the checkout."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source")
    copied = ("pyproject.toml", "README.md", "LICENSE", "src")
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in copied), str(source)], check=True)
    quiet = ("--quiet", "--disable-pip-version-check")
    alone = ("--no-deps", "--no-index", "--no-build-isolation", "--target", str(target))
    command = [sys.executable, "-m", "pip", "install", *quiet, *alone, str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def run(command: list[str], installed: Path, folder: Path, **variables: str):
    environment = {**os.environ, "PYTHONPATH": str(installed), **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_what_is_installed_has_its_command(installed, tmp_path):
    done = run([str(installed / "bin/hvp-patching"), "--version"], installed, tmp_path)
    assert (done.returncode, done.stdout) == (0, f"hvp-patching {__version__}\n"), done.stderr


def test_what_is_installed_runs_the_library_s_example(installed, tmp_path, monkeypatch):
    family = tiny_models.FAMILIES["tiny-llama"]
    deeper = replace(family, settings={**family.settings, "num_hidden_layers": 4})
    monkeypatch.setitem(tiny_models.FAMILIES, "tiny-llama", deeper)
    model, tokenizer = tiny_models.build_tiny("tiny-llama")
    model.config.hvp_stand_in_for = "smollm2-135m"
    for part in (model, tokenizer):
        part.save_pretrained(str(tmp_path / "smollm2-135m"))
    (example,) = EXAMPLES
    shown = "\nprint(hp.__file__, len(scores), len(truth), *edges.matrix.shape, len(curve))"
    code = [sys.executable, "-c", example + shown]
    done = run(code, installed, tmp_path, HVP_PATCHING_MODELS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    where, *sizes = done.stdout.split()[-6:]
    assert Path(where).is_relative_to(installed)
    assert sizes[:2] == ["16", "16"]
    assert int(sizes[-1]) >= 10
