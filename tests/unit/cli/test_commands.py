"""The commands: what they print and write is what the library computes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hvp_patching as hp
from hvp_patching.cli.examples import EXAMPLES, command_of
from hvp_patching.prompts.pairs_file import read_pairs

PAGE = Path(__file__).resolve().parents[3] / "docs/command_line.md"
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
COMMANDS = [
    line for block in BLOCKS for line in block.splitlines() if line.startswith("hvp-patching ")
]
SMOL = ("--model", "smollm2-135m")
PATCH = ("patch", *SMOL, "--pairs", "pairs.csv", "--dtype", "float64")
JETS = ("jets", *PATCH[1:])


def test_help_lists_the_commands(call):
    result = call("--help")
    assert result.exit_code == 0
    assert all(f" {name} " in result.stdout for name in EXAMPLES)
    assert call().stdout == result.stdout


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_help_of_a_command_shows_an_example_that_runs(call, command):
    shown = call(command, "--help")
    assert shown.exit_code == 0
    example = command_of(EXAMPLES[command])
    assert example in " ".join(shown.stdout.split())
    result = call(*shlex.split(example)[1:])
    assert (result.exit_code, result.exception) == (0, None), result.output


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_page_run(call, line):
    result = call(*shlex.split(line)[1:])
    assert (result.exit_code, result.exception) == (0, None), result.output
    assert result.stdout


def test_the_page_has_an_example_of_every_command_but_the_listing():
    assert len(COMMANDS) >= 8
    assert {shlex.split(line)[1] for line in COMMANDS} >= set(EXAMPLES) - {"models"}


def effects(model, **options):
    pairs = [row.pair for row in read_pairs("pairs.csv").rows]
    found = [hp.activation_patching(model, pair, "attn_heads", **options) for pair in pairs]
    return np.stack([one.numpy() for one in found], 1)


@pytest.fixture
def model(place):
    return hp.load_model("smollm2-135m", "float64", "cpu")


@pytest.mark.parametrize("metric", ["logprob", "logit_difference"])
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_patch_gives_the_library_s_effects_ranked(call, model, metric, direction):
    options = ("--metric", metric, "--direction", direction)
    assert call(*PATCH, *options, "--out", "run.json").exit_code == 0
    run = json.loads(Path("run.json").read_text())
    wanted = effects(model, metric=metric, direction=direction)
    sizes = np.abs(wanted.mean(1))
    order = np.argsort(-sizes, kind="stable")
    found = run["components"]
    assert len(found) == len(wanted) == 12
    assert sizes.min() > 0
    heads = [(row["layer"], row["index"]) for row in found]
    assert heads == [(int(i) // 4, int(i) % 4) for i in order]
    assert [row["component"] for row in found] == [f"L{a}H{b}" for a, b in heads]
    np.testing.assert_allclose([r["effect"] for r in found], wanted.mean(1)[order], rtol=1e-9)
    for row in found:
        assert row["effect_low"] < row["effect"] < row["effect_high"]
    assert [one["prompt_id"] for one in run["prompts"]] == ["line 2", "line 3", "line 4"]
    for column, one in enumerate(run["prompts"]):
        each = [row["effect"] for row in one["components"]]
        np.testing.assert_allclose(each, wanted[:, column], rtol=1e-9)
    assert run["identity"] == model.hvp_identity
    assert (run["metric"], run["direction"], run["prompts"] != []) == (metric, direction, True)


def test_jets_gives_the_library_s_estimates_and_rho(call, model):
    names = ["hvp", "ms_hvp_2", "relp"]
    given = ("--estimators", ",".join(names), "--exact", "--out", "run.csv")
    assert call(*JETS, *given).exit_code == 0
    frame = pd.read_csv("run.csv", comment="#").sort_values(["layer", "index"])
    pairs = [row.pair for row in read_pairs("pairs.csv").rows]
    jets = [hp.path_jets(model, pair, nodes={0.0: 2, 0.5: 2}) for pair in pairs]
    wanted = {
        "effect": effects(model).mean(1),
        "hvp": np.mean([hp.estimators.HVP()(one) for one in jets], 0),
        "ms_hvp_2": np.mean([hp.estimators.MS_HVP(2)(one) for one in jets], 0),
        "relp": np.mean([hp.relp(model, pair) for pair in pairs], 0),
        "rho": np.median([hp.reliability(one) for one in jets], 0),
    }
    for name, values in wanted.items():
        assert np.abs(values).min() > 0
        np.testing.assert_allclose(frame[name], values, rtol=1e-7, err_msg=name)
    ranks = frame.sort_values("rank")["effect"].abs().to_numpy()
    assert (np.diff(ranks) <= 0).all()


def test_a_pair_on_the_command_line_is_the_one_of_a_file(call):
    pair = read_pairs("pairs.csv").rows[0].pair
    inline = ("--clean", pair.clean, "--corrupted", pair.corrupted, "--target", pair.target)
    lines = Path("pairs.csv").read_text().splitlines()
    Path("one.csv").write_text("\n".join(lines[:2]))
    assert call("patch", *SMOL, *inline, "--out", "inline.json").exit_code == 0
    assert call("patch", *SMOL, "-p", "one.csv", "--out", "file.json").exit_code == 0
    one, other = (json.loads(Path(f"{n}.json").read_text()) for n in ("inline", "file"))
    assert one["components"] == other["components"]
    assert one["components"][0]["effect_low"] is None  # one prompt has no interval
    assert "one prompt has no interval" in one["sentence"]


def test_the_table_shows_the_top_with_intervals_and_bars(call):
    result = call(*PATCH, "--top", "5", "--out", "run.json")
    run = json.loads(Path("run.json").read_text())
    lines = result.stdout.splitlines()
    rows = [line for line in lines if re.match(r" *\d+ +L\dH\d ", line)]
    assert [row.split()[1] for row in rows] == [c["component"] for c in run["components"][:5]]
    for row, component in zip(rows, run["components"], strict=False):
        assert f"{component['effect']:+.3g}" in row
        assert re.search(r"\[[+-][\d.e-]+, [+-][\d.e-]+\]", row)
        assert "●" in row
        assert "├" in row
        assert "┤" in row
    assert lines[-1] == run["sentence"]
    assert "12 components over 3 prompts" in run["sentence"]


def test_sites_have_their_components(call):
    for site, names in (
        ("mlp_out", {"L0MLP", "L1MLP", "L2MLP"}),
        ("resid_post", {"L0", "L1", "L2"}),
        ("mlp_post", {f"L{layer}N{n}" for layer in range(3) for n in range(64)}),
    ):
        assert call(*PATCH, "--site", site, "--out", "run.csv").exit_code == 0
        assert set(pd.read_csv("run.csv", comment="#")["component"]) == names


def test_the_page_needs_nothing_else(call):
    Path("pairs.csv").write_text(Path("pairs.csv").read_text().replace("drink", "<b>&drink"))
    assert call(*PATCH, "--out", "run.html").exit_code == 0
    page = Path("run.html").read_text()
    assert page.count("<svg") == page.count("<tr>") - 1 == 12
    assert not re.search(r"(src|href)=|url\(|@import|<script", page)
    assert "95% bootstrap intervals" in page
    assert "pairs_sha256" in page


def test_the_csv_opens_with_how_it_came_about(call):
    assert call(*PATCH, "--out", "run.csv").exit_code == 0
    head = [line for line in Path("run.csv").read_text().splitlines() if line.startswith("# ")]
    facts = dict(line.removeprefix("# ").split(": ", 1) for line in head)
    assert (facts["model"], facts["site"], facts["dtype"]) == (
        "smollm2-135m",
        "attn_heads",
        "float64",
    )
    assert facts["environment"].startswith("torch ")


def test_going_on_names_and_counts_what_is_left_out(call):
    given = ("patch", *SMOL, "--pairs", "pairs.jsonl")
    result = call(*given, "--keep-going", "--out", "run.json")
    assert result.exit_code == 0
    assert "left out: pairs.jsonl, line 3: " in result.stderr
    assert "1 of 3 pairs left out" in result.stderr
    assert len(json.loads(Path("run.json").read_text())["left_out"]) == 1
    assert "line 3" not in result.stdout


def test_models_lists_the_registry(call, models):
    result = call("models", env={"COLUMNS": "220"})
    assert result.exit_code == 0
    assert all(name in result.stdout for name in hp.list_models())
    lines = [line.strip() for line in result.stdout.splitlines()]
    (row,) = [line for line in lines if line.startswith("smollm2-135m ")]
    assert "Apache-2.0" in row
    assert "yes:" in row
    assert "M " in row
    (row,) = [line for line in lines if line.startswith("gpt2-small ")]
    assert " no" in row
    assert "openai-community/gpt2" in row
    assert "https://ai.google.dev/gemma/terms" in result.stdout


def test_verify_names_what_changed_and_exits_with_one(call):
    assert call("verify").exit_code == 0
    Path("results/one.csv").write_text("2")
    result = call("verify", ".")
    assert result.exit_code == 1
    assert result.stdout.startswith("results/one.csv: changed since some_rule wrote it")
    assert result.stdout.splitlines()[-1] == "1 result: 1 wrong"
