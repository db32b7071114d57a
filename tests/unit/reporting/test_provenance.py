import subprocess
from dataclasses import replace
from importlib.metadata import version

import pandas as pd
import pytest

from hvp_patching.environments import Environment, describe
from hvp_patching.reporting.provenance import (
    CSV,
    TEX,
    collect_provenance,
    csv_text,
    git_commit,
    header,
    package_version,
)
from hvp_patching.settings import Setting


def test_header_golden(provenance):
    assert header(provenance, TEX) == (
        "% profile: embedded; effort: quick\n"
        "% models: smollm2-135m\n"
        "% prompts: smollm2-135m/ioi: 2, smollm2-135m/factual: 3\n"
        "% packages: torch 2.13.0, transformer_lens 4.3.0\n"
        "% commit: 0123abc (modified)\n"
    )


def test_collected_provenance_names_models_versions_and_notes(tmp_path):
    found = collect_provenance(
        "smoke",
        "quick",
        ["a"],
        {Setting("b", "ioi"): 1, Setting("a", "ioi"): 2},
        ["two\nlines"],
        tmp_path,
    )
    assert found.models == ("a", "b")
    assert found.versions["torch"] == version("torch")
    assert set(found.versions) == {"torch", "transformer_lens", "transformers", "hvp_patching"}
    assert found.commit == "unknown"
    assert header(found, CSV).splitlines()[-1] == "# two lines"


def test_missing_package_is_said():
    assert package_version("no-such-package-here") == "not installed"


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_commit_and_its_dirty_mark(tmp_path):
    git(tmp_path, "init", "-q")
    assert git_commit(tmp_path) == "unknown"
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "one")
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "untracked").write_text("1")
    assert git_commit(tmp_path) == commit
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{commit} (modified)"


def test_no_git_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() == "unknown"


@pytest.mark.parametrize("word", ["plain", "a # hash", 'a "quoted" # hash', "a, comma"])
def test_csv_comes_back_through_the_comment_reader(tmp_path, provenance, word):
    frame = pd.DataFrame({"name": [word, "x"], "value": [1.5, None], "empty": [None, "y"]})
    path = tmp_path / "t.csv"
    path.write_text(csv_text(frame, provenance), encoding="utf-8")
    pd.testing.assert_frame_equal(pd.read_csv(path, comment="#"), frame, check_dtype=False)


def test_where_the_numbers_were_computed_is_a_line(provenance, tmp_path):
    place = Environment("2.13.0", "5", "4", "cpu (a)", "highest", "eager", "float32")
    places = [place, replace(place, torch="2.14.0")]
    found = collect_provenance("smoke", "quick", notes=["a note"], environments=places)
    lines = header(found, TEX).splitlines()
    assert lines[-2] == f"% {describe(places)}"
    assert lines[-2].startswith("% computed with 2 environments: torch 2.13.0, ")
    assert lines[-1] == "% a note"
    same = collect_provenance("smoke", "quick", environments=describe(places))
    assert same.environments == found.environments
