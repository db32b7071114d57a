"""docs/extending.md, followed to the letter on a copy of the checkout."""

from __future__ import annotations

import re
import shutil

import pandas as pd
import pytest

pytestmark = pytest.mark.workflow

STEP = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`|"
    r"In `(?P<old>[^`]+)`, (?P<how>below|in the place of) `(?P<anchor>[^`]+)`):\n\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.M | re.S,
)
COMMAND = "snakemake --cores 1 tables/table19.tex --configfile config/smoke.yaml"


def follow(page, root):
    """Make every file and change that the page names; the number of steps."""
    steps = list(STEP.finditer(page))
    for step in steps:
        path, text = root / (step["new"] or step["old"]), step["text"]
        if step["new"]:
            assert not path.exists(), path
            path.write_text(text, encoding="utf-8")
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        places = [i for i, line in enumerate(lines) if line.rstrip("\n") == step["anchor"]]
        assert len(places) == 1, f"{path.name} has {len(places)} lines '{step['anchor']}'"
        at = places[0]
        lines[at : at + 1] = [lines[at], text] if step["how"] == "below" else [text]
        path.write_text("".join(lines), encoding="utf-8")
    return len(steps)


@pytest.fixture(scope="module")
def extended(clean, tmp_path_factory):
    copy = type(clean)(tmp_path_factory.mktemp("extended") / "checkout", {})
    shutil.copytree(clean.root, copy.root, symlinks=True)
    page = copy.text("docs/extending.md")
    assert follow(page, copy.root) == page.count("\n```\n\n")  # every block is followed
    return copy


@pytest.mark.parametrize("config", ["config", "smoke"])
def test_the_whole_workflow_takes_the_extensions(extended, config):
    result = extended.call("snakemake", "-n", "--configfile", f"config/{config}.yaml")
    assert result.status == 0, result.output
    jobs = result.jobs()
    assert jobs["table19"] == jobs["compare_with_paper"] == 1


def test_the_table_is_built_on_the_new_task_with_the_new_methods(extended):
    assert f"`{COMMAND}`" in extended.text("docs/extending.md")
    result = extended.call(*COMMAND.split())
    assert result.status == 0, result.output
    assert result.jobs()["compute_top"] == 1
    table = pd.read_csv(extended.root / "tables/table19.csv", comment="#")
    assert table["method"].tolist() == ["hvp", "simpson", "far_ap"]
    assert (table["task"] == "country").all()
    assert (table["n_prompts"] == 2).all()
    assert table["difference_pp"].nunique() == 3
    assert (table["difference_pp"] != 0).all()
    text = extended.text("tables/table19.tex")
    assert r"\textit{tiny-gpt2, country}" in text
    assert "AP from the other run & " in text
    assert "Base run: the clean run" in text


def test_what_is_added_keeps_to_the_house_rules(extended):
    result = extended.call("ruff", "check", "src", "workflow")
    assert result.status == 0, result.output
    result = extended.call("ruff", "format", "--check", "src", "workflow")
    assert result.status == 0, result.output


def test_a_table_whose_settings_are_not_configured_is_named(extended):
    path = extended.root / "config/config.yaml"
    text = path.read_text()
    path.write_text(re.sub(r"^table19: .*\n", "", text, flags=re.M))
    result = extended.call("snakemake", "-n", "--cores", "1")
    path.write_text(text)
    assert result.status != 0
    assert "the key 'table19' is missing, whose settings an artefact shows" in result.output
